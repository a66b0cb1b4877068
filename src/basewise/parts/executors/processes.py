"""In worker processes of this machine, several jobs at once.

Workers are started fresh ("spawn"), so nothing of this process leaks into a result. Each uses as many threads as the
parent does: sums are then made in the same order and the results are the same bit for bit, at the price of
sharing the cores.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def run(function: Callable[[Any], Any], jobs: Iterable[Any], workers: int = 2) -> Iterator[Any]:
    """Results in the order of the jobs; `function` and jobs must be importable and picklable values."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(max_workers=workers, mp_context=context) as pool:
        try:
            yield from pool.map(function, jobs)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
