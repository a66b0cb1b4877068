"""Every suite keeps the contract of its folder, on tiny sets and on the public ones; draws are fair, nested and by seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tiny_sets
from basewise.core import registry
from basewise.core import suite as s
from basewise.core.errors import InputError, TableError, UnknownName
from basewise.core.suite import BenchTask, Data, Item
from basewise.steps.bench_items import balanced, by_name, draw, find_tasks

KEYS = [key for key in registry.keys("suites") if not by_name(key)]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return Data(tiny_sets.write(tmp_path_factory.mktemp("sets")))


def holds(task: BenchTask, key: str) -> None:
    """What every task promises."""
    assert task.name.startswith(f"{key}/") and task.name == task.name.strip() and " " not in task.name
    assert task.items and task.about
    assert task.kind in (s.CHOICE, s.ROLLING, s.GENERATE)
    assert task.measure in (s.ACCURACY, s.PER_BYTE, s.SHARE, s.AUROC, s.BITS)
    assert task.better in (s.HIGH, s.LOW, s.HALF)
    assert task.shots == 0 or not task.shotless
    assert 0 < task.share <= 1
    for item in (*task.items, *task.pool):
        if task.kind == s.CHOICE:
            assert len(item.choices) >= 2 and len(set(item.choices)) == len(item.choices), item
            assert all(choice.strip() for choice in item.choices)
            assert -1 <= item.answer < len(item.choices)
            assert item.answer >= 0 or task.measure == s.AUROC
            assert not item.context or all(choice.startswith(" ") for choice in item.choices)
        elif task.kind == s.GENERATE:
            assert item.target and not item.choices
        else:
            assert item.context.strip() and not item.choices
        assert item.context == item.context.rstrip() or task.kind == s.ROLLING, (
            "the space belongs to the choice"
        )
    if task.probed:
        assert len({item.choices for item in (*task.pool, *task.items)}) == 1


@pytest.mark.parametrize("key", KEYS)
def test_a_suite_keeps_the_contract(key: str, small: Data, tmp_path: Path) -> None:
    assert registry.summary("suites", key).endswith(")." if "20" in registry.summary("suites", key) else ".")
    assert len(registry.summary("suites", key)) <= 120
    module = registry.part("suites", key)
    assert isinstance(module.FILES, tuple) and not small.missing(module.FILES)
    tasks = module.tasks(small)
    assert tasks and len({task.name for task in tasks}) == len(tasks)
    assert module.tasks(small) == tasks, "the same files give the same tasks"
    for task in tasks:
        holds(task, key)
    if module.FILES:
        with pytest.raises(TableError, match=module.FILES[0]):
            module.tasks(Data(tmp_path))


@pytest.mark.real
@pytest.mark.parametrize("key", KEYS)
def test_a_suite_keeps_the_contract_on_the_public_sets(key: str, sets: Path) -> None:
    for task in registry.part("suites", key).tasks(Data(sets)):
        holds(task, key)


@pytest.mark.real
def test_all_is_at_least_a_hundred_tasks(sets: Path) -> None:
    tasks = find_tasks(["all"], Data(sets))
    assert len(tasks) >= 100
    assert len({task.name for task in tasks}) == len(tasks)
    assert Counter(task.suite for task in tasks)["blimp"] == 67
    assert Counter(task.suite for task in tasks)["bbh"] == 27


def test_tasks_are_found_by_suite_by_name_and_by_commas(small: Data) -> None:
    names = [task.name for task in find_tasks(["bbh/navigate,piqa", "bbh"], small)]
    assert names[:2] == ["bbh/navigate", "piqa/piqa"] and len(names) == len(set(names)) == 5
    with pytest.raises(UnknownName, match="'blimp'"):
        find_tasks(["blmp"], small)
    with pytest.raises(UnknownName, match="'bbh/navigate'"):
        find_tasks(["bbh/navgate"], small)
    with pytest.raises(InputError, match="no suite"):
        find_tasks([" ,"], small)


def test_a_file_with_other_columns_is_one_line(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "piqa").mkdir()
    pq.write_table(pa.table({"goal": ["x"]}), tmp_path / "piqa" / "test.parquet")
    with pytest.raises(TableError, match="no column question, choices, answer; found: goal"):
        find_tasks(["piqa"], Data(tmp_path))


def test_demonstrations_are_never_scored_and_are_nested(small: Data) -> None:
    task = find_tasks(["bbh/navigate"], small)[0]
    many = draw(task, 8, None, 0)
    assert not set(many.task.items) & set(many.demonstrations)
    assert len(many.task.items) + len(many.demonstrations) == len(task.items)
    assert [d.answer for d in many.demonstrations].count(0) == 4
    item = many.task.items[0]
    assert many.prompt(item, 8).endswith(many.prompt(item, 3))
    assert many.prompt(item, 0) == item.context
    assert all(d.shown in many.prompt(item, 8) for d in many.demonstrations)


def test_a_draw_is_that_of_its_seed_and_whole_clusters(small: Data) -> None:
    task = find_tasks(["bias/bbq_age_ambiguous"], small)[0]
    drawn = [draw(task, 0, 4, seed) for seed in (0, 0, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len({d.digest for d in drawn}) > 1
    assert Counter(Counter(i.cluster for i in drawn[0].task.items).values()) == {2: 2}
    assert len(draw(replace(task, share=0.5), 0, 4, 0).task.items) == 2
    assert len(draw(task, 0, 10_000, 0).task.items) == len(task.items)


def test_more_demonstrations_than_items_is_refused(small: Data) -> None:
    task = find_tasks(["bbh/navigate"], small)[0]
    with pytest.raises(InputError, match="fewer --shots"):
        draw(task, 900, None, 0)


def test_every_beginning_is_balanced() -> None:
    items = [
        Item(context=f"q{i}", choices=(" a", " b", " c"), answer=0 if i < 20 else i % 3) for i in range(40)
    ]
    order = balanced(items, np.random.default_rng(0))
    assert len(set(order)) == 40
    for k in (3, 6, 9, 12):
        assert set(Counter(items[i].answer for i in order[:k]).values()) == {k // 3}


def test_passages_grow_and_hide_their_answer_once() -> None:
    from basewise.parts.suites import recall

    for make in (recall.passkeys, recall.needles):
        lengths = []
        for words in recall.DISTANCES:
            items = make(words)
            lengths.append(np.mean([len(item.context.split()) for item in items]))
            for item in items:
                assert item.context.count(item.choices[item.answer].strip()) == 1
        assert np.all(np.diff(lengths) > 0.8 * np.diff(recall.DISTANCES))
    answers = Counter(item.answer for item in recall.needles(100))
    assert max(answers.values()) < 0.25 * sum(answers.values()), (
        "a place that is right too often could be guessed"
    )


def test_articles_are_whole_and_lose_nothing() -> None:
    from basewise.parts.suites.wikitext import split

    text = " \n = A = \n \n one \n = = Sub = = \n two \n = B b = \n three \n"
    pieces = split(text)
    assert "".join(pieces).strip() == text.strip() and len(pieces) == 2
    assert pieces[0].startswith(" = A = ") and "Sub" in pieces[0]


def test_options_are_read_from_the_end_of_a_question() -> None:
    from basewise.parts.suites.bbh import options

    assert options("x\nOptions:\n(A) red\n(B) blue") == ("(A)", "(B)")
    assert options("x\nOptions:\n- valid \n- invalid") == ("valid", "invalid")
    assert options("- not an option\nwithout the word") == ()
