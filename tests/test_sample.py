"""The embedded sample: made anew it is the same, and the audit finds the faults that were planted in it."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from basewise import sample
from basewise.core.task import Task
from basewise.sample import make
from basewise.steps.audit import audit


@pytest.fixture(scope="module")
def task() -> Task:
    return audit(sample.path(), target="queue")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with sample.path().open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def found(task: Task, check: str) -> set[int]:
    return {row for finding in task.findings if finding.check == check for row in finding.rows}


def test_the_sample_is_what_its_phrases_make(tmp_path: Path) -> None:
    make.write(tmp_path)
    assert (tmp_path / "tickets.csv").read_bytes() == sample.path().read_bytes()
    assert (tmp_path / "planted.json").read_bytes() == (sample.FOLDER / "planted.json").read_bytes()


def test_a_thousand_messages_of_twelve_queues(rows: list[dict[str, str]]) -> None:
    queues = Counter(row["queue"] for row in rows)
    assert len(rows) == 1_000 and len(queues) == 12 and min(queues.values()) >= 30
    assert len({row["customer"] for row in rows}) > 300
    assert len({row["text"] for row in rows}) == 1_000 - len(sample.planted()["exact_duplicates"])


def test_addresses_and_numbers_are_reserved_ones(rows: list[dict[str, str]]) -> None:
    planted = sample.planted()
    assert all("@example." in rows[i]["text"] for i in planted["emails"])
    assert all(any(char.isdigit() for char in rows[i]["text"][-25:]) for i in planted["phones"])


def test_near_duplicates_share_a_group_and_a_side(task: Task) -> None:
    place = {int(row): k for k, row in enumerate(task.rows.row_ids)}
    pairs = [(place[a], place[b]) for a, b in sample.planted()["near_duplicates"]]
    together = [task.rows.groups[a] == task.rows.groups[b] for a, b in pairs]
    assert np.mean(together) >= 0.9
    kept = [(a, b) for (a, b), grouped in zip(pairs, together, strict=True) if grouped]
    assert all(task.split[a] == task.split[b] for a, b in kept)
    rows_found = found(task, "near-duplicates")
    assert (
        np.mean([a in rows_found and b in rows_found for a, b in sample.planted()["near_duplicates"]]) >= 0.9
    )


def test_exact_duplicates_are_all_found(task: Task) -> None:
    assert {row for pair in sample.planted()["exact_duplicates"] for row in pair} <= found(task, "duplicates")


def test_personal_data_is_all_found(task: Task) -> None:
    assert set(sample.planted()["emails"]) <= found(task, "personal-email")
    assert set(sample.planted()["phones"]) <= found(task, "personal-phone")


def test_the_column_that_gives_the_answer_away_is_named_and_no_input(task: Task) -> None:
    leaks = [finding for finding in task.findings if finding.check == "leak"]
    assert any(sample.planted()["leaking_column"] in leak.message for leak in leaks)
    assert all(leak.severity == "fail" for leak in leaks)
    assert task.inputs == ("text",)


def test_most_wrong_labels_are_suspected_and_few_right_ones(task: Task) -> None:
    wrong, suspects = set(sample.planted()["wrong_labels"]), found(task, "label-noise")
    assert len(wrong & suspects) / len(wrong) >= 0.7
    assert len(wrong & suspects) / len(suspects) >= 0.6


def test_the_long_text_and_the_other_languages_are_said(task: Task) -> None:
    assert set(sample.planted()["long_text"]) <= found(task, "long-texts")
    assert any("German" in f.message for f in task.findings if f.check == "languages")
