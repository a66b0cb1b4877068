"""Claim: with 8 and 64 labels a class, `choose` is at least as accurate as SetFit in at most a third of its time.

On six public sets, the same drawn rows for everyone, cold caches, each in a fresh process:
    setfit   its defaults on minilm-l6, at most 500 steps
    probe    mean-pooled last layer of minilm-l6, logistic regression (what anyone would write first)
    choose   basewise; its budget is a third of what SetFit took on the same rows (--budget third) or a fixed one, its bases
             the catalogue's free ones or --bases; it may take a larger one than SetFit's, which the result names
Aim: accuracy at least SetFit's on average and on at least 10 of the 12 (set, labels) cells; at most a third of its time; at
least 3 points above the probe on average. Run: python benchmarks/few_labels.py [--sets trec,sst2 --shots 8 --draws 3]
A full run takes hours on two cores (SetFit's part); it goes on where it stopped, and --report 1 sums up what is there.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import common

LEAST_BUDGET_SECONDS = 5.0


def rivals(
    key: dict[str, Any], train: common.Rows, test: common.Rows, steps: int
) -> tuple[str, dict[str, Any]]:
    """The worker script and the job of one peer."""
    job = {
        "folder": common.base_folder("minilm-l6"),
        "seed": key["draw"],
        "max_steps": steps,
        "what": key["who"],
    }
    rows = {"train_texts": train.texts, "train_labels": train.labels, "test_texts": test.texts}
    return ("peer_setfit.py" if key["who"] == "setfit" else "peer_probe.py"), {**job, **rows}


def run_peer(key: dict[str, Any], train: common.Rows, test: common.Rows, steps: int) -> dict[str, Any]:
    """One peer on one draw: accuracy, seconds, peak memory."""
    script, job = rivals(key, train, test, steps)
    return scored(common.run_worker(script, job, python=common.peer_python()), test)


def run_choose(
    key: dict[str, Any], train: common.Rows, test: common.Rows, seconds: float, chosen: dict[str, Any]
) -> dict[str, Any]:
    """`choose` on one draw within `seconds`, nothing cached but the weights; `chosen`: bases and methods, if not all,
    and "run", a folder to keep the run in."""
    with tempfile.TemporaryDirectory(prefix="basewise-bench-") as name:
        folder = Path(name)
        table = common.write_table(folder / "rows.parquet", train)
        job = {
            "table": str(table),
            "run": str(folder / "run"),
            "budget": f"{seconds:.1f}s",
            "seed": key["draw"],
            **chosen,
        }
        job["test_texts"] = test.texts
        answer = scored(common.run_worker("ours_choose.py", job, home=common.cold_home(folder)), test)
        return {**answer, "budget_seconds": seconds}


def scored(answer: dict[str, Any], test: common.Rows) -> dict[str, Any]:
    """The answer with its accuracy in place of the predicted labels."""
    if "error" in answer:
        return answer
    answer["accuracy"] = common.accuracy(answer.pop("predicted"), test.labels)
    return answer


def summary(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Means a (set, shots), and whether the aims are met; a cell without an answer counts as missing, never as a win."""
    groups: dict[tuple[str, int], dict[str, list[dict[str, Any]]]] = {}
    draws = [(c["key"]["set"], c["key"]["shots"], c["key"]["draw"]) for c in cells if "error" not in c]
    for cell in cells:
        key = cell["key"]
        same = (key["set"], key["shots"], key["draw"])
        # a draw counts when all three answered it
        if "error" not in cell and draws.count(same) == 3:
            groups.setdefault(same[:2], {}).setdefault(key["who"], []).append(cell)
    rows = []
    for (name, shots), by in sorted(groups.items(), key=lambda item: (item[0][1], item[0][0])):
        if {"setfit", "probe", "choose"} <= set(by):
            mean = {who: common.spread([c["accuracy"] for c in by[who]]) for who in by}
            seconds = {who: common.spread([c["seconds"] for c in by[who]]) for who in by}
            chosen = [c.get("chosen", "") for c in by["choose"]]
            rows.append(
                {
                    "set": name,
                    "shots": shots,
                    "accuracy": mean,
                    "seconds": seconds,
                    "chosen": sorted(set(chosen)),
                }
            )
    if not rows:
        return {"rows": [], "met": None}

    def average(what: str, who: str) -> float:
        return sum(r[what][who]["mean"] for r in rows) / len(rows)

    at_least = sum(r["accuracy"]["choose"]["mean"] >= r["accuracy"]["setfit"]["mean"] for r in rows)
    gain, over_probe = (
        average("accuracy", "choose") - average("accuracy", who) for who in ("setfit", "probe")
    )
    ratio = average("seconds", "choose") / average("seconds", "setfit")
    met = {
        "accuracy at least SetFit's on average": gain >= 0,
        "and on at least 10 of 12 cells": at_least >= 10 if len(rows) == 12 else None,
        "at most a third of its time": ratio <= 1 / 3,
        "at least 3 points above the plain probe": over_probe >= 0.03,
    }
    figures = {
        "gain_over_setfit": gain,
        "cells_at_least_setfit": at_least,
        "cells": len(rows),
        "time_share_of_setfit": ratio,
    }
    headline = (
        f"accuracy {average('accuracy', 'choose'):.3f} against SetFit's {average('accuracy', 'setfit'):.3f} and the plain probe's "
        f"{average('accuracy', 'probe'):.3f} (means of {len(rows)} cells); at least SetFit's on {at_least}; {ratio:.2f} of its time"
    )
    return {"rows": rows, **figures, "gain_over_probe": over_probe, "met": met, "headline": headline}


def main() -> None:
    """Run the cells that are missing, print the table, write the result."""
    o = common.options(
        __doc__,
        sets=common.SETS,
        shots=(8, 64),
        draws=3,
        budget="third",
        bases=common.BASES,
        test_rows=0,
        report=0,
    )
    sets, shots, draws, steps = (("trec",), (8,), 1, 2) if o.smoke else (o.sets, o.shots, o.draws, 500)
    limit = 60 if o.smoke else (o.test_rows or None)
    journal, cells = common.Journal("few_labels", smoke=o.smoke), []
    # what is there, summed up; nothing is run
    if o.report:
        cells, sets = list(journal.cells.values()), ()
    for name in sets:
        everything, test = (
            common.read_set(name, "train"),
            common.sample(common.read_set(name, "test"), limit, 0),
        )
        for shot in shots:
            for number in range(draws):
                train = common.draw(everything, shot, number)
                key = {"set": name, "shots": shot, "draw": number}
                peers = {}
                for who in ("probe", "setfit"):
                    k = {**key, "who": who}
                    peers[who] = journal.cell(
                        k, lambda k=k, train=train, test=test: run_peer(k, train, test, steps)
                    )
                third = max(peers["setfit"].get("seconds", 60.0) / 3, LEAST_BUDGET_SECONDS)
                seconds = third if o.budget == "third" else float(o.budget)
                k = {**key, "who": "choose"}
                chosen = {"bases": o.bases}
                cells += [
                    *peers.values(),
                    journal.cell(
                        k, lambda k=k, t=train, e=test, s=seconds, c=chosen: run_choose(k, t, e, s, c)
                    ),
                ]
    result = summary(cells)
    header = ("set", "labels a class", "probe", "setfit", "choose", "setfit s", "choose s", "chosen")
    lines = [
        (
            r["set"],
            r["shots"],
            *(r["accuracy"][w]["mean"] for w in ("probe", "setfit", "choose")),
            *(r["seconds"][w]["mean"] for w in ("setfit", "choose")),
            ", ".join(r["chosen"]),
        )
        for r in result["rows"]
    ]
    print("\n" + common.table(lines, header))
    print(result["met"])
    common.write_result(
        "few_labels",
        (__doc__ or "").splitlines()[0],
        {"settings": vars(o), **result, "cells_run": cells},
        smoke=o.smoke,
    )
    if o.smoke and any("error" in c for c in cells):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
