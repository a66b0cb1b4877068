"""What a plan counts on: a kind of rank from hardware.toml, from a file of the user's, or this machine as measured.

Data sheets say what is possible, the journal of past runs what came out: each pretraining leaves its predicted and its measured
seconds a step there, so the plan for this machine is calibrated by them and can state its own past error.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from basewise.core.errors import BasewiseError, InputError, UnknownName
from basewise.core.files import home
from basewise.stats.plan_time import Machine, Seen, calibrated

FILE = Path(__file__).with_name("hardware.toml")
NUMBERS = ("memory_gb", "peak_tflops", "memory_gb_per_second", "near_gb_per_second", "far_gb_per_second", "per_node", "watts", "share", "price_per_hour")  # fmt: skip
WORDS = ("title", "source", "price_source")
CORE_WATTS, CORE_RATE, GLOO_RATE = 15.0, 8e9, 1e9
"""Of one processor core: power at full load, bytes a second from memory, bytes a second between two local ranks."""
HERE, HERE_SHARE = "this machine", 0.3
MOST_REMEMBERED = 50


def read_hardware(text: str) -> tuple[Machine, int, str]:
    """(kind of rank, ranks, where its numbers are from) of "h100:64", "here:2", or "mine.toml:name:8"."""
    *front, last = text.split(":")
    counted = bool(front) and re.fullmatch(r"[+-]?\d{1,9}", last) is not None
    count = int(last) if counted else 1
    names = front if counted else [*front, last]
    if count < 1:
        raise InputError(f"{count} ranks came in {text!r}", "write hardware as h100:64 or here:2")
    if names == ["here"]:
        return here(count), count, "measured on this machine"
    path = Path(names[0]) if len(names) == 2 else FILE
    known = _table(path)
    if names[-1] not in known:
        raise UnknownName.of("hardware", names[-1], [*known, "here"])
    return _machine(names[-1], known[names[-1]], path), count, known[names[-1]]["source"]


def _table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            f"cannot read the hardware in {path}: {error}", "give a TOML file like steps/hardware.toml"
        ) from error


def _machine(name: str, values: Any, path: Path) -> Machine:
    """A checked entry of a hardware file."""
    if not isinstance(values, dict):
        raise InputError(
            f"{name} in {path} is no table", f"begin it with [{name}] and write {', '.join(NUMBERS)}"
        )
    for key in values:
        if key not in (*NUMBERS, *WORDS):
            raise UnknownName.of("key of a hardware file", key, (*NUMBERS, *WORDS))
    for key in NUMBERS:
        if wrong := _wrong(key, values.get(key)):
            raise InputError(f"{key} of {name} in {path} is {values.get(key)!r}", wrong)
    if not values.get("source"):
        raise InputError(f"{name} in {path} has no source", "write where its numbers come from, and when")
    return Machine(
        name=str(values.get("title", name)),
        device="cuda",
        memory_bytes=values["memory_gb"] * 1e9,
        peak_flop=values["peak_tflops"] * 1e12,
        share=float(values["share"]),
        memory_rate=values["memory_gb_per_second"] * 1e9,
        near_rate=values["near_gb_per_second"] * 1e9,
        far_rate=values["far_gb_per_second"] * 1e9,
        per_node=int(values["per_node"]),
        price_per_hour=float(values["price_per_hour"]),
        watts=float(values["watts"]),
    )


def _wrong(key: str, value: Any) -> str:
    """What to write instead of a number of a hardware file that cannot be; empty where it can."""
    number = type(value) in (int, float) and math.isfinite(value) and value >= 0
    if not number or (not value and key != "price_per_hour"):
        return "write a finite number above zero"
    if key == "share" and value > 1:
        return "write the share of the peak that is reached, above 0 and at most 1"
    return "write a whole number" if key == "per_node" and value != int(value) else ""


def here(ranks: int) -> Machine:
    """One of `ranks` processes on this machine: its share of the measured peak, calibrated by what past runs took."""
    from basewise.engine.device import machine

    m = machine()
    cuda = m.device == "cuda"
    plain = Machine(
        name=HERE,
        device=m.device,
        memory_bytes=m.memory_bytes / ranks,
        peak_flop=max(m.bf16_peak, m.fp32_peak) / (1 if cuda else ranks),
        share=HERE_SHARE,
        memory_rate=CORE_RATE * (1 if cuda else m.cores / ranks),
        near_rate=GLOO_RATE,
        far_rate=GLOO_RATE,
        per_node=max(ranks, 1),
        price_per_hour=0.0,
        watts=CORE_WATTS * m.cores / ranks,
        hours_between_failures=5_000.0,
    )
    return calibrated(plain, [seen for seen in read_journal() if seen.ranks == ranks][-MOST_REMEMBERED:])


# ---------------------------------------------------------------- the journal of past runs


def journal_path() -> Path:
    """One line a run that was measured on this machine."""
    return home() / "plans.jsonl"


def read_journal() -> list[Seen]:
    """Past runs, oldest first; a line that cannot be read is left out."""
    try:
        lines = journal_path().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    found = []
    for line in lines:
        try:
            found.append(Seen(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found


def remember(seen: Seen) -> None:
    """Add a run; where the folder cannot be written the next plan knows less, nothing else."""
    try:
        path = journal_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(seen)) + "\n")
    except (OSError, BasewiseError):
        return
