"""What a new base is worth: labels saved against the same network from random weights and against words, on labelled sets."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import Base
from basewise.core.errors import InputError
from basewise.core.files import Progress
from basewise.core.recipe import Recipe
from basewise.core.registry import part
from basewise.core.rundir import RunDir
from basewise.core.task import Examples
from basewise.engine.store import Store
from basewise.steps import worth
from basewise.steps.entries import Clock
from basewise.steps.jobs import Arm, Job

MOST_TRAIN, MOST_TEST, DRAWS = 2000, 1000, 3
METHOD = "probe"


@dataclass
class _Fits:
    """What `worth.curve` asks of a race: jobs, a journal, a clock without an end."""

    run: RunDir
    features: Path
    clock: Clock

    def job_of(self, arm: Arm, train: Examples, texts: Any = (), draw: int = 0) -> Job:
        return Job(arm=arm, train=train, texts=tuple(texts), draw=draw, features=self.features)


def set_path(name: str) -> Path:
    """The folder of a downstream set: as named, else in $BASEWISE_DATA, else in ../shared/data."""
    places = [Path(name).expanduser(), Path(os.environ.get("BASEWISE_DATA") or "../shared/data") / name]
    for place in places:
        if (place / "train.parquet").is_file() and (place / "test.parquet").is_file():
            return place
    raise InputError(
        f"there is no downstream set {name}",
        "name a folder with train.parquet and test.parquet (columns text or image, and label), or set BASEWISE_DATA",
    )


def read_examples(name: str) -> tuple[Examples, Examples]:
    """(train, held-out rows) of a set, at most MOST_TRAIN and MOST_TEST, drawn once."""
    import pyarrow.parquet as pq

    folder = set_path(name)
    rows = {}
    for split, most in (("train", MOST_TRAIN), ("test", MOST_TEST)):
        table = pq.read_table(folder / f"{split}.parquet", columns=["text", "label"])
        order = np.random.default_rng(0).permutation(len(table))[:most]
        texts, labels = table["text"].to_pylist(), [str(v) for v in table["label"].to_pylist()]
        rows[split] = ([texts[i] for i in order], [labels[i] for i in order])
    classes = tuple(sorted(set(rows["train"][1])))
    number = {name: place for place, name in enumerate(classes)}
    made = []
    for texts, labels in rows.values():
        kept = [i for i, label in enumerate(labels) if label in number]
        made.append(
            Examples(
                texts=tuple(texts[i] for i in kept),
                labels=np.array([number[labels[i]] for i in kept]),
                row_ids=np.array(kept),
                groups=np.array(kept),
                classes=classes,
            )
        )
    return made[0], made[1]


def worth_of(recipe: Recipe, bases: dict[str, Path], folder: Path, options: Any) -> list[dict[str, Any]]:
    """One record a downstream set: labels saved by the new base against its random twin and against words, or pixels of images."""
    path = bases.get("encoder") or bases["base"]
    if recipe.network == "vit":
        from basewise.steps import pretrain_images

        return [pretrain_images.one_set(name, path, options.progress) for name in recipe.downstream]
    sources = part("sources", "folder")
    base = sources.load(sources.card_of(path), Store.default())
    scratch = part("sources", "scratch")
    twin = scratch.load(scratch.card_of(base.card), Store.default())
    return [one_set(name, base, twin, folder, options.progress) for name in recipe.downstream]


def one_set(name: str, base: Base, twin: Base, folder: Path, progress: Progress) -> dict[str, Any]:
    """Curves of the base, its twin and words on one set, and the labels saved with their intervals."""
    train, held_out = read_examples(name)
    # the clock has no end
    counts = dict.fromkeys(worth.label_counts(len(train), len(train.classes)), 0.0)
    fits = _Fits(
        RunDir(folder / "worth", ""),
        folder / "worth" / "features",
        Clock(started=time.monotonic(), seconds=float("inf")),
    )
    curves = {
        kind: worth.curve(arm, (train, held_out), counts, DRAWS, fits, progress)
        for kind, arm in (
            ("base", Arm(method=METHOD, base=base)),
            ("random weights", Arm(method=METHOD, base=twin)),
            ("words", Arm(method="words")),
        )
    }
    saved = {
        kind: worth.saved_labels(curves["base"], curves[kind], kind)  # type: ignore[arg-type]
        for kind in ("random weights", "words")
        if curves["base"] and curves[kind]
    }
    shown = {kind: {"sizes": c["sizes"], "errors": c["errors"]} for kind, c in curves.items() if c}
    return {
        "set": name,
        "n": len(held_out),
        "draws": DRAWS,
        "method": METHOD,
        "curves": shown,
        "labels_saved": saved,
    }
