"""Claim: a window of 500 rows shows stated shifts with a power of at least 0.8, and false alarms come within 20 % of the stated rate.

Rows are drawn from a public set (trec) with the answers of a probe on its train rows and features as the watch keeps them. Shifts: a
class's share raised by 20 points (labels), a fifth of the rows from another set (inputs), words garbled in half of the rows (inputs). The
false alarm rate of one window is at 0.05; that of the alarm is its mean run length, simulated with windows of the same rows.
Run: python benchmarks/drift.py [--draws 200 --runs 60 --base minilm-l6]
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import common
from basewise.stats import alarms
from basewise.stats.drift import Said, compare
from basewise.stats.intervals import wilson

WINDOW, LEVEL = 500, 0.05
SHORT_RUN = 20


def garbled(text: str, rng: np.random.Generator) -> str:
    """A text with two neighbouring letters of every other word swapped."""
    words = text.split()
    for i in range(0, len(words), 2):
        if len(words[i]) > 3:
            at = int(rng.integers(len(words[i]) - 1))
            words[i] = words[i][:at] + words[i][at + 1] + words[i][at] + words[i][at + 2 :]
    return " ".join(words)


def pools(base_name: str) -> tuple[dict[str, Said], np.ndarray]:
    """Answered rows by origin ("same", "other", "garbled"), and the true classes of "same"."""
    from basewise.core.method import Context
    from basewise.core.registry import part
    from basewise.core.task import Examples
    from basewise.engine.shared import Bases, Reader
    from basewise.steps.bases import pull
    from basewise.steps.hosting import projection
    from basewise.steps.predict import load, save_predictor

    rows, other = common.sample(common.read_set("trec", "train"), 5000, 0), common.read_set("subj", "test")
    classes = tuple(sorted(set(rows.labels)))
    labels = np.array([classes.index(label) for label in rows.labels])
    order = np.arange(1000)
    examples = Examples(tuple(rows.texts[:1000]), labels[:1000], order, order, classes)
    reader, base = Reader(Bases()), pull(base_name)
    with tempfile.TemporaryDirectory(prefix="basewise-bench-") as folder:
        place = Path(folder) / "predictor"
        fresh = part("methods", "probe").fit(examples, base, Context())
        save_predictor(place, fresh, method="probe", base=base, inputs=("text",), threshold=None)
        fitted = load(place, reader).fitted
    rng = np.random.default_rng(0)
    texts = {
        "same": rows.texts[1000:],
        "other": other.texts[:1000],
        "garbled": [garbled(t, rng) for t in rows.texts[1000:3000]],
    }
    made = {}
    for name, some in texts.items():
        p = fitted.probabilities(some)
        base, wanted = next(iter(reader.asked.values()))
        found = reader.features(base, some, layers=[wanted[-1].name], precision=next(iter(reader.asked))[1])
        values = found.matrix(wanted[-1].name)
        kept = (values @ projection(values.shape[1])).astype(np.float16).astype(np.float64)
        made[name] = Said(p.argmax(1), p.max(1), kept)
    return made, labels[1000:]


def drawn(made: dict[str, Said], truth: np.ndarray, shift: str, rng: np.random.Generator) -> Said:
    """A window of one kind, without replacement within its pools."""
    same = made["same"]
    if shift == "labels":
        shares = np.bincount(truth) / len(truth)
        weights = np.where(truth == shares.argmin(), 1 + 0.2 / shares.min(), 1 - 0.2 / (1 - shares.min()))
        return same.take(rng.choice(len(truth), WINDOW, p=weights / weights.sum()))
    if shift in ("other", "garbled"):
        part = {"other": 0.2, "garbled": 0.5}[shift]
        count = int(part * WINDOW)
        fresh = made[shift].take(rng.permutation(len(made[shift]))[:count])
        return fresh.then(same.take(rng.permutation(len(same))[: WINDOW - count]))
    return same.take(rng.permutation(len(same))[:WINDOW])


def rate(made: dict[str, Said], truth: np.ndarray, shift: str, draws: int) -> common.Json:
    """Share of windows with a joint p-value of at most LEVEL; the reference is drawn anew each time, disjoint without a shift."""
    hits = 0
    for i in range(draws):
        rng = np.random.default_rng([i, len(shift)])
        order = rng.permutation(len(made["same"]))
        before = made["same"].take(order[:WINDOW])
        now = (
            made["same"].take(order[WINDOW : 2 * WINDOW])
            if shift == "none"
            else drawn(made, truth, shift, rng)
        )
        hits += compare(before, now, rng).p <= LEVEL
    found = wilson(hits, draws)
    return {"rate": found.estimate, "low": found.low, "high": found.high, "n": draws}


def run_lengths(made: dict[str, Said], runs: int) -> common.Json:
    """Windows until a false alarm of an alarm stated at SHORT_RUN, each window held against a draw of all rows before it."""
    threshold, size, lengths = alarms.threshold_for(SHORT_RUN), 60, []
    for i in range(runs):
        rng = np.random.default_rng([i, 77])
        rows = made["same"].take(rng.integers(0, len(made["same"]), size * 12 * SHORT_RUN))
        level, n = 0.0, 0
        while level < threshold and size * (n + 2) < len(rows):
            start = size * (n + 1)
            pool = rng.permutation(start)[: 3 * size]
            p = compare(rows.take(pool), rows.take(np.arange(start, start + size)), rng).p
            level, n = alarms.cusum(level, p), n + 1
        lengths.append(n)
    error = float(np.std(lengths) / np.sqrt(len(lengths)))
    return {"stated": SHORT_RUN, "mean": float(np.mean(lengths)), "standard_error": error, "n": runs}


def main() -> None:
    """Measure, print, write the result."""
    o = common.options(__doc__, draws=200, null_draws=2000, runs=200, base="minilm-l6")
    draws, null_draws, runs = (4, 10, 2) if o.smoke else (o.draws, o.null_draws, o.runs)
    made, truth = pools(o.base)
    rates = {shift: rate(made, truth, shift, draws) for shift in ("labels", "other", "garbled")}
    rates["none"] = rate(made, truth, "none", null_draws)
    lengths = run_lengths(made, runs)
    met = {f"power of {s} at least 0.8": rates[s]["rate"] >= 0.8 for s in ("labels", "other", "garbled")}
    met["false alarms of a window within 20 % of 0.05"] = abs(rates["none"]["rate"] / LEVEL - 1) <= 0.2
    met["run length within 20 % of the stated"] = abs(lengths["mean"] / SHORT_RUN - 1) <= 0.2
    print(
        common.table(
            [(s, r["rate"], r["low"], r["high"], r["n"]) for s, r in rates.items()],
            ("shift", "rate", "low", "high", "n"),
        )
    )
    print(lengths, met, sep="\n")
    headline = (
        f"power at {WINDOW} rows {min(rates[s]['rate'] for s in rates if s != 'none'):.2f} or more, false alarms {rates['none']['rate']:.3f} "
        f"at {LEVEL}; a false alarm every {lengths['mean']:.1f} windows where {SHORT_RUN} are stated"
    )
    result = {"headline": headline, "settings": vars(o), "rates": rates, "run_lengths": lengths, "met": met}
    common.write_result("drift", (__doc__ or "").splitlines()[0], result, smoke=o.smoke)


if __name__ == "__main__":
    main()
