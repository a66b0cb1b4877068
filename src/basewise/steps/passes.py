"""passes: the forward pass of a base over the train rows, paid once for all of its frozen arms; whether it fits into the time left.

It is judged three times, from what costs nothing to what costs most: by its prediction, by a few rows, and where those were too slow by
the pass itself, which is begun: a machine that was busy for a moment must not cost a base, and what is computed is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from basewise.core.base import Base
from basewise.core.method import compatible
from basewise.core.registry import part
from basewise.core.task import COLUMNS
from basewise.engine.costs import START_SECONDS, encode_seconds
from basewise.steps.elimination import LEAST_FOLDS
from basewise.steps.fetch import forward_seconds
from basewise.steps.race import Race

FORWARD_SHARE = 1 / 3
"""Of the time left, what the forward pass of a further network may take: the trained arms of the first one need some too."""
DOUBT = 1.5
"""A base is left out unmeasured only where its prediction, made shorter by so much, still does not fit."""
TRIED_SHARE = 0.1
"""Of the time left, what a pass that was measured as too slow may take to show that it is not."""
PIECE_ROWS = 64


def pay(
    race: Race, base: Base, store: Any, methods: Sequence[str], usable: Sequence[Base]
) -> dict[str, Any] | str:
    """Compute the features of the train rows; {"forward_seconds", "predicted_forward_seconds"}, or why the base is left out.

    methods: the frozen ones, whose fits have to follow; usable: bases whose passes are paid.
    """
    card, texts, weight = base.card, race.train.texts, 1.0
    used = [r for m in methods if compatible(r := part("methods", m).REQUIRES, card, race.train.provides)]
    if any(COLUMNS in requires for requires in used):
        texts = race.train.read_by(frozenset({COLUMNS}))
        # the columns are the words of the rows once more
        weight = 2.0 * len(race.train) / len(texts)
    if short := race.memory_short(card):
        return short
    predicted = forward_seconds(texts, card, race.machine_now(card))
    each = max(predicted - START_SECONDS, 0.0) / len(texts) / weight
    fits = fits_after(race, base, methods)
    first = not any(known.card.family != "static" for known in usable)

    def too_slow(seconds_a_row: float) -> bool:
        missing = store.missing(base, texts)
        seconds = (weight * missing + race.look_rows) * seconds_a_row
        return bool(missing) and does_not_fit(race, seconds, first, fits)

    if too_slow(each / DOUBT):
        return "its forward pass does not fit into the time left"
    race.progress(0, 0, f"features of {base.key}")
    race.measured_forward(base, store.seconds_a_row(base, race.train.texts))
    if too_slow(race.forward[base.key]) and not _begun(race, base, store, too_slow):
        return "measured, its forward pass does not fit into the time left"
    paid = store.features(base, texts, progress=race.progress)
    race.precisions[base.key] = paid.precision
    fresh = paid.forwarded >= 0.8 * len(set(texts))  # some were computed to measure the pass
    return {
        "forward_seconds": paid.seconds if fresh else None,
        "predicted_forward_seconds": predicted,
    }


def does_not_fit(race: Race, seconds: float, first: bool, fits: float) -> bool:
    """Whether a forward pass over the train texts that are not stored and the test rows takes more than FORWARD_SHARE of the time left, or
    with the fits that follow it more than all of it.

    For the first network the share does not count, and nothing does unless a control has finished: without one there would be
    nothing to choose.
    """
    if first and not any(entry.status == "finished" for entry in race.entries):
        return False
    left = race.clock.left - race.reserve()
    return seconds + fits > left or (not first and seconds > FORWARD_SHARE * left)


def _begun(race: Race, base: Base, store: Any, too_slow: Any) -> bool:
    """Whether the pass is fast enough over its own first rows."""
    texts, done = race.train.texts, 0
    started, until = race.clock.used, race.clock.used + TRIED_SHARE * max(race.clock.left, 0.0)
    while done < len(texts) and race.clock.used < until:
        store.features(base, texts[done : done + PIECE_ROWS], progress=race.progress)
        done = min(done + PIECE_ROWS, len(texts))
        race.measured_forward(base, (race.clock.used - started) / done)
        if not too_slow(race.forward[base.key]):
            return True
    return False


def fits_after(race: Race, base: Base, methods: Sequence[str]) -> float:
    """Seconds that the slowest of these methods needs beyond the pass to be compared and saved."""
    rows, card = race.rows_of(race.wanted[0])[0], base.card
    needed = [
        method.estimate(rows, card, race.machine).seconds
        - encode_seconds(rows.read_by(method.REQUIRES), card, race.machine)[0]
        for method in (part("methods", m) for m in methods)
        if compatible(method.REQUIRES, card, rows.provides)
    ]
    return (LEAST_FOLDS + 1.3) * max([0.0, *needed])
