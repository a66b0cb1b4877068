"""The forward pass of a base under a clock: a moment's slowness or a wrong prediction does not cost a base, a pass that cannot fit does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from basewise.core.base import Base, Card
from basewise.core.budget import Cost
from basewise.core.method import Machine
from basewise.core.task import Examples
from basewise.steps.entries import Entry
from basewise.steps.jobs import Arm
from basewise.steps.passes import pay
from basewise.steps.race import Race

ROWS = 400


class Ticking:
    """A clock that only the store moves."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.used = seconds, 0.0

    @property
    def left(self) -> float:
        return self.seconds - self.used


class Store:
    """Features that take `each` seconds a row; a few rows measured beforehand take `at_first`."""

    def __init__(self, clock: Ticking, at_first: float, each: float) -> None:
        self.clock, self.at_first, self.each, self.kept = clock, at_first, each, set[str]()

    def missing(self, _base: Base, texts: Any) -> int:
        return len(set(texts) - self.kept)

    def seconds_a_row(self, _base: Base, _texts: Any) -> float:
        return self.at_first

    def features(self, base: Base, texts: Any, progress: Any = None) -> Any:
        new = self.missing(base, texts)
        self.clock.used += self.each * new
        self.kept |= set(texts)
        return SimpleNamespace(precision="fp32", seconds=self.each * new, forwarded=new)


def race_of(seconds: float, rows: int = ROWS, look: int = 0) -> tuple[Race, Ticking]:
    clock = Ticking(seconds)
    labels = np.arange(rows) % 2
    race = Race(
        train=Examples(
            tuple(f"row {i}" for i in range(rows)), labels, np.arange(rows), np.arange(rows), ("no", "yes")
        ),
        folds=np.arange(rows) % 5,
        wanted=(0, 1, 2, 3, 4),
        run=None,  # type: ignore[arg-type]
        clock=clock,  # type: ignore[arg-type]
        machine=Machine(cores=2, memory_bytes=1 << 33, fp32_peak=1e11, bf16_peak=2e11),
        look_rows=look,
    )
    control = Entry(Arm(method="majority"), Cost(seconds=0.0))
    control.status = "finished"
    race.entries = [control]
    return race, clock


def base_of(family: str = "encoder", **more: Any) -> Base:
    sizes: dict[str, Any] = {"parameters": 10**7, "layers": 6, "width": 384} | more
    card = Card(key=family, source="folder", family=family, licence="MIT", download_bytes=1, **sizes)
    return Base(card=card, folder=None, digest=family)  # type: ignore[arg-type]


def test_a_base_that_was_slow_for_a_moment_is_not_lost() -> None:
    race, clock = race_of(60.0)
    store = Store(clock, at_first=1.0, each=0.01)  # 400 s by the rows that were measured, 4 s in truth
    assert isinstance(pay(race, base_of(), store, (), ()), dict)
    assert clock.used == pytest.approx(4.0), "no row was computed twice"
    assert race.forward["encoder"] == pytest.approx(0.01)


def test_a_pass_that_cannot_fit_is_given_up_after_a_tenth_of_the_time() -> None:
    race, clock = race_of(60.0)
    store = Store(clock, at_first=1.0, each=1.0)
    assert pay(race, base_of(), store, (), ()) == "measured, its forward pass does not fit into the time left"
    assert clock.used <= 64.0 and race.forward["encoder"] == 1.0
    race, clock = race_of(60.0)
    assert (
        pay(race, base_of(layers=10**5), Store(clock, 0.01, 0.01), (), ())
        == "its forward pass does not fit into the time left"
    )
    assert clock.used == 0.0


def test_a_start_is_paid_once_and_not_by_each_row() -> None:
    """0.3 s over 20 rows are not 15 ms for each of 5,000 test rows."""
    race, clock = race_of(30.0, rows=20, look=5_000)
    assert isinstance(pay(race, base_of(), Store(clock, 1e-3, 1e-3), (), ()), dict)


def test_the_first_network_may_take_what_is_left_and_a_further_one_a_third() -> None:
    for usable, fits in (((), True), ((base_of("static"),), True), ((base_of("decoder"),), False)):
        race, clock = race_of(60.0)
        paid = pay(race, base_of(), Store(clock, 0.1, 0.1), (), usable)  # 40 of 60 s
        assert isinstance(paid, dict) is fits
    race, clock = race_of(60.0)
    assert isinstance(pay(race, base_of(), Store(clock, 0.149, 0.149), ("probe",), ()), str), (
        "nothing is left for a fit"
    )
