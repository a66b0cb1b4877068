"""The gate catches what was planted in the sample, and each check fails where it must and nowhere else."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from basewise import sample
from basewise.core.cells import joined, split_inputs
from basewise.core.decision import Decision
from basewise.core.errors import InputError
from basewise.core.evidence import Trial
from basewise.core.gate import FAIL, PASS, WARN, CheckResult, Licensed, Subject
from basewise.core.method import Context
from basewise.core.perturb import CHANGES, GROUPS, changed, introduced, swapped_pronouns
from basewise.core.policy import default_policy
from basewise.core.registry import keys, part
from basewise.core.task import Finding, Task
from basewise.stats import outliers
from basewise.steps.audit import audit
from basewise.steps.gate import run_checks, thresholds


def look(check: str, subject: Subject, **limits: Any) -> CheckResult:
    """One check under its defaults and these limits."""
    module = part("checks", check)
    return module.check(subject, {**{k: v for k, (v, _) in module.THRESHOLDS.items()}, **limits})


@functools.cache
def task_of_sample(*inputs: str) -> Task:
    return audit(sample.path(), target="queue", inputs=inputs or ("text",))


@functools.cache
def tiny_task() -> Task:
    return audit(tiny.rows(300), target="queue", inputs=("text",))


def trial_of(task: Task, sure: float = 0.9, wrong: float = 0.1, seed: int = 0) -> Trial:
    """Held-out rows with a stated confidence and a stated share of errors."""
    rows = task.train
    draw = np.random.default_rng(seed)
    n, classes = len(rows), len(task.classes)
    guess = np.where(draw.random(n) < wrong, (rows.labels + 1) % classes, rows.labels)
    probabilities = np.full((n, classes), (1 - sure) / (classes - 1))
    probabilities[np.arange(n), guess] = sure
    zeros = np.zeros(n, np.int64)
    return Trial(
        method="words",
        base=None,
        row_ids=rows.row_ids,
        labels=rows.labels,
        probabilities=probabilities,
        fold=zeros,
        seed=zeros,
        n_train=n,
    )


def by_words(task: Task) -> Callable[[Any], np.ndarray]:
    """A predictor that knows the words of each topic."""
    topics = [set(tiny.TOPICS[name].split()) for name in task.classes]

    def answer(texts: Any) -> np.ndarray:
        counts = np.array(
            [[len(set(t.lower().split()) & topic) for topic in topics] for t in texts], float
        ).reshape(-1, len(topics))
        scores = np.exp(3 * counts)
        return scores / scores.sum(1, keepdims=True)

    return answer


def subject(tmp_path: Path, task: Task | None = None, **more: Any) -> Subject:
    task = task or tiny_task()
    files = tmp_path / "files"
    files.mkdir(exist_ok=True)
    given: dict[str, Any] = {
        "run": tmp_path,
        "files": files,
        "decision": Decision(verdict="winner", sentence="", chosen="words"),
        "classes": task.classes,
        "answer": by_words(task) if set(task.classes) <= set(tiny.TOPICS) else None,
        "trial": trial_of(task),
        "task": task,
    }
    return Subject(**{**given, **more})


def rows_of(result: CheckResult, *words: str) -> set[int]:
    return {
        row
        for line in result.evidence
        if any(w in line["name"] for w in words)
        for row in line.get("rows", [])
    }


@functools.cache
def words_files(folder: Path) -> Path:
    """What `words` would release, fitted on the sample."""
    fitted = part("methods", "words").fit(task_of_sample().train, None, Context())
    folder.mkdir()
    fitted.save(folder)
    return folder


def rows_and_release() -> tuple[Licensed, Licensed]:
    """The licence graph of a method without a base."""
    data = Licensed(name="data:t", what="data", licence="")
    return data, Licensed(name="release", what="adapter", licence="", parents=("data:t",), relation="adapter")


class TestPlanted:
    """Each fault of sample/planted.json is in the gate's evidence."""

    def test_rows(self, tmp_path: Path) -> None:
        planted, task = sample.planted(), task_of_sample()
        found = look("rows", subject(tmp_path, task))
        assert found.verdict in (WARN, FAIL)
        wrong = set(planted["wrong_labels"])
        assert len(rows_of(found, "suspicious label") & wrong) / len(wrong) >= 0.7
        repeated = rows_of(found, "repeat another")
        assert {r for pair in planted["exact_duplicates"] for r in pair} <= repeated
        near = [r for pair in planted["near_duplicates"] for r in pair]
        assert np.mean([r in repeated for r in near]) >= 0.9
        assert set(planted["long_text"]) <= rows_of(found, "very long")
        foreign = set(planted["foreign"])
        assert len(rows_of(found, "another language") & foreign) / len(foreign) >= 0.7

    @pytest.mark.slow
    def test_personal_data_in_the_rows_and_in_what_words_keeps(self, tmp_path: Path) -> None:
        planted, task = sample.planted(), task_of_sample()
        files = words_files(tmp_path / "words")
        found = look("privacy", subject(tmp_path, task, files=files))
        assert found.verdict == FAIL and "words.json" in found.sentence
        train = set(task.train.row_ids.tolist())
        assert set(planted["emails"]) & train <= rows_of(found, "email")
        assert set(planted["phones"]) & train <= rows_of(found, "phone")

    def test_the_column_that_gives_the_answer_away(self, tmp_path: Path) -> None:
        column = sample.planted()["leaking_column"]
        left_out = look("leakage", subject(tmp_path, task_of_sample()))
        assert left_out.verdict != FAIL and column in left_out.sentence
        read = look("leakage", subject(tmp_path, task_of_sample("text", column)))
        assert read.verdict == FAIL and read.sentence.count(column) == 1, (
            "by the gate, not by the audit once more"
        )

    def test_duplicates_do_not_stand_on_both_sides_and_would_be_seen(self, tmp_path: Path) -> None:
        task = task_of_sample()
        assert "both sides" not in str(
            [t for t in [look("leakage", subject(tmp_path, task))] if t.verdict == FAIL]
        )
        across = look(
            "leakage",
            subject(tmp_path, replace(task, split=np.where(np.arange(len(task.split)) % 2, "test", "train"))),
        )
        assert across.verdict == FAIL and "also stand among the train rows" in across.sentence


class TestChecks:
    """One sound subject and one with the fault, for each check."""

    def test_every_check_is_tried_here(self) -> None:
        assert set(keys("checks")) == {
            "abstention", "calibration", "groups", "leakage", "licence", "privacy", "robustness", "rows", "scope", "score", "slices", "weights",
        }  # fmt: skip

    def test_calibration(self, tmp_path: Path) -> None:
        assert (
            look("calibration", subject(tmp_path, trial=trial_of(tiny_task(), sure=0.9, wrong=0.1))).verdict
            == PASS
        )
        found = look("calibration", subject(tmp_path, trial=trial_of(tiny_task(), sure=0.99, wrong=0.4)))
        assert found.verdict == FAIL and "too sure" in found.sentence
        assert look("calibration", subject(tmp_path, trial=None)).verdict == WARN

    def test_abstention(self, tmp_path: Path) -> None:
        n = 1_000
        zeros, probabilities = np.zeros(n, np.int64), np.tile([0.99, 0.005, 0.005], (n, 1))
        given = {"row_ids": np.arange(n), "labels": zeros, "fold": zeros, "seed": zeros}
        trial = Trial(method="words", base=None, probabilities=probabilities, n_train=n, **given)
        sound = look("abstention", subject(tmp_path, trial=trial))
        assert sound.verdict == PASS
        names = {line["name"] for line in sound.evidence}
        assert {"share answered", "wrong among the answered", "conformal sets that hold the truth"} <= names
        assert look("abstention", subject(tmp_path, trial=trial_of(tiny_task(), wrong=0.5))).verdict == WARN
        assert look("abstention", subject(tmp_path, trial=None)).verdict == WARN
        for share in (0.0, 1.0):
            for key in ("risk", "alpha"):
                with pytest.raises(InputError, match=f"abstention.{key}.*above 0 and below 1"):
                    look("abstention", subject(tmp_path, trial=trial), **{key: share})

    def test_abstention_is_about_the_threshold_that_ships(self, tmp_path: Path) -> None:
        n = 1_000
        zeros, sure = np.zeros(n, np.int64), np.linspace(0.99, 0.6, n)
        probabilities = np.stack([sure, (1 - sure) / 2, (1 - sure) / 2], 1)

        def shipping(threshold: float, wrong: int = 0) -> Subject:
            labels = np.where(np.arange(n) < n - wrong, 0, 1)
            given = {"row_ids": np.arange(n), "labels": labels, "fold": zeros, "seed": zeros}
            trial = Trial(method="words", base=None, probabilities=probabilities, n_train=n, **given)
            coverage = {"threshold": threshold, "promised_risk": 0.05}
            decision = Decision(verdict="winner", sentence="", chosen="words", coverage=coverage)
            return subject(tmp_path, decision=decision, trial=trial)

        assert look("abstention", shipping(0.9)).verdict == PASS
        assert look("abstention", shipping(0.9, wrong=200)).verdict == PASS
        weak = look("abstention", shipping(0.9), risk=0.01)
        assert weak.verdict == FAIL and "promises a risk of 0.05" in weak.sentence
        assert "risk = 0.05" in weak.advice
        assert look("abstention", shipping(0.9), risk=0.1).verdict == PASS
        broken = look("abstention", shipping(0.5, wrong=200))
        assert broken.verdict == FAIL and "above the threshold that ships" in broken.sentence

    def test_abstention_sees_a_broken_promise(self) -> None:
        module = part("checks", "abstention")
        half = np.arange(1000) < 500
        probabilities = np.tile([0.99, 0.01], (1000, 1))
        # right where the threshold was set, half wrong where it is tried
        labels = np.where(half, 0, np.arange(1000) % 2)
        limits = {k: v for k, (v, _) in module.THRESHOLDS.items()}
        rows = module._Rows(probabilities, labels, np.arange(1000), half)
        assert module._risk(rows, limits, [])[0][0] == FAIL
        assert module._sets(rows, 0.1, [])[0][0] == FAIL
        few = module._Rows(probabilities, labels, np.arange(1000) // 250, half)
        assert module._risk(few, limits, [])[0][0] == WARN, "two groups promise nothing"
        assert module._sets(few, 0.1, [])[0][0] == PASS, "nor do two groups prove a promise broken"

    def test_robustness(self, tmp_path: Path) -> None:
        task = tiny_task()
        sound = look(
            "robustness",
            subject(tmp_path, task, answer=lambda texts: np.tile([0.8, 0.1, 0.1], (len(texts), 1))),
        )
        assert sound.verdict == PASS
        brittle = lambda texts: np.array([[0.9, 0.1, 0.0] if t.islower() else [0.1, 0.9, 0.0] for t in texts])  # noqa: E731
        found = look("robustness", subject(tmp_path, task, answer=brittle))
        assert found.verdict == FAIL and "upper case" in found.sentence

    def test_slices(self, tmp_path: Path) -> None:
        task = tiny_task()
        bad = task.train.labels == 1
        trial = trial_of(task, wrong=0.0)
        wrong = trial.probabilities.copy()
        wrong[bad] = np.roll(wrong[bad], 1, axis=1)
        assert look("slices", subject(tmp_path, trial=trial)).verdict == PASS
        found = look("slices", subject(tmp_path, trial=replace(trial, probabilities=wrong)))
        assert found.verdict == FAIL and repr(task.classes[1]) in found.sentence

    def test_groups(self, tmp_path: Path) -> None:
        assert look("groups", subject(tmp_path)).verdict == PASS
        names = set(GROUPS["names of women and men"][0])

        def unfair(texts):
            return np.array(
                [
                    [0.9, 0.1, 0.0] if names & set(t.replace(".", "").split()) else [0.1, 0.9, 0.0]
                    for t in texts
                ]
            )

        found = look("groups", subject(tmp_path, answer=unfair))
        assert found.verdict == FAIL and "women and men" in found.sentence

    def test_group_gaps(self, tmp_path: Path) -> None:
        task = tiny_task()
        mail = np.array(task.metadata["channel"])[np.isin(task.rows.row_ids, task.train.row_ids)] == "mail"
        trial = trial_of(task, wrong=0.0)
        wrong = trial.probabilities.copy()
        wrong[mail] = np.roll(wrong[mail], 1, axis=1)
        assert look("groups", subject(tmp_path, trial=trial), columns=["channel"]).verdict == PASS
        found = look(
            "groups", subject(tmp_path, trial=replace(trial, probabilities=wrong)), columns=["channel"]
        )
        assert found.verdict == FAIL and "channel is mail" in found.sentence

    def test_group_gaps_know_groups_of_rows_and_share_the_level(self) -> None:
        """Regions that do not differ: gaps of clustered customers left zero out in 33 %, those of 40 regions in 29 %."""
        from types import SimpleNamespace

        from basewise.parts.checks.groups import _gaps

        def beyond(region: np.ndarray, wrong: np.ndarray, groups: np.ndarray | None) -> bool:
            rows, evidence = np.arange(len(wrong)), []
            task = SimpleNamespace(
                metadata={"region": tuple(map(str, region))}, rows=SimpleNamespace(row_ids=rows)
            )
            trial = SimpleNamespace(row_ids=rows, right=~wrong, groups=groups)
            _gaps(
                SimpleNamespace(task=task, trial=trial),
                "region",
                {"least_group": 30, "most_gap": 0.1},
                evidence,
            )
            return evidence[-1]["low"] > 0

        customers, found = np.repeat(np.arange(36), 12), []
        for seed in range(100):
            rng = np.random.default_rng(seed)
            wrong = rng.random(432) < np.where(rng.random(36) < 0.25, 0.6, 0.05)[customers]
            found.append(beyond(rng.integers(0, 2, 36)[customers], wrong, customers))
        assert np.mean(found) <= 0.09
        many = np.repeat(np.arange(40), 40)
        found = [beyond(many, np.random.default_rng(s).random(1_600) < 0.3, None) for s in range(50)]
        assert np.mean(found) <= 0.09

    def test_group_gaps_without_rows_to_swap_in(self, tmp_path: Path) -> None:
        """Ten locked rows are too few for swaps; the held-out rows still fill the groups of a column."""
        task = replace(tiny_task(), split=np.array(["test"] * 10 + ["train"] * (len(tiny_task().split) - 10)))
        found = look("groups", subject(tmp_path, task), columns=["channel"])
        assert found.verdict == WARN and "too few rows to swap" in found.sentence
        assert any(line["name"].startswith("errors where channel is") for line in found.evidence)

    def test_rows_counts_beyond_the_thousand_that_a_finding_keeps(self, tmp_path: Path) -> None:
        task = tiny_task()
        cut = Finding(check="label-noise", severity="warn", message="", rows=(0, 1), numbers={"rows": 90})
        found = look("rows", subject(tmp_path, replace(task, findings=(cut,))))
        assert found.verdict == FAIL and f"90 of {len(task.rows)} have a suspicious label" in found.sentence

    def test_scope(self, tmp_path: Path) -> None:
        stranger = set(part("checks", "scope").strangers())

        def knows(texts):
            return np.array([[0.34, 0.33, 0.33] if t in stranger else [0.98, 0.01, 0.01] for t in texts])

        assert look("scope", subject(tmp_path, answer=knows)).verdict == PASS
        path = tiny.write_csv(tmp_path / "out.csv", [{"text": t} for t in sorted(stranger)])
        blind = lambda texts: np.tile([0.8, 0.1, 0.1], (len(texts), 1))  # noqa: E731
        assert look("scope", subject(tmp_path, answer=blind), file=str(path)).verdict == FAIL

    def test_score(self, tmp_path: Path) -> None:
        def decided(low: float, gap: float) -> Decision:
            score = {"name": "words", "estimate": low + 0.05, "low": low, "high": low + 0.1, "n": 100}
            lines = [
                {"name": "majority", "estimate": gap + 0.1, "low": gap, "high": gap + 0.2, "p_holm": 0.01}
            ]
            return Decision(
                verdict="winner", sentence="", chosen="words", test={"scores": [score], "differences": lines}
            )

        assert look("score", subject(tmp_path, decision=decided(0.8, 0.2))).verdict == PASS
        assert look("score", subject(tmp_path, decision=decided(0.8, 0.2)), least=0.9).verdict == FAIL
        assert look("score", subject(tmp_path, decision=decided(0.8, -0.1))).verdict == FAIL
        worse = {"name": "old", "estimate": -0.1, "low": -0.15, "high": -0.05, "n": 100}
        assert look("score", subject(tmp_path, decision=decided(0.8, 0.2), incumbent=worse)).verdict == FAIL
        # nothing was scored
        assert look("score", subject(tmp_path)).verdict == FAIL

    def test_looks_are_counted(self, tmp_path: Path) -> None:
        decision = Decision(verdict="winner", sentence="", chosen="words", test={"digest": "d"})
        for looks, verdict in ((1, PASS), (4, WARN), (31, FAIL)):
            (tmp_path / "looks.json").write_text(
                json.dumps([{"test_digest": "d"}] * looks + [{"test_digest": "other"}])
            )
            assert look("leakage", subject(tmp_path, decision=decision)).verdict == verdict

    def test_licence(self, tmp_path: Path) -> None:
        parents = (
            Licensed(name="data:t", what="data", licence=""),
            Licensed(name="base:b", what="base", licence="Apache-2.0"),
        )
        release = Licensed(
            name="release", what="adapter", licence="", parents=("data:t", "base:b"), relation="adapter"
        )
        made = subject(tmp_path, artefacts=(*parents, release))
        assert look("licence", made).verdict == FAIL
        # nobody signed
        assert look("licence", made, data="own").verdict == FAIL
        assert look("licence", made, data="own", signed_by="A. Person").verdict == PASS
        assert look("licence", made, signed=["data:t | CC-BY-4.0 | A. Person"]).verdict == PASS
        more = ["big | teacher | llama3 | distilled"]
        assert look("licence", made, data="CC-BY-4.0", more=more).verdict == FAIL

    def test_a_licence_in_another_spelling(self, tmp_path: Path) -> None:
        """It stays what a person signs for, and the check says which known one it looks like."""
        made = subject(tmp_path, artefacts=rows_and_release())
        for spelt, meant in (
            ("apache2.0", "Apache-2.0"),
            ("Apache 2", "Apache-2.0"),
            ("Apache License, Version 2.0", "Apache-2.0"),
            ("CC BY-NC 4.0", "CC-BY-NC-4.0"),
            ("MIT License", "MIT"),
        ):
            found = look("licence", made, data=spelt, signed_by="A. Person")
            assert found.verdict == WARN and meant in found.sentence and meant in found.advice
            assert {"name": f"nearest SPDX id to {spelt}", "value": meant} in found.evidence
            unsigned = look("licence", made, data=spelt)
            assert unsigned.verdict == FAIL and meant in unsigned.advice
        for spelt in ("a contract", "our terms of 2024", "own", "internal licence", "customer data"):
            found = look("licence", made, data=spelt, signed_by="A. Person")
            assert found.verdict == PASS and "nearest" not in str(found.evidence)

    def test_a_signature_for_what_this_release_does_not_use(self, tmp_path: Path) -> None:
        """One policy serves releases on several bases."""
        made = subject(tmp_path, artefacts=rows_and_release())
        signed = ["base:other | MIT | A. Person"]
        found = look("licence", made, data="MIT", signed=signed)
        assert found.verdict == PASS
        assert {"name": "signed for, and not part of this release", "value": "base:other"} in found.evidence
        missed = look("licence", made, signed=signed)
        assert missed.verdict == FAIL and "base:other" in missed.advice and "data:t" in missed.advice
        with pytest.raises(InputError, match="names no person"):
            look("licence", made, signed=["data:t | MIT | "])

    def test_no_personal_data_of_a_column_gets_into_a_result(self, tmp_path: Path) -> None:
        """The slice and the groups are those of a person's address and of a number."""
        task = tiny_task()
        who = ["jane.doe@example.org", "+49 30 1234567"]
        task = replace(task, metadata={"customer": tuple(who[int(c == 1)] for c in task.rows.labels)})
        trial = trial_of(task, wrong=0.0)
        wrong = trial.probabilities.copy()
        wrong[task.train.labels == 1] = np.roll(wrong[task.train.labels == 1], 1, axis=1)
        made = subject(tmp_path, task, trial=replace(trial, probabilities=wrong))
        policy = default_policy(thresholds())
        for key, limits in policy.limits.items():
            limits["on"] = "fail" if key in ("slices", "groups") else "off"
        policy.limits["groups"]["columns"] = ["customer"]
        assert who[1] in str(look("slices", made))
        told: list[CheckResult] = []
        results = run_checks(made, policy, told.append)
        assert told == results
        assert "customer is '[phone]'" in str(results) and "customer is [email]" in str(results)
        assert not any(one in str(results) for one in who)

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("head.pkl", b"\x80\x04N."),
            ("pytorch_model.bin", b"PK\x03\x04"),
            ("config.json", b'{"auto_map": {"AutoModel": "x.py"}}'),
            ("config.json", b"\x80\x04N."),
            ("notes.txt", b"#!/bin/sh\nrm"),
            ("model.safetensors", b"\x08\0\0\0\0\0\0\0{}      x"),
            ("model.safetensors", b""),
            ("tokenizer_config.json", json.dumps({"chat_template": "{{ ''.__class__.__mro__ }}"}).encode()),
            (
                "tokenizer_config.json",
                json.dumps({"chat_template": [{"name": "tool", "template": "{{ x.__class__ }}"}]}).encode(),
            ),
            ("chat_template.jinja", b"{{ ''.__class__.__mro__ }}"),
            ("model.h5", b"\x89HDF\r\n\x1a\n"),
            ("config.json", b"[" * 100_000),
        ],
    )
    def test_weights(self, tmp_path: Path, name: str, content: bytes) -> None:
        made = subject(tmp_path)
        (made.files / "words.json").write_text("{}")
        assert look("weights", made).verdict == PASS
        (made.files / name).write_bytes(content)
        found = look("weights", made)
        assert found.verdict == FAIL and name in found.sentence

    def test_privacy_of_a_model_that_writes(self, tmp_path: Path) -> None:
        long = [
            {"text": f"{' '.join(r['text'].split() * 3)} call 0301234{i:04d}", "queue": r["queue"]}
            for i, r in enumerate(tiny.rows(90))
        ]
        task = audit(long, target="queue", inputs=("text",))
        whole = {" ".join(t.split()[:12]): t for t in task.train.texts}
        parrot = lambda prompts, _tokens: [" ".join(whole[p].split()[12:]) for p in prompts]  # noqa: E731
        honest = lambda prompts, _tokens: ["nothing of the kind"] * len(prompts)  # noqa: E731
        assert look("privacy", subject(tmp_path, task, answer=None, generate=honest)).verdict != FAIL
        assert "by heart" in look("privacy", subject(tmp_path, task, answer=None, generate=parrot)).sentence
        assert look("privacy", subject(tmp_path, task, answer=None, generate=parrot)).verdict == FAIL

    def test_privacy_of_rows_that_a_prompt_shows(self, tmp_path: Path) -> None:
        from safetensors.numpy import save_file
        from tokenizers import Tokenizer

        from basewise.core.base import Base, Card

        folder = tiny.base_folder(tmp_path / "base")
        card = Card(
            key="t",
            source="folder",
            family="encoder",
            licence="MIT",
            parameters=1,
            layers=2,
            width=32,
            download_bytes=0,
        )
        made = subject(tmp_path, base=Base(card=card, folder=folder, digest="d"))
        ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(made.task.train.texts[0]).ids  # type: ignore[union-attr]
        save_file(
            {"weights": np.zeros((3, 3), np.float32), "few": np.arange(3)}, made.files / "prompt.safetensors"
        )
        assert look("privacy", made).verdict == PASS
        save_file({"prefix": np.array(ids, np.int64)}, made.files / "prompt.safetensors")
        found = look("privacy", made)
        assert found.verdict == FAIL and "prompt.safetensors" in found.sentence

    def test_a_prompt_is_asked_for_the_rows_it_shows(self, tmp_path: Path) -> None:
        task = tiny_task()
        row, words = task.train.texts[-1], task.train.texts[-1].split()
        asked: list[str] = []

        def parrot(prompts: Any, _tokens: int) -> list[str]:
            asked.extend(prompts)
            return [" ".join(words[len(p.split()) :]) for p in prompts]

        made = subject(tmp_path, answer=None, generate=parrot, shown=(f"Text: {row}\nLabel: billing",))
        found = look("privacy", made)
        assert asked == [" ".join(words[: len(words) // 2])], "rows that are not shown cannot be given back"
        assert found.verdict == FAIL and "1 of 1 rows are given back by heart" in found.sentence
        assert look("privacy", replace(made, generate=lambda p, _: ["no"] * len(p))).verdict == PASS
        assert look("privacy", replace(made, shown=("Give each text its label.",))).verdict == PASS

    def test_the_gate_lets_a_prompt_predictor_write(self, tmp_path: Path) -> None:
        import tiny_decoders
        from basewise.core.task import Examples
        from basewise.steps.gate import Candidate, subject_of
        from basewise.steps.predict import Predictor

        base = tiny_decoders.decoder(tmp_path / "base")
        texts = ("good film", "bad film", "the film was good", "the film was bad")
        rows = Examples(texts, np.array([0, 1, 0, 1]), np.arange(4), np.arange(4), ("good", "bad"))
        fitted = part("methods", "prompt").fit(rows, base, Context(precision="fp32"))
        record = {"base": {"key": "t", "licence": "MIT"}, "method": "prompt"}
        opened = Predictor(fitted=fitted, classes=rows.classes, inputs=("text",), record=record, base=base)
        decision = Decision(verdict="winner", sentence="", chosen="prompt")
        made = subject_of(Candidate(run=tmp_path, decision=decision, predictor=opened, task=None), tmp_path)
        assert made.generate is not None and made.score is not None and made.shown == fitted.shown()
        assert len(made.generate(["the film", "good"], 3)) == 2
        assert made.score("the film", [" was", " good"]).shape == (2,)

    @pytest.mark.slow
    def test_exposure_of_canaries(self, tmp_path: Path) -> None:
        rows = [
            {**r, "text": f"{r['text']} please call me on 030 1234 {i:04d}"}
            for i, r in enumerate(tiny.rows(90))
        ]
        task = audit(rows, target="queue", inputs=("text",))
        secrets = {t[-13:] for t in task.rows.texts}

        def knows(_context, texts):
            return np.array([1.0 if any(s.endswith(t) for s in secrets) else 0.0 for t in texts])

        even = lambda _context, texts: np.arange(len(texts), dtype=float)  # noqa: E731
        assert look("privacy", subject(tmp_path, task, answer=None, score=knows)).verdict == FAIL
        assert look("privacy", subject(tmp_path, task, answer=None, score=even)).verdict != FAIL


def test_policy_softens_turns_off_and_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = subject(tmp_path, artefacts=(Licensed(name="release", what="adapter", licence=""),))
    policy = default_policy(thresholds())
    for check in policy.limits:
        policy.limits[check]["on"] = "off"
    policy.limits["score"]["on"] = "warn"
    policy.limits["weights"]["on"] = "fail"
    (made.files / "x.pkl").write_bytes(b"\x80")
    results = {r.check: r for r in run_checks(made, policy.with_override("weights", "a test", "A. Person"))}
    assert results["score"].verdict == WARN and "softened" in results["score"].sentence
    assert results["weights"].verdict == FAIL and not results["weights"].stops
    assert results["licence"].verdict == "off"
    assert [r.check for r in run_checks(made, policy) if r.stops] == ["weights"]


@given(st.text(max_size=80), st.sampled_from(sorted(CHANGES)))
def test_any_text_can_be_changed_and_always_alike(text: str, name: str) -> None:
    assert changed(name, [text]) == changed(name, [text])


def test_swaps_change_the_person_and_nothing_else() -> None:
    assert swapped_pronouns("He said her bag is HIS.") == "She said him bag is HER."
    one, other = introduced("nationalities", ["a text", "b"])
    assert one[0].split(".")[1] == other[0].split(".")[1] and one[0] != other[0]


def test_of_several_columns_the_values_change_and_the_names_stay() -> None:
    inputs = ("question", "answer text")
    text = joined(["what is the capital", "it is a big town"], inputs)
    for name in CHANGES:
        (other,) = changed(name, [text], inputs=inputs)
        assert other.startswith("question: ") and "\nanswer text: " in other, name
        assert other == joined(split_inputs(other, inputs), inputs), name
    (one,), _ = introduced("nationalities", [text], inputs)
    assert one.startswith("question: I am ") and split_inputs(one, inputs)[1] == "it is a big town"


@given(st.lists(st.text(max_size=20).filter(lambda t: "\n" not in t), min_size=2, max_size=4))
def test_a_joined_text_is_taken_apart_again(values: list[str]) -> None:
    inputs = tuple(f"column {i}" for i in range(len(values)))
    assert split_inputs(joined(values, inputs), inputs) == values


def test_a_text_that_was_not_joined_is_its_first_column() -> None:
    assert split_inputs("free text", ("a", "b", "c")) == ["free text", "", ""]
    assert split_inputs("a: one\nb:", ("a", "b")) == ["one", ""]  # the end was stripped
    assert split_inputs("one\nmore\nb: two\nlines", ("a", "b")) == ["one\nmore", "two\nlines"]
    assert split_inputs("a: one", ("a",)) == ["a: one"]


class TestOutliers:
    """The scores of stats/outliers on data whose answer is known."""

    def test_an_area_is_the_share_of_pairs(self) -> None:
        draw = np.random.default_rng(0)
        a, b = draw.integers(0, 9, 60).astype(float), draw.integers(2, 11, 40).astype(float)
        pairs = (b[:, None] > a).mean() + 0.5 * (b[:, None] == a).mean()
        found = outliers.auroc(a, b)
        assert found.estimate == pytest.approx(pairs) and found.low < pairs < found.high

    def test_its_interval_covers(self) -> None:
        from scipy.stats import norm

        truth, hit = norm.cdf(1 / np.sqrt(2)), 0
        for seed in range(300):
            draw = np.random.default_rng(seed)
            found = outliers.auroc(draw.normal(size=60), draw.normal(1, 1, 60))
            hit += found.low <= truth <= found.high
        assert 0.91 <= hit / 300 <= 0.99

    def test_far_rows_are_found_and_near_ones_too(self) -> None:
        draw = np.random.default_rng(1)
        centres = draw.normal(size=(6, 40))
        labels = np.repeat(np.arange(6), 60)
        x = centres[labels] + 0.4 * draw.normal(size=(360, 40))
        inside = centres[draw.integers(0, 6, 200)] + 0.4 * draw.normal(size=(200, 40))
        far = draw.normal(size=(200, 40))
        near = centres[draw.integers(0, 6, 200)] + 0.75 * draw.normal(size=(200, 40))
        gaussian = outliers.Gaussian.fit(x, labels)
        for score in (
            gaussian.relative,
            gaussian.mahalanobis,
            lambda rows: outliers.neighbour_distance(x, rows),
        ):
            assert outliers.auroc(score(inside), score(far)).estimate > 0.95
        assert outliers.auroc(gaussian.mahalanobis(inside), gaussian.mahalanobis(near)).estimate > 0.75

    def test_p_values_are_uniform_and_the_rate_is_held(self) -> None:
        draw = np.random.default_rng(2)
        p = outliers.tail(draw.normal(size=4000), draw.normal(size=4000))
        assert abs((p <= 0.05).mean() - 0.05) < 0.015
        assert outliers.tail(np.arange(9.0), np.array([100.0, -100.0])).tolist() == [0.1, 1.0]

    def test_doubt(self) -> None:
        assert outliers.doubt(np.array([[0.75, 0.25]])).tolist() == [0.25]
        with pytest.raises(ValueError, match="at least one"):
            outliers.auroc(np.zeros(0), np.zeros(1))


@pytest.mark.real
def test_out_of_scope_texts_of_clinc150_are_found(sets: Path) -> None:
    """AUROC at least 0.95 on clinc150's own out-of-scope rows, by features of the frozen base alone; 30 rows a class."""
    import pyarrow.parquet as pq

    from basewise.engine.features import FeatureStore
    from basewise.steps.bases import pull
    from basewise.steps.predict import cache_folder

    def read(name: str, most: int) -> tuple[list[str], list[str]]:
        table = pq.read_table(sets / "clinc150" / f"{name}.parquet")
        order = np.sort(np.random.default_rng(0).permutation(len(table))[:most])
        return [str(table["text"][int(i)]) for i in order], [str(table["label"][int(i)]) for i in order]

    (train, named), (inside, _), (outside, _) = (
        read("train", 4500),
        read("test", 1000),
        read("outofscope_test", 1000),
    )
    labels = np.unique(named, return_inverse=True)[1]
    task = replace(tiny_task())
    scope = part("checks", "scope")
    base = pull("minilm-l6")
    rows = replace(
        task.rows,
        texts=tuple(train),
        labels=labels,
        row_ids=np.arange(len(train)),
        groups=np.arange(len(train)),
    )
    made = Subject(
        run=Path(), files=Path(), decision=Decision(verdict="", sentence="", chosen=""), classes=(), answer=lambda texts: np.zeros((0, 0)),
        task=replace(task, rows=rows, split=np.array(["train"] * len(train))), base=base, features=FeatureStore(cache_folder()),
    )  # fmt: skip
    parts = scope.feature_scores(made, inside, outside, 4500, set())
    half = np.arange(len(inside)) % 2 == 0
    known = [p[0][half] for p in parts]
    area = outliers.auroc(
        outliers.combine(known, [p[0][~half] for p in parts]), outliers.combine(known, [p[1] for p in parts])
    )
    assert area.estimate >= 0.95, area
