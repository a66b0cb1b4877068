"""Last steps of a corpus: repeats found, tokenizer trained, documents as tokens, shards and manifest.

What each of them leaves is a file written whole, so a killed build goes on with the first that is missing. Memory holds one unit of text,
one byte a document for what repeats, and its key; signatures are mapped from disk.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import numpy as np

from basewise.core.corpus_recipe import CorpusRecipe
from basewise.core.errors import InputError
from basewise.core.files import Progress, atomic_path, explain_os_error, read_json, write_bytes, write_json
from basewise.core.hashing import sha256_file
from basewise.engine import bpe
from basewise.stats.minhash import BANDS, FUNCTIONS, band_keys, near_repeated, repeated
from basewise.stats.words import mix
from basewise.steps.corpus_clean import bytes_of, read_unit, units_of

SAMPLE, COMPARED, SCORED = 4_000_000, 1_500_000, 500_000
"""Characters that the tokenizer is trained on, its sizes are compared on, and scored on."""
SHARD_TOKENS = 1 << 27
EXACT, NEAR = 1, 2
Json = dict[str, Any]


def all_units(recipe: CorpusRecipe, work: Path) -> list[Path]:
    """Every unit: held-out documents first, so that of two that are alike the held-out one stays."""
    return [path for held in (True, False) for s in recipe.sources for path in units_of(work, s.name, held)]


def find_repeats(recipe: CorpusRecipe, work: Path, progress: Progress) -> dict[str, np.ndarray]:
    """{unit: (n,) uint8, 0 stays, EXACT or NEAR goes}."""
    units = all_units(recipe, work)
    target = work / "repeats.npz"
    if not units:
        return {}
    if not target.exists():
        counts = [_spread(path, work, progress, i, len(units)) for i, path in enumerate(_fresh(units, work))]
        n = sum(counts)
        keys = np.fromfile(work / "keys.raw", np.uint64)
        verdict = np.where(repeated(keys), EXACT, 0).astype(np.uint8)
        if recipe.near < 1 and n:
            bands = (np.memmap(work / f"band{b:02d}.raw", np.uint64, "r") for b in range(BANDS))
            marks = np.memmap(work / "signatures.raw", np.uint32, "r").reshape(n, FUNCTIONS)
            verdict[near_repeated(bands, marks, recipe.near) & (verdict == 0)] = NEAR
        _save(target, {"verdict": verdict, "keys": keys, "counts": np.array(counts, np.int64)})
    with np.load(target, allow_pickle=False) as saved:
        edges = np.concatenate([[0], np.cumsum(saved["counts"])])
        verdict = saved["verdict"]
    return {path.name: verdict[a:b] for path, a, b in zip(units, edges[:-1], edges[1:], strict=True)}


def _fresh(units: list[Path], work: Path) -> list[Path]:
    """The units, after what an interrupted collection left was removed."""
    for path in work.glob("*.raw"):
        path.unlink()
    return units


def _spread(path: Path, work: Path, progress: Progress, done: int, total: int) -> int:
    """Append a unit's keys, signatures and buckets to their files; returns its documents."""
    table, _ = read_unit(path, ["key", "signature"])
    chunks = table["signature"].chunks
    marks = np.concatenate(
        [np.empty((0, FUNCTIONS), np.uint32)]
        + [
            np.frombuffer(c.buffers()[1], np.uint32)[c.offset * FUNCTIONS :][: len(c) * FUNCTIONS].reshape(
                -1, FUNCTIONS
            )
            for c in chunks
        ]
    )
    _append(work / "keys.raw", table["key"].to_numpy())
    _append(work / "signatures.raw", marks)
    for band, keys in enumerate(band_keys(marks).T):
        _append(work / f"band{band:02d}.raw", keys)
    progress(done + 1, total, "looking for repeats, units")
    return len(table)


def _append(path: Path, values: np.ndarray) -> None:
    try:
        with open(path, "ab") as file:
            file.write(np.ascontiguousarray(values).data.cast("B") if values.size else b"")
    except OSError as error:
        raise explain_os_error(error, path) from error


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def kept_texts(recipe: CorpusRecipe, work: Path, repeats: dict[str, np.ndarray]) -> Iterator[tuple[str, int]]:
    """(text, key) of every training document that stays; those held apart are not for the tokenizer to see."""
    for source in recipe.sources:
        below = np.uint64(held_apart(recipe, work, repeats, source))
        for path in units_of(work, source.name, False):
            table, _ = read_unit(path, ["text", "key"])
            keys = table["key"].to_numpy()
            stays = np.flatnonzero((repeats[path.name] == 0) & (keys >= below))
            yield from zip(table["text"].take(stays).to_pylist(), keys[stays].tolist(), strict=True)


def make_tokenizer(
    recipe: CorpusRecipe, folder: Path, texts: Callable[[], Iterator[tuple[str, int]]]
) -> Json:
    """Train, choose and save the tokenizer; returns what the manifest says of it. Done once: a saved one is taken."""
    from tokenizers import Tokenizer

    from basewise.engine import vocabulary

    target, record = folder / "tokenizer", folder / "work" / "tokenizer.json"
    if not record.exists():
        sample, scored, total = _sample(texts)
        wanted = recipe.vocabulary or max(recipe.vocabularies)
        if wanted < bpe.LEAST:
            raise InputError(
                f"a vocabulary of {wanted} tokens was asked for",
                f"{bpe.LEAST} is the least: all bytes and 4 special tokens",
            )
        tokenizer = bpe.train(sample, wanted)
        table: list[Json] = []
        if recipe.vocabulary:
            bpe.check_size(tokenizer, recipe.vocabulary)
        else:
            ends = np.cumsum([len(text) for text in sample])
            part = sample[: 1 + int(np.searchsorted(ends, COMPARED))]
            table = vocabulary.choose(
                tokenizer, recipe.vocabularies, part, scored, recipe.width / max(1, total)
            )
            tokenizer = bpe.smaller(tokenizer, table[0]["vocabulary"])
        vocabulary.save(bpe.with_start(tokenizer), target)
        write_json(record, {"chosen_from": table, "sample_bytes": sum(map(bytes_of, sample))})
    tokenizer = Tokenizer.from_file(str(target / "tokenizer.json"))
    return {
        "vocabulary": tokenizer.get_vocab_size(),
        "special": {name: tokenizer.token_to_id(token) for name, token in bpe.SPECIAL.items()},
        "sha256": sha256_file(target / "tokenizer.json"),
        "token_bytes_sha256": sha256_file(target / "token_bytes.npy"),
        **read_json(record),
    }


def _sample(texts: Callable[[], Iterator[tuple[str, int]]]) -> tuple[list[str], list[str], int]:
    """(texts to learn from, texts to score, bytes of all), drawn by the documents' keys, whatever their order."""
    total = size = 0
    for text, _ in texts():
        total, size = total + len(text), size + bytes_of(text)
    learn, score = min(1.0, SAMPLE / max(1, total)), min(0.1, SCORED / max(1, total))
    sample: list[str] = []
    scored: list[str] = []
    rest: list[str] = []
    for text, key in texts():
        draw = int(mix(np.array([key], np.uint64))[0]) / 2**64
        if draw < score:
            scored.append(text)
        elif draw < score + learn:
            sample.append(text)
        if len(rest) < 2:
            rest.append(text)
    return sample or rest[:1], scored or rest[-1:], size


def held_apart(recipe: CorpusRecipe, work: Path, repeats: dict[str, np.ndarray], source: Any) -> int:
    """Documents of a source with a key below this are for validation; 0 for none. Never all of a source."""
    if source.held_out or not recipe.validation:
        return 0
    keys = [
        read_unit(path, ["key"])[0]["key"].to_numpy()[repeats[path.name] == 0]
        for path in units_of(work, source.name, False)
    ]
    ordered = np.sort(np.concatenate([np.empty(0, np.uint64), *keys]))
    if len(ordered) < 2:
        return 0
    share = min(max(1, round(recipe.validation * len(ordered))), len(ordered) - 1)
    return int(ordered[share])


def tokenise(recipe: CorpusRecipe, folder: Path, repeats: dict[str, np.ndarray], progress: Progress) -> None:
    """Every unit as tokens, split into training and validation: work/tokens/<unit>.<split>.npz and .json."""
    from tokenizers import Tokenizer

    work = folder / "work"
    encoder = bpe.Encoder(Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json")))
    start = encoder.tokenizer.token_to_id(bpe.SPECIAL["start"])
    dtype = np.uint16 if encoder.tokenizer.get_vocab_size() <= 1 << 16 else np.uint32
    units = all_units(recipe, work)
    below = {s.name: held_apart(recipe, work, repeats, s) for s in recipe.sources}
    for done, path in enumerate(units):
        source, kind, *_ = path.name.rsplit(".", 3)
        record = work / "tokens" / f"{path.stem}.json"
        if record.exists():
            continue
        table, _ = read_unit(path, ["text", "licence", "origin", "key"])
        stays = repeats[path.name] == 0
        keys = table["key"].to_numpy()
        valid = np.full(len(keys), True) if kind == "held" else keys < np.uint64(below[source])
        facts = {"removed": _repeated_counts(table, repeats[path.name])}
        for split, mask in (("train", ~valid), ("validation", valid)):
            part = table.take(np.flatnonzero(stays & mask))
            tokens, begin = with_starts(*encoder.encode(part["text"].to_pylist()), start)
            _save(
                work / "tokens" / f"{path.stem}.{split}.npz", {"tokens": tokens.astype(dtype), "begin": begin}
            )
            facts[split] = _facts(part)
        write_json(record, facts)
        progress(done + 1, len(units), "tokenising, units")


def with_starts(ids: np.ndarray, begin: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and offsets with the start token before each document."""
    documents = len(begin) - 1
    out = np.full(len(ids) + documents, start, np.int64)
    inside = np.ones(len(out), bool)
    inside[begin[:-1] + np.arange(documents)] = False
    out[inside] = ids
    return out, begin + np.arange(documents + 1)


def _sizes(table: Any) -> np.ndarray:
    import pyarrow.compute as pc

    return pc.binary_length(table["text"]).to_numpy()


def _repeated_counts(table: Any, verdict: np.ndarray) -> Json:
    sizes = _sizes(table)
    named = (("repeated exactly", EXACT), ("repeated nearly", NEAR))
    return {
        name: {"documents": int((verdict == code).sum()), "bytes": int(sizes[verdict == code].sum())}
        for name, code in named
    }


def _facts(table: Any) -> Json:
    """Documents, bytes, licences and origins of some documents."""
    sizes = _sizes(table).tolist()
    licences: dict[str, Counter[str]] = {}
    origins: Counter[str] = Counter()
    for licence, origin, size in zip(
        table["licence"].to_pylist(), table["origin"].to_pylist(), sizes, strict=True
    ):
        licences.setdefault(licence or "not stated", Counter()).update(documents=1, bytes=size)
        origins[origin_of(origin)] += 1
    return {
        "documents": len(sizes),
        "bytes": int(sum(sizes)),
        "licences": {k: dict(v) for k, v in sorted(licences.items())},
        "origins": dict(sorted(origins.items())),
    }


def origin_of(text: str) -> str:
    """What a summary names: the host of an address, what stands before a colon, else the whole."""
    if "://" in text:
        return urlsplit(text).netloc or text
    return text.partition(":")[0]


def write_shards(recipe: CorpusRecipe, folder: Path, progress: Progress) -> list[Json]:
    """Put the units' tokens together into shards; returns their entries of the manifest."""
    entries = []
    jobs = [(source.name, split) for source in recipe.sources for split in ("train", "validation")]
    for done, (source, split) in enumerate(jobs):
        parts = [
            p
            for kind in ("held", "main")
            for p in sorted((folder / "work" / "tokens").glob(f"{source}.{kind}.*.{split}.npz"))
        ]
        for number, group in enumerate(_by_size(parts)):
            entry = _write_shard(folder, f"{source}-{split}-{number:05d}", group)
            if entry["documents"]:
                entries.append({"source": source, "split": split, **entry})
        progress(done + 1, len(jobs), "writing shards")
    return entries


def _by_size(parts: list[Path]) -> Iterator[list[Path]]:
    """Parts in groups of about SHARD_TOKENS tokens."""
    group: list[Path] = []
    size = 0
    for path in parts:
        group.append(path)
        size += path.stat().st_size // 2
        if size >= SHARD_TOKENS:
            yield group
            group, size = [], 0
    if group:
        yield group


def _write_shard(folder: Path, name: str, parts: list[Path]) -> Json:
    """One shard from its parts, read one after the other."""
    begins, total, dtype = [np.zeros(1, np.int64)], 0, np.dtype(np.uint16)
    for path in parts:
        with np.load(path, allow_pickle=False) as part:
            begins.append(part["begin"][1:] + total)
            total += int(part["begin"][-1])
            dtype = part["tokens"].dtype
    tokens, documents = (folder / "shards" / f"{name}.{kind}.npy" for kind in ("tokens", "documents"))
    offsets = np.concatenate(begins)
    if len(offsets) > 1:
        with atomic_path(tokens) as temporary, open(temporary, "wb") as file:
            _header(file, dtype, total)
            for path in parts:
                with np.load(path, allow_pickle=False) as part:
                    file.write(part["tokens"].tobytes())
            file.flush()
            os.fsync(file.fileno())
        with atomic_path(documents) as temporary, open(temporary, "wb") as file:
            np.save(file, offsets)
    there = len(offsets) > 1
    digests = {"tokens": sha256_file(tokens), "documents": sha256_file(documents)} if there else {}
    return {"name": name, "documents": len(offsets) - 1, "tokens": total, "sha256": digests}


def _header(file: BinaryIO, dtype: np.dtype[Any], size: int) -> None:
    """The head of a NumPy file of one axis."""
    from numpy.lib import format as npy

    description = npy.dtype_to_descr(dtype.newbyteorder("<"))
    npy.write_array_header_1_0(file, {"descr": description, "fortran_order": False, "shape": (size,)})
