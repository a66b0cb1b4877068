"""Claim: with all labels, `choose` is never more than half a point below the best of words, plain probe and full fine-tuning.

On six public sets, the same rows, cold caches, each in a fresh process:
    words    TF-IDF of 1-2-grams, logistic regression
    probe    mean-pooled last layer of minilm-l6, logistic regression
    trainer  Hugging Face `Trainer`, full fine-tuning of minilm-l6, 3 epochs
    choose   basewise within --budget seconds, all methods, on --bases
Run: python benchmarks/all_labels.py [--sets trec --who words,trainer --budget 600 --keep runs]. It goes on where it stopped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import common
from few_labels import run_choose, scored

PEERS = {"words": "peer_probe.py", "probe": "peer_probe.py", "trainer": "peer_trainer.py"}
WHOS = (*PEERS, "choose")
ALLOWED_LOSS = 0.005
LONG_SECONDS = 4.0


def run_peer(key: dict[str, Any], train: common.Rows, test: common.Rows, steps: int) -> dict[str, Any]:
    """One peer with all labels."""
    job = {
        "folder": common.base_folder("minilm-l6"),
        "seed": key["draw"],
        "what": key["who"],
        "max_steps": steps,
        "epochs": 3,
    }
    rows = {"train_texts": train.texts, "train_labels": train.labels, "test_texts": test.texts}
    return scored(common.run_worker(PEERS[key["who"]], {**job, **rows}, python=common.peer_python()), test)


def summary(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """One line a set: each one's accuracy and what `choose` lacks to the best peer (negative: it is ahead).

    Of several budgets the largest counts: decided beforehand, not by what came out.
    """
    by_set: dict[str, dict[str, dict[str, Any]]] = {}
    for cell in sorted(cells, key=lambda c: c["key"].get("budget", 0.0)):
        by_set.setdefault(cell["key"]["set"], {})[cell["key"]["who"]] = cell
    rows = []
    for name, by in by_set.items():
        if all("accuracy" in by.get(who, {}) for who in (*PEERS, "choose")):
            best = max(by[who]["accuracy"] for who in PEERS)
            figures = {who: {"accuracy": by[who]["accuracy"], "seconds": by[who]["seconds"]} for who in by}
            rows.append(
                {
                    "set": name,
                    "lacks": best - by["choose"]["accuracy"],
                    "chosen": by["choose"]["chosen"],
                    "budget": by["choose"]["key"].get("budget"),
                    **figures,
                }
            )
    worst = max((r["lacks"] for r in rows), default=None)
    held = worst is not None and worst <= ALLOWED_LOSS + 1e-9
    met = {
        "never more than half a point below the best": held
        if len(rows) >= len(common.SETS) or not held
        else None
    }
    ahead = sum(r["lacks"] <= 0 for r in rows)
    headline = (
        f"{len(rows)} sets: at or above the best rival on {ahead}, at worst {worst:.3f} below it"
        if rows
        else "nothing yet"
    )
    return {"rows": rows, "worst_loss": worst, "sets": len(rows), "met": met, "headline": headline}


def predictions(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """How many arms of `choose` kept to what was predicted of them: seconds (of those above 4 s) and memory."""
    arms = [a for c in cells for a in c.get("leaderboard", ()) if a["status"] == "finished"]
    long = [a["predicted_seconds"] / a["seconds"] - 1 for a in arms if a["seconds"] > LONG_SECONDS]
    memory = [a["predicted_memory_bytes"] / a["memory_bytes"] - 1 for a in arms if a["memory_bytes"]]
    return {
        "seconds": {"n": len(long), "within 30 %": sum(abs(x) <= 0.3 for x in long)},
        "memory": {"n": len(memory), "within 20 %": sum(abs(x) <= 0.2 for x in memory)},
    }


def main() -> None:
    """Run the cells that are missing, print the table, write the result."""
    o = common.options(__doc__, sets=common.SETS, budget=900.0, bases=common.BASES, keep="", who=WHOS)
    sets, budget, steps = (("trec",), 20.0, 2) if o.smoke else (o.sets, o.budget, -1)
    journal, cells = common.Journal("all_labels", smoke=o.smoke), []
    for name in sets:
        train, test = common.read_set(name, "train"), common.read_set(name, "test")
        if o.smoke:
            train, test = common.draw(train, 20, 0), common.sample(test, 60, 0)
        for who in (w for w in PEERS if w in o.who):
            key = {"set": name, "who": who, "draw": 0}
            cells.append(journal.cell(key, lambda k=key, t=train, e=test: run_peer(k, t, e, steps)))
        if "choose" not in o.who:
            continue
        key = {"set": name, "who": "choose", "draw": 0, "budget": budget}
        chosen = {"bases": o.bases, **({"run": str(Path(o.keep).resolve() / name)} if o.keep else {})}
        cells.append(
            journal.cell(key, lambda k=key, t=train, e=test, c=chosen: run_choose(k, t, e, budget, c))
        )
    result = summary(list(journal.cells.values()))
    lines = [
        (
            r["set"],
            *(r[w]["accuracy"] for w in WHOS),
            r["lacks"],
            r["chosen"],
            *(r[w]["seconds"] for w in ("trainer", "choose")),
            r["budget"],
        )
        for r in result["rows"]
    ]
    print("\n" + common.table(lines, ("set", *WHOS, "lacks", "chosen", "trainer s", "choose s", "budget s")))
    result["predictions"] = predictions(list(journal.cells.values()))
    print(result["met"], result["predictions"], sep="\n")
    common.write_result(
        "all_labels",
        (__doc__ or "").splitlines()[0],
        {"settings": vars(o), **result, "cells_run": list(journal.cells.values())},
        smoke=o.smoke,
    )
    if o.smoke and any("error" in c for c in cells):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
