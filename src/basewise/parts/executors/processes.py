"""In worker processes of this machine, several jobs at once.

Workers are started fresh ("spawn"), so nothing of this process leaks into a result. Each uses as many threads as the
parent does: sums are then made in the same order and the results are the same bit for bit, at the price of
sharing the cores.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from basewise.core.errors import RunError


def run(function: Callable[[Any], Any], jobs: Iterable[Any], workers: int = 2) -> Iterator[Any]:
    """Results in the order of the jobs; `function` and jobs must be importable and picklable values. RunError where a worker was ended
    from outside, as by a system whose memory ran out."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(max_workers=workers, mp_context=context) as pool:
        try:
            yield from pool.map(function, jobs)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        except SystemExit:
            # told to end; unlike Ctrl-C this does not reach the workers, whose jobs would be waited for
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise
        except BrokenProcessPool as error:
            raise RunError(
                "a worker process was ended from outside, perhaps because memory ran out",
                "give fewer workers, and run the same command again",
            ) from error
