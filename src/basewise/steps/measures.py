"""measures: answers in numbers, each with its interval: every metric of parts/metrics, paired differences, each class by itself.

Rows may come in groups that belong together; they then count as many as they are worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from basewise.core.errors import InputError
from basewise.core.registry import keys, part
from basewise.stats import paired
from basewise.stats.benchmarks import gap, score_interval
from basewise.stats.intervals import Interval, by_student, class_error, of_odds, p_of_mean, share_of

Json = dict[str, Any]


def check_metric(metric: str) -> None:
    """InputError unless `choose` can go by this metric: one where higher is better and that lies between 0 and 1."""
    # an unknown one names the nearest
    part("metrics", metric)
    if metric not in (fit := [key for key in keys("metrics") if may_choose(key)]):
        raise InputError(
            f"{metric} came as the metric to choose by, a share where higher is better was expected",
            f"take one of {', '.join(fit)}",
        )


def may_choose(metric: str) -> bool:
    """Whether a metric is a share where higher is better."""
    return bool(part("metrics", metric).HIGHER_IS_BETTER and is_share(metric))


def is_share(metric: str) -> bool:
    """Whether a metric lies in 0..1, so that it may be written in per cent."""
    return bool(getattr(part("metrics", metric), "SHARE", False))


def name_of(metric: str) -> str:
    """A metric as it is written: "macro F1"; one of a run that is not installed here by its key."""
    known = part("metrics", metric) if metric in keys("metrics") else None
    return str(getattr(known, "NAME", metric.replace("_", " ")))


def heading(metric: str) -> str:
    """The head of a column of scores: "% right", "macro F1, %"."""
    return "% right" if metric == "accuracy" else f"{name_of(metric)}, %"


def said(metric: str) -> str:
    """What stands before a score: "right", "macro F1"."""
    return "right" if metric == "accuracy" else name_of(metric)


def scores_of(metric: str, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n,) per-row scores of (n, C) probabilities under a metric; their mean is the metric."""
    if not len(labels):
        return np.zeros(0)
    return np.asarray(part("metrics", metric).score(probabilities, labels), float)


def measured(probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None) -> Json:
    """Every metric with its interval, by key: {"estimate", "low", "high", "n"}."""
    return {
        key: _within(
            interval_of(
                scores_of(key, probabilities, labels), groups, classes_for(key, labels), is_share(key)
            ),
            getattr(part("metrics", key), "RANGE", None),
        )
        for key in keys("metrics")
    }


def _within(value: Json, bounds: tuple[float, float] | None) -> Json:
    """An interval inside what a metric can be (its RANGE, where it states one): Student's t knows no bounds."""
    if bounds is None:
        return value
    ends = {
        key: None if value[key] is None else float(np.clip(value[key], *bounds)) for key in ("low", "high")
    }
    return value | ends


def classes_for(metric: str, labels: np.ndarray) -> np.ndarray | None:
    """The labels where a metric weighs classes alike, so that its errors have to know them; else None."""
    return labels if getattr(part("metrics", metric), "BY_CLASS", False) else None


def interval_of(
    values: np.ndarray,
    clusters: np.ndarray | None = None,
    classes: np.ndarray | None = None,
    share: bool = True,
) -> Json:
    """Mean of (n,) per-row scores with its 95 % interval: Wilson's for right and wrong, else by Student's t, of a share in log odds.

    classes (n,): labels where the metric weighs classes alike (`classes_for`).
    """
    values = np.asarray(values, float)
    if classes is not None and len(values):
        error, freedom = class_error(values, classes, clusters)
        return plain(of_odds(by_student(values, error, freedom)))
    if np.isin(values, (0.0, 1.0)).all():
        return plain(share_of(values, clusters))
    return plain(score_interval(values, _own(values, clusters), share))


def plain(interval: Interval) -> Json:
    """An Interval as JSON with the names of the decision's schema; an end that nothing bounds is None."""
    value = asdict(interval)
    ends = {key: value[key] if np.isfinite(value[key]) else None for key in ("low", "high")}
    return {"estimate": value["estimate"], **ends, "n": value["n"]}


def difference(
    a: np.ndarray,
    b: np.ndarray,
    clusters: np.ndarray | None = None,
    classes: np.ndarray | None = None,
) -> Json:
    """Paired difference a - b of (n,) per-row scores, its 95 % interval and p value: Tango's and McNemar's for right and wrong, else t.

    classes (n,): labels where the metric weighs classes alike (`classes_for`).
    """
    if classes is not None and len(a):
        gaps = np.asarray(a, float) - np.asarray(b, float)
        error, freedom = class_error(gaps, classes, clusters)
        found, p = by_student(gaps, error, freedom), p_of_mean(gaps, error, freedom)
        return {**plain(_bounded(found)), "p": p}
    if all(np.isin(x, (0.0, 1.0)).all() for x in (a, b)):
        a, b = np.asarray(a, bool), np.asarray(b, bool)
        value = plain(paired.paired_difference(a, b, clusters=clusters))
        return {**value, "p": float(paired.mcnemar_midp(a, b, clusters))}
    found, p = gap(a, b, _own(a, clusters))
    return {**plain(_bounded(found)), "p": float(p)}


def _bounded(found: Interval) -> Interval:
    """A difference of two shares."""
    return replace(found, low=max(found.low, -1.0), high=min(found.high, 1.0))


def _own(values: np.ndarray, clusters: np.ndarray | None) -> np.ndarray:
    return np.arange(len(values)) if clusters is None else clusters


def by_class(
    labels: np.ndarray, guesses: np.ndarray, classes: Sequence[str], groups: np.ndarray | None = None
) -> list[Json]:
    """One line a class that occurs, the worst F1 first, those without a true row last.

    {"class", "n": true rows, "given": rows given to it, "recall", "precision", "f1": interval | None}. Recall is the share right of
    a class's rows, precision that of the rows given to it. F1 = 2 J / (1 + J), where J is the share of hits among the rows that are
    of the class or given to it, so its interval is J's (Wilson), carried over.
    """
    lines = []
    for c, name in enumerate(classes):
        true, given = labels == c, guesses == c
        if not (true | given).any():
            continue
        recall, precision, jaccard = (
            _among(true & given, rows, groups) for rows in (true, given, true | given)
        )
        assert jaccard is not None
        f1 = {key: value if key == "n" else 2 * value / (1 + value) for key, value in jaccard.items()}
        counts = {"class": name, "n": int(true.sum()), "given": int(given.sum())}
        lines.append({**counts, "recall": recall, "precision": precision, "f1": f1})
    return sorted(lines, key=lambda line: (line["n"] == 0, line["f1"]["estimate"], line["class"]))


def _among(hits: np.ndarray, rows: np.ndarray, groups: np.ndarray | None) -> Json | None:
    """The share of hits among some of the rows, with its interval; None where there are none."""
    if not rows.any():
        return None
    return interval_of(hits[rows].astype(float), None if groups is None else groups[rows])
