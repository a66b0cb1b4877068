"""One file is enough: a toy file dropped into a folder of parts/ is picked up by everything, with no other file edited.

The folder of the parts is copied beside the test and the toy written there; a second door, an installed package with an entry
point, is opened with a distribution made on the spot. Every part, toy or ours, keeps the contract of its folder.
"""

from __future__ import annotations

import importlib
import inspect
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from basewise.core import registry
from basewise.core.errors import UnknownName

METHOD = '''"""Toy: guesses the class whose texts are about as long."""
from dataclasses import dataclass, field
import numpy as np
from basewise.core.budget import Cost
from basewise.core.files import read_json, write_json

REQUIRES = frozenset()
RUNGS = "none"

@dataclass(frozen=True)
class Lengths:
    classes: tuple
    means: np.ndarray
    choices: dict = field(default_factory=dict)

    def probabilities(self, texts):
        n = np.array([len(t) for t in texts], float)[:, None]
        score = np.exp(-np.abs(n - self.means[None]) / 4) + 1e-6
        return score / score.sum(1, keepdims=True)

    def save(self, folder):
        write_json(folder / "toy.json", {"classes": list(self.classes), "means": self.means.tolist()})

def estimate(examples, card, machine):
    return Cost(seconds=1e-3, memory_bytes=1e6, predict_seconds_per_row=1e-7)

def fit(examples, base, context):
    lengths = np.array([len(t) for t in examples.texts], float)
    means = [lengths[examples.labels == c].mean() if (examples.labels == c).any() else 0.0 for c in range(len(examples.classes))]
    return Lengths(examples.classes, np.array(means))

def load(folder, base, context):
    record = read_json(folder / "toy.json")
    return Lengths(tuple(record["classes"]), np.array(record["means"]))
'''
RANKER = '"""Toy: every base promises the same."""\ndef rank(features, labels, card):\n    return 0.5\n'
EXECUTOR = '"""Toy: the last job first."""\ndef run(function, jobs, workers=1):\n    done = [function(j) for j in reversed(list(jobs))]\n    yield from reversed(done)\n'
METRIC = '"""Toy: half a point a row."""\nimport numpy as np\nNAME = "half"\nHIGHER_IS_BETTER = True\ndef score(probabilities, labels):\n    return np.full(len(labels), 0.5)\n'
SOURCE = '"""Toy: has nothing."""\ndef cards():\n    return []\ndef load(card, store, progress=None):\n    raise LookupError(card)\n'
SUITE = '''"""Toy: which of two words is longer."""
from basewise.core.suite import BenchTask, Item

FILES = ()

def tasks(data):
    items = tuple(Item(context=f"{n}:", choices=(" a", " " + "a" * n), answer=1) for n in range(2, 9))
    return [BenchTask(name="toy/longer", items=items, about="toy")]
'''
OBJECTIVE = '''"""Toy: the first tokens of a row are told from the row itself."""
import numpy as np
from basewise.engine.feed import Prepared

NETWORKS = frozenset({"decoder"})
DATA = "text"
WHOLE = False

def build(recipe, corpus):
    from basewise.engine.networks import build as language_model
    return language_model(recipe, corpus.vocabulary, corpus.special)

def prepare(rows, done, rng, setting):
    return Prepared(arrays={"ids": rows[:, :-1], "targets": rows[:, :-1]}, count=float(rows[:, :-1].size))

def loss(network, batch, places):
    piece = batch.tensors(places, next(network.parameters()).device)
    return network(piece["ids"], piece["targets"])
'''
CHECK = '''"""Toy: nothing whose name begins with an x goes out."""
from basewise.core.gate import FAIL, PASS, CheckResult

THRESHOLDS = {"letter": ("x", "the letter")}

def check(subject, limits):
    bad = [p.name for p in subject.files.iterdir() if p.name.startswith(limits["letter"])]
    return CheckResult(check="toy", verdict=FAIL if bad else PASS, sentence=f"{len(bad)} files")
'''
DOCUMENT = '"""Toy: the name alone."""\nFILE = "toy.txt"\ndef text(release):\n    return release.name\n'
EXPORTER = '''"""Toy: the golden answers by heart."""
import numpy as np
from basewise.core.files import read_json, write_json

METHODS = ()
BOUND = 0.01

def write(exported, folder):
    write_json(folder / "toy.json", exported.golden)

def answers(folder, texts):
    return np.array(read_json(folder / "toy.json")["probabilities"])
'''
TOYS = {
    "methods": METHOD,
    "rankers": RANKER,
    "executors": EXECUTOR,
    "metrics": METRIC,
    "sources": SOURCE,
    "suites": SUITE,
    "objectives": OBJECTIVE,
    "checks": CHECK,
    "documents": DOCUMENT,
    "exporters": EXPORTER,
}
CONTRACT = {
    "methods": {"estimate": ("examples", "card", "machine"), "fit": ("examples", "base", "context"), "load": ("folder", "base", "context")},
    "rankers": {"rank": ("features", "labels", "card")},
    "executors": {"run": ("function", "jobs", "workers")},
    "metrics": {"score": ("probabilities", "labels")},
    "sources": {"cards": (), "load": ("card", "store", "progress")},
    "suites": {"tasks": ("data",)},
    "objectives": {"build": ("recipe", "corpus"), "prepare": ("rows", "done", "rng", "setting"), "loss": ("network", "batch", "places")},
    "checks": {"check": ("subject", "limits")},
    "documents": {"text": ("release",)},
    "exporters": {"write": ("exported", "folder"), "answers": ("folder", "texts")},
}  # fmt: skip


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of parts/ with a file toy.py in every folder, in the place of the real one."""
    folder = tmp_path / "parts"
    shutil.copytree(registry.PARTS_FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for kind, text in TOYS.items():
        (folder / kind / "toy.py").write_text(text, encoding="utf-8")
        package = importlib.import_module(f"basewise.parts.{kind}")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder / kind)])
    monkeypatch.setattr(registry, "PARTS_FOLDER", folder)
    importlib.invalidate_caches()
    yield folder
    for kind in TOYS:
        sys.modules.pop(f"basewise.parts.{kind}.toy", None)
        package = sys.modules[f"basewise.parts.{kind}"]
        if hasattr(package, "toy"):
            delattr(package, "toy")


def rows(n: int = 240) -> dict[str, list[str]]:
    """A table that the toy answers well: short texts are greetings, long ones complaints. No two rows are alike."""
    generator = np.random.default_rng(0)
    words = [
        "sun",
        "moon",
        "tree",
        "river",
        "stone",
        "cloud",
        "house",
        "bread",
        "light",
        "water",
        "green",
        "quiet",
        "early",
        "north",
        "paper",
        "glass",
        "music",
        "road",
    ]
    texts, labels = [], []
    for i in range(n):
        label = ("greeting", "complaint")[i % 2]
        size = int(generator.integers(2, 4)) if label == "greeting" else int(generator.integers(12, 16))
        texts.append(" ".join(generator.choice(words, size)) + f" {i * 7919 % 100_003}")
        labels.append(label)
    return {"text": texts, "label": labels}


@pytest.mark.parametrize("kind", TOYS)
def test_a_dropped_file_is_a_part(kind: str, toys: Path) -> None:
    assert "toy" in registry.keys(kind)
    assert registry.summary(kind, "toy").startswith("Toy: ")
    module = registry.part(kind, "toy")
    assert Path(module.__file__ or "").parent == toys / kind
    assert registry.parts(kind)["toy"] is module


def test_without_the_file_the_name_is_unknown() -> None:
    with pytest.raises(UnknownName, match="unknown method 'toy'"):
        registry.part("methods", "toy")


def test_choose_runs_a_dropped_method_to_the_end(toys: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    import basewise as bw

    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table(rows()), path)
    decision = bw.choose(
        path, target="label", budget="60s", bases=(), methods=("majority", "toy"), to=tmp_path / "run"
    )
    assert decision.chosen == "toy", decision.sentence
    line = next(x for x in decision.leaderboard if x["method"] == "toy")
    assert line["metrics"]["toy"]["estimate"] == 0.5, "the dropped metric is told of each arm"
    assert ">half [95 %]<" in (tmp_path / "run" / "report.html").read_text()
    assert line["score"]["estimate"] > 0.9
    assert bw.load(tmp_path / "run").predict(["sun tree 5"]) == ["greeting"]
    assert "toy" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_bench_asks_a_dropped_suite(toys: Path, tmp_path: Path) -> None:
    import tiny_decoders
    from basewise.steps.bench import bench

    tiny_decoders.decoder(tmp_path / "base", "llama")
    result = bench([str(tmp_path / "base")], ["toy"], to=tmp_path / "run")
    assert [cell["task"] for cell in result.cells] == ["toy/longer"]
    assert result.cells[0]["score"]["n"] == 7


def test_pretrain_learns_by_a_dropped_objective(toys: Path, tmp_path: Path) -> None:
    import tiny_corpus
    from basewise.steps.pretrain import pretrain

    recipe = tiny_corpus.recipe(tiny_corpus.corpus(tmp_path / "corpus"), objective="toy", steps=40)
    result = pretrain(recipe, to=tmp_path / "run")
    assert result.steps == 40
    assert result.loss < 1.0
    assert (tmp_path / "run" / "base" / "model.safetensors").exists()


def test_release_asks_a_dropped_check_writes_a_dropped_document_and_export_a_dropped_exporter(
    toys: Path, tmp_path: Path
) -> None:
    import released
    from basewise.steps.export import export
    from basewise.steps.release import release

    made = release(released.run_folder(), to=tmp_path / "r", options=released.signed_for())
    assert {line["check"]: line["verdict"] for line in made.gate}["toy"] == "pass"
    assert "[toy]" in (tmp_path / "r" / "policy.toml").read_text(encoding="utf-8")
    assert (tmp_path / "r" / "toy.txt").read_text(encoding="utf-8") == made.name
    assert export(tmp_path / "r", "toy", tmp_path / "out") == 0


def test_an_installed_package_brings_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other door: an entry point of a distribution on the path."""
    (tmp_path / "toy_methods.py").write_text(METHOD, encoding="utf-8")
    info = tmp_path / "toy_methods-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: toy-methods\nVersion: 1.0\n", encoding="utf-8"
    )
    (info / "entry_points.txt").write_text("[basewise.methods]\nlengths = toy_methods\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._third_party.cache_clear()
    try:
        assert "lengths" in registry.keys("methods")
        assert registry.part("methods", "lengths").RUNGS == "none"
        assert registry.summary("methods", "lengths").startswith("Toy: ")
    finally:
        registry._third_party.cache_clear()
        sys.modules.pop("toy_methods", None)


@pytest.mark.parametrize(("kind", "key"), [(kind, key) for kind in CONTRACT for key in registry.keys(kind)])
def test_every_part_keeps_the_contract_of_its_folder(kind: str, key: str) -> None:
    summary = registry.summary(kind, key)
    assert summary.endswith("."), (
        f"{kind}/{key}: the first line of its docstring is its help text, one sentence"
    )
    assert len(summary) <= 120, f"{kind}/{key}: the help text is too long for a line: {summary}"
    module = registry.part(kind, key)
    for function, names in CONTRACT[kind].items():
        found = tuple(inspect.signature(getattr(module, function)).parameters)
        assert found[: len(names)] == names, f"{kind}/{key}.{function}{found} should start with {names}"
    if kind == "methods":
        assert isinstance(module.REQUIRES, frozenset)
        assert module.RUNGS in ("rows", "none")
    if kind == "objectives":
        from basewise.core.recipe import NETWORKS

        assert set(NETWORKS) >= module.NETWORKS
        assert module.DATA in ("text", "images")
        assert isinstance(module.WHOLE, bool)
    if kind == "metrics":
        assert isinstance(module.HIGHER_IS_BETTER, bool)
        assert module.NAME.strip() == module.NAME
        assert isinstance(getattr(module, "SHARE", False), bool)
        certain, labels = np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 0])
        best, worst = module.score(certain, labels), module.score(np.roll(certain, 1, axis=1), labels)
        assert best.shape == worst.shape == (4,)
        assert (best.mean() > worst.mean()) == module.HIGHER_IS_BETTER
