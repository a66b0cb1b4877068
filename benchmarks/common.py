"""What the benchmarks share: the public sets, draws of few labels, peers in their own environment, results with their origin.

A result file says when, where (cores, memory, processor), with which versions and at which commit it was measured, and holds
every single run beside the summary. Cells of a long benchmark are journalled as JSON lines, so a killed run goes on.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BASES = ("wordllama-256", "minilm-l6", "smollm2-135m", "mpnet-base")
"""The free bases of the catalogue: what `choose` takes on its own where they are here."""
SETS = ("banking77", "clinc150", "trec", "subj", "sst2", "tweet_emotion")
LIBRARIES = ("basewise", "torch", "transformers", "tokenizers", "peft", "scikit-learn", "numpy", "pyarrow")
Json = dict[str, Any]


class NoData(SystemExit):
    """The public sets or the peers are not here; exit code 3, so that a smoke run can tell it from a failure."""

    def __init__(self, message: str) -> None:
        print(f"not measured: {message}", file=sys.stderr)
        super().__init__(3)


@dataclass(frozen=True)
class Rows:
    """n texts and their n labels (strings)."""

    texts: list[str]
    labels: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, index: Iterable[int]) -> Rows:
        chosen = [int(i) for i in index]
        return Rows([self.texts[i] for i in chosen], [self.labels[i] for i in chosen])


def data_folder() -> Path:
    """`$BASEWISE_DATA` or ../shared/data beside the checkout."""
    folder = Path(os.environ.get("BASEWISE_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "trec" / "train.parquet").is_file():
        raise NoData(f"no public sets in {folder}; name their folder in BASEWISE_DATA")
    return folder


def read_set(name: str, split: str) -> Rows:
    """One split of a public set ("train", "test")."""
    import pyarrow.parquet as pq

    table = pq.read_table(data_folder() / name / f"{split}.parquet", columns=["text", "label"])
    return Rows(table["text"].to_pylist(), [str(v) for v in table["label"].to_pylist()])


def draw(rows: Rows, per_class: int, seed: int) -> Rows:
    """`per_class` rows of each class without replacement (all of a smaller class), in random order."""
    generator = np.random.default_rng([seed, per_class])
    labels = np.array(rows.labels)
    picked = [
        generator.permutation(np.flatnonzero(labels == c))[:per_class] for c in sorted(set(rows.labels))
    ]
    return rows.take(generator.permutation(np.concatenate(picked)))


def sample(rows: Rows, n: int | None, seed: int) -> Rows:
    """At most n rows at random; None takes all."""
    if n is None or n >= len(rows):
        return rows
    return rows.take(np.random.default_rng(seed).permutation(len(rows))[:n])


def accuracy(predicted: Sequence[str], true: Sequence[str]) -> float:
    """Share of equal labels."""
    return float(np.mean([a == b for a, b in zip(predicted, true, strict=True)]))


def write_table(path: Path, rows: Rows) -> Path:
    """A Parquet table with columns text and label."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": rows.texts, "label": rows.labels}), path)
    return path


# --- peers and fresh processes


def peer_python() -> Path:
    """The interpreter of .venv-peers."""
    path = ROOT / ".venv-peers" / "bin" / "python"
    if not path.exists() or not (ROOT / ".venv-peers" / ".installed").exists():
        raise NoData("the rivals are not installed; run: make peers")
    return path


def run_worker(
    script: str, job: Json, *, python: Path | None = None, seconds: float = 7200, home: Path | None = None
) -> Json:
    """Run benchmarks/<script> in a fresh process with a job and give back its answer, both as JSON files.

    A worker that fails or runs past `seconds` answers {"error": its last lines}: one broken rival must not end the run.
    """
    with tempfile.TemporaryDirectory(prefix="basewise-bench-") as folder:
        job_path, answer_path = Path(folder) / "job.json", Path(folder) / "answer.json"
        job_path.write_text(json.dumps(job), encoding="utf-8")
        environment = {
            **os.environ,
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "WANDB_DISABLED": "true",
            **({"BASEWISE_HOME": str(home)} if home else {}),
        }
        command = [
            str(python or sys.executable),
            str(ROOT / "benchmarks" / script),
            str(job_path),
            str(answer_path),
        ]
        try:
            done = subprocess.run(
                command,
                env=environment,
                capture_output=True,
                text=True,
                timeout=seconds,
                cwd=folder,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"error": f"stopped after {seconds:.0f} s"}
        if done.returncode or not answer_path.exists():
            return {
                "error": " | ".join((done.stderr or done.stdout).strip().splitlines()[-4:])
                or f"exit code {done.returncode}"
            }
        return json.loads(answer_path.read_text(encoding="utf-8"))


def real_home() -> Path:
    """The user's basewise folder, where pulled weights are."""
    from basewise.core.files import home

    return home()


def cold_home(folder: Path) -> Path:
    """A basewise home with the pulled weights but with no stored features: nothing has been computed before."""
    source, target = real_home(), folder / "home"
    target.mkdir(parents=True)
    (source / "weights").mkdir(parents=True, exist_ok=True)
    (target / "weights").symlink_to(source / "weights")
    for name in ("machine.json", "bases"):
        if (source / name).is_file():
            shutil.copy(source / name, target / name)
        elif (source / name).is_dir():
            shutil.copytree(source / name, target / name)
    return target


def base_folder(key: str) -> str:
    """The folder of a base's weights and tokenizer, fetched if it is not here."""
    from basewise.steps.bases import pull

    return str(pull(key, lambda done, total, what: None).folder)


# --- results


def machine() -> Json:
    """Processor, cores and memory of this machine."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        model = next(
            (x.split(":", 1)[1].strip() for x in info.read_text().splitlines() if x.startswith("model name")),
            model,
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": model,
        "cores": cores,
        "memory_bytes": memory,
        "system": platform.system(),
        "python": platform.python_version(),
    }


def versions() -> Json:
    """Versions of the libraries that matter here."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def commit() -> str:
    """The checked-out commit, with "+changes" when src/ or benchmarks/ differ from it."""
    head = _git("rev-parse", "--short=12", "HEAD") or "unknown"
    return head + ("+changes" if _git("status", "--porcelain", "--", "src", "benchmarks/*.py") else "")


def spread(values: Sequence[float]) -> Json:
    """n, mean, standard deviation (n - 1), min, median and max."""
    x = [float(v) for v in values]
    if not x:
        return {"n": 0}
    sd = statistics.stdev(x) if len(x) > 1 else 0.0
    return {
        "n": len(x),
        "mean": statistics.fmean(x),
        "sd": sd,
        "min": min(x),
        "median": statistics.median(x),
        "max": max(x),
    }


def write_result(name: str, claim: str, result: Json, *, smoke: bool) -> Path:
    """Write results/<name>.json, whole or not at all; a smoke run writes to a temporary folder instead."""
    from basewise.core.files import write_json

    folder = Path(tempfile.gettempdir()) / "basewise-bench-smoke" if smoke else RESULTS
    path = folder / f"{name}.json"
    origin = {
        "measured": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
    }
    write_json(path, {"benchmark": name, "claim": claim, **origin, **result})
    print(f"\nwrote {path}")
    return path


class Journal:
    """Cells of a long benchmark as JSON lines; a cell that is there with the same key is not run again."""

    def __init__(self, name: str, *, smoke: bool) -> None:
        self._passing = tempfile.TemporaryDirectory(prefix="basewise-bench-") if smoke else None
        folder = Path(self._passing.name) if self._passing else RESULTS
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{name}.cells.jsonl"
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        self.cells = {self._name(cell["key"]): cell for cell in map(json.loads, filter(str.strip, lines))}

    @staticmethod
    def _name(key: Json) -> str:
        return json.dumps(key, sort_keys=True)

    def has(self, key: Json) -> bool:
        """Whether the cell has been run."""
        return self._name(key) in self.cells

    def cell(self, key: Json, run: Callable[[], Json]) -> Json:
        """The answer of the cell `key`; runs it when it is not there or failed the last time."""
        name = self._name(key)
        if name not in self.cells or "error" in self.cells[name]:
            label = " ".join(f"{k}={v}" for k, v in key.items())
            print(f"{label} …", end=" ", flush=True)
            began = time.perf_counter()
            cell = {"key": key, "commit": commit(), **run()}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(cell, ensure_ascii=False) + "\n")
            self.cells[name] = cell
            score = f"{cell['accuracy']:.3f}" if "accuracy" in cell else cell.get("error", "")
            print(f"{score} ({time.perf_counter() - began:.0f} s)", flush=True)
        return self.cells[name]


def options(description: str | None, **more: Any) -> argparse.Namespace:
    """The options every benchmark takes: --smoke, and each of `more` with its default (a tuple becomes a comma list)."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n", 1)[0])
    parser.add_argument(
        "--smoke", action="store_true", help="a moment only, to see that it runs; writes no result file"
    )
    for name, default in more.items():
        kind = type(default[0]) if isinstance(default, tuple) else type(default)
        reader = (
            (lambda text, kind=kind: tuple(kind(x) for x in text.split(",") if x))
            if isinstance(default, tuple)
            else kind
        )
        parser.add_argument(f"--{name.replace('_', '-')}", type=reader, default=default)
    return parser.parse_args()


def table(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> str:
    """Rows as aligned plain text; numbers below 100 with three digits."""
    text = [
        [
            f"{x:.3f}"
            if isinstance(x, float) and abs(x) < 100
            else f"{x:.0f}"
            if isinstance(x, float)
            else str(x)
            for x in r
        ]
        for r in rows
    ]
    widths = [max(len(str(r[i])) for r in [header, *text]) for i in range(len(header))]
    return "\n".join(
        "  ".join(str(x).ljust(w) for x, w in zip(r, widths, strict=True)).rstrip() for r in [header, *text]
    )
