"""export: a verified release in another form, let out only when it gives the golden answers in its own runtime."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from basewise.core.errors import InputError, PredictorChanged, RunError
from basewise.core.export import Exported
from basewise.core.files import explain_os_error, read_json
from basewise.core.registry import keys, part
from basewise.core.release import Release
from basewise.engine.signing import verify
from basewise.steps.predict import open_predictor

PASSED_ON = ("LICENSE", "NOTICE")


def export(release: str | Path, to: str, folder: str | Path) -> float:
    """Write a release as `to` (a key of parts/exporters) into `folder`, which must not exist; the largest change of a golden answer.

    Raises PredictorChanged, and leaves nothing behind, when an answer moves beyond the exporter's bound.
    """
    source, target = Path(release), Path(folder)
    exporter = part("exporters", to)
    verify(source)
    record = Release.load(source)
    if exporter.METHODS and record.method not in exporter.METHODS:
        able = [
            key
            for key in keys("exporters")
            if not (m := part("exporters", key).METHODS) or record.method in m
        ]
        raise InputError(
            f"{to} cannot carry the method {record.method}",
            f"use {', '.join(able)}" if able else "use the release itself",
        )
    if target.exists():
        raise RunError(f"{target} exists already", "give another folder")
    predictor = open_predictor(source / "predictor", source)
    golden = read_json(source / "golden.json")
    exported = Exported(
        release=record, fitted=predictor.fitted, base=predictor.base, folder=source, golden=golden
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise explain_os_error(error, target) from error
    try:
        exporter.write(exported, building)
        moved = replay(exporter, building, golden)
        # the weights go out with the words that their licences ask for
        for name in PASSED_ON:
            if (source / name).is_file():
                shutil.copyfile(source / name, building / name)
        os.chmod(building, 0o755)
        building.rename(target)
    except OSError as error:
        raise explain_os_error(error, target) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return moved


def replay(exporter: object, folder: Path, golden: dict) -> float:  # type: ignore[type-arg]
    """The largest change of a golden probability in the export's own runtime; PredictorChanged beyond its bound."""
    wanted = np.asarray(golden["probabilities"], float)
    answers = exporter.answers  # type: ignore[attr-defined]
    again = np.array(answers(folder, golden["texts"]), np.float64)
    moved = float(np.abs(again - wanted).max()) if again.shape == wanted.shape else float("inf")
    bound = exporter.BOUND  # type: ignore[attr-defined]
    if not moved <= bound:
        raise PredictorChanged(
            f"the export answers differently: a golden probability moved by {moved:.3f}, at most {bound} is let out",
            "report it with the release's method and base; nothing was kept",
        )
    return moved
