"""An export's words: what an exporter is given, and what is pinned in every export.

An exporter is a module under parts/exporters with
    METHODS: tuple[str, ...]                          methods it can carry; () for all
    BOUND: float                                      largest change of a golden probability that is let out
    write(exported, folder) -> None                   writes into an empty folder
    answers(folder, texts) -> (n, C)                  asks what was written, in its own runtime, without basewise's predictor
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basewise.core.base import Base
from basewise.core.files import write_json
from basewise.core.release import Release

PINS = "basewise.json"
JOINED = "joined"
"""The one column of a table whose texts are joined already, asked of an export of a release that reads several columns."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an exporter is given: the record, the fitted method, its base, the verified release's folder, the golden rows."""

    release: Release
    fitted: Any
    base: Base | None
    folder: Path
    golden: dict[str, Any]


def write_pins(exported: Exported, folder: Path, more: dict[str, Any]) -> None:
    """basewise.json: label order, thresholds, how columns are joined, golden rows with their bound, and the exporter's own."""
    release = exported.release
    write_json(
        folder / PINS,
        {
            "format": 1,
            "release": release.id,
            "name": release.name,
            "method": release.method,
            "classes": release.classes,
            "inputs": release.inputs,
            "join": "the text itself" if len(release.inputs) == 1 else "one line a column: NAME: VALUE",
            "threshold": release.threshold,
            "least_probability": release.conformal.get("least_probability"),
            "licence": release.licence.get("expression"),
            "overrides": release.overrides,
            "golden": exported.golden,
            **more,
        },
    )
