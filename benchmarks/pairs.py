"""Claim: where two columns stand in a relation, `pair` is right more often than `probe` on the joined text, and than a plain pair of embeddings.

Columns are made from public sets. "same": two rows of one label or of two, to be told apart; no column says it by itself. "halves":
the first and the second half of one text with its own label, where there is no relation to see. Beside both methods stands what people
write by hand: scikit-learn's logistic regression on [u, v, |u - v|, u * v] of the last layer (C = 1). Features are computed once for
all; the seconds are those of the fit, beside those that the method told.
Run: python benchmarks/pairs.py [--tables same:banking77 --sizes 16,200 --draws 1].
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import common
from heads import measured

TEST_ROWS, POOL_ROWS = 1000, 2000
INPUTS = ("first", "second")
CLOSE = 0.3


def made(table: str, split: str, n: int) -> common.Rows:
    """`n` rows of joined texts: "same:trec" or "halves:trec"."""
    from basewise.core.cells import joined

    kind, _, name = table.partition(":")
    rows = common.read_set(name, split)
    draw = np.random.default_rng([n, *name.encode()])
    if kind == "halves":
        rows = common.sample(rows, n, 0)
        words = [text.split() for text in rows.texts]
        halves = [(" ".join(w[: len(w) // 2]), " ".join(w[len(w) // 2 :])) for w in words]
        return common.Rows([joined(pair, INPUTS) for pair in halves], list(rows.labels))
    of = {label: [t for t, one in zip(rows.texts, rows.labels, strict=True) if one == label] for label in set(rows.labels)}  # fmt: skip
    labels, texts, said = sorted(of), [], []
    for i in range(n):
        a = int(draw.integers(len(labels)))
        b = a if i % 2 else (a + int(draw.integers(1, len(labels)))) % len(labels)
        pair = [of[labels[k]][int(draw.integers(len(of[labels[k]])))] for k in (a, b)]
        texts.append(joined(pair, INPUTS))
        said.append("same" if i % 2 else "other")
    return common.Rows(texts, said)


def by_hand(store: Any, base: Any, train: common.Rows, test: common.Rows, y: np.ndarray) -> np.ndarray:
    """(n, C) log-probabilities of the plain regression on the four parts of the last layer."""
    from sklearn.linear_model import LogisticRegression

    from basewise.core.cells import apart
    from basewise.engine.frozen import name_layer
    from basewise.engine.probe import unit

    layer, parts = name_layer(base.card), []
    for rows in (train, test):
        found = store.features(base, apart(rows.texts, INPUTS))
        u, v = unit(found.matrix(layer)).reshape(len(rows), 2, -1).transpose(1, 0, 2)
        parts.append(np.concatenate([u, v, np.abs(u - v), u * v], axis=1))
    fitted = LogisticRegression(max_iter=2000).fit(parts[0], y)
    logs = np.full((len(test), int(y.max()) + 1), np.log(1e-12))
    logs[:, fitted.classes_] = fitted.predict_log_proba(parts[1])
    return logs


def cell(store: Any, key: dict[str, Any]) -> dict[str, Any]:
    """One table, base, number of labelled rows and draw: the two methods and what is written by hand."""
    from basewise.core.method import Context
    from basewise.core.registry import part
    from basewise.core.task import Examples
    from basewise.engine.costs import encode_seconds
    from basewise.engine.device import machine
    from basewise.steps.bases import pull

    base, test = pull(key["base"]), made(key["table"], "test", key["test_rows"])
    pool = made(key["table"], "train", POOL_ROWS)
    train = common.sample(pool, key["rows"], key["draw"] + 1)
    classes = tuple(sorted({*pool.labels, *test.labels}))
    labels, true = (np.array([classes.index(v) for v in rows.labels], np.int64) for rows in (train, test))
    order = np.arange(len(labels))
    examples = Examples(tuple(train.texts), labels, order, order, classes, INPUTS)
    found: dict[str, Any] = {}
    for name in ("pair", "probe"):
        method = part("methods", name)
        reads = examples.read_by(method.REQUIRES)
        store.features(base, reads)
        told = method.estimate(examples, base.card, machine()).seconds
        began = time.perf_counter()
        fitted = method.fit(examples, base, Context(seed=key["draw"], features=store))
        seconds = time.perf_counter() - began
        logs = np.log(np.maximum(fitted.probabilities(test.texts), 1e-300))
        found[name] = measured(logs, true, seconds)
        found[name]["told"] = told - encode_seconds(reads, base.card, machine())[0]
    began = time.perf_counter()
    logs = by_hand(store, base, train, test, labels)
    found["by hand"] = measured(logs, true, time.perf_counter() - began)
    return {**found, "accuracy": found["pair"]["accuracy"]}


def summary(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean gains of `pair` on both, by kind of table, and how often its time was told within CLOSE."""
    met, told = {}, []
    for kind in ("same", "halves"):
        some = [c for c in cells if c["key"]["table"].startswith(kind)]
        for other in ("probe", "by hand") if some else ():
            gain = common.spread([c["pair"]["accuracy"] - c[other]["accuracy"] for c in some])
            told.append(f"{kind} against {other} {100 * gain['mean']:+.1f} points (n = {gain['n']})")
            if kind == "same":
                met[f"more right than {other} where there is a relation"] = gain["mean"] > 0
    close = np.mean([abs(c["pair"]["seconds"] / c["pair"]["told"] - 1) <= CLOSE for c in cells])
    met["seconds told within 30 % in nine of ten fits"] = bool(close >= 0.9)
    told.append(f"seconds told within 30 % in {100 * close:.0f}% of the fits")
    return {"met": met, "headline": f"pair, {', '.join(told)}"}


def main() -> None:
    """Run the cells that are missing, print their means, write the result."""
    from basewise.engine.features import FeatureStore

    tables = ("same:banking77", "same:clinc150", "same:trec", "halves:trec", "halves:sst2")
    bases = ("wordllama-256", "minilm-l6")
    o = common.options(__doc__, tables=tables, bases=bases, sizes=(16, 200, 1000), draws=3)
    if o.smoke:
        vars(o).update(tables=("same:trec",), bases=bases[:1], sizes=(40,), draws=1)
    journal, store, cells = common.Journal("pairs", smoke=o.smoke), FeatureStore(None), []
    for table in o.tables:
        for base in o.bases:
            for rows in o.sizes:
                for draw in range(o.draws):
                    key = {"table": table, "base": base, "rows": rows, "draw": draw, "test_rows": 60 if o.smoke else TEST_ROWS}  # fmt: skip
                    cells.append(journal.cell(key, lambda k=key: cell(store, k)))
    lines = []
    for start in range(0, len(cells), o.draws):
        some = cells[start : start + o.draws]
        means = [float(np.mean([c[who][what] for c in some])) for what, who in (
            *(("accuracy", who) for who in ("probe", "by hand", "pair")), ("seconds", "pair"), ("told", "pair"),
        )]  # fmt: skip
        lines.append([*(some[0]["key"][k] for k in ("table", "base", "rows")), *means])
    header = ("table", "base", "rows", "probe", "by hand", "pair", "s pair", "s told")
    print("\n" + common.table(lines, header))
    result = summary(cells)
    print(result["headline"], result["met"])
    claim = (__doc__ or "").splitlines()[0]
    common.write_result("pairs", claim, {"settings": vars(o), **result, "cells": cells}, smoke=o.smoke)


if __name__ == "__main__":
    main()
