"""Claim: the first answer of a saved predictor comes sooner than SetFit's, from a cold process.

Ours: `basewise predict RUN one.csv`, a probe on minilm-l6, its checks and golden rows included. The rival: SetFit with the same
base and a logistic head, saved by its own `save_pretrained`, opened and asked for one text without a network. Beside them the bare
transformers way: tokenizer and network from the folder, one pass, no head. Each in fresh processes, taking turns, after one
that warms the file cache. All answer the same text; ours and the rival have to name the same class.
Run: python benchmarks/first_answer.py [--times 5]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common

COMMAND = Path(sys.executable).parent / "basewise"
TEXT = "Who was the first man on the moon ?"
FIT = """
import sys, json
from setfit import SetFitModel
job = json.load(open(sys.argv[1]))
model = SetFitModel.from_pretrained(job["base"], local_files_only=True)
model.fit(job["texts"], [job["classes"].index(x) for x in job["labels"]], num_epochs=1)
model.save_pretrained(job["to"])
"""
ASK = """
import sys
from setfit import SetFitModel
model = SetFitModel.from_pretrained(sys.argv[1], local_files_only=True)
print(int(model.predict([sys.argv[2]])[0]))
"""
BARE = """
import sys, torch
from transformers import AutoModel, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], local_files_only=True)
model = AutoModel.from_pretrained(sys.argv[1], local_files_only=True).eval()
with torch.inference_mode():
    print(model(**tokenizer(sys.argv[2], return_tensors="pt")).last_hidden_state.mean().item())
"""


def ask(command: list[str]) -> tuple[float, str]:
    """(wall seconds, the last word on standard output) of one fresh process."""
    began = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with {done.returncode}: {done.stderr[-500:]}")
    return time.perf_counter() - began, done.stdout.strip()


def prepare(folder: Path) -> tuple[dict[str, list[str]], list[str]]:
    """Fit and save both predictors on the same rows; (who to command, classes)."""
    import basewise as bw

    rows = common.draw(common.read_set("trec", "train"), 50, 0)
    classes = sorted(set(rows.labels))
    table = common.write_table(folder / "rows.parquet", rows)
    decision = bw.adapt(str(table), base="minilm-l6", method="probe", target="label", to=folder / "run")
    predictor = bw.load(decision.folder)
    if predictor.record["method"] != "probe":
        raise SystemExit(f"{predictor.record['method']} was saved where a probe was to be measured")
    (folder / "one.csv").write_text(f"{predictor.inputs[0]}\n{TEXT}\n", encoding="utf-8")
    job = {
        "base": common.base_folder("minilm-l6"),
        "texts": rows.texts,
        "labels": rows.labels,
        "classes": classes,
        "to": str(folder / "setfit"),
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    peer = str(common.peer_python())
    ask([peer, "-c", FIT, str(folder / "job.json")])
    ways = {
        "ours": [str(COMMAND), "predict", str(decision.folder), str(folder / "one.csv")],
        "setfit": [peer, "-c", ASK, str(folder / "setfit"), TEXT],
        "transformers": [peer, "-c", BARE, common.base_folder("minilm-l6"), TEXT],
        "torch": [sys.executable, "-c", "import torch"],
    }
    return ways, classes


def main() -> None:
    """Measure, print, write the result."""
    o = common.options(__doc__, times=5)
    times = 1 if o.smoke else o.times
    with tempfile.TemporaryDirectory(prefix="basewise-bench-") as name:
        ways, classes = prepare(Path(name))
        said = {who: ask(command)[1] for who, command in ways.items()}
        took: dict[str, list[float]] = {who: [] for who in ways}
        for _ in range(times):
            for who, command in ways.items():
                took[who].append(ask(command)[0])
    ours, theirs = said["ours"].splitlines()[-1].split(",")[1], classes[int(said["setfit"].split()[-1])]
    if ours != theirs:
        raise SystemExit(f"the answers differ: {ours} and {theirs}")
    spread = {who: common.spread(seconds) for who, seconds in took.items()}
    for who, s in spread.items():
        print(
            f"{who:14} {s['min']:.2f} / {s['median']:.2f} / {s['max']:.2f} s (min / median / max of {s['n']})"
        )
    median = {who: s["median"] for who, s in spread.items()}
    met = {"sooner than SetFit": median["ours"] < median["setfit"]}
    headline = (
        f"minilm-l6, one row from a cold process: {median['ours']:.1f} s; SetFit {median['setfit']:.1f} s, transformers without a "
        f"head {median['transformers']:.1f} s, `import torch` {median['torch']:.1f} s (medians of {times})"
    )
    result = {"headline": headline, "settings": vars(o), "seconds": spread, "answer": ours, "met": met}
    common.write_result("first_answer", (__doc__ or "").splitlines()[0], result, smoke=o.smoke)


if __name__ == "__main__":
    main()
