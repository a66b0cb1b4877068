"""Claim: `import basewise` under 0.3 s, `basewise --help` under 0.5 s, neither importing torch; `predict` on 1,000,000 rows under 2 GiB.

Each start is a fresh process, ten of them, after one that warms the file cache; the bare interpreter stands beside. Predict runs
as the command does, from a CSV file to a CSV file, with a saved predictor fitted on a public set or, without the sets, on the
embedded sample; its peak is the resident memory of the process as the kernel counts it.
Run: python benchmarks/startup.py [--rows 1000000 --base wordllama-256]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common

IMPORT_SECONDS, HELP_SECONDS, PEAK_BYTES = 0.3, 0.5, 2 * 2**30
COMMAND = Path(sys.executable).parent / "basewise"
WORDS = [
    "where",
    "is",
    "my",
    "parcel",
    "card",
    "login",
    "invoice",
    "refund",
    "late",
    "broken",
    "please",
    "again",
    "today",
    "order",
    "page",
    "error",
    "account",
]


STARTER = """
import os, sys
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
_, status, usage = os.wait4(child, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def seconds_of(command: list[str], times: int) -> common.Json:
    """Wall seconds of a command in fresh processes: spread over `times`, after one that is not counted."""
    found = []
    for _ in range(times + 1):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        found.append(time.perf_counter() - began)
    return common.spread(found[1:])


def torch_loaded(code: str) -> bool:
    """Whether torch or transformers are loaded after `code`."""
    tail = "\nimport sys; print(bool({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code + tail], check=True, capture_output=True, text=True)
    return done.stdout.split()[-1] == "True"


def short_rows(path: Path, n: int, column: str) -> None:
    """A CSV file of n short texts, 3 to 9 words, nearly all different."""
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{column}\n")
        for i in range(n):
            words = [WORDS[(i * 7 + j * j * 3 + i // 16) % len(WORDS)] for j in range(3 + i % 7)]
            file.write(f"{' '.join(words)} {i}\n")


def peak_of(command: list[str]) -> tuple[float, int]:
    """(wall seconds, peak resident bytes) of a command, from the kernel's account of it. A child starts with the peak of its parent,
    so the command is started from a bare interpreter, not from this process, which has fitted a predictor."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-S", "-c", STARTER, *command], check=False, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.decode()[-500:]}")
    seconds, peak = time.perf_counter() - began, int(done.stdout.split()[-1])
    return seconds, peak * (1 if sys.platform == "darwin" else 1024)


def measure_predict(n: int, base: str, method: str, folder: Path) -> common.Json:
    """Fit one predictor, answer n rows and 10 rows; memory that grows with the rows shows in the difference."""
    import basewise as bw

    task = "sample"
    try:
        rows = common.draw(common.read_set("trec", "train"), 50, 0)
        task = str(common.write_table(folder / "rows.parquet", rows))
    except common.NoData:
        pass
    options = {} if task == "sample" else {"target": "label"}
    decision = bw.adapt(task, base=base, method=method, to=folder / "run", **options)
    predictor = bw.load(decision.folder)
    if (saved := predictor.record["method"]) != method:
        raise SystemExit(f"{saved} was saved where {method} was to be measured")
    column = predictor.inputs[0]
    found = {}
    for name, count in (("few", 10), ("many", n)):
        short_rows(folder / f"{name}.csv", count, column)
        command = [
            str(COMMAND),
            "predict",
            decision.folder,
            str(folder / f"{name}.csv"),
            "--to",
            str(folder / f"{name}.out.csv"),
        ]
        seconds, peak = peak_of(command)
        with open(folder / f"{name}.out.csv", "rb") as file:
            answered = sum(1 for _ in file) - 1
        if answered != count:
            raise SystemExit(f"{answered} answers came for {count} rows")
        found[name] = {
            "rows": count,
            "seconds": seconds,
            "peak_bytes": peak,
            "rows_per_second": count / seconds,
        }
    return {"base": base, "method": method, "fitted_on": "sample" if task == "sample" else "trec", **found}


def main() -> None:
    """Measure, print, write the result."""
    o = common.options(__doc__, rows=1_000_000, times=10, base="wordllama-256", method="probe")
    rows, times = (20_000, 2) if o.smoke else (o.rows, o.times)
    starts = {
        "python": seconds_of([sys.executable, "-c", "pass"], times),
        "import": seconds_of([sys.executable, "-c", "import basewise"], times),
        "help": seconds_of([str(COMMAND), "--help"], times),
    }
    call = "import sys; sys.argv = ['basewise', '--help']\nfrom basewise.cli.main import main\ntry: main()\nexcept SystemExit: pass"
    loaded = {"import": torch_loaded("import basewise"), "help": torch_loaded(call)}
    with tempfile.TemporaryDirectory(prefix="basewise-bench-") as folder:
        answered = measure_predict(rows, o.base, o.method, Path(folder))
    met = {
        "import under 0.3 s (median)": starts["import"]["median"] < IMPORT_SECONDS,
        "help under 0.5 s (median)": starts["help"]["median"] < HELP_SECONDS,
        "neither imports torch": not any(loaded.values()),
        "predict under 2 GiB": answered["many"]["peak_bytes"] < PEAK_BYTES,
    }
    for name, s in starts.items():
        print(
            f"{name:8} {s['min']:.3f} / {s['median']:.3f} / {s['max']:.3f} s (min / median / max of {s['n']})"
        )
    for line in (answered["few"], answered["many"]):
        print(
            f"predict  {line['rows']:>9,} rows  {line['seconds']:.1f} s  peak {line['peak_bytes'] / 2**20:,.0f} MiB"
        )
    print(met)
    headline = (
        f"import {starts['import']['median']:.2f} s, --help {starts['help']['median']:.2f} s (medians of {starts['help']['n']}); predict "
        f"over {answered['many']['rows']:,} rows peaks at {answered['many']['peak_bytes'] / 2**30:.2f} GiB"
    )
    result = {
        "headline": headline,
        "settings": vars(o),
        "starts": starts,
        "torch_loaded": loaded,
        "predict": answered,
        "met": met,
    }
    common.write_result("startup", (__doc__ or "").splitlines()[0], result, smoke=o.smoke)
    if any(loaded.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
