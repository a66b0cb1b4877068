"""What a recipe's `corpus` names, opened: packed rows, held-out documents, the tokenizer, and the facts for the card.

A folder is one that `basewise corpus build` wrote. A plain text file is read by characters, its last tenth held out: enough for a first
run and for nanoGPT's Shakespeare. A Parquet file holds images (`image`) or pairs of texts (`first`, `second`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.errors import InputError
from basewise.core.files import write_json
from basewise.core.hashing import sha256_file
from basewise.core.recipe import Recipe

HELD_OUT = 0.1


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """`rows` of context + 1 tokens, `held_out` documents a source, the folder of the tokenizer, ids of special tokens."""

    rows: Any
    held_out: tuple[Any, ...]
    tokenizer: Path | None
    vocabulary: int
    special: dict[str, int]
    digest: str
    tokens: int
    facts: dict[str, Any] = field(default_factory=dict)
    shape: dict[str, int] = field(default_factory=dict)


def open_corpus(recipe: Recipe, folder: Path) -> Corpus:
    """The corpus of a recipe; `folder`: the run's, where a tokenizer made on the spot is kept."""
    path = Path(recipe.corpus).expanduser()
    if not path.exists():
        raise InputError(
            f"there is no corpus {path}", "name a folder that `basewise corpus build` wrote, or a text file"
        )
    if path.is_dir():
        from basewise.steps.pretrain_built import built

        return built(recipe, path)
    if path.suffix == ".txt":
        return characters(recipe, path, folder)
    raise InputError(
        f"{path} is not a corpus", "name a folder that `basewise corpus build` wrote, or a .txt file"
    )


def characters(recipe: Recipe, path: Path, folder: Path) -> Corpus:
    """A text file by characters, as nanoGPT reads Shakespeare: the first nine tenths to learn from, the rest held out."""
    from basewise.engine.feed import Windows
    from basewise.engine.held_out import Documents

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}", "give a UTF-8 text file") from error
    if not text.strip():
        raise InputError(f"the corpus {path} is empty", "give a file with text")
    letters = sorted(set(text))
    pieces = ["<|mask|>", *letters]
    number = {piece: place for place, piece in enumerate(pieces)}
    ids = np.fromiter((number[letter] for letter in text), np.int32, len(text))
    cut = int(len(ids) * (1 - HELD_OUT))
    tokenizer = folder / "tokenizer"
    _character_tokenizer(number, tokenizer)
    held = text[cut:]
    documents = Documents(path.stem, [ids[cut:]], np.array([len(held.encode())]))
    return Corpus(
        rows=Windows(ids[:cut], recipe.context + 1),
        held_out=(documents,),
        tokenizer=tokenizer,
        vocabulary=len(pieces),
        special={"mask": 0},
        digest=sha256_file(path),
        tokens=cut,
        facts={
            "sources": [{"source": path.name, "licence": "not stated", "tokens": cut}],
            "unit": "characters",
        },
    )


def _character_tokenizer(number: dict[str, int], folder: Path) -> None:
    """tokenizer.json that cuts a text into its characters; those that were never seen become the mask."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    made = Tokenizer(models.WordLevel(number, unk_token="<|mask|>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made.decoder = decoders.Fuse()
    made.add_special_tokens([AddedToken("<|mask|>", special=True)])
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "mask_token": "<|mask|>", "unk_token": "<|mask|>"},
    )


def note_of(facts: dict[str, Any]) -> str:
    """Sources and licences in one line for a card."""
    lines = [f"{s['source']} ({s.get('licence', 'not stated')})" for s in facts.get("sources", [])]
    return "; ".join(lines) or json.dumps(facts, ensure_ascii=False)
