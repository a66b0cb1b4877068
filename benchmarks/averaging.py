"""Claim: with few rows a last layer that averages lifts the full fine-tuning of minilm-l6, and `full` has it where it does.

The method `full` as it is, but for that layer, which each cell has or has not whatever the number of rows. A size is "c8", 8 rows
a class, or a number of rows drawn at random. Accuracy and log-loss on test rows; the rows up to which the method averages are its own
(`AVERAGED_ROWS`).
Run: python benchmarks/averaging.py [--sets trec --sizes c8,500 --draws 1].
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import common
from heads import drawn, measured


def fitted(train: common.Rows, test: common.Rows, seed: int, average: bool) -> dict[str, float]:
    """One full fine-tuning with the layer or without it."""
    from basewise.core.method import Context
    from basewise.core.task import Examples
    from basewise.engine.classifier import new_classifier
    from basewise.engine.finetune import finetune
    from basewise.parts.methods.full import RECIPE
    from basewise.steps.bases import pull

    classes = tuple(sorted({*train.labels, *test.labels}))
    labels, true = (np.array([classes.index(v) for v in rows.labels], np.int64) for rows in (train, test))
    order = np.arange(len(labels))
    began = time.perf_counter()
    network = new_classifier(pull("minilm-l6"), classes, seed, average="added" if average else "")
    finetune(network, Examples(tuple(train.texts), labels, order, order, classes), RECIPE, Context(seed=seed))
    seconds = time.perf_counter() - began
    return measured(np.log(np.maximum(network.probabilities(test.texts), 1e-300)), true, seconds)


def cell(name: str, size: str, number: int, o: Any) -> dict[str, Any]:
    """One draw of one set and size, with and without."""
    test = common.sample(common.read_set(name, "test"), o.test_rows, 0)
    train = drawn(common.read_set(name, "train"), size, number)
    with_, without = (fitted(train, test, number, average) for average in (True, False))
    return {"with": with_, "without": without, "rows": len(train.texts), "accuracy": with_["accuracy"]}


def summary(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean gain of the layer where the method has it and where it has not; both should speak for the method."""
    from basewise.engine.averaging import AVERAGED_ROWS

    met, gains = {}, {}
    for words, few in ((f"up to {AVERAGED_ROWS} rows", True), ("with more", False)):
        some = [c for c in cells if (c["rows"] <= AVERAGED_ROWS) == few]
        if some:
            gain = {k: common.spread([c["with"][k] - c["without"][k] for c in some]) for k in ("accuracy", "log_loss")}  # fmt: skip
            gains[words] = gain
            met[f"{words} {'more' if few else 'no more'} are right with it"] = (
                gain["accuracy"]["mean"] > 0
            ) == few
    told = ", ".join(
        f"{words} {100 * g['accuracy']['mean']:+.1f} points, log-loss {g['log_loss']['mean']:+.3f} (n = {g['accuracy']['n']})"
        for words, g in gains.items()
    )
    return {"gains": gains, "met": met, "headline": f"minilm-l6, the layer that averages: {told}"}


def main() -> None:
    """Run the cells that are missing, print the table, write the result."""
    sizes = ("c8", "300", "500", "1000")
    o = common.options(__doc__, sets=("trec", "tweet_emotion", "sst2"), sizes=sizes, draws=1, test_rows=1000)
    if o.smoke:
        vars(o).update(sets=("trec",), sizes=("c8",), draws=1, test_rows=60)
    journal, cells = common.Journal("averaging", smoke=o.smoke), []
    for number in range(o.draws):
        for name in o.sets:
            for size in o.sizes:
                key = {"set": name, "size": size, "draw": number, "test_rows": o.test_rows}
                cells.append(journal.cell(key, lambda n=name, s=size, d=number: cell(n, s, d, o)))
    lines = [
        [
            c["key"]["set"],
            c["rows"],
            c["key"]["draw"],
            *(c[who][what] for what in ("accuracy", "log_loss", "seconds") for who in ("without", "with")),
        ]
        for c in cells
    ]
    header = ("set", "rows", "draw", *(f"{what} {who}" for what in ("right", "log-loss", "s") for who in ("without", "with")))  # fmt: skip
    print("\n" + common.table(lines, header))
    result = summary(cells)
    print(result["headline"], result["met"])
    claim = (__doc__ or "").splitlines()[0]
    common.write_result("averaging", claim, {"settings": vars(o), **result, "cells": cells}, smoke=o.smoke)


if __name__ == "__main__":
    main()
