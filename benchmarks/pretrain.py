"""Claim: a third of the time of a GPT-2 class network trained the nanoGPT way is enough for the same held-out loss; at equal time it is lower.

Settings, each with as many weights on both sides, the same training text and the same held-out text, two threads:
    shakespeare  nanoGPT's own recipe for a processor: by character, 4 layers, 4 heads, 128 wide, context 64, 12 rows, 2,000
                 iterations, rate 1e-3 (it publishes a loss of 1.88)
    2M, 9M       a corpus of `basewise corpus build`; nanoGPT's settings for a small run at the best of three rates (seed 0)
The peer runs to its end; basewise is given a third of those seconds, with Shakespeare then all of them. Seconds are those of training.
Run: python benchmarks/pretrain.py [--settings shakespeare --seeds 0,1,2 --corpus runs/tiny-corpus]. It goes on where it stopped.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import common

THREADS = 2
PUBLISHED = 1.88
RATES = (3e-4, 1e-3, 3e-3)
WITH_EQUAL = ("shakespeare",)
"""Settings whose claim is also about equal time."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One comparison: shape of the peer, shape of ours (as many weights), rows and iterations of the peer."""

    layers: int
    heads: int
    width: int
    context: int
    rows: int
    iterations: int
    ours: dict[str, Any]


SETTINGS = {
    "shakespeare": Setting(
        layers=4, heads=4, width=128, context=64, rows=12, iterations=2000,
        ours={"depth": 4, "width": 128, "heads": 4, "batch_tokens": 1536, "tokens_at_once": 1536, "cooldown": 0.6},
    ),
    "2M": Setting(
        layers=4, heads=2, width=128, context=256, rows=16, iterations=1200,
        ours={"depth": 4, "width": 128, "heads": 2, "batch_tokens": 8192, "tokens_at_once": 4096},
    ),
    "9M": Setting(
        layers=8, heads=4, width=256, context=256, rows=16, iterations=600,
        ours={"depth": 8, "width": 256, "heads": 4, "batch_tokens": 8192, "tokens_at_once": 4096},
    ),
}  # fmt: skip


def shakespeare(folder: Path, most: int = 10**9) -> tuple[dict[str, Any], str]:
    """(the peer's files, our corpus) by character, the last tenth held out on both sides."""
    import pyarrow.parquet as pq

    path = common.data_folder() / "tinyshakespeare" / "train.parquet"
    if not path.is_file():
        raise common.NoData(f"no Shakespeare in {path}")
    text = pq.read_table(path)["text"][0].as_py()[:most]
    (folder / "shakespeare.txt").write_text(text, encoding="utf-8")
    letters = sorted(set(text))
    number = {letter: place for place, letter in enumerate(letters)}
    ids = np.fromiter((number[letter] for letter in text), np.int32, len(text))
    cut = int(len(ids) * 0.9)
    return _files(folder, ids[:cut], [ids[cut:]], len(letters)), str(folder / "shakespeare.txt")


def built(folder: Path, corpus: str) -> tuple[dict[str, Any], str]:
    """(the peer's files, our corpus) of a corpus folder."""
    from basewise.engine.corpus import open_corpus

    if not (Path(corpus) / "manifest.json").is_file():
        raise common.NoData(f"no corpus in {corpus}; make one with `basewise corpus build`")
    opened = open_corpus(corpus)
    train = np.concatenate([np.asarray(s.tokens) for s in opened.shards if s.split == "train"])
    held = [
        np.asarray(s.document(i))
        for s in opened.shards
        if s.split == "validation"
        for i in range(len(s.offsets) - 1)
    ]
    return _files(folder, train, held, opened.vocabulary), str(Path(corpus).resolve())


def _files(folder: Path, train: np.ndarray, held: list[np.ndarray], vocabulary: int) -> dict[str, Any]:
    np.save(folder / "train.npy", train)
    np.save(folder / "held.npy", np.concatenate(held))
    np.save(folder / "bounds.npy", np.cumsum([0, *map(len, held)]))
    names = {"train": "train.npy", "held_out": "held.npy", "bounds": "bounds.npy"}
    return {"vocabulary": vocabulary, **{key: str(folder / name) for key, name in names.items()}}


def peer(setting: Setting, files: dict[str, Any], rate: float, seed: int, iterations: int) -> dict[str, Any]:
    """The nanoGPT way to its end."""
    shape = {key: getattr(setting, key) for key in ("layers", "heads", "width", "context", "rows")}
    job = {**shape, **files, "rate": rate, "seed": seed, "iterations": iterations, "threads": THREADS}
    return common.run_worker("peer_nanogpt.py", {**job, "evaluate_every": max(1, iterations // 8)})


def ours(setting: Setting, corpus: str, seconds: float, seed: int, at_most: int) -> dict[str, Any]:
    """basewise in so many seconds; `at_most` tokens, which the seconds should cut short."""
    recipe = {
        "name": "bench", "corpus": corpus, "context": setting.context, "tied": True, "tokens": at_most, "seed": seed,
        "seconds": f"{max(seconds, 1.0):.2f}s", "evaluate_every": 10**6, "checkpoint_every": 10**6, **setting.ours,
    }  # fmt: skip
    return common.run_worker("ours_pretrain.py", {"recipe": recipe, "threads": THREADS})


def interval(values: list[float]) -> dict[str, Any]:
    """Mean over seeds with Student's 95 % interval; without one for a single seed."""
    from scipy.special import stdtrit

    found = common.spread(values)
    if len(values) > 1:
        half = float(stdtrit(len(values) - 1, 0.975) * found["sd"] / np.sqrt(len(values)))
        found |= {"low": found["mean"] - half, "high": found["mean"] + half}
    return found


def summary(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """One row a setting: losses of the peer, of ours in a third of its time and in all of it, and the paired gaps."""
    rows = []
    for name in dict.fromkeys(cell["key"]["setting"] for cell in cells):
        by = {
            (c["key"]["who"], c["key"]["seed"]): c
            for c in cells
            if c["key"]["setting"] == name and "nats" in c and c.get("used", True)
        }
        ours = ("third", "equal") if name in WITH_EQUAL else ("third",)
        seeds = sorted({s for who, s in by if who == "peer" and all((w, s) in by for w in ours)})
        if not seeds:
            continue
        loss = {who: [by[who, s]["nats"] for s in seeds] for who in ("peer", *ours)}
        gaps = {who: [a - b for a, b in zip(loss[who], loss["peer"], strict=True)] for who in ours}
        share = [by["third", s]["seconds"] / by["peer", s]["seconds"] for s in seeds]
        weights = {who: by[who, seeds[0]]["parameters"] for who in ("peer", "third")}
        rows.append(
            {
                "setting": name, "seeds": len(seeds), "weights": weights, "share_of_time": interval(share),
                **{f"{who}_nats": interval(v) for who, v in loss.items()},
                **{f"{who}_gap": interval(v) for who, v in gaps.items()},
            }
        )  # fmt: skip
    met = {
        f"{r['setting']}: {words}": r["seeds"] >= 3 and r[f"{who}_gap"].get("high", 1.0) <= 0
        for r in rows
        for who, words in (
            ("third", "the same loss in a third of the time"),
            ("equal", "a lower loss at equal time"),
        )
        if f"{who}_gap" in r
    }
    headline = "; ".join(
        f"{r['setting']}: {r['third_nats']['mean']:.3f} nats in {r['share_of_time']['mean']:.2f} of the time against"
        f" {r['peer_nats']['mean']:.3f}"
        + (f", {r['equal_nats']['mean']:.3f} at equal time" if "equal_nats" in r else "")
        + f" (n = {r['seeds']})"
        for r in rows
    )
    return {"rows": rows, "met": met, "published": PUBLISHED, "headline": headline or "nothing yet"}


def compare(
    name: str, journal: common.Journal, texts: tuple[dict[str, Any], str], seeds: tuple[int, ...], steps: int
) -> list[dict[str, Any]]:
    """The cells of one setting: the peer at its rates for the first seed, then all at the best one."""
    (files, corpus), setting, cells = texts, SETTINGS[name], []

    def run(who: str, seed: int, call: Callable[[], Any], **more: Any) -> dict[str, Any]:
        cells.append(journal.cell({"setting": name, "who": who, "seed": seed, **more}, call))
        return cells[-1]

    def run_peer(rate: float, seed: int) -> dict[str, Any]:
        return run("peer", seed, lambda: peer(setting, files, rate, seed, steps), rate=rate)

    def run_ours(who: str, seed: int, seconds: float, most: int) -> None:
        run(who, seed, lambda: ours(setting, corpus, seconds, seed, most))

    rates = (1e-3,) if name == "shakespeare" else RATES
    first = {rate: run_peer(rate, seeds[0]) for rate in rates}
    best = min(rates, key=lambda rate: first[rate].get("nats", float("inf")))
    for rate in rates:
        first[rate]["used"] = rate == best
    for seed in seeds:
        theirs = first[best] if seed == seeds[0] else run_peer(best, seed)
        if "seconds" in theirs:
            run_ours("third", seed, theirs["seconds"] / 3, 40 * theirs["tokens"])
            if name in WITH_EQUAL:
                run_ours("equal", seed, theirs["seconds"], 40 * theirs["tokens"])
    return cells


def main() -> None:
    """Run the cells that are missing, print the table, write the result."""
    o = common.options(__doc__, settings=tuple(SETTINGS), seeds=(0, 1, 2), corpus="runs/tiny-corpus")
    most = 20_000 if o.smoke else 10**9
    names, seeds, share = (("shakespeare",), (0,), 0.01) if o.smoke else (o.settings, o.seeds, 1.0)
    journal, cells = common.Journal("pretrain", smoke=o.smoke), []
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            setting, folder = SETTINGS[name], Path(temporary) / name
            folder.mkdir()
            files, corpus = shakespeare(folder, most) if name == "shakespeare" else built(folder, o.corpus)
            steps = max(2, int(share * setting.iterations))

            cells += compare(name, journal, (files, corpus), seeds, steps)
    result = summary(cells)
    print(result["headline"])
    print(result["met"])
    common.write_result(
        "pretrain",
        (__doc__ or "").splitlines()[0],
        {"settings": vars(o), **result, "cells_run": cells},
        smoke=o.smoke,
    )
    if o.smoke and any("error" in c for c in cells):
        raise SystemExit(str([c["error"] for c in cells if "error" in c]))


if __name__ == "__main__":
    main()
