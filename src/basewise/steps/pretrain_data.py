"""What a recipe's `corpus` names, opened: packed rows, held-out documents, the tokenizer, and the facts for the card.

A folder is one that `basewise corpus build` wrote. A plain text file is read by characters, its last tenth held out: enough for a first
run and for nanoGPT's Shakespeare. A Parquet file holds square images of one size in a column `image`.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.errors import InputError, MissingExtra
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
        return built(recipe, path)
    if path.suffix == ".txt":
        return characters(recipe, path, folder)
    if path.suffix == ".parquet":
        return images(path)
    raise InputError(
        f"{path} is not a corpus", "name a folder that `basewise corpus build` wrote, or a .txt file"
    )


def built(recipe: Recipe, path: Path) -> Corpus:
    """A folder of `basewise corpus build`: rows packed to the context and one more token, documents held out a source."""
    from basewise.engine.corpus import open_corpus as open_shards
    from basewise.engine.held_out import Documents

    shards = open_shards(path)
    held = [shard for shard in shards.shards if shard.split == "validation" and len(shard.offsets) > 1]
    named = {"start": "bos", "separator": "eos", "mask": "mask", "pad": "pad"}
    documents = []
    for source in dict.fromkeys(shard.source for shard in held):
        ids = [
            np.asarray(shard.document(number), np.int64)
            for shard in held
            if shard.source == source
            for number in range(len(shard.offsets) - 1)
        ]
        documents.append(Documents(source, ids, shards.token_bytes))
    return Corpus(
        rows=shards.rows("train", recipe.context + 1),
        held_out=tuple(documents),
        tokenizer=shards.tokenizer,
        vocabulary=shards.vocabulary,
        special={named[name]: int(number) for name, number in shards.special.items() if name in named},
        digest=shards.digest,
        tokens=shards.tokens(),
        facts={"sources": [_source(one) for one in shards.manifest["sources"]], "unit": "tokens"},
    )


def _source(entry: dict[str, Any]) -> dict[str, Any]:
    """What the card says of a source: its name, licence and size, as the manifest has them."""
    kept = {key: value for key, value in entry.items() if isinstance(value, (str, int, float, list, dict))}
    licence = entry.get("licence") or ", ".join(entry.get("licences", [])) or "not stated"
    return {**kept, "source": entry["name"], "licence": licence}


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
    documents = Documents(
        path.stem, [ids[cut:]], np.array([0, *(len(letter.encode()) for letter in letters)])
    )
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


@dataclass(frozen=True)
class Pictures:
    """(n, 3, S, S) uint8 in memory."""

    pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, index: np.ndarray) -> np.ndarray:
        return self.pixels[np.asarray(index)]


def images(path: Path) -> Corpus:
    """A Parquet file whose column `image` holds pictures (JPEG, PNG …) of one square size; the last tenth is held out."""
    import pyarrow.parquet as pq

    try:
        content = pq.read_table(path, columns=["image"])["image"].to_pylist()
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"cannot read images from {path}: {error}", "give a Parquet file with a column image"
        ) from error
    if not content:
        raise InputError(f"the corpus {path} is empty", "give a file with images")
    pixels = decoded(content)
    cut = max(1, int(len(pixels) * (1 - HELD_OUT)))
    return Corpus(
        rows=Pictures(pixels[:cut]),
        held_out=(),
        tokenizer=None,
        vocabulary=0,
        special={},
        digest=sha256_file(path),
        tokens=0,
        facts={"sources": [{"source": path.name, "licence": "not stated", "images": cut}], "unit": "images"},
        shape={"side": pixels.shape[-1]},
    )


def decoded(content: list[Any]) -> np.ndarray:
    """(n, 3, S, S) uint8 of n pictures as bytes (or {"bytes": …}, as `datasets` writes them)."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingExtra.of("pillow", "images") from error
    made = []
    for number, one in enumerate(content):
        raw = one["bytes"] if isinstance(one, dict) else one
        try:
            made.append(_rgb(Image.open(io.BytesIO(raw)), number))
        except (UnidentifiedImageError, OSError, TypeError) as error:
            raise InputError(f"image {number} cannot be read: {error}", "take it out") from error
    sizes = {picture.shape[1:] for picture in made}
    if len(sizes) != 1 or len(set(next(iter(sizes)))) != 1:
        raise InputError(
            f"images of {len(sizes)} shapes came, such as {sorted(sizes)[:3]}",
            "resize them to one square size",
        )
    return np.stack(made)


def _rgb(picture: Any, number: int) -> np.ndarray:
    """(3, H, W) uint8 of an opened picture. Grey of 16 bits is scaled, as a plain conversion would clip it to white."""
    if picture.mode == "F" or picture.mode.startswith("I"):
        grey = np.asarray(picture)
        if picture.mode == "F" or grey.min() < 0 or grey.max() > 65535:
            raise InputError(
                f"image {number} holds {'fractions' if picture.mode == 'F' else 'whole numbers of 32 bits'}, whose white is not known",
                "save it with 8 or 16 bits a channel",
            )
        return np.repeat((grey // 257).astype(np.uint8)[None], 3, axis=0)
    return np.asarray(picture.convert("RGB")).transpose(2, 0, 1)


def note_of(facts: dict[str, Any]) -> str:
    """Sources and licences in one line for a card."""
    lines = [f"{s['source']} ({s.get('licence', 'not stated')})" for s in facts.get("sources", [])]
    return "; ".join(lines) or json.dumps(facts, ensure_ascii=False)
