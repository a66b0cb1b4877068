"""Claim: 4 choices after a shared beginning of about 600 tokens: at least 15 x the items a second of lm-evaluation-harness in fp32, log-probabilities equal to 1e-4; bf16 at least 25 x, same choice on 99.5 %; PIQA without shots at least 2 x; redundancy at most 1.05, half of the bf16 peak; generation at least transformers' tokens a second, 3 x at 16 prompts.

Items of the shared job are BBQ questions with a fourth choice, after as many answered ones as make about 600 tokens. Everything runs one after
the other in fresh processes with the same threads. Two ratios are given: of wall seconds, and of processor seconds, which a busy machine
disturbs less. The aims are judged by wall seconds, unless --judge processor. Both sides round in fp32, so the first --exact items are scored
once more by the harness in float64: how far each side is from that says whose the gap is.
Run: python benchmarks/scoring.py [--items 64 --piqa 128 --exact 16 --threads 2 --judge wall --batch auto]
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np

import common

SHARED_TOKENS = 600
FOURTH = "All of them"
PROMPTS = 16


def read(name: str, columns: list[str]) -> list[dict[str, Any]]:
    """Rows of a public set that is not one of labelled texts."""
    import pyarrow.parquet as pq

    path = common.data_folder() / name / "test.parquet"
    if not path.is_file():
        raise common.NoData(f"{name} is not among the public sets")
    return pq.read_table(path, columns=columns).to_pylist()


def listed(value: Any) -> list[str]:
    """Choices, which the file keeps as the text of a list."""
    return [str(c) for c in (ast.literal_eval(value) if isinstance(value, str) else value)]


def shared_job(items: int) -> tuple[list[list[str]], int]:
    """(pairs, choices an item): questions after demonstrations of about SHARED_TOKENS tokens."""
    rows = read("bbq", ["context", "question", "choices", "answer"])
    order = np.random.default_rng(0).permutation(len(rows))

    def asked(row: dict[str, Any]) -> str:
        return f"Passage: {row['context']}\nQuestion: {row['question']}\nAnswer:"

    before, at = "", 0
    while len(before) < 4.6 * SHARED_TOKENS:
        row = rows[order[at]]
        before += f"{asked(row)} {listed(row['choices'])[int(row['answer'])]}\n\n"
        at += 1
    chosen = [rows[i] for i in order[at : at + items]]
    pairs = [[before + asked(row), f" {c}"] for row in chosen for c in [*listed(row["choices"])[:3], FOURTH]]
    return pairs, 4


def piqa_job(items: int) -> tuple[list[list[str]], int]:
    """(pairs, choices an item): PIQA without demonstrations."""
    rows = read("piqa", ["question", "choices"])
    order = np.random.default_rng(0).permutation(len(rows))[:items]
    pairs = [
        [f"Question: {rows[i]['question']}\nAnswer:", f" {c}"]
        for i in order
        for c in listed(rows[i]["choices"])[:2]
    ]
    return pairs, 2


def compared(ours: common.Json, theirs: common.Json, choices: int, exact: np.ndarray) -> common.Json:
    """Ratios of two runs of one job, and how far ours is from the exact log-probabilities."""
    if failed := [name for name, run in (("ours", ours), ("theirs", theirs)) if "error" in run]:
        return {"error": {name: (ours if name == "ours" else theirs)["error"] for name in failed}}
    a = np.array(ours["log_probability"])
    picked = a.reshape(-1, choices).argmax(1) == exact.reshape(-1, choices).argmax(1)
    items = len(a) // choices
    return {
        "items": items,
        "items_a_second": items / ours["seconds"],
        "their_items_a_second": items / theirs["seconds"],
        "wall_ratio": theirs["seconds"] / ours["seconds"],
        "processor_ratio": theirs["processor_seconds"] / ours["processor_seconds"],
        "worst_gap": float(np.abs(a - exact).max()),
        "same_choice": float(picked.mean()),
        "redundancy": ours["redundancy"],
        "share_of_peak": ours["share_of_peak"],
    }


def from_truth(ours: common.Json, theirs: common.Json, truth: common.Json) -> common.Json:
    """The largest distance of each side in fp32 from the harness in float64, in nats."""
    if "error" in truth or "error" in ours:
        return {"error": truth.get("error") or ours.get("error")}
    exact = np.array(truth["log_probability"])
    sides = {"ours": ours, "theirs": theirs}
    apart = {
        n: np.abs(np.array(side["log_probability"][: len(exact)]) - exact).max() for n, side in sides.items()
    }
    return {"pairs": len(exact), **{n: float(gap) for n, gap in apart.items()}}


def scoring(o: Any, folder: str, python: Path) -> common.Json:
    """Both jobs in both precisions against the harness in fp32, and in bf16 against its own bf16."""
    out: common.Json = {}
    jobs = {"shared": shared_job(o.items)} | ({} if o.smoke else {"piqa": piqa_job(o.piqa)})
    for name, (pairs, choices) in jobs.items():
        theirs: common.Json = {}
        ours: common.Json = {}
        batch = o.batch if o.batch == "auto" else int(o.batch)
        for dtype in ("float32", "bfloat16"):
            job = {"folder": folder, "dtype": dtype, "batch": batch, "pairs": pairs, "context": 8192}
            theirs[dtype] = common.run_worker("peer_harness.py", job | {"threads": o.threads}, python=python)
            print(
                name, "harness", dtype, theirs[dtype].get("seconds", theirs[dtype].get("error")), flush=True
            )
        for precision in ("fp32", "bf16"):
            job = {
                "base": o.base,
                "precision": precision,
                "pairs": pairs,
                "choices": choices,
                "threads": o.threads,
            }
            ours[precision] = common.run_worker("ours_score.py", job)
            print(
                name,
                "ours",
                precision,
                ours[precision].get("seconds", ours[precision].get("error")),
                flush=True,
            )
        if "error" in theirs["float32"]:
            raise SystemExit(f"the harness failed: {theirs['float32']['error']}")
        exact = np.array(theirs["float32"]["log_probability"])
        few = {**job, "folder": folder, "dtype": "float64", "batch": 1, "pairs": pairs[: o.exact * choices]}
        truth = common.run_worker("peer_harness.py", few | {"context": 8192}, python=python)
        out[f"{name} from float64"] = from_truth(ours["fp32"], theirs["float32"], truth)
        print(name, "from float64", out[f"{name} from float64"], flush=True)
        out[f"{name} fp32"] = compared(ours["fp32"], theirs["float32"], choices, exact)
        out[f"{name} bf16"] = compared(ours["bf16"], theirs["float32"], choices, exact)
        out[f"{name} bf16 against its bf16"] = compared(ours["bf16"], theirs["bfloat16"], choices, exact)
        if "error" not in theirs["bfloat16"]:
            near = np.array(theirs["bfloat16"]["log_probability"]).reshape(-1, choices).argmax(1)
            out[f"{name} harness bf16"] = {
                "same_choice": float((near == exact.reshape(-1, choices).argmax(1)).mean())
            }
    return out


def generating(o: Any, folder: str, python: Path) -> common.Json:
    """Greedy texts of one and of sixteen prompts in fp32 and in bf16, each against transformers in the same, tokens a second."""
    rows = read("piqa", ["question"])[:PROMPTS]
    out: common.Json = {}
    for precision, dtype in (("fp32", "float32"), ("bf16", "bfloat16"))[: 1 if o.smoke else 2]:
        for count in (2,) if o.smoke else (1, PROMPTS):
            prompts = [f"{row['question']} Here is how, step by step:" for row in rows[:count]]
            more = {"prompts": prompts, "most_tokens": o.most_tokens, "threads": o.threads}
            ours = common.run_worker("ours_score.py", {"base": o.base, "precision": precision, **more})
            job = {"folder": folder, "dtype": dtype, **more}
            theirs = common.run_worker("peer_harness.py", job, python=python)
            name = f"{count} {precision}"
            out[name] = spoken(ours, theirs)
            print("generate", name, out[name], flush=True)
    return out


def spoken(ours: common.Json, theirs: common.Json) -> common.Json:
    """Speeds and ratios of two runs of one generating job."""
    if "error" in ours or "error" in theirs:
        return {"error": [ours.get("error"), theirs.get("error")]}
    speed = {n: r["generated"] / r["generate_seconds"] for n, r in (("ours", ours), ("theirs", theirs))}
    busy = {
        n: r["generated"] / r["generate_processor_seconds"] for n, r in (("ours", ours), ("theirs", theirs))
    }
    same = np.mean([a == b for a, b in zip(ours["texts"], theirs["texts"], strict=True)])
    return {
        "tokens_a_second": speed["ours"],
        "their_tokens_a_second": speed["theirs"],
        "wall_ratio": speed["ours"] / speed["theirs"],
        "processor_ratio": busy["ours"] / busy["theirs"],
        "same_text": float(same),
    }


def aims(scored: common.Json, generated: common.Json, judge: str) -> dict[str, bool | None]:
    """Which claims hold; None where a run failed."""
    key = f"{judge}_ratio"

    def at(name: str, what: str, least: float) -> bool | None:
        line = scored.get(name) or generated.get(name) or {}
        return None if what not in line else bool(line[what] >= least)

    fp32, bf16 = scored["shared fp32"], scored["shared bf16"]
    gap = None if "error" in fp32 else bool(fp32["worst_gap"] <= 1e-4)
    once = None if "error" in fp32 else bool(max(fp32["redundancy"], bf16.get("redundancy", 9)) <= 1.05)
    return {
        "15 x the harness in fp32": at("shared fp32", key, 15),
        "log-probabilities equal to 1e-4": gap,
        "25 x in bf16": at("shared bf16", key, 25),
        "same choice on 99.5 % in bf16": at("shared bf16", "same_choice", 0.995),
        "2 x on PIQA without shots": at("piqa fp32", key, 2),
        "redundancy at most 1.05": once,
        "half of the bf16 peak": at("shared bf16", "share_of_peak", 0.5),
        "generation: transformers' speed at 1 prompt": at("1 fp32", key, 1),
        "generation: 3 x at 16 prompts": at(f"{PROMPTS} fp32", key, 3),
        "generation in bf16: its bf16's speed at 1 prompt": at("1 bf16", key, 1),
        "generation in bf16: 3 x its bf16 at 16 prompts": at(f"{PROMPTS} bf16", key, 3),
    }


def main() -> None:
    """Run everything, write the result."""
    o = common.options(
        __doc__,
        items=64,
        piqa=128,
        threads=2,
        judge="wall",
        batch="8",
        exact=16,
        base="smollm2-135m",
        most_tokens=64,
        peers="",
        only="",
    )
    if o.smoke:
        o.items, o.exact, o.most_tokens, o.threads, o.batch = 1, 1, 4, 1, "2"
    python = Path(o.peers) if o.peers else common.peer_python()
    folder = common.base_folder(o.base)
    before = common.RESULTS / "scoring.json"
    # what was scored stays, with the commit that it was scored at
    if o.only == "generation" and before.is_file():
        kept = json.loads(before.read_text(encoding="utf-8"))
        scored, at = kept["scoring"], kept.get("scored_at", kept["commit"])
    else:
        scored, at = scoring(o, folder, python), common.commit()
    generated = generating(o, folder, python)
    fp32, bf16 = scored["shared fp32"], scored["shared bf16"]
    apart = scored.get("shared from float64", {})
    headline = (
        f"{o.base}: {fp32.get(f'{o.judge}_ratio', float('nan')):.1f} x lm-evaluation-harness in fp32 after a shared beginning,"
        f" {bf16.get(f'{o.judge}_ratio', float('nan')):.1f} x in bf16 (n = {o.items} items, {o.judge} seconds);"
        f" worst gap {fp32.get('worst_gap', float('nan')):.1e} nats in fp32 (from float64: ours {apart.get('ours', float('nan')):.1e}, theirs"
        f" {apart.get('theirs', float('nan')):.1e}); redundancy {fp32.get('redundancy', float('nan')):.2f}"
    )
    result = {
        "headline": headline,
        "settings": {k: v for k, v in vars(o).items() if k not in ("smoke", "peers")},
        "scoring": scored,
        "scored_at": at,
        "generation": generated,
        "met": aims(scored, generated, o.judge),
    }
    print(headline)
    common.write_result(
        "scoring", (__doc__ or "").split("\n", 1)[0].removeprefix("Claim: "), result, smoke=o.smoke
    )


if __name__ == "__main__":
    main()
