"""Claim: calibrated 8-shot prompting of smollm2-135m beats its uncalibrated self on at least 5 of 7 sets, by 5 points on average.

8 shots are 8 shown rows in all, the classes in turn: with more than 8 classes (banking77, clinc150) 8 of them are shown, and
the instruction says nothing of the others. The same shown rows and test rows for three ways to read one and the same scores:
    uncalibrated   the label with the largest summed log-probability
    batch          the mean answer over the test texts taken off; no label beyond the 8 shown (Zhou et al., arXiv 2309.17249)
    chosen         none, batch or the supervised affine map (arXiv 2505.23783), by out-of-fold log-loss on --labels further
                   labelled rows: it has seen more labels than the other two
The claim is held against batch; what the further labels add stands beside it. Differences are paired; their intervals count
both the rows and the draws of shown rows. Then, on --choose-sets: `choose` with prompt and probe on the same base; where the
probe is shown to be better on the test rows, it has to pick the probe.
Run: python benchmarks/prompting.py [--sets sst2,trec --rows 100 --draws 1]. It goes on where it stopped; --report 1 sums up.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import common
from choice import run_arm
from few_labels import run_choose

BASE = "smollm2-135m"
SHOTS = 8
WAYS = ("uncalibrated", "batch", "chosen")
LEAST_SETS, LEAST_GAIN = 5, 0.05
MANY_CLASSES = 30
Json = dict[str, Any]


def in_turn(labels: list[str], seed: tuple[int, ...]) -> np.ndarray:
    """Positions in a random order that takes the classes in turn, so that every beginning of it is balanced."""
    rng = np.random.default_rng(seed)
    names = np.array(labels)
    order = rng.permutation(len(names))
    turn = np.zeros(len(names))
    for name in sorted(set(labels)):
        own = names[order] == name
        turn[own] = np.arange(own.sum())
    return order[np.argsort(turn, kind="stable")]


def ask(name: str, draw: int, test: common.Rows, labels: int) -> Json:
    """One cell: scores of the test rows and of the labelled rows after 8 shown ones, read in three ways."""
    from basewise.core.method import Wording
    from basewise.core.registry import part
    from basewise.engine import prompting
    from basewise.engine.causal import opened
    from basewise.engine.recalibrate import choose_calibration, fit_calibration
    from basewise.steps.bases import pull

    train = common.read_set(name, "train")
    classes = tuple(sorted(set(train.labels)))
    said = part("suites", "classify").SETS[name].words
    words = prompting.verbalise(classes, Wording(words=tuple(said.items())))
    order = in_turn(train.labels, (draw, len(train)))
    shown, rest = train.take(order[:SHOTS]), train.take(order[SHOTS:])
    known = common.sample(rest, labels, draw)
    causal = opened(pull(BASE))
    word_of = dict(zip(classes, words, strict=True))
    template = prompting.default_template(words)
    pairs = [(text, word_of[label]) for text, label in zip(shown.texts, shown.labels, strict=True)]
    prompt = prompting.build_prompt(causal, template, words, pairs)
    began = time.perf_counter()
    scores = prompting.label_scores(causal, prompt, [*test.texts, *known.texts])
    seconds = time.perf_counter() - began
    lengths = np.array([len(label) for label in prompt.labels], float)
    asked, held = scores[: len(test)], scores[len(test) :]
    unknown = np.full(len(test), -1)
    true = np.array([classes.index(label) for label in known.labels])
    chosen, record = choose_calibration(held, true, lengths, np.random.default_rng(draw))
    read = {
        "uncalibrated": fit_calibration(asked, unknown, lengths, "none", "sum"),
        "batch": fit_calibration(asked, unknown, lengths, "batch", "sum"),
        "chosen": chosen,
    }
    right = {
        way: [int(classes[i] == t) for i, t in zip(c.logits(asked).argmax(1), test.labels, strict=True)]
        for way, c in read.items()
    }
    return {
        "accuracy": float(np.mean(right["batch"])),
        "right": right,
        "classes": len(classes),
        "seconds": seconds,
        "prefix_tokens": len(prompt.prefix),
        "calibration": f"{chosen.kind} {chosen.norm}",
        "calibrations": record.get("calibrations"),
        "precision": causal.precision,
    }


def picked(name: str, shots: int, test: common.Rows, budget: float, seed: int) -> Json:
    """What `choose` picks of prompt and probe on one base, and both arms fitted on all rows and scored on the test rows."""
    train = common.draw(common.read_set(name, "train"), shots, seed)
    key = {"set": name, "draw": seed}
    chosen = run_choose(key, train, test, budget, {"bases": (BASE,), "methods": ("prompt", "probe")})
    if "error" in chosen:
        return chosen
    arms: Json = {}
    rows = {"train_texts": train.texts, "train_labels": train.labels, "test_texts": test.texts, "seed": seed}
    for method in ("prompt", "probe"):
        arms[method] = run_arm(rows, method, BASE, test, 1800.0)
        if "error" in arms[method]:
            return arms[method]
    return {**chosen, "arms": {m: a["accuracy"] for m, a in arms.items()}, "n": len(test)}


def gain(cells: list[Json], way: str) -> Json:
    """Paired gain of a way over the uncalibrated answers on one set: mean, interval over rows and draws, n."""
    each = np.array([np.subtract(c["right"][way], c["right"]["uncalibrated"]) for c in cells], float)
    draws, rows = each.shape
    by_row = each.mean(0).var(ddof=1) / rows if rows > 1 else 0.0
    by_draw = each.mean(1).var(ddof=1) / draws if draws > 1 else 0.0
    return {"mean": float(each.mean()), "variance": float(by_row + by_draw), "rows": rows, "draws": draws}


def interval(mean: float, variance: float, freedom: int) -> Json:
    """95 % by Student's t with the freedom of the draws, which are few."""
    from scipy.stats import t

    half = float(t.ppf(0.975, max(freedom, 1))) * variance**0.5
    return {"estimate": mean, "low": mean - half, "high": mean + half}


def summary(cells: list[Json], picks: list[Json]) -> Json:
    """A line a set, the average gain of batch and of chosen, the picks, and which aims are met."""
    lines: list[Json] = []
    good = [c for c in cells if "error" not in c]
    for name in dict.fromkeys(c["key"]["set"] for c in good):
        own = [c for c in good if c["key"]["set"] == name]
        line: Json = {"set": name, "classes": own[0]["classes"], "draws": len(own)}
        line |= {way: float(np.mean([c["right"][way] for c in own])) for way in WAYS}
        for way in WAYS[1:]:
            found = gain(own, way)
            freedom = 2 * max(len(own) - 1, 1)
            line[f"{way}_gain"] = {**found, **interval(found["mean"], found["variance"], freedom)}
        lines.append({**line, "seconds": sum(c["seconds"] for c in own)})
    if not lines:
        return {"rows": [], "met": None}
    figures: Json = {}
    for way in WAYS[1:]:
        found = [line[f"{way}_gain"] for line in lines]
        freedom = sum(max(f["draws"] - 1, 1) for f in found)
        variance = sum(f["variance"] for f in found) / len(found) ** 2
        figures[way] = {
            **interval(float(np.mean([f["mean"] for f in found])), variance, freedom),
            "n": sum(f["rows"] * f["draws"] for f in found),
            "better_on": sum(f["mean"] > 0 for f in found),
            "shown_better_on": sum(f["low"] > 0 for f in found),
        }
    whole = len(lines) == 7
    return {
        "rows": lines,
        "gains": figures,
        "picks": (chosen := pick_lines(picks)),
        "met": {
            "calibrated beats uncalibrated on at least 5 of 7": figures["batch"]["better_on"] >= LEAST_SETS
            if whole
            else None,
            "by 5 points on average": figures["batch"]["estimate"] >= LEAST_GAIN if whole else None,
            "where the probe wins, choose picks it": all(p["as_it_should"] for p in chosen)
            if any(p["probe_wins"] for p in chosen)
            else None,
        },
        "headline": headline(figures, lines, chosen),
    }


def pick_lines(picks: list[Json]) -> list[Json]:
    """Where the probe beats the prompt beyond two standard errors of the two shares, and what was picked."""
    out = []
    for p in picks:
        if "error" in p:
            continue
        ask_, probe = p["arms"]["prompt"], p["arms"]["probe"]
        error = ((ask_ * (1 - ask_) + probe * (1 - probe)) / p["n"]) ** 0.5
        wins = probe - ask_ > 2 * error
        right = p["chosen"].endswith("+ probe")
        out.append({"set": p["key"]["set"], "prompt": ask_, "probe": probe, "n": p["n"], "chosen": p["chosen"],
                    "probe_wins": bool(wins), "as_it_should": bool(right or not wins)})  # fmt: skip
    return out


def headline(figures: Json, lines: list[Json], picks: list[Json]) -> str:
    """The result in a sentence."""
    batch, chosen = figures["batch"], figures["chosen"]
    said = (
        f"8 shots on {BASE}, {len(lines)} sets: batch-calibrated {100 * batch['estimate']:+.1f} points"
        f" [{100 * batch['low']:.1f}, {100 * batch['high']:.1f}] on the uncalibrated answers, better on {batch['better_on']};"
        f" calibration chosen on further labels {100 * chosen['estimate']:+.1f}"
        f" [{100 * chosen['low']:.1f}, {100 * chosen['high']:.1f}] (n = {batch['n']:,})"
    )
    wins = [p for p in picks if p["probe_wins"]]
    return said + (
        f"; the probe picked on {sum(p['as_it_should'] for p in wins)} of {len(wins)} sets that it wins"
        if wins
        else ""
    )


def main() -> None:
    """Run the cells that are missing, print the table, write the result."""
    o = common.options(
        __doc__, sets=(*common.SETS, "tweet_irony"), rows=300, draws=3, labels=64,
        choose_sets=("trec", "sst2", "tweet_emotion"), choose_shots=16, budget=120.0, report=0,
    )  # fmt: skip
    if o.smoke:
        vars(o).update(
            sets=("sst2",), rows=6, draws=1, labels=8, choose_sets=("sst2",), choose_shots=3, budget=60.0
        )
    journal = common.Journal("prompting", smoke=o.smoke)
    cells, picks = [], []
    for name in o.sets:
        every = common.read_set(name, "test")
        for number in range(o.draws):
            # the labels of a set with many classes are most of its tokens, so it is asked of fewer rows
            rows = max(1, o.rows // 2) if len(set(every.labels)) > MANY_CLASSES else o.rows
            key = {"set": name, "draw": number, "rows": rows, "labels": o.labels, "who": "asked"}
            test = common.sample(every, rows, 0)
            if o.report and not journal.has(key):
                continue
            cells.append(journal.cell(key, lambda n=name, d=number, t=test: ask(n, d, t, o.labels)))
    for name in o.choose_sets:
        key = {"set": name, "draw": 0, "rows": o.rows, "shots": o.choose_shots, "who": "picked"}
        test = common.sample(common.read_set(name, "test"), o.rows, 0)
        if o.report and not journal.has(key):
            continue
        picks.append(journal.cell(key, lambda n=name, t=test: picked(n, o.choose_shots, t, o.budget, 0)))
    result = summary(cells, picks)
    header = ("set", "classes", *WAYS, "seconds")
    print("\n" + common.table([[line[h] for h in header] for line in result["rows"]], header))
    print(result.get("headline"), result["met"], sep="\n")
    claim = (__doc__ or "").splitlines()[0]
    every_cell = [*cells, *picks]
    common.write_result(
        "prompting", claim, {"settings": vars(o), **result, "cells_run": every_cell}, smoke=o.smoke
    )
    if o.smoke and any("error" in c for c in every_cell):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
