"""Bases that come inside this package: pretrained here from the recipes of this repository, they need no network.

A folder of `basewise/bases` holds one file of weights in bf16, the tokenizer, and card.json: the roles that the weights can
take, each with its configuration. A mixed base is an encoder that sees both sides, and a decoder, from the same weights.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from basewise.core.base import Base, Card
from basewise.core.errors import UnsafeWeights
from basewise.core.files import Progress, read_json, silent, write_bytes, write_json
from basewise.core.hashing import sha256_file

if TYPE_CHECKING:
    from basewise.engine.store import Store

BASES = Path(__file__).resolve().parents[2] / "bases"
WEIGHTS = "model.safetensors"
SMALL_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "pretraining.json")


def cards() -> list[Card]:
    """A card for each role of each base."""
    return [
        Card.from_dict({**card, "locator": {"folder": path.parent.name}})
        for path in sorted(BASES.glob("*/card.json"))
        for card in (role["card"] for role in read_json(path)["roles"])
    ]


def here(card: Card) -> bool:
    """Always: it came with the package."""
    return True


def load(card: Card, store: Store, progress: Progress = silent) -> Base:
    """Copied into the store in its role. The role stands in the weights file, so each role has a digest of its own."""
    return store.fetch(card, lambda temporary: build(card, temporary / "base"))


def build(card: Card, made: Path) -> Path:
    """The plain Hugging Face folder of a role."""
    source = BASES / card.locator["folder"]
    config: dict[str, Any] = next(
        role["config"] for role in read_json(source / "card.json")["roles"] if role["card"]["key"] == card.key
    )
    made.mkdir(parents=True)
    for name in SMALL_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, made / name)
    write_json(made / "config.json", config)
    write_bytes(made / WEIGHTS, with_role((source / WEIGHTS).read_bytes(), card.family))
    if card.weights_sha256 and sha256_file(made / WEIGHTS) != card.weights_sha256:
        raise UnsafeWeights(f"the weights of {card.key} in this package changed", "install basewise again")
    return made


def with_role(content: bytes, role: str) -> bytes:
    """A safetensors file with its role among the metadata. Written here: the library puts metadata in any order, and the
    digest has to be the same everywhere."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = {"format": "pt", "role": role}
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[start:]
