"""predict: the saved predictor; it moves to another folder or machine and proves on loading that it is still itself.

A predictor folder holds predictor.json (method, base by digest, classes, columns, sha256 of every file, golden answers)
and the method's own files. Golden rows are sentences of ours, never the user's, so the folder carries no user text.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import Base, Card
from basewise.core.cells import join_inputs, whole
from basewise.core.decision import Decision
from basewise.core.errors import InputError, PredictorChanged, RunError, UnknownName
from basewise.core.files import Progress, explain_os_error, home, read_json, silent, write_json
from basewise.core.hashing import sha256_file
from basewise.core.method import Context, Fitted
from basewise.core.objects import columns_of
from basewise.core.registry import part
from basewise.core.release import is_release
from basewise.core.table import iter_records

GOLDEN = (
    "Where is my parcel? It should have been here on Tuesday.",
    "please close my account, thanks",
    "The new release crashes as soon as I open a file.",
    "Who wrote the first symphony in this list?",
    "An uneven film with a wonderful last half hour.",
    "ich habe mein Passwort vergessen",
    "ok",
    "Numbers such as 12,5 % or 2026-01-05 and odd  spaces should not matter much to anyone reading this sentence.",
)
GOLDEN_BOUND = 0.02
"""Largest change of a golden probability on loading: room for another machine's rounding, none for another head."""
FORMAT = 1


def texts_of(rows: Sequence[Any], inputs: tuple[str, ...]) -> list[str]:
    """Texts as they are, dicts by their input columns; InputError for a row that is neither, and for a text where several columns are
    read."""
    for row in rows:
        if isinstance(row, str) and len(inputs) > 1:
            raise InputError(
                f"a text came as a row, the predictor reads the columns {', '.join(inputs)}",
                f"give each row as a dict: {{{', '.join(f'{name!r}: ...' for name in inputs)}}}",
            )
        if not isinstance(row, (str, Mapping)):
            raise InputError(
                f"rows of {type(row).__name__} came, texts or dicts were expected",
                "give a list of texts or a table",
            )
    return [row if isinstance(row, str) else join_inputs(row, inputs) for row in rows]


@dataclass(frozen=True, repr=False)
class Predictor:
    """A fitted method with the names around it. `threshold`: below this top probability it abstains (None: never)."""

    fitted: Fitted
    classes: tuple[str, ...]
    inputs: tuple[str, ...]
    record: dict[str, Any]
    threshold: float | None = None
    base: Base | None = None

    # without what it learned: words of the rows are among it
    def __repr__(self) -> str:
        on = f" on {self.base.key}" if self.base is not None else ""
        return f"Predictor({self.record['method']}{on}, {len(self.classes)} classes, reads {', '.join(self.inputs)})"

    def predict_proba(self, rows: Any) -> np.ndarray:
        """(n, C) probabilities for n texts, n dicts that have the input columns, or a frame, Arrow table or mapping of columns with n rows.

        Raises InputError for one text alone, UnknownName for an input column that is not there.
        """
        if isinstance(rows, (str, bytes, Path)):
            raise InputError(
                "one text came, a list of rows was expected",
                "put it into a list; rows of a file are answered by basewise.predict",
            )
        return self.probabilities([text for batch in _batches(rows, self) for text in batch])

    def predict(self, rows: Any) -> list[str]:
        """The most probable class of each row of what `predict_proba` takes."""
        return [self.classes[i] for i in self.predict_proba(rows).argmax(1)]

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(n, C) probabilities for n texts that are joined from the input columns already."""
        if len(texts) == 0:
            return np.zeros((0, len(self.classes)))
        return self.fitted.probabilities([whole(text) for text in texts])


def save_predictor(
    folder: Path,
    fitted: Fitted,
    *,
    method: str,
    base: Base | None,
    inputs: tuple[str, ...],
    threshold: float | None,
) -> None:
    """Write a predictor folder whole: built beside its place, then moved there."""
    folder = Path(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".predictor."))
    except OSError as error:
        raise explain_os_error(error, folder) from error
    try:
        fitted.save(building)
        names = sorted(str(p.relative_to(building)) for p in building.rglob("*") if p.is_file())
        record = {
            "format": FORMAT,
            "method": method,
            "base": {**base.card.to_dict(), "digest": base.digest, "random_seed": base.random_seed}
            if base
            else None,
            "classes": list(fitted.classes),
            "inputs": list(inputs),
            "threshold": threshold,
            "choices": fitted.choices,
            "files": {name: sha256_file(building / name) for name in names},
            "golden": np.asarray(fitted.probabilities(GOLDEN)).round(6).tolist(),
        }
        write_json(building / "predictor.json", record)
        if folder.exists():
            shutil.rmtree(folder)
        os.chmod(building, 0o755)
        building.rename(folder)
    except OSError as error:
        raise explain_os_error(error, folder) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def folder_of(run: str | Path | Decision) -> Path:
    """The folder that a run is named by; a decision knows its own. InputError for what is neither."""
    if isinstance(run, Decision):
        return Path(run.folder)
    if not isinstance(run, (str, Path)):
        raise InputError(f"a {type(run).__name__} came where a run was expected", "give the run's folder")
    return Path(run)


def predictor_folder(run: str | Path) -> Path:
    """The predictor inside a run folder, or the folder itself."""
    run = Path(run)
    for folder in (run / "predictor", run):
        if (folder / "predictor.json").exists():
            return folder
    if not run.exists():
        near = [
            str(p.parent.parent)
            for p in Path(run.parent if run.parent.exists() else ".").glob("*/predictor/predictor.json")
        ]
        raise UnknownName.of("run folder", str(run), near)
    raise RunError(f"{run} holds no predictor", "give the folder that `basewise choose` or `adapt` wrote")


def load(run: str | Path | Decision, features: Any = None) -> Predictor:
    """Open a predictor: every file's digest, then the base's, then the golden answers are checked.

    A release is verified first: every byte against its manifest, and its signature against the keys trusted here.
    `features`: what it reads its base through; a store of its own that keeps nothing when left out.
    """
    run = folder_of(run)
    if is_release(run):
        from basewise.core.release import Release
        from basewise.engine.signing import verify

        verify(Path(run))
        # a release of a newer version is refused before its files are opened
        Release.load(run)
        return open_predictor(Path(run) / "predictor", Path(run), features)
    return open_predictor(predictor_folder(run), features=features)


def open_predictor(folder: Path, release: Path | None = None, features: Any = None) -> Predictor:
    """The predictor of its own folder; `release`: the verified folder around it, which may hold the base."""
    record = read_json(folder / "predictor.json")
    if record.get("format") != FORMAT:
        raise RunError(
            f"{folder} has predictor format {record.get('format')}, this version reads {FORMAT}",
            "upgrade basewise",
        )
    for name, digest in record["files"].items():
        path = folder / name
        if not path.is_file() or sha256_file(path) != digest:
            raise PredictorChanged(
                f"{path} is missing or changed since it was saved", "copy the predictor folder again"
            )
    base = inside_base(record["base"], release) or find_base(record["base"])
    from basewise.engine.features import FeatureStore

    context = Context(features=features or FeatureStore(None, keep=False))
    fitted = part("methods", record["method"]).load(folder, base, context)
    # the columns would be right and their names wrong
    if list(fitted.classes) != list(record["classes"]):
        raise PredictorChanged(
            f"{folder / 'predictor.json'} names other classes, or in another order, than what was fitted",
            "copy the predictor folder again",
        )
    replay(fitted, np.asarray(record["golden"]), folder)
    return Predictor(
        fitted, tuple(record["classes"]), tuple(record["inputs"]), record, record["threshold"], base
    )


def inside_base(value: dict[str, Any] | None, release: Path | None) -> Base | None:
    """The base that a release carries in base/, by its digest; None where it carries none."""
    if value is None or release is None or not (release / "base").is_dir():
        return None
    value = dict(value)
    digest, seed = value.pop("digest"), value.pop("random_seed")
    folder = (release / "base").absolute()
    if sha256_file(folder / "model.safetensors") != digest:
        raise PredictorChanged(f"{folder} holds other weights than {digest[:12]}", "copy the release again")
    return Base(card=Card.from_dict(value), folder=folder, digest=digest, random_seed=seed)


def find_base(value: dict[str, Any] | None) -> Base | None:
    """The base of a record, fetched when it is not here; another digest than the recorded one is an error."""
    if value is None:
        return None
    from basewise.steps.bases import pull

    value = dict(value)
    digest, seed = value.pop("digest"), value.pop("random_seed")
    card = Card.from_dict(value)
    base = pull(card, accept_terms=True)
    if base.digest != digest:
        raise PredictorChanged(
            f"the base {card.key} here has the digest {base.digest[:12]}, the predictor was made on {digest[:12]}",
            f"get the same weights with: basewise bases pull {card.key}",
        )
    return (
        base
        if seed is None
        else Base(card=base.card, folder=base.folder, digest=base.digest, random_seed=seed)
    )


def replay(fitted: Fitted, golden: np.ndarray, folder: Path) -> None:
    """Give the golden rows again; an answer that moved is an error, never a warning."""
    again = np.asarray(fitted.probabilities(GOLDEN))
    moved = float(np.abs(again - golden).max()) if again.shape == golden.shape else float("inf")
    if not moved <= GOLDEN_BOUND:
        raise PredictorChanged(
            f"the predictor in {folder} answers differently: a golden probability moved by {moved:.3f}",
            "check the versions of torch and transformers against provenance in decision.json",
        )


def predict(
    run: str | Path | Decision | Predictor, rows: Any, progress: Progress = silent, query: str | None = None
) -> Iterator[dict[str, Any]]:
    """Stream answers: {"row", "label", "probability", "abstained", "probabilities"} for texts, dicts, or a file's path.

    query: SQL, where rows are those of a database. Any number of rows: a batch is read, answered and given out before the next is read.
    """
    predictor = run if isinstance(run, Predictor) else load(run)
    done = 0
    for batch in _batches(rows, predictor, query):
        probabilities = predictor.probabilities(batch)
        top = probabilities.argmax(1) if len(batch) else []
        for i, c in enumerate(top):
            p = float(probabilities[i, c])
            abstained = predictor.threshold is not None and p < predictor.threshold
            yield {
                "row": done + i,
                "label": predictor.classes[c],
                "probability": p,
                "abstained": abstained,
                "probabilities": probabilities[i],
            }
        done += len(batch)
        progress(done, 0, "rows")


BATCH_ROWS = 4_096


def _batches(rows: Any, predictor: Predictor, query: str | None = None) -> Iterator[list[str]]:
    """Lists of texts, from a path, "-", a table, or any iterable of texts and dicts; columns are looked for in the first list."""
    checked = False
    for batch in _lists(rows, query):
        if batch and not checked:
            _check_columns(batch, predictor.inputs)
            checked = True
        yield texts_of(batch, predictor.inputs)


def _is_frame(rows: Any) -> bool:
    """Whether these are a frame, a dataset or an Arrow table, and not an iterable of rows."""
    return (hasattr(rows, "columns") or hasattr(rows, "column_names")) and hasattr(rows, "__len__")


def _lists(rows: Any, query: str | None = None) -> Iterator[list[Any]]:
    """Lists of rows, each read before the next: texts and dicts as they came, rows of a table as dicts."""
    if isinstance(rows, Mapping):
        rows = columns_of(rows)
        if rows and not any(rows.values()):
            return
    if isinstance(rows, (str, Path, Mapping)) or _is_frame(rows):
        # A frame without rows has no answers, where a table to learn from is an error.
        if isinstance(rows, (str, Path)) or len(rows) > 0:
            yield from iter_records(rows, BATCH_ROWS, query)
        return
    if not isinstance(rows, Iterable):
        raise InputError(
            f"{type(rows).__name__} came, rows were expected",
            "give a path, a table, or a list of texts or dicts",
        )
    # an Arrow column gives values of its own kind
    stream = iter(rows.to_pylist() if hasattr(rows, "to_pylist") else rows)
    while batch := list(itertools.islice(stream, BATCH_ROWS)):
        yield batch


def _check_columns(rows: Sequence[Any], inputs: tuple[str, ...]) -> None:
    """UnknownName for an input column that none of these dicts has."""
    dicts = [row for row in rows if isinstance(row, Mapping)]
    for name in inputs:
        if dicts and not any(name in row for row in dicts):
            raise UnknownName.of("column", name, dicts[0])


def cache_folder() -> Path:
    """Where features are kept between runs."""
    return home() / "features"
