"""Release: what is handed over, as one frozen record and one JSON file; card, bill of materials and pages are written from it.

A release folder (docs/decisions/0011) holds release.json, predictor/, documents, manifest.json and, when signed, release.sig.
Shares are in 0..1, sizes bytes; an interval is {"estimate", "low", "high", "n"}.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from basewise.core.errors import RunError
from basewise.core.files import read_json, write_json
from basewise.core.hashing import digest_json

Json = dict[str, Any]
RECORD = "release.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Release:
    """A predictor with everything that answers for it.

    name, id          its name; the sha256 of the record and of the predictor's files: its version
    chosen            name of its trial in evidence.parquet
    kind              "classify"; `classes`, `inputs`, `target` as in the task
    base              {"key", "digest", "licence", "family", "parameters", "source", "training_data", "hub", "inside"} or
                      None; "hub": id of the same weights on the Hugging Face hub, or "";
                      "inside": "base" (the folder that holds its weights) | "" (needed on the other side)
    threshold         answers below this top probability abstain (None: never); errs at most `promised_risk` above it
    conformal         {"alpha", "least_probability", "n", "low", "high"}: a class belongs to the set from this probability on,
                      and low..high is where the realised coverage lies; {} without evidence
    score             accuracy as an interval, "where": "locked test rows" | "cross-validation", "looks"
    controls          [{"name", interval of the difference, "p_holm"}] of this minus each control
    measures          [{"name", "slice", interval}]: every number that the documents repeat
    licence           {"expression", "commercial", "obligations", "nodes", "edges", "reasons"}
    gate              [{"check", "verdict": "pass" | "warn" | "fail" | "off", "sentence", "evidence", "advice", "override"}]
    overrides         [{"check", "reason", "by", "when"}]
    signed_by         fingerprint of the key it was signed with, "" when unsigned: so a signature cannot just be taken away
    weights           "alone" (head or adapter) | "whole" (runs without anything else)
    training          what is known of a base that was trained here; {} otherwise
    limitations       plain sentences for the card
    provenance        {"decision_sha256", "rows_digest", "bases", "versions", "command", "task", …}
    """

    name: str
    id: str = ""
    created: str = ""
    kind: str = "classify"
    sentence: str = ""
    method: str = ""
    chosen: str = ""
    base: Json | None = None
    classes: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    target: str = ""
    threshold: float | None = None
    promised_risk: float | None = None
    conformal: Json = field(default_factory=dict)
    score: Json = field(default_factory=dict)
    controls: list[Json] = field(default_factory=list)
    measures: list[Json] = field(default_factory=list)
    licence: Json = field(default_factory=dict)
    gate: list[Json] = field(default_factory=list)
    overrides: list[Json] = field(default_factory=list)
    signed_by: str = ""
    weights: str = "alone"
    training: Json = field(default_factory=dict)
    limitations: list[str] = field(default_factory=list)
    provenance: Json = field(default_factory=dict)
    files: Json = field(default_factory=dict)
    """sha256 by path of the predictor's files (and of the base's, when inside)."""
    format: int = FORMAT
    folder: str = field(default="", compare=False)
    """Where it was loaded from; not part of the record."""

    def identified(self) -> Release:
        """The same with its `id` filled in."""
        return type(self)(**{**asdict(self), "id": digest_json(self.record(without="id"))})

    def record(self, without: str = "") -> Json:
        """What release.json holds."""
        return {key: value for key, value in asdict(self).items() if key not in ("folder", without)}

    def save(self, path: Path) -> None:
        write_json(path, self.record())

    @classmethod
    def load(cls, folder: Path | str) -> Release:
        """The record of a release folder; nothing is verified here, `load` and `verify` of steps do that first."""
        folder = Path(folder)
        if not (folder / RECORD).is_file():
            raise RunError(
                f"{folder} is no release: {RECORD} is missing", "make one with: basewise release RUN --to DIR"
            )
        value = read_json(folder / RECORD)
        if not isinstance(value, dict) or "format" not in value:
            raise RunError(f"{folder / RECORD} is no record of a release", "copy the release again")
        if value["format"] != FORMAT:
            raise RunError(
                f"{folder} has release format {value['format']}, this version reads {FORMAT}",
                "upgrade basewise",
            )
        known = {f.name for f in fields(cls)}
        if extra := sorted(set(value) - known):
            raise RunError(
                f"{folder / RECORD} holds {extra[0]!r}, which this version does not know", "upgrade basewise"
            )
        try:
            return cls(**value, folder=str(folder))
        except TypeError as error:
            raise RunError(f"{folder / RECORD} is damaged: {error}", "copy the release again") from error

    @functools.cached_property
    def predictor(self) -> Any:
        """The verified, opened predictor. Its step lives layers above, so it is found by name, not imported."""
        return importlib.import_module("basewise.steps.predict").load(self.folder)

    def predict(self, rows: Any) -> list[str]:
        """The most probable class of each text, of each dict that has the input columns, or of each row of a table in memory."""
        return self.predictor.predict(rows)

    def predict_proba(self, rows: Any) -> Any:
        """(n, C) probabilities."""
        return self.predictor.predict_proba(rows)


def is_release(folder: Path | str) -> bool:
    """Whether a folder claims to be a release: any one of its marks is enough, so none can be removed to be let in."""
    folder = Path(folder)
    return any((folder / name).exists() for name in (RECORD, "manifest.json", "release.sig"))
