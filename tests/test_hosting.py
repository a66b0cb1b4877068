"""Hosting: one pass for many tasks, adapters mixed in a batch, each task's answers as alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tiny
from basewise.core.errors import BasewiseError, InputError, PredictorChanged
from basewise.steps.hosting import Host, Mixed, Part, version_of
from basewise.steps.predict import load
from served import run_folder

TEXTS = [row["text"] for row in tiny.rows(20, seed=5)]


def test_tasks_on_one_base_share_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from basewise.engine.shared import Bases

    base = tiny.base_folder(tmp_path / "base")
    folders = [run_folder(tmp_path / m, m, base, seed=i) for i, m in enumerate(("probe", "prototype"))]
    folders.append(run_folder(tmp_path / "words", "words", None))
    host = Host()
    versions = [host.open(f)["version"] for f in folders]
    assert len(host.bases.open) == 1
    passes = []
    compute = Bases.compute

    def counted(self, base, precision, texts, tokens, wanted):  # type: ignore[no-untyped-def]
        passes.append(len(texts))
        return compute(self, base, precision, texts, tokens, wanted)

    monkeypatch.setattr(Bases, "compute", counted)
    shares = [TEXTS[:12], TEXTS[6:], TEXTS]
    batch = [Part(v, t, host.tokens(v, t)[0], True) for v, t in zip(versions, shares, strict=True)]
    batch.append(Part(host.embedder("base"), TEXTS[:3]))
    answers = host.answer(batch)
    assert passes == [20]  # each text once, for two tasks and the vectors
    for folder, part, answer in zip(folders, batch, answers, strict=False):
        assert np.abs(answer.probabilities - load(folder).predict_proba(part.texts)).max() < 1e-5
        assert answer.features is not None
        assert answer.features.shape == (len(part.texts), 24)
        (alone,) = host.answer([part])  # else the watch takes what others ask for drift
        assert alone.features is not None
        assert np.abs(answer.features - alone.features).max() < 1e-4
    assert np.linalg.norm(answers[3].probabilities, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    for version in versions:
        host.close(version)
    host.hosted.clear()
    host.close("")
    assert host.bases.open == []


def test_columns_are_read_in_the_same_pass_as_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from basewise.core.method import Context
    from basewise.core.registry import part
    from basewise.core.task import Examples
    from basewise.engine.shared import Bases
    from basewise.steps.bases import pull
    from basewise.steps.predict import save_predictor

    base, inputs, order = pull(str(tiny.base_folder(tmp_path / "base"))), ("one", "two"), np.arange(20)
    texts = tuple(f"one: {a}\ntwo: {b}" for a, b in zip(TEXTS, TEXTS[1:] + TEXTS[:1], strict=True))
    rows = Examples(texts, order % 2, order, order, ("a", "b"), inputs)
    fitted = part("methods", "pair").fit(rows, base, Context())
    save_predictor(
        tmp_path / "run" / "predictor", fitted, method="pair", base=base, inputs=inputs, threshold=None
    )
    host = Host()
    version = host.open(tmp_path / "run")["version"]
    passes, compute = [], Bases.compute

    def counted(self, base, precision, texts, tokens, wanted):  # type: ignore[no-untyped-def]
        passes.append(len(texts))
        return compute(self, base, precision, texts, tokens, wanted)

    monkeypatch.setattr(Bases, "compute", counted)
    (found,) = host.answer([Part(version, texts, host.tokens(version, texts)[0], True)])
    assert found.error is None and passes == [len({*texts, *TEXTS})]
    tokens, told = host.tokens(version, texts)
    assert told == 2 * tokens.lengths.sum()
    assert np.abs(found.probabilities - load(tmp_path / "run").fitted.probabilities(texts)).max() < 1e-5


def test_every_base_that_a_task_uses_can_be_asked_for_vectors_while_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.quick(monkeypatch)
    base = tiny.base_folder(tmp_path / "base")
    host = Host()
    about = host.open(run_folder(tmp_path / "lora", "lora", base))
    assert about["embeds"]
    (found,) = host.answer([Part(host.embedder(about["base"]), TEXTS)])
    assert found.error is None
    assert np.allclose(np.linalg.norm(found.probabilities, axis=1), 1)
    host.close(about["version"])
    assert host.bases.open == []
    with pytest.raises(InputError, match="no base"):
        host.embedder(about["base"])


@pytest.mark.parametrize("masked", [False, True], ids=["", "each with a pooler of its own"])
def test_adapters_of_several_tasks_are_mixed_and_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, masked: bool
) -> None:
    tiny.quick(monkeypatch)
    base = tiny.base_folder(tmp_path / "base", masked=masked)
    folders = [run_folder(tmp_path / f"lora{i}", "lora", base, turn=i, seed=i) for i in range(3)]
    alone = [load(f).predict_proba(TEXTS) for f in folders]
    # they are different tasks
    assert np.abs(alone[0] - alone[1]).max() > 0.01
    host = Host()
    versions = [host.open(f)["version"] for f in folders]
    fitted = [host.hosted[v].predictor.fitted for v in versions]  # type: ignore[union-attr]
    assert all(isinstance(f, Mixed) for f in fitted)
    assert len(host.mixtures) == 1
    shares = [TEXTS, TEXTS[:7], TEXTS[3:]]
    answers = host.answer([Part(v, t) for v, t in zip(versions, shares, strict=True)])
    for answer, texts, expected in zip(answers, shares, alone, strict=True):
        rows = [TEXTS.index(t) for t in texts]
        assert np.abs(answer.probabilities - expected[rows]).max() < 1e-5
    # the host of the network may go first
    host.close(versions[0])
    again = host.answer([Part(versions[1], TEXTS)])[0]
    assert np.abs(again.probabilities - alone[1]).max() < 1e-5


def test_parts_of_one_version_are_read_at_once_and_fail_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny.base_folder(tmp_path / "base")
    folder = run_folder(tmp_path / "probe", "probe", base)
    host = Host()
    version = host.open(folder)["version"]
    expected = load(folder).predict_proba(TEXTS)
    asked: list[int] = []
    kind = type(host.hosted[version].predictor.fitted)  # type: ignore[union-attr]
    own = kind.probabilities

    def counted(self, texts):  # type: ignore[no-untyped-def]
        asked.append(len(texts))
        if "bad" in texts:
            raise ValueError("a row that cannot be read")
        return own(self, texts)

    monkeypatch.setattr(kind, "probabilities", counted)
    batch = [Part(version, [text], None, watched=i % 2 == 0) for i, text in enumerate(TEXTS)]
    answers = host.answer(batch)
    assert asked == [len(TEXTS)]
    for i, answer in enumerate(answers):
        assert np.abs(answer.probabilities - expected[i]).max() < 1e-5
        assert (answer.features is not None) == (i % 2 == 0)
    answers = host.answer([*batch[:2], Part(version, ["bad"]), batch[2]])
    assert [answer.error is not None for answer in answers] == [False, False, True, False]
    assert np.abs(answers[3].probabilities - expected[2]).max() < 1e-5


def test_a_task_that_fails_fails_alone(tmp_path: Path) -> None:
    folders = [run_folder(tmp_path / f"w{i}", "words", None, seed=i) for i in range(2)]
    host = Host()
    good, bad = (host.open(f)["version"] for f in folders)

    class Broken:
        classes = host.hosted[bad].predictor.classes  # type: ignore[union-attr]

        def probabilities(self, texts: list[str]) -> np.ndarray:
            return np.full((len(texts), 3), np.nan)

    object.__setattr__(host.hosted[bad].predictor, "fitted", Broken())
    answers = host.answer([Part(good, TEXTS), Part(bad, TEXTS), Part("nobody", TEXTS)])
    assert answers[0].error is None
    assert isinstance(answers[1].error, BasewiseError)
    assert "not open" in str(answers[2].error)


def test_a_copy_with_a_changed_file_is_refused_even_when_the_version_is_open(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "one", "words", None)
    host = Host()
    about = host.open(folder)
    assert about["version"] == version_of(folder)
    assert about["conformal"]["rows"] == 90
    weights = folder / "predictor" / "words.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(PredictorChanged):
        host.open(folder)
    with pytest.raises(PredictorChanged, match="expected"):
        host.open(folder, "0" * 12)


def test_a_release_is_verified_before_it_is_opened_and_named_by_its_id(tmp_path: Path) -> None:
    import released
    from basewise.core.release import Release

    folder = released.copy_of(released.released(signed=False), tmp_path / "queue")
    host = Host()
    about = host.open(folder)
    record = Release.load(folder)
    assert about["version"] == record.id[:12]
    assert about["conformal"]["least"] == pytest.approx(record.conformal["least_probability"])
    assert about["reference"]["rows"] > 0
    answer = host.answer([Part(about["version"], TEXTS)])[0]
    assert np.abs(answer.probabilities - load(folder).predict_proba(TEXTS)).max() < 1e-9
    weights = folder / "predictor" / "words.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(BasewiseError):
        host.open(folder)
    with pytest.raises(BasewiseError):
        Host().open(folder)
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "release.json").write_text("{}")
    with pytest.raises(BasewiseError):
        Host().open(tmp_path / "claims")


def test_a_release_whose_sets_hold_all_classes_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import released
    from basewise.core.release import Release

    folder = released.released(signed=False)
    record = Release.load(folder)
    all_classes = replace(record, conformal={**record.conformal, "least_probability": 0.0})
    monkeypatch.setattr("basewise.steps.hosting.verified", lambda folder: all_classes)
    assert Host().open(folder)["conformal"]["least"] == 0.0


def test_a_row_that_was_held_out_by_several_seeds_counts_once(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = run_folder(tmp_path / "one", "words", None)
    table = pq.read_table(folder / "evidence.parquet")
    pq.write_table(pa.concat_tables([table, table]), folder / "evidence.parquet")
    about = Host().open(folder)
    assert about["conformal"]["rows"] == 90
    assert np.sum(about["reference"]["confusion"]) == 90
