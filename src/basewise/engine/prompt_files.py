"""A prompt and its calibration as prompt.json and prompt.safetensors, for every method that asks a base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.files import read_json, write_bytes, write_json
from basewise.engine.prompting import Prompt
from basewise.engine.recalibrate import Calibration


def ragged(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """(all ids one after the other, (n,) lengths), both int64."""
    return np.array([t for row in rows for t in row], np.int64), np.array([len(r) for r in rows], np.int64)


def rows_of(flat: np.ndarray, lengths: np.ndarray) -> list[tuple[int, ...]]:
    """The inverse of `ragged`."""
    return [tuple(part.tolist()) for part in np.split(flat, np.cumsum(lengths)[:-1])] if len(lengths) else []


def save_prompt(
    folder: Path,
    prompt: Prompt,
    calibration: Calibration,
    more: dict[str, Any],
    arrays: dict[str, np.ndarray] | None = None,
) -> None:
    """`more` goes into the JSON (classes, base, choices …), `arrays` into the safetensors."""
    from safetensors.numpy import save

    labels, lengths = ragged(prompt.labels)
    record = {"head": prompt.head, "room": prompt.room, "follows": prompt.follows}
    record |= {"kind": calibration.kind, "norm": calibration.norm}
    tensors = {
        "prefix": np.array(prompt.prefix, np.int64),
        "between": np.array(prompt.between, np.int64),
        "labels": labels,
        "lengths": lengths,
        "weight": calibration.weight,
        "scale": calibration.scale,
        "shift": calibration.shift,
        **(arrays or {}),
    }
    write_json(folder / "prompt.json", {**record, **more})
    write_bytes(folder / "prompt.safetensors", save(tensors))


def load_prompt(folder: Path) -> tuple[Prompt, Calibration, dict[str, Any], dict[str, np.ndarray]]:
    """(prompt, calibration, the JSON record, all arrays)."""
    from safetensors.numpy import load_file

    record, tensors = read_json(folder / "prompt.json"), load_file(folder / "prompt.safetensors")
    prompt = Prompt(
        tuple(tensors["prefix"].tolist()),
        record["head"],
        tuple(tensors["between"].tolist()),
        tuple(rows_of(tensors["labels"], tensors["lengths"])),
        record["room"],
        bool(record.get("follows", False)),
    )
    calibration = Calibration(
        record["kind"], record["norm"], tensors["weight"], tensors["scale"], tensors["shift"]
    )
    return prompt, calibration, record, tensors
