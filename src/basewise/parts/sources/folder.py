"""A folder on this machine that transformers opens: config.json, model.safetensors, tokenizer.json."""

from __future__ import annotations

import json
from pathlib import Path

from basewise.core.base import Base, Card
from basewise.core.errors import BaseUnavailable, UnsafeWeights
from basewise.core.files import Progress, silent
from basewise.core.hashing import sha256_file
from basewise.engine.safetensor_checks import check_safetensors
from basewise.engine.store import WEIGHTS, Store, verify

DECODERS = ("CausalLM", "LMHeadModel")


def cards() -> list[Card]:
    """None: folders are named when they are used."""
    return []


def card_of(folder: Path) -> Card:
    """A card read from a folder's own files."""
    folder = Path(folder).resolve()
    for name in ("config.json", WEIGHTS, "tokenizer.json"):
        if not (folder / name).is_file():
            pickled = " (weights are there only as a pickle)" if list(folder.glob("*.bin")) else ""
            raise BaseUnavailable(
                f"{folder} has no {name}{pickled}",
                "give a folder with config.json, model.safetensors and tokenizer.json",
            )
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BaseUnavailable(
            f"{folder / 'config.json'} is not JSON: {error}", "copy the folder again"
        ) from error
    if "auto_map" in config:
        raise UnsafeWeights(
            f"{folder} asks to run code of its own (auto_map)", "use a base of a known architecture"
        )
    decoder = any(a.endswith(DECODERS) for a in config.get("architectures") or [])
    static = config.get("model_type") == "static"
    return Card(
        key=folder.name,
        source="folder",
        family="static" if static else "decoder" if decoder else "encoder",
        licence="not stated",
        parameters=check_safetensors(folder / WEIGHTS),
        layers=int(config.get("num_hidden_layers") or config.get("n_layer") or 0),
        width=int(config.get("hidden_size") or config.get("n_embd") or 0),
        download_bytes=0,
        context=int(config.get("max_position_embeddings") or config.get("n_positions") or 512),
        provides=frozenset(
            {"embed"}
            if static
            else {"embed", "train", "score", "generate"}
            if decoder
            else {"embed", "train"}
        ),
        locator={"folder": str(folder)},
    )


def load(card: Card, store: Store, progress: Progress = silent) -> Base:
    """The folder itself, its weights checked; nothing is copied."""
    folder = Path(card.locator["folder"])
    if not (folder / WEIGHTS).is_file():
        raise BaseUnavailable(f"the folder {folder} of {card.key} is gone", "name it where it is now")
    check_safetensors(folder / WEIGHTS)
    digest = (
        verify(folder / WEIGHTS, card.weights_sha256, str(folder / WEIGHTS)) if card.weights_sha256 else ""
    )
    return Base(card=card, folder=folder, digest=digest or sha256_file(folder / WEIGHTS))
