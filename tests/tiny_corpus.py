"""A tiny corpus on disk in the format of `basewise corpus build`, with a word tokenizer, made on the spot; and recipes for it.

Two sources, of which one is predictable (words go round), so that a few steps of training lower the loss.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.hashing import digest_json, sha256_file
from basewise.core.recipe import Recipe

WORDS = [f"{a}{b}" for a in ("ba", "co", "di", "fu", "ge", "ho") for b in ("la", "me", "ni", "po", "ru")]
SPECIAL = {"start": 0, "separator": 1, "mask": 2, "pad": 3}
NAMES = ("<|start|>", "<|separator|>", "<|mask|>", "<|pad|>")


LEARNED = [
    ("next_token", "decoder"),
    ("next_token", "gpt2"),
    ("masked", "encoder"),
    ("masked", "bert"),
    ("mixed", "decoder"),
]
"""Objectives with networks that they train."""


def corpus(folder: Path, documents: int = 60, seed: int = 0) -> Path:
    """Write a corpus of `documents` a source, a tenth of them held out; its folder."""
    rng = np.random.default_rng(seed)
    (folder / "shards").mkdir(parents=True)
    _tokenizer(folder / "tokenizer")
    shards = []
    for source in ("round", "random"):
        made: dict[str, list[np.ndarray]] = {"train": [], "validation": []}
        for number in range(documents):
            length = int(rng.integers(20, 60))
            first = int(rng.integers(len(WORDS)))
            words = (
                (first + np.arange(length)) % len(WORDS)
                if source == "round"
                else rng.integers(0, len(WORDS), length)
            )
            split = "validation" if number % 10 == 9 else "train"
            made[split].append(np.concatenate([[0], words + len(SPECIAL)]).astype(np.uint16))
        for split, parts in made.items():
            name = f"{source}-{split}"
            arrays = {
                "tokens": np.concatenate(parts) if parts else np.zeros(0, np.uint16),
                "documents": np.cumsum([0, *map(len, parts)]).astype(np.int64),
            }
            for part, array in arrays.items():
                np.save(folder / "shards" / f"{name}.{part}.npy", array)
            digests = {part: sha256_file(folder / "shards" / f"{name}.{part}.npy") for part in arrays}
            shards.append({"name": name, "source": source, "split": split, "sha256": digests})
    manifest = {
        "format": "basewise-corpus",
        "version": 1,
        "digest": digest_json(shards),
        "tokenizer": {
            "vocabulary": len(SPECIAL) + len(WORDS),
            "special": SPECIAL,
            "sha256": sha256_file(folder / "tokenizer" / "tokenizer.json"),
        },
        "sources": [{"name": n, "weight": 1, "licence": "CC0-1.0"} for n in ("round", "random")],
        "shards": shards,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def _tokenizer(folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    pieces = {piece: place for place, piece in enumerate([*NAMES, *WORDS])}
    made = Tokenizer(models.WordLevel(pieces, unk_token="<|pad|>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens([AddedToken(name, special=True) for name in NAMES])
    folder.mkdir(parents=True)
    made.save(str(folder / "tokenizer.json"))
    record = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": NAMES[0], "mask_token": NAMES[2]}
    (folder / "tokenizer_config.json").write_text(
        json.dumps(record | {"pad_token": NAMES[3]}), encoding="utf-8"
    )
    np.save(folder / "token_bytes.npy", np.array([0] * len(SPECIAL) + [len(w) + 1 for w in WORDS], np.int32))


def recipe(folder: Path, **changed: Any) -> Recipe:
    """A run of seconds on a corpus: two layers of width 32."""
    values: dict[str, Any] = {
        "name": "tiny",
        "corpus": str(folder),
        "depth": 2,
        "width": 32,
        "heads": 2,
        "context": 16,
        "steps": 12,
        "batch_tokens": 128,
        "tokens_at_once": 64,
        "precision": "fp32",
        "warmup_steps": 3,
        "evaluate_every": 1000,
        "checkpoint_every": 4,
        **changed,
    }
    return Recipe(**values)


def write_recipe(path: Path, recipe: Recipe) -> Path:
    """The recipe as TOML."""
    lines = []
    for key, value in recipe.to_dict().items():
        if value in ("", (), 0, 0.0) or value == getattr(Recipe, key, None):
            continue
        shown = list(value) if isinstance(value, tuple) else value
        lines.append(f"{key} = {json.dumps(shown)}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
