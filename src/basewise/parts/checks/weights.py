"""Weights that cannot run code: safetensors with sound headers, JSON and text, and nothing else in the folder.

No pickle in any disguise is let through: files are judged by their first bytes too, not by their names. `auto_map` and other
keys that would fetch code are refused, as are chat templates that reach for Python's insides.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from basewise.core.errors import UnsafeWeights
from basewise.core.gate import FAIL, PASS, CheckResult, Subject, fact
from basewise.engine.safetensor_checks import check_safetensors

THRESHOLDS: dict[str, tuple[Any, str]] = {
    "allowed": (
        [".safetensors", ".json", ".txt", ".model", ".parquet", ".md", ".toml", ".jinja"],
        "endings of the files that may go out",
    ),
}
MAGIC = {
    b"PK\x03\x04": "a zip archive (the form of pickled torch weights)",
    b"\x80": "a pickle",
    b"\x7fELF": "a program",
    b"MZ": "a program",
    b"#!": "a script",
    b"\x1f\x8b": "a gzip archive",
    b"\x89HDF": "an HDF5 file",
}
CODE_KEYS = ("auto_map", "trust_remote_code", "custom_pipelines")
TEMPLATE = re.compile(r"__\w+__|\.mro\(|\battr\b.*_|import |os\.|popen|globals")
FREE_NAMES = {"LICENSE", "NOTICE"}


def check(subject: Subject, limits: dict[str, Any]) -> CheckResult:
    """Every file of what goes out, read to its end."""
    faults: list[str] = []
    parameters, files = 0, 0
    for path in sorted(p for p in subject.files.rglob("*") if p.is_file() or p.is_symlink()):
        files += 1
        name = path.relative_to(subject.files).as_posix()
        fault = fault_of(path, limits["allowed"])
        if fault:
            faults.append(f"{name}: {fault}")
        elif path.suffix == ".safetensors":
            try:
                parameters += check_safetensors(path)
            except UnsafeWeights as error:
                faults.append(f"{name}: {error.message}")
    return CheckResult(
        check="weights",
        verdict=FAIL if faults else PASS,
        sentence="; ".join(faults[:5])
        or f"{files} files, {parameters:,} weights in sound safetensors, nothing that runs",
        evidence=(fact("files", files), fact("weights", parameters), fact("faults", faults[:50])),
        advice="convert the weights with: basewise bases pull, and release again" if faults else "",
    )


def fault_of(path: Path, allowed: list[str]) -> str:
    """What is wrong with a file, or nothing."""
    if path.is_symlink():
        return "a link"
    if path.suffix not in allowed and path.name not in FREE_NAMES:
        return f"files of the kind {path.suffix or path.name!r} do not go out"
    with open(path, "rb") as file:
        head = file.read(8)
    if path.suffix not in (".safetensors", ".parquet"):
        for magic, what in MAGIC.items():
            if head.startswith(magic):
                return f"{what} under another name"
    if path.suffix == ".json":
        return _fault_of_json(path)
    if path.suffix == ".jinja":
        return _fault_of_template(path.read_text("utf-8", errors="replace"))
    return ""


def _fault_of_json(path: Path) -> str:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        return f"not JSON: {str(error)[:80]}"
    if not isinstance(value, dict):
        return ""
    for key in CODE_KEYS:
        if value.get(key):
            return f"{key!r} would fetch or run code"
    return _fault_of_template(value.get("chat_template"))


def _fault_of_template(template: Any) -> str:
    """A template is a text, or several of them by name."""
    several = template if isinstance(template, list) else [template]
    texts = [one.get("template") if isinstance(one, dict) else one for one in several]
    if any(isinstance(text, str) and TEMPLATE.search(text) for text in texts):
        return "its chat template reaches for more than text"
    return ""
