"""A decoder written as GGUF and read back is the same network with the same tokeniser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiny_decoders
from basewise.core.errors import InputError
from basewise.core.export import Exported
from basewise.core.method import Context
from basewise.core.registry import part
from basewise.core.release import Release
from basewise.core.task import Examples
from basewise.steps.predict import GOLDEN

pytest.importorskip("gguf")


def test_queries_are_turned_and_turned_back() -> None:
    from basewise.engine.gguf_write import turned

    value = np.arange(8 * 3).reshape(8, 3)
    assert turned(value, 2)[:, 0].tolist() == [0, 6, 3, 9, 12, 18, 15, 21]


@pytest.mark.slow
def test_golden_rows_come_back_through_the_file(tmp_path: Path) -> None:
    base = tiny_decoders.decoder(tmp_path / "base", "llama")
    texts = ("good film", "bad film", "the film was good", "the film was bad")
    rows = Examples(texts, np.array([0, 1, 0, 1]), np.arange(4), np.arange(4), ("good", "bad"))
    fitted = part("methods", "prompt").fit(rows, base, Context(precision="fp32"))
    golden = {"texts": list(GOLDEN), "probabilities": fitted.probabilities(GOLDEN).tolist(), "bound": 0.02}
    record = Release(
        name="r", id="a" * 64, method="prompt", classes=["good", "bad"], inputs=["text"], target="label"
    )
    exporter = part("exporters", "gguf")
    folder = tmp_path / "out"
    folder.mkdir()
    exporter.write(Exported(release=record, fitted=fitted, base=base, folder=tmp_path, golden=golden), folder)
    again = exporter.answers(folder, golden["texts"])
    assert np.abs(again - np.array(golden["probabilities"])).max() <= exporter.BOUND
    pins = (folder / "basewise.json").read_text("utf-8")
    assert "{text}" in pins and "<|end|>" in pins


def test_stretched_positions_are_refused(tmp_path: Path) -> None:
    """Sentences of the golden rows are too short to show what is lost without the stretching."""
    import json

    from basewise.engine.gguf_write import write_gguf

    base = tiny_decoders.decoder(tmp_path / "base", "llama")
    path = base.folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    config["rope_parameters"] = {
        **(config.get("rope_parameters") or {}),
        "rope_type": "llama3",
        "factor": 8.0,
    }
    path.write_text(json.dumps(config), "utf-8")
    with pytest.raises(InputError, match="stretches its positions"):
        write_gguf(base, tmp_path / "out.gguf")


def test_other_shapes_are_refused(tmp_path: Path) -> None:
    from basewise.engine.gguf_write import write_gguf

    with pytest.raises(InputError, match="gpt2"):
        write_gguf(tiny_decoders.decoder(tmp_path / "base", "gpt2"), tmp_path / "x.gguf")
