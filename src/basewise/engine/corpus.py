"""A built corpus: memory-mapped token shards, their documents, rows packed to a length, and the digests that hold them fast.

    corpus = open_corpus("runs/corpus")
    rows = corpus.rows("train", 257)             # full rows: 256 predictions each
    rows.take(np.array([5, 0]))                  # (2, 257) int64
    rows.order(seed=0, epoch=1)                  # the same permutation on every machine

A shard is two NumPy files, opened by plain `numpy.load(mmap_mode="r")`: `<name>.tokens.npy` (t,) uint16 or uint32 by the size of the
vocabulary, and `<name>.documents.npy` (n + 1,) int64, where each document begins. Every document begins with the start token. A shard
belongs to one source and one split. `manifest.json` says the rest (docs/decisions/0008-corpora.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.errors import InputError, RunError, UnknownName
from basewise.core.files import read_json
from basewise.core.hashing import generator, sha256_file
from basewise.engine.packing import Packing, pack

FORMAT, VERSION, MANIFEST = "basewise-corpus", 1, "manifest.json"
SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Shard:
    """One source's documents of one split, mapped from disk. `offsets` (n + 1,) int64 in tokens, `tokens` (t,)."""

    name: str
    source: str
    split: str
    tokens: np.ndarray
    offsets: np.ndarray

    def document(self, number: int) -> np.ndarray:
        """(t,) token ids of one document, its start token first."""
        return self.tokens[self.offsets[number] : self.offsets[number + 1]]


@dataclass(frozen=True)
class PackedRows:
    """Full rows of `length` tokens over shards. `passes`: how often an epoch takes each shard's rows (mixture weights).

    `len(rows)` is the rows of one epoch. Packing a shard happens when a row of it is first taken.
    """

    shards: tuple[Shard, ...]
    length: int
    passes: tuple[float, ...]
    _packed: dict[int, Packing] = field(default_factory=dict, compare=False)

    @cached_property
    def _ends(self) -> np.ndarray:
        """(s + 1,) where the rows of each shard begin; rows of a shard are its tokens // length, known without packing."""
        return np.cumsum([0, *(len(shard.tokens) // self.length for shard in self.shards)])

    @cached_property
    def _places(self) -> np.ndarray | None:
        """(rows of an epoch,) the row behind each; None when every shard is passed once."""
        if all(p == 1 for p in self.passes):
            return None
        places = []
        for shard, passes, first, end in zip(
            self.shards, self.passes, self._ends[:-1], self._ends[1:], strict=True
        ):
            rows = np.arange(first, end)
            share = round((passes % 1) * len(rows))
            places += [rows] * int(passes)
            places.append(np.sort(generator("mixture", shard.name).permutation(rows)[:share]))
        return np.concatenate(places) if places else np.empty(0, np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._places is None else len(self._places)

    def packing(self, number: int) -> Packing:
        """How the rows of one shard are put together."""
        if number not in self._packed:
            self._packed[number] = pack(self.shards[number].offsets, self.length)
        return self._packed[number]

    def take(self, index: np.ndarray) -> np.ndarray:
        """(b, length) int64 rows, in the order asked."""
        index = np.asarray(index, np.int64)
        if len(index) and (index.min() < 0 or index.max() >= len(self)):
            raise IndexError(f"rows {index.min()} to {index.max()} of {len(self)}")
        places = index if self._places is None else self._places[index]
        out = np.empty((len(places), self.length), np.int64)
        which = np.searchsorted(self._ends, places, side="right") - 1
        for number in np.unique(which):
            mine = which == number
            positions = self.packing(int(number)).positions(places[mine] - self._ends[number])
            out[mine] = self.shards[number].tokens[positions]
        return out

    def order(self, seed: int, epoch: int = 0) -> np.ndarray:
        """(rows,) the order of one epoch: a function of seed and epoch alone."""
        return generator("rows", seed, epoch).permutation(len(self))

    def batch(self, step: int, size: int, seed: int) -> np.ndarray:
        """(size, length) the rows of step number `step`, from 0, over epochs without end; a run resumed at a step needs no more."""
        if size > len(self):
            raise too_few(len(self), size, self.length)
        places = np.arange(step * size, (step + 1) * size)
        epochs = places // len(self)
        return self.take(
            np.concatenate(
                [self.order(seed, int(e))[places[epochs == e] % len(self)] for e in np.unique(epochs)]
            )
        )


def too_few(rows: int, size: int, length: int) -> InputError:
    """The error of a corpus with fewer rows than one batch; it names what fits."""
    if not rows:
        return InputError(f"the corpus fills no row of {length} tokens", "give more text or shorter rows")
    return InputError(
        f"the corpus fills {rows} rows of {length} tokens, a batch takes {size}",
        f"a batch of {rows} rows ({rows * length} tokens) fits; or give more text or shorter rows",
    )


@dataclass(frozen=True)
class Corpus:
    """A corpus folder whose shards are what the manifest says. `digest` names its content: tokens, tokenizer, weights."""

    folder: Path
    manifest: dict[str, Any]
    shards: tuple[Shard, ...]

    @property
    def digest(self) -> str:
        return self.manifest["digest"]

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return int(self.manifest["tokenizer"]["vocabulary"])

    @property
    def special(self) -> dict[str, int]:
        """{"start", "separator", "mask", "pad": token id}."""
        return dict(self.manifest["tokenizer"]["special"])

    @property
    def tokenizer(self) -> Path:
        """Folder of the tokenizer, as `transformers.AutoTokenizer` opens it."""
        return self.folder / "tokenizer"

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(source["name"] for source in self.manifest["sources"])

    @cached_property
    def token_bytes(self) -> np.ndarray:
        """(vocabulary,) int32 UTF-8 bytes that each token stands for, 0 for special tokens: what bits per byte divide by."""
        return np.load(self.tokenizer / "token_bytes.npy", allow_pickle=False)

    def tokens(self, split: str = "train") -> int:
        """Tokens of a split, start tokens included."""
        return sum(len(shard.tokens) for shard in self.shards if shard.split == split)

    def rows(self, split: str, length: int, source: str | None = None) -> PackedRows:
        """Rows of `length` tokens of a split, of one source or of all; weights of the mixture count in training over all."""
        if split not in SPLITS:
            raise UnknownName.of("split", split, SPLITS)
        if source is not None and source not in self.sources:
            raise UnknownName.of("source", source, self.sources)
        if length < 2:
            raise InputError(f"rows of {length} tokens predict nothing", "ask for at least 2")
        chosen = tuple(s for s in self.shards if s.split == split and source in (None, s.source))
        weights = {one["name"]: float(one.get("weight", 1)) for one in self.manifest["sources"]}
        mixed = split == "train" and source is None
        return PackedRows(chosen, length, tuple(weights[s.source] if mixed else 1.0 for s in chosen))


def open_corpus(folder: Path | str, expect: str | None = None) -> Corpus:
    """Open a corpus folder; every shard and the tokenizer are read once and their digests compared.

    `expect`: the digest of the corpus that a run began with; another one is an error. Raises RunError for a folder without a
    finished corpus, a file of it that cannot be read and a digest that does not hold.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise RunError(f"{folder} holds no finished corpus", "make one with `basewise corpus build`")
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise RunError(f"{folder / MANIFEST} is not the manifest of a corpus", "build the corpus again")
    if manifest.get("version") != VERSION:
        raise RunError(
            f"{folder} is a corpus of version {manifest.get('version')}, {VERSION} was expected",
            "build it again",
        )
    if expect is not None and manifest["digest"] != expect:
        raise RunError(
            f"the corpus in {folder} has changed since the run began ({expect[:12]} then, {manifest['digest'][:12]} now)",
            "bring the old corpus back, or begin a new run in another folder",
        )
    tokenizer = manifest["tokenizer"]
    _check_digest(folder / "tokenizer" / "tokenizer.json", tokenizer["sha256"])
    # corpora built before there was one
    if "token_bytes_sha256" in tokenizer:
        _check_digest(folder / "tokenizer" / "token_bytes.npy", tokenizer["token_bytes_sha256"])
    return Corpus(folder, manifest, tuple(_open_shard(folder, entry) for entry in manifest["shards"]))


def _check_digest(path: Path, digest: str) -> None:
    """Raise RunError where a file is not the one that the manifest names."""
    try:
        same = sha256_file(path) == digest
    except OSError as error:
        raise _unreadable(path, error) from error
    if not same:
        raise RunError(
            f"{path} has changed since the corpus was built: its digest does not hold",
            "bring it back from a copy, or build the corpus again into another folder",
        )


def _unreadable(path: Path, error: Exception) -> RunError:
    what = "shard" if path.parent.name == "shards" else "tokenizer's"
    return RunError(
        f"cannot read the {what} {path}: {error}", "bring it back from a copy, or build the corpus again"
    )


def _open_shard(folder: Path, entry: dict[str, Any]) -> Shard:
    """Map one shard after its digests were compared."""
    arrays = []
    for part in ("tokens", "documents"):
        path = folder / "shards" / f"{entry['name']}.{part}.npy"
        _check_digest(path, entry["sha256"][part])
        try:
            arrays.append(np.load(path, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise _unreadable(path, error) from error
    return Shard(entry["name"], entry["source"], entry["split"], arrays[0], arrays[1])
