"""First step of a corpus: documents read, made plain, judged and scrubbed, in units of about eight million characters.

A unit is one Arrow file, written whole or not at all: texts with licence and origin, the key and MinHash signature of each, and, in its
metadata, what was read and what was removed by which filter. A killed build goes on after its last unit and gives the same files.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core import registry
from basewise.core.corpus_recipe import CorpusRecipe, Source, files_of
from basewise.core.documents import Columns, Document, cut, ends_in, plain
from basewise.core.errors import InputError, RunError
from basewise.core.files import Progress, atomic_path, write_text
from basewise.core.hashing import digest_texts
from basewise.core.language import guess_language
from basewise.core.personal import replaced
from basewise.stats.minhash import FUNCTIONS, signatures
from basewise.stats.scrub import Evaluation, Known, personal_spans, without
from basewise.stats.words import Block, blocks

UNIT_CHARACTERS = 8_000_000
Json = dict[str, Any]


def reader_of(place: str) -> Any:
    """The reader part that takes a place; None when there is none."""
    return next((part for part in registry.parts("readers").values() if part.takes(place)), None)


def documents_of(source: Source, held: bool) -> Iterator[Document]:
    """Every document of a source (or of what it holds out), in the order of its files; long texts cut."""
    columns = Columns(text=source.text)
    for file in files_of(source.held_out if held else source.paths, reader_of):
        for text, licence, origin in reader_of(file).read(file, columns):
            for piece in cut(text):
                yield Document(piece, licence or source.licence, origin)


def size_of(recipe: CorpusRecipe) -> int:
    """Bytes of text in all sources by what their files say; 0 when one does not say."""
    sizes = []
    for source in recipe.sources:
        for file in files_of((*source.paths, *source.held_out), reader_of):
            size = getattr(reader_of(file), "size", None)
            sizes.append(size(file, source.text) if size else 0)
    return sum(sizes) if all(sizes) else 0


@dataclass
class Cleaner:
    """The filters and scrubbers of a recipe, and counts of what they did since the last `take_counts`."""

    recipe: CorpusRecipe
    known: Known
    removed: dict[str, Counter[str]] = field(default_factory=dict)
    scrubbed: Counter[str] = field(default_factory=Counter)
    grams: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        limits = {key: part.LIMITS for key, part in registry.parts("filters").items()}
        limits |= self.recipe.filters
        self.filters = {
            key: (registry.part("filters", key), limits[key]) for key in limits if limits[key] is not False
        }

    def remove(self, why: str, text: str) -> None:
        """Count a document that goes."""
        self.removed.setdefault(why, Counter()).update(documents=1, bytes=bytes_of(text))

    def verdicts(self, block: Block) -> list[str]:
        """For each text the filter that removes it, "" when it stays; the first filter by name has it."""
        out = [""] * len(block)
        if self.recipe.languages:
            for i, text in enumerate(block.texts):
                if (code := guess_language(text)) and code not in self.recipe.languages:
                    out[i] = "language"
        for key, (part, (low, high)) in self.filters.items():
            value = part.measure(block)
            for i in np.flatnonzero((value < low) | (value > high)).tolist():
                out[i] = out[i] or key
        return out

    def clean(self, documents: list[Document]) -> tuple[list[Document], np.ndarray, np.ndarray]:
        """(documents that stay, (n,) uint64 keys, (n, FUNCTIONS) uint32 signatures)."""
        documents = self._plain(documents)
        stay, keys, marks, at = [], [np.empty(0, np.uint64)], [np.empty((0, FUNCTIONS), np.uint32)], 0
        for block in blocks([document.text for document in documents]):
            verdicts = self.verdicts(block)
            lines, grams = self.known.spans(block)
            self.grams.append(grams)
            personal = personal_spans(block) if self.recipe.personal else {}
            kept = []
            for i, why in enumerate(verdicts):
                text = block.texts[i]
                if not why and i in lines:
                    shorter = without(text, lines[i])
                    if len(shorter) < len(text) / 2:
                        why = "contaminated"
                    else:
                        self.scrubbed["contaminated lines"] += len(set(lines[i]))
                        text = self._scrub(shorter, personal_again=i in personal)
                elif not why and i in personal:
                    self.scrubbed.update(kind for kind, _, _ in personal[i])
                    text = replaced(text, personal[i])
                if why:
                    self.remove(why, block.texts[i])
                else:
                    kept.append(i)
                    stay.append(documents[at + i]._replace(text=text))
            keys.append(block.keys[kept])
            marks.append(signatures(block)[kept])
            at += len(block)
        return stay, np.concatenate(keys), np.concatenate(marks)

    def _plain(self, documents: list[Document]) -> list[Document]:
        """The documents with plain texts, but those of which nothing is left."""
        made = [document._replace(text=plain(document.text)) for document in documents]
        for before, after in zip(documents, made, strict=True):
            if not after.text:
                self.remove("empty", before.text)
        return [document for document in made if document.text]

    def _scrub(self, text: str, personal_again: bool) -> str:
        """Personal data of a text whose places have moved."""
        found = personal_spans(Block.of([text])).get(0, []) if personal_again else []
        self.scrubbed.update(kind for kind, _, _ in found)
        return replaced(text, found)

    def take_counts(self) -> Json:
        """What was done since the last call, as JSON."""
        grams = np.unique(np.concatenate([np.empty(0, np.uint64), *self.grams]))
        counts = {
            "removed": {k: dict(v) for k, v in sorted(self.removed.items())},
            "scrubbed": dict(sorted(self.scrubbed.items())),
            "grams": grams.tolist(),
        }
        self.removed, self.scrubbed, self.grams = {}, Counter(), []
        return counts


def bytes_of(text: str) -> int:
    """Its length in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


BEGUN = "begun.json"
"""When the build was begun: the one file beside the units that does not follow from them."""


def unit_path(work: Path, source: str, held: bool, number: int) -> Path:
    """The file of one unit; held-out units sort before the others of the same source."""
    return work / "units" / f"{source}.{'held' if held else 'main'}.{number:06d}.arrow"


def units_of(work: Path, source: str, held: bool) -> list[Path]:
    """The finished units of a source, in order."""
    return sorted((work / "units").glob(f"{source}.{'held' if held else 'main'}.*.arrow"))


def write_unit(path: Path, cleaned: tuple[list[Document], np.ndarray, np.ndarray], counts: Json) -> None:
    """One Arrow file: text, licence, origin, key, signature; counts in its metadata."""
    import pyarrow as pa

    documents, keys, marks = cleaned
    raw = pa.py_buffer(np.ascontiguousarray(marks))
    signature = pa.FixedSizeBinaryArray.from_buffers(pa.binary(4 * FUNCTIONS), len(documents), [None, raw])
    table = pa.table(
        {
            "text": pa.array([d.text for d in documents], pa.large_string()),
            "licence": pa.array([d.licence for d in documents], pa.string()),
            "origin": pa.array([d.origin for d in documents], pa.string()),
            "key": pa.array(keys),
            "signature": signature,
        }
    ).replace_schema_metadata({"counts": json.dumps(counts)})
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with (
        atomic_path(path) as temporary,
        pa.OSFile(str(temporary), "wb") as file,
        pa.ipc.new_file(file, table.schema, options=options) as writer,
    ):
        writer.write_table(table)


def read_unit(path: Path, columns: list[str] | None = None) -> tuple[Any, Json]:
    """(Arrow table, counts) of a unit. RunError for a damaged one."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file)
            counts = json.loads(reader.schema.metadata[b"counts"])
            table = reader.read_all() if columns != [] else None
            return table.select(columns) if table is not None and columns else table, counts
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise RunError(f"{path} is damaged: {error}", "delete it and run the same command again") from error


def clean_all(recipe: CorpusRecipe, work: Path, known: Known, progress: Progress) -> None:
    """Clean every source into units; what is there already is not done again."""
    total, done = size_of(recipe), 0
    for source, held in itertools.product(recipe.sources, (True, False)):
        finished = work / "units" / f"{source.name}.{'held' if held else 'main'}.done"
        existing = _unbroken(work, source.name, held, finished)
        counts = [read_unit(path, [])[1] for path in existing]
        done += sum(c["read"]["bytes"] for c in counts)
        if finished.exists() or (held and not source.held_out):
            continue
        documents = documents_of(source, held)
        _skip(documents, counts, source)
        cleaner = Cleaner(recipe, known)
        made = len(existing)
        for unit in _units(documents):
            cleaned = cleaner.clean(unit)
            read = {"documents": len(unit), "bytes": sum(bytes_of(d.text) for d in unit)}
            write_unit(
                unit_path(work, source.name, held, made),
                cleaned,
                {"read": read, "came": _digest(unit), **cleaner.take_counts()},
            )
            made += 1
            done += read["bytes"]
            progress(done >> 10, max(total, done) >> 10 if total else 0, "cleaning, KiB")
        write_text(finished, f"{made}\n")


def _digest(documents: list[Document]) -> str:
    """Of the texts as they came."""
    return digest_texts([document.text for document in documents])


def _skip(documents: Iterator[Document], counts: list[Json], source: Source) -> None:
    """Pass over what the finished units were made of. RunError where something else comes now: a stream has no time and no size."""
    for each in counts:
        came = _digest(list(itertools.islice(documents, each["read"]["documents"])))
        # units of earlier versions do not say it
        if each.get("came", came) != came:
            raise RunError(
                f"the source {source.name} gives other texts than when this build began",
                "give another --to, or delete the folder and begin anew",
            )


def _unbroken(work: Path, source: str, held: bool, finished: Path) -> list[Path]:
    """The units from the first on with none missing or damaged. Where one is, those after it are made again, with all that followed
    from them: a source is read in order, and a unit does not say where in it the unit began."""
    existing = units_of(work, source, held)
    kept: list[Path] = []
    for number, path in enumerate(existing):
        try:
            read_unit(path)
        except RunError:
            break
        if path != unit_path(work, source, held, number):
            break
        kept.append(path)
    made = finished.read_text(encoding="utf-8").strip() if finished.exists() else ""
    if len(kept) < len(existing) or (made and int(made) != len(kept)):
        for path in (*existing[len(kept) :], finished):
            path.unlink(missing_ok=True)
        for path in work.iterdir():
            if path.is_dir() and path.name != "units":
                shutil.rmtree(path)
            elif path.is_file() and path.name != BEGUN:
                path.unlink()
    return kept


def _units(documents: Iterator[Document]) -> Iterator[list[Document]]:
    """Documents in lists of about UNIT_CHARACTERS."""
    unit: list[Document] = []
    size = 0
    for document in documents:
        unit.append(document)
        size += len(document.text)
        if size >= UNIT_CHARACTERS:
            yield unit
            unit, size = [], 0
    if unit:
        yield unit


def evaluations_of(places: tuple[str, ...]) -> list[Evaluation]:
    """Evaluation sets by place: the column "text" of Parquet, else every column of strings; other files by their reader."""
    out = []
    for file in files_of(places, reader_of):
        path = Path(file)
        name = f"{path.parent.name}/{path.name}"
        items = _text_columns(file) if ends_in(file, (".parquet", ".pq"), packed=False) else None
        if items is None:
            items = [d.text for d in reader_of(file).read(file, Columns())]
        if not items:
            raise InputError(f"the evaluation set {file} has no text", "give one with text columns")
        out.append(Evaluation.of(name, items))
    return out


def _text_columns(file: str) -> list[str]:
    """The column "text" of a Parquet file, else every column of strings."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"cannot read the evaluation set {file}: {str(error).splitlines()[0]}", "fetch it again"
        ) from error
    columns = table.select(["text"]).columns if "text" in table.column_names else table.columns
    texts = [c for c in columns if pa.types.is_string(c.type) or pa.types.is_large_string(c.type)]
    return [value for column in texts for value in column.to_pylist() if value]
