"""MTEB's tasks by name and a base as its model, on rows made here: MTEB's data come over a network that a test does not use."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from basewise.core.errors import MissingExtra
from basewise.core.registry import part
from basewise.core.suite import Data

SUITE = part("suites", "mteb")


def test_without_the_package_the_error_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(MissingExtra, match=r"basewise\[mteb\]"):
        SUITE.named("mteb/Banking77Classification", Data(tmp_path))
    base = tiny.base_folder(tmp_path / "encoder")
    tiny.refused(tiny.command("bench", base, "--suite", "mteb/Banking77Classification"), "basewise[mteb]")
    tiny.refused(tiny.command("bench", base, "--suite", "mteb"), "mteb/TaskName")


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An MTEB task whose rows are those of the tiny table, found under its name."""
    mteb = pytest.importorskip("mteb")
    from datasets import Dataset, DatasetDict
    from mteb.mocks import MockClassificationTask

    def split(count: int, seed: int) -> Any:
        rows = tiny.rows(count, seed)
        names = list(tiny.TOPICS)
        return Dataset.from_dict(
            {
                "text": [r["text"] for r in rows],
                "label": [names.index(r["queue"]) for r in rows],
                "label_text": [r["queue"] for r in rows],
            }
        )

    task = MockClassificationTask()
    monkeypatch.setattr(
        task,
        "load_data",
        lambda *_a, **_k: setattr(task, "dataset", DatasetDict(train=split(60, 0), test=split(30, 1))),
    )
    honest = mteb.get_task

    def get(name: str, *more: Any, **others: Any) -> Any:
        return task if name == "Local" else honest(name, *more, **others)

    monkeypatch.setattr(mteb, "get_task", get)
    return task


# MTEB's own
@pytest.mark.filterwarnings("ignore")
def test_a_task_by_name_on_the_command_line(
    local: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.quick(monkeypatch)
    base = tiny.base_folder(tmp_path / "encoder")
    said = tiny.command("bench", base, "--suite", "mteb/Local", "--to", tmp_path / "run")
    assert said.code == 0, said.err
    assert "mteb/Local" in said.out and "30" in said.out
    made = SUITE.named("mteb/Local", Data(tmp_path))
    assert made.probed and made.items[0].choices == (" billing", " delivery", " technical")
    tiny.refused(
        tiny.command("bench", base, "--suite", "mteb/Banking77Classificatio"), "Banking77Classification"
    )
    tiny.refused(
        tiny.command("bench", base, "--suite", "mteb/STSBenchmark"), "python -m basewise.steps.mteb_model"
    )


@pytest.mark.filterwarnings("ignore")
def test_a_base_is_a_model_of_mteb(local: Any, tmp_path: Path) -> None:
    from mteb.models.models_protocols import EncoderProtocol

    from basewise.steps.mteb_model import Embedder, score

    model = Embedder(str(tiny.base_folder(tmp_path / "encoder")), precision="fp32")
    assert isinstance(model, EncoderProtocol)
    found = model.encode([{"text": ["my invoice", "my parcel"]}, {"text": [""]}])
    assert found.shape == (3, 32)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(model.similarity(found, found).numpy().diagonal(), 1, atol=1e-5)
    line = score(model, [local])[0]
    assert 0 <= line["low"] <= line["score"] <= line["high"] and line["experiments"] == 10
