"""Claim: a discriminant beside the probe's regression lifts accuracy with few labels on average, and costs no base half a point.

Frozen features of the package, the same layers for both: the head as `probe` fits it, and the same with the discriminant left
out. scikit-learn's plain probe (last layer, C = 10) stands beside. A row of the table is a set, a base and a number of rows: "c8" is
8 a class, 500 is 500 drawn at random, so that some classes have one row or none. Mean over draws.
Run: python benchmarks/heads.py [--sets trec --bases minilm-l6 --sizes c8,500].
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np

import common

LEAST = -0.005
"""Mean gain that a base may lose."""
Matrices = dict[str, np.ndarray]


def drawn(train: common.Rows, size: str, number: int) -> common.Rows:
    """Rows of one draw."""
    if size.startswith("c"):
        return common.draw(train, int(size[1:]), number)
    return common.sample(train, int(size), number)


def measured(log_probabilities: np.ndarray, labels: np.ndarray, seconds: float) -> dict[str, float]:
    """Accuracy and log-loss on the test rows, seconds of the fit."""
    right = log_probabilities[np.arange(len(labels)), labels]
    return {
        "accuracy": float((log_probabilities.argmax(1) == labels).mean()),
        "log_loss": float(-np.maximum(right, np.log(1e-12)).mean()),
        "seconds": seconds,
    }


def ours(train: Matrices, test: Matrices, y: tuple[np.ndarray, np.ndarray, int], beside: bool) -> Any:
    """The package's probe, with or without the discriminant."""
    from basewise.engine import probe

    kept = probe._beside
    began = time.perf_counter()
    try:
        if not beside:
            probe._beside = lambda alone, *rest: alone
        fit = probe.fit_probe(train.__getitem__, list(train), y[0], y[2])
    finally:
        probe._beside = kept
    seconds = time.perf_counter() - began
    return measured(np.log(np.maximum(fit.probe.probabilities(test.__getitem__), 1e-300)), y[1], seconds)


def plain(train: Matrices, test: Matrices, y: tuple[np.ndarray, np.ndarray, int]) -> Any:
    """scikit-learn's logistic regression on the last layer, as it comes."""
    from sklearn.linear_model import LogisticRegression

    last = [name for name in train if name != "all"][-1:] or ["all"]
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=10.0, max_iter=300).fit(train[last[0]], y[0])
    seconds = time.perf_counter() - began
    found = np.full((len(y[1]), y[2]), -30.0)
    found[:, model.classes_] = model.predict_log_proba(test[last[0]])
    return measured(found, y[1], seconds)


def cell(name: str, base: str, size: str, o: Any) -> dict[str, Any]:
    """All draws of one set, base and size."""
    from basewise.engine.features import FeatureStore
    from basewise.steps.bases import pull

    test = common.sample(common.read_set(name, "test"), o.test_rows, 0)
    opened, store, runs = pull(base), FeatureStore(None), []
    answers = store.features(opened, test.texts)
    for number in range(o.draws):
        train = drawn(common.read_set(name, "train"), size, number)
        classes = sorted({*train.labels, *test.labels})
        codes = [np.array([classes.index(v) for v in rows.labels]) for rows in (train, test)]
        y = (codes[0], codes[1], len(classes))
        found = store.features(opened, train.texts)
        here = {n: found.matrix(n) for n in found.names}
        there = {n: answers.matrix(n) for n in found.names}
        runs.append(
            {
                "with": ours(here, there, y, True),
                "without": ours(here, there, y, False),
                "plain": plain(here, there, y),
            }
        )
    means = {
        who: {k: float(np.mean([r[who][k] for r in runs])) for k in runs[0][who]}
        for who in ("with", "without", "plain")
    }
    return {**means, "rows": len(train), "runs": runs, "accuracy": means["with"]["accuracy"]}


def summary(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean gains over all cells and by base."""

    def gain(some: list[dict[str, Any]], what: str) -> float:
        return float(np.mean([c["with"][what] - c["without"][what] for c in some]))

    bases = sorted({c["key"]["base"] for c in cells})
    by_base = {b: gain([c for c in cells if c["key"]["base"] == b], "accuracy") for b in bases}
    accuracy, loss = gain(cells, "accuracy"), gain(cells, "log_loss")
    met = {
        "accuracy higher on average": accuracy > 0,
        "no base loses half a point": min(by_base.values()) >= LEAST,
    }
    told = ", ".join(f"{b} {100 * g:+.1f}" for b, g in by_base.items())
    headline = (
        f"{len(cells)} cells: accuracy {100 * accuracy:+.1f} points on average ({told}), log-loss {loss:+.3f}"
    )
    return {
        "gain": {"accuracy": accuracy, "log_loss": loss, "by_base": by_base},
        "met": met,
        "headline": headline,
    }


def main() -> None:
    """Run the cells that are missing, print the table, write the result."""
    bases = ("wordllama-256", "minilm-l6", "smollm2-135m")
    o = common.options(__doc__, sets=common.SETS, bases=bases, sizes=("c8", "500"), draws=3, test_rows=600)
    if o.smoke:
        vars(o).update(sets=("trec",), bases=("wordllama-256",), sizes=("c8",), draws=1, test_rows=60)
    journal, cells = common.Journal("heads", smoke=o.smoke), []
    for base in o.bases:
        for name in o.sets:
            for size in o.sizes:
                key = {"set": name, "base": base, "size": size, "draws": o.draws, "test_rows": o.test_rows}
                cells.append(journal.cell(key, lambda n=name, b=base, s=size: cell(n, b, s, o)))
    lines = [
        [
            c["key"]["base"],
            c["key"]["set"],
            c["key"]["size"],
            *(c[who][what] for what in ("accuracy", "log_loss") for who in ("plain", "without", "with")),
            c["with"]["seconds"],
        ]
        for c in cells
    ]
    header = ("base", "set", "size", "plain", "without", "with", "plain", "without", "with", "seconds")
    print("\n" + common.table(lines, header))
    result = summary(cells)
    print(result["headline"], result["met"])
    claim = (__doc__ or "").splitlines()[0]
    common.write_result("heads", claim, {"settings": vars(o), **result, "cells": cells}, smoke=o.smoke)


if __name__ == "__main__":
    main()
