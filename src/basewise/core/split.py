"""Rows to test and train, folds, and nested label subsets: stratified, grouped, and the same on every machine.

A group (a customer, a thread, a set of near-duplicates) always stays on one side: a split by time, which cuts between rows,
leaves out the rows of a group before the cut when it has rows behind it. Groups are placed greedily, largest
first within a seeded order, each on the side or fold that leaves the class counts nearest to their shares; with groups
of one row this is plain stratified sampling.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime

import numpy as np

from basewise.core.errors import InputError
from basewise.core.hashing import generator

HOWS = ("chance", "group", "time", "given", "none")
TEST_WORDS = {"test", "eval", "evaluation", "heldout", "held-out", "holdout"}
VALIDATION_WORDS = {"dev", "valid", "validation", "val"}
TRAIN_WORDS = {"train", "training"} | VALIDATION_WORDS
DAYS = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d %b %Y", "%b %d, %Y")
TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
DATE_FORMATS = ("%Y-%m", *(day + time for day in DAYS for time in TIMES))


def asked_split(text: str | None) -> tuple[str | None, str | None, str | None]:
    """(split, column of groups, column of times) as a user writes them.

    "chance", "none", "group:customer", "time:date", or a column that says train or test; "+group:customer" behind any but "group:"
    tells whose rows belong together.
    """
    first, _, group = (text or "").partition("+group:")
    how, _, column = first.partition(":")
    if how == "group":
        return how, column or None, None
    if how == "time":
        return how, group or None, column or None
    return first or None, group or None, None


def split_rows(
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    how: str = "chance",
    share: float = 0.2,
    seed: int = 0,
    times: np.ndarray | None = None,
    given: Sequence[str | None] | None = None,
    row_ids: np.ndarray | None = None,
) -> np.ndarray:
    """(n,) array of "train" | "test" | "out" for labels (n,) int (-1: unlabelled, goes to train) and groups (n,) int.

    "chance" and "group" are stratified and keep groups whole, and a class with two rows or more keeps at least one in train
    where groups allow; where all classes are too small for a test row, those of some go to test by lot. "time" puts the newest rows to
    test (times (n,) float) and leaves older rows of their groups out.
    "given" reads the words of a column, as `test_side` says. row_ids: positions in the table from 0, for errors.
    """
    if how == "none":
        return np.full(len(labels), "train", dtype="<U5")
    if how not in HOWS:
        raise InputError(f"unknown split {how!r}", f"choose one of {', '.join(HOWS)}")
    if not 0 < share < 1:
        raise InputError(f"the test share must lie between 0 and 1, {share} came", "0.2 is usual")
    labels, groups = np.asarray(labels), np.asarray(groups)
    if how == "given":
        return _given(given, np.arange(len(labels)) if row_ids is None else row_ids)
    if how == "time":
        return _by_time(labels, groups, share, times)
    test = folds_by_share(labels, groups, np.array([1 - share, share]), seed) == 1
    test &= labels >= 0
    _keep_in_train(test, labels, groups)
    if not test.any():
        _some_to_test(test, labels, groups, share, seed)
    return np.where(test, "test", "train")


def test_side(words: AbstractSet[str]) -> AbstractSet[str]:
    """The words that mark test rows: those that say test, else those that say validation."""
    return words & TEST_WORDS or words & VALIDATION_WORDS


def _given(given: Sequence[str | None] | None, row_ids: np.ndarray) -> np.ndarray:
    if given is None or len(given) != len(row_ids):
        raise InputError("a given split needs one value a row", "name the column that holds train and test")
    words = [(value or "").strip().lower() for value in given]
    for i, word in enumerate(words):
        if word not in TEST_WORDS | TRAIN_WORDS:
            raise InputError(
                f"the split column holds {given[i]!r} in row {row_ids[i] + 1}", "use the words train and test"
            )
    marked = test_side(set(words))
    out = np.array(["test" if word in marked else "train" for word in words], dtype="<U5")
    if not (out == "test").any() or not (out == "train").any():
        raise InputError(
            f"the split column puts every labelled row into {out[0]}",
            "mark some rows train and some test, or leave the column aside with --split chance",
        )
    return out


def _by_time(labels: np.ndarray, groups: np.ndarray, share: float, times: np.ndarray | None) -> np.ndarray:
    """The newest labelled rows are the test rows, whatever their groups. Older rows of these groups are out, and so is what is newer
    than the oldest test row and none: nothing in train may know what came later."""
    if times is None:
        raise InputError("a split by time needs a time for every row", "name the column with time=")
    times = np.asarray(times, float)
    order = np.argsort(-times, kind="stable")
    order = order[labels[order] >= 0]
    test = np.zeros(len(labels), bool)
    test[order[: int(share * len(order) + 0.5)]] = True
    sides = np.where(test, "test", "train")
    if test.any():
        sides[~test & (np.isin(groups, groups[test]) | (times > times[test].min()))] = "out"
    return sides


def folds_by_share(labels: np.ndarray, groups: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
    """(n,) index into `shares` (k,) for every row: stratified, groups whole, deterministic in content and seed."""
    _, inverse = np.unique(groups, return_inverse=True)
    _, classes = np.unique(labels, return_inverse=True)
    n_classes, n_groups, k = int(classes.max()) + 1, int(inverse.max()) + 1, len(shares)
    rng = generator("split", seed, len(labels), n_groups)
    totals = np.bincount(classes, minlength=n_classes).astype(float)
    sizes = np.bincount(inverse, minlength=n_groups)
    fold_of_group = np.full(n_groups, -1)
    filled = np.zeros((k, n_classes))
    order = np.argsort(inverse, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    shuffled = rng.permutation(n_groups)
    for g in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        if sizes[g] == 1:
            # the rest are single rows: dealt out class by class below, which is the same and fast
            break
        counts = np.bincount(classes[order[starts[g] : starts[g + 1]]], minlength=n_classes)
        touched = counts > 0
        want = shares[:, None] * totals[None, touched]
        lack = ((want - filled[:, touched]) / totals[touched] * counts[touched]).sum(1) / shares
        best = int(np.argmax(lack + 1e-9 * rng.random(k)))
        fold_of_group[g] = best
        filled[best] += counts
    single = fold_of_group[inverse] < 0
    fold = fold_of_group[inverse]
    for c in range(n_classes):
        rows = np.flatnonzero(single & (classes == c))
        fold[rng.permutation(rows)] = _deal(len(rows), shares * totals[c] - filled[:, c], shares, rng)
    return fold


def _deal(n: int, want: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """n fold numbers whose counts are nearest to `want` (k,); remainders go to the largest, ties by lot."""
    want = np.maximum(want, 0)
    want = (want if want.sum() > 0 else shares) / (want.sum() if want.sum() > 0 else shares.sum()) * n
    counts = np.floor(want + 1e-9).astype(int)
    rest = want - counts + 1e-6 * rng.random(len(want))
    counts[np.argsort(-rest)[: n - counts.sum()]] += 1
    return np.repeat(np.arange(len(want)), counts)


def _keep_in_train(test: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> None:
    """Give every class a row in train, in place: its smallest group in test comes back."""
    for c in np.unique(labels[labels >= 0]):
        mine = labels == c
        if test[mine].all():
            candidates, sizes = np.unique(groups[mine], return_counts=True)
            back = candidates[np.argmin([(groups == g).sum() for g in candidates])] if len(sizes) else None
            test[groups == back] = False


def _some_to_test(test: np.ndarray, labels: np.ndarray, groups: np.ndarray, share: float, seed: int) -> None:
    """Where every class is too small for a test row of its own, groups by lot, in place, until the share is reached; each class keeps a row
    in train."""
    names, inverse = np.unique(groups, return_inverse=True)
    members = np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1])
    left = np.bincount(labels[labels >= 0]) if (labels >= 0).any() else np.zeros(0, int)
    wanted = share * left.sum()
    for g in generator("split", "some", seed, len(names)).permutation(len(names)):
        mine = members[g][labels[members[g]] >= 0]
        taken = np.bincount(labels[mine], minlength=len(left))
        if len(mine) and (taken < left)[taken > 0].all() and test.sum() + len(mine) <= wanted:
            test[mine] = True
            left -= taken


def folds(labels: np.ndarray, groups: np.ndarray, k: int, seed: int = 0) -> np.ndarray:
    """(n,) fold numbers 0..k-1: stratified, groups whole; classes with fewer rows than folds are in some of them.

    Where there are fewer groups than `k`, each group is a fold of its own; with one group there is nothing to divide.
    """
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        raise InputError(
            f"all {len(labels)} train rows hang together as one group of near-duplicates or of one key",
            "give rows that differ more, or another group column",
        )
    k = max(2, min(k, n_groups))
    fold = folds_by_share(np.asarray(labels), np.asarray(groups), np.full(k, 1 / k), seed)
    # tiny tables: take a group from the fold with the most groups
    for empty in np.setdiff1d(np.arange(k), fold):
        _, inverse = np.unique(groups, return_inverse=True)
        _, first = np.unique(inverse, return_index=True)
        fullest = np.argmax(np.bincount(fold[first], minlength=k))
        donor = np.flatnonzero(fold[first] == fullest)[-1]
        fold[inverse == donor] = empty
    return fold


def nested_subsets(labels: np.ndarray, sizes: Sequence[int], seed: int = 0) -> list[np.ndarray]:
    """Row positions of subsets of about `sizes` rows, each inside the next, with every class in its share.

    Every class gives its first row before any gives a second by share, so a subset of at least C rows has all classes.
    A size beyond n gives all rows. Positions are sorted.
    """
    labels = np.asarray(labels)
    rng = generator("subsets", seed, len(labels))
    rank = np.empty(len(labels))
    for c in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == c))
        rank[rows] = (np.arange(len(rows)) + rng.random()) / len(rows)
        rank[rows[0]] = -1 + rank[rows[0]]
    order = np.argsort(rank, kind="stable")
    return [np.sort(order[: min(int(size), len(labels))]) for size in sizes]


def parse_times(
    values: Sequence[str | None], column: str = "time", row_ids: np.ndarray | None = None
) -> np.ndarray:
    """(n,) seconds or plain numbers from numbers, ISO dates, or one of a few forms of day, month, year and time that fits all rows.

    row_ids: positions in the table from 0, for the errors: an InputError for a row without a time that can be read.
    """
    texts = [(v or "").strip() for v in values]
    rows = np.arange(len(texts)) if row_ids is None else row_ids
    missing = [i for i, t in enumerate(texts) if not t]
    if missing:
        raise InputError(
            f"column {column!r} has no time in {len(missing)} rows (row {rows[missing[0]] + 1})",
            "fill them in",
        )
    furthest = 0
    with contextlib.suppress(ValueError):
        numbers = np.array([float(t) for t in texts])
        if np.isfinite(numbers).all():
            return numbers
        furthest = int(np.flatnonzero(~np.isfinite(numbers))[0])
    for form in ("iso", *DATE_FORMATS):
        times: list[float] = []
        try:
            times.extend(_seconds(text, form) for text in texts)
        except ValueError:
            # the form that fits the most rows shows the odd one
            furthest = max(furthest, len(times))
            continue
        return np.array(times)
    raise _no_time(column, texts[furthest], rows[furthest])


def _no_time(column: str, text: str, row: int) -> InputError:
    return InputError(
        f"column {column!r} holds {text!r} in row {row + 1}, which is no time that is read here",
        "use ISO, 2026-11-23T10:00",
    )


def _seconds(text: str, form: str) -> float:
    when = datetime.fromisoformat(text) if form == "iso" else datetime.strptime(text, form)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
