"""A safetensors file is what it says: header small and whole, offsets in order and in range, sizes as the shapes say."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from basewise.core.errors import UnsafeWeights

SHARDS = "model-*-of-*.safetensors"
HEADER_BYTES = 100 * 2**20
BITS = {
    "F64": 64,
    "I64": 64,
    "U64": 64,
    "F32": 32,
    "I32": 32,
    "U32": 32,
    "F16": 16,
    "BF16": 16,
    "I16": 16,
    "U16": 16,
}
BITS |= {"I8": 8, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8}


def shards_of(folder: Path) -> list[Path]:
    """The parts of weights that are saved in several files; UnsafeWeights where one of them is missing."""
    found = sorted(path for path in Path(folder).glob(SHARDS) if path.is_file())
    if found and found[0].stem.rpartition("-of-")[2] != f"{len(found):05d}":
        raise UnsafeWeights(
            f"{folder} holds {len(found)} parts of its weights, of which one is {found[0].name}",
            "fetch it again, whole",
        )
    return found


def join(shards: Sequence[Path], target: Path) -> None:
    """Weights in several files as one; UnsafeWeights for a part that is not sound or repeats a tensor."""
    from safetensors.torch import load_file, save_file

    tensors: dict[str, Any] = {}
    for shard in shards:
        check_safetensors(shard)
        found = load_file(shard)
        if twice := sorted(tensors.keys() & found.keys()):
            raise UnsafeWeights(f"{shard} repeats the tensor {twice[0]!r} of another part", "fetch it again")
        tensors |= found
    save_file(tensors, target, metadata={"format": "pt"})


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a name occurs twice")
    return dict(pairs)


def check_safetensors(path: Path) -> int:
    """Number of parameters of a sound file; UnsafeWeights otherwise."""
    try:
        return _parameters(Path(path))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnsafeWeights(f"{path} is not a sound safetensors file: {error}", "fetch it again") from error


def _parameters(path: Path) -> int:
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 10 or not 2 <= length <= min(HEADER_BYTES, size - 8):
            raise ValueError(f"header of {length} bytes in a file of {size}")
        header = json.loads(file.read(length), object_pairs_hook=_once)
    if not isinstance(header, dict):
        raise ValueError("its header is no table of tensors")
    header.pop("__metadata__", None)
    end, total = 0, 0
    # By both offsets: an empty tensor stands before its neighbour, wherever the header names it.
    for name, entry in sorted(header.items(), key=lambda item: tuple(item[1]["data_offsets"])):
        first, last = entry["data_offsets"]
        if any(type(n) is not int or n < 0 for n in (first, last, *entry["shape"])):
            raise ValueError(f"tensor {name!r} has a shape or offsets that are no sizes")
        count = math.prod(entry["shape"])
        if first != end or last - first != count * BITS[entry["dtype"]] // 8:
            raise ValueError(
                f"tensor {name!r} has offsets {first}-{last}, its shape and neighbours say otherwise"
            )
        end, total = last, total + count
    if end != size - 8 - length:
        raise ValueError(f"{size - 8 - length - end} bytes belong to no tensor")
    return total
