"""In this process, one job after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any


def run(function: Callable[[Any], Any], jobs: Iterable[Any], workers: int = 1) -> Iterator[Any]:
    """Results in the order of the jobs. `workers` is accepted for the protocol and not used."""
    for job in jobs:
        yield function(job)
