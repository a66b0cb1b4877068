"""Kinds of tampering with a release folder: each a function that changes the folder, by name.

`FORGED` are those of someone who knows the format and writes the manifest anew: only a signature can tell them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from basewise.core.manifest import write_manifest

WEIGHTS = "predictor/words.safetensors"
Change = Callable[[Path], object]


def flip(name: str, at: int) -> Change:
    def change(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[at if at >= 0 else len(data) + at] ^= 1
        (folder / name).write_bytes(bytes(data))

    return change


def write(name: str, make: Callable[[bytes], bytes]) -> Change:
    return lambda folder: (folder / name).write_bytes(make((folder / name).read_bytes()))


def add(name: str, content: bytes = b"{}") -> Change:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return change


def remove(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def rename(old: str, new: str) -> Change:
    return lambda folder: (folder / old).rename(folder / new)


def edit(name: str, change: Callable[[dict], object]) -> Change:
    """Change a JSON file and write it as it was written."""

    def work(folder: Path) -> None:
        value = json.loads((folder / name).read_text("utf-8"))
        change(value)
        (folder / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")

    return work


def linked(name: str) -> Change:
    """The same content, behind a link."""

    def change(folder: Path) -> None:
        away = folder.parent / f"{folder.name}-away"
        (folder / name).rename(away)
        (folder / name).symlink_to(away)

    return change


def swapped(one: str, other: str) -> Change:
    def change(folder: Path) -> None:
        first = (folder / one).read_bytes()
        (folder / one).write_bytes((folder / other).read_bytes())
        (folder / other).write_bytes(first)

    return change


def forged(change: Change) -> Change:
    """Change it and write the manifest anew."""

    def work(folder: Path) -> None:
        change(folder)
        write_manifest(folder)

    return work


def pass_the_gate(record: dict) -> None:
    for line in record["gate"]:
        line["verdict"] = "pass"
    record["score"]["low"] = 0.99


KINDS: dict[str, Change] = {
    "first byte of the weights": flip(WEIGHTS, 0),
    "a middle byte of the weights": flip(WEIGHTS, 400),
    "last byte of the weights": flip(WEIGHTS, -1),
    "weights cut short": write(WEIGHTS, lambda b: b[:-1]),
    "a byte more of weights": write(WEIGHTS, lambda b: b + b"\0"),
    "empty weights": write(WEIGHTS, lambda b: b""),
    "a pickle for weights": write(WEIGHTS, lambda b: b"\x80\x04N." + b"\0" * (len(b) - 4)),
    "order of the labels": edit("predictor/predictor.json", lambda v: v["classes"].reverse()),
    "golden answers of the predictor": edit("predictor/predictor.json", lambda v: v["golden"].reverse()),
    "threshold": edit("release.json", lambda v: v.update(threshold=0.0)),
    "verdict of the gate": edit("release.json", pass_the_gate),
    "licence": edit("release.json", lambda v: v["licence"].update(commercial=False)),
    "a line end in the record": write("release.json", lambda b: b.replace(b"\n", b"\r\n")),
    "last line end of the record": write("release.json", lambda b: b[:-1]),
    "golden rows": flip("golden.json", 30),
    "policy": write("policy.toml", lambda b: b.replace(b"least = 0.0", b"least = 0.1")),
    "evidence": flip("evidence.parquet", 200),
    "task": edit("task.json", lambda v: v.update(target="other")),
    "weights removed": remove(WEIGHTS),
    "evidence removed": remove("evidence.parquet"),
    "record removed": remove("release.json"),
    "predictor removed": lambda folder: shutil.rmtree(folder / "predictor"),
    "a file added": add("notes.txt"),
    "a hidden file added": add(".hidden"),
    "a git file added": add(".gitattributes"),
    "a folder of git added": add(".git/config"),
    "a program added": add("predictor/__init__.py", b"print(1)"),
    "a pickle added": add("predictor/head.pkl", b"\x80\x04N."),
    "more weights added": add("predictor/adapter_model.safetensors"),
    "an empty folder added": lambda folder: (folder / "base").mkdir(),
    "a base put inside": add("base/config.json"),
    "weights renamed": rename(WEIGHTS, "predictor/word.safetensors"),
    "weights renamed in case": rename(WEIGHTS, "predictor/Words.safetensors"),
    "a file moved up": rename(WEIGHTS, "words.safetensors"),
    "two files swapped": swapped("predictor/words.json", "predictor/predictor.json"),
    "weights behind a link": linked(WEIGHTS),
    "predictor behind a link": linked("predictor"),
    "a pipe added": lambda folder: os.mkfifo(folder / "pipe"),
    "manifest removed": remove("manifest.json"),
    "manifest cut short": write("manifest.json", lambda b: b[:-40]),
    "manifest not UTF-8": write("manifest.json", lambda b: b"\xff\xfe" + b),
    "manifest nested deep": write("manifest.json", lambda b: b"[" * 100_000),
    "a line of the manifest removed": edit("manifest.json", lambda v: v["files"].pop("golden.json")),
    "a digest of the manifest changed": edit("manifest.json", lambda v: v["files"]["golden.json"].update(sha256="0" * 64)),
    "a size of the manifest changed": edit("manifest.json", lambda v: v["files"]["golden.json"].update(bytes=1)),
    "a way out in the manifest": edit("manifest.json", lambda v: v["files"].update({"../x": v["files"]["golden.json"]})),
    "manifest of a later form": edit("manifest.json", lambda v: v.update(format=99)),
    "a name twice in the manifest": write("manifest.json", lambda b: b.replace(b'{\n', b'{\n "format": 1,\n', 1)),
}  # fmt: skip
SIGNATURES: dict[str, Change] = {
    "signature removed": remove("release.sig"),
    "signature emptied": write("release.sig", lambda b: b""),
    "signature cut short": write("release.sig", lambda b: b[: len(b) // 2]),
    "a byte of the signature": flip("release.sig", -60),
    "signature no JSON": write("release.sig", lambda b: b"not a signature"),
    "signature a folder": lambda folder: (remove("release.sig")(folder), add("release.sig/x")(folder)),
}
FORGED: dict[str, Change] = {
    "weights and manifest": forged(flip(WEIGHTS, -1)),
    "record and manifest": forged(edit("release.json", pass_the_gate)),
    "labels and manifest": forged(edit("predictor/predictor.json", lambda v: v["classes"].reverse())),
    "a file added and the manifest": forged(add("notes.txt")),
    "a file removed and the manifest": forged(remove("golden.json")),
    "a git file added and the manifest": forged(add(".gitignore")),
    "a file renamed and the manifest": forged(rename("golden.json", "gold.json")),
}
