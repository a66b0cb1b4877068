"""Roles: sensible guesses that say why. Splits: stratified, grouped, deterministic, for any table."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basewise.core.errors import InputError, TargetError, UnknownName
from basewise.core.roles import guess_roles
from basewise.core.split import folds, nested_subsets, parse_times, split_rows

N = 60
COLUMNS: dict[str, list[str | None]] = {
    "ticket_id": [f"T{i:04}" for i in range(N)],
    "subject": [f"question number {i} about things" for i in range(N)],
    "body": [f"dear team please look at item {i} soon" for i in range(N)],
    "queue": [["billing", "shipping", "account"][i % 3] for i in range(N)],
    "customer": [f"c{i % 20}" for i in range(N)],
    "received": [f"2026-01-{1 + i % 28:02}" for i in range(N)],
    "channel": [["web", "mail"][i % 2] for i in range(N)],
}


def test_roles_are_guessed_with_reasons() -> None:
    roles = guess_roles(COLUMNS)
    assert {name: role.role for name, role in roles.items()} == {
        "ticket_id": "id", "subject": "input", "body": "input", "queue": "target", "customer": "group",
        "received": "time", "channel": "other",
    }  # fmt: skip
    assert all(role.reason for role in roles.values())


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("user_country", ["de", "fr", "it"]),
        ("customer_segment", [f"s{k}" for k in range(19)]),
        ("account_type", ["free"] * 30 + [f"t{k}" for k in range(30)]),
    ],
)
def test_few_values_or_one_large_one_are_no_group(name: str, values: list[str]) -> None:
    column: list[str | None] = [values[i % len(values)] for i in range(N)]
    roles = guess_roles({**COLUMNS, name: column}, target="queue")
    assert (roles[name].role, roles["customer"].role) == ("other", "group")
    assert guess_roles({**COLUMNS, name: column}, target="queue", group=name)[name].role == "group"


@pytest.mark.parametrize(
    ("name", "values", "role"),
    [
        # one to one with the target
        ("label_text", ["Billing", "Shipping", "Account"], "other"),
        ("message_type", ["new", "reply", "forward", "new", "new"], "other"),
        ("content_code", ["Billing", "Shipping", "Account"] * 20, "other"),
        ("email_body", [f"word{i}" for i in range(50)], "input"),
        # the whole name
        ("subject", ["hello", "question", "order", "again"], "input"),
    ],
)
def test_a_text_by_a_part_of_its_name_asks_for_variety(name: str, values: list[str], role: str) -> None:
    column: list[str | None] = [values[i % len(values)] for i in range(N)]
    roles = guess_roles({**{n: v for n, v in COLUMNS.items() if n != "subject"}, name: column})
    assert (roles[name].role, roles["body"].role) == (role, "input")


def test_other_names_of_many_classes_are_no_text() -> None:
    classes = [f"c{i % 25}" for i in range(N)]
    columns = {"text": COLUMNS["body"], "label": classes, "label_text": [f"name of {c}" for c in classes]}
    roles = guess_roles(columns)
    assert {n: r.role for n, r in roles.items()} == {
        "text": "input",
        "label": "target",
        "label_text": "other",
    }


@pytest.mark.parametrize(
    ("words", "role"),
    [(("train", "test"), "split"), (("train", "val"), "split"), (("dev", "test"), "split"), (("dev", "val"), "other"), (("train", "training"), "other")],
)  # fmt: skip
def test_a_split_is_guessed_where_both_sides_occur(words: tuple[str, str], role: str) -> None:
    column: list[str | None] = [words[i % 2] for i in range(N)]
    assert guess_roles({**COLUMNS, "part": column}, target="queue")["part"].role == role


def test_given_roles_win() -> None:
    roles = guess_roles(COLUMNS, inputs="body", target="channel", group="queue", time="received")
    assert [roles[n].role for n in ("subject", "body", "channel", "queue", "received")] == [
        "other", "input", "target", "group", "time",
    ]  # fmt: skip
    with pytest.raises(UnknownName, match="did you mean 'queue'"):
        guess_roles(COLUMNS, target="quue")
    with pytest.raises(InputError, match="two roles"):
        guess_roles(COLUMNS, inputs=["body"], target="body")
    with pytest.raises(TargetError, match="target="):
        guess_roles({"a": ["x y z w v"] * 4, "b": ["1.5", "2.5", "3.5", "4.5"]})
    with pytest.raises(InputError, match="no column holds text"):
        guess_roles({"label": ["a", "b"] * 30, "n": [f"{i}.5" for i in range(60)]})


labels_and_groups = st.integers(4, 80).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 4), min_size=n, max_size=n),
        st.lists(st.integers(0, n), min_size=n, max_size=n),
    )
)


@settings(max_examples=80, deadline=None)
@given(labels_and_groups, st.integers(0, 3))
def test_groups_stay_whole_and_no_class_is_lost_from_train(
    rows: tuple[list[int], list[int]], seed: int
) -> None:
    labels, groups = map(np.array, rows)
    sides = split_rows(labels, groups, seed=seed)
    assert (sides == split_rows(labels, groups, seed=seed)).all()
    for g in np.unique(groups):
        assert len(set(sides[groups == g])) == 1
    assert set(labels[sides == "train"]) == set(labels)
    if len(np.unique(groups)) >= 3:
        fold = folds(labels, groups, 3, seed)
        assert set(fold) == {0, 1, 2}
        for g in np.unique(groups):
            assert len(set(fold[groups == g])) == 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(5, 60), min_size=2, max_size=6), st.integers(0, 9))
def test_single_rows_are_split_in_each_class_by_its_share(sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    groups = np.arange(len(labels))
    test = split_rows(labels, groups, seed=seed, share=0.2) == "test"
    fold = folds(labels, groups, 5, seed)
    for c, size in enumerate(sizes):
        assert abs(test[labels == c].sum() - 0.2 * size) <= 1
        assert np.ptp(np.bincount(fold[labels == c], minlength=5)) <= 1


@pytest.mark.parametrize("paired", [False, True])
def test_where_every_class_is_too_small_for_a_test_row_some_have_one(paired: bool) -> None:
    labels = np.repeat(np.arange(50), 2)
    groups = np.arange(100) // (4 if paired else 1)  # two classes a group: neither may lose both of its rows
    test = split_rows(labels, groups) == "test"
    assert test.sum() == (0 if paired else 20)
    assert np.bincount(labels[test], minlength=50).max() <= 1


def test_large_groups_keep_the_shares_near() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(300), rng.integers(1, 12, 300))
    labels = rng.integers(0, 5, len(groups))
    test = split_rows(labels, groups, share=0.2) == "test"
    assert abs(test.mean() - 0.2) < 0.02
    for c in range(5):
        assert abs(test[labels == c].mean() - 0.2) < 0.04


def test_newest_rows_go_to_test() -> None:
    times = np.random.default_rng(1).permutation(100).astype(float)
    sides = split_rows(np.arange(100) % 3, np.arange(100), how="time", times=times)
    assert times[sides == "test"].min() > times[sides == "train"].max()
    assert (sides == "test").sum() == 20
    with pytest.raises(InputError, match="time="):
        split_rows(np.arange(9) % 3, np.arange(9), how="time")


@settings(max_examples=60, deadline=None)
@given(labels_and_groups, st.integers(0, 9))
def test_no_train_row_is_newer_than_a_test_row(table: tuple[list[int], list[int]], seed: int) -> None:
    labels, groups = np.array(table[0]) - 1, np.array(table[1])
    times = np.random.default_rng(seed).integers(0, len(labels), len(labels)).astype(float)
    sides = split_rows(labels, groups, how="time", times=times)
    test, train = sides == "test", sides == "train"
    assert test.sum() == int(0.2 * (labels >= 0).sum() + 0.5)
    if test.any():
        assert times[train].max(initial=-1) <= times[test].min()
        assert not set(groups[train]) & set(groups[test])
    lost = ~(test | train)
    assert (np.isin(groups[lost], groups[test]) | (labels[lost] < 0)).all(), (
        "nothing is left out without need"
    )


def test_a_given_split_is_kept() -> None:
    given_words = ["train", "Test ", "validation", "test"]
    assert split_rows(np.zeros(4), np.arange(4), how="given", given=given_words).tolist() == [
        "train", "test", "train", "test",
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"'other' in row 2"):
        split_rows(np.zeros(2), np.arange(2), how="given", given=["train", "other"])
    with pytest.raises(InputError, match="'other' in row 8"):
        split_rows(np.zeros(2), np.arange(2), how="given", given=["train", "other"], row_ids=np.array([2, 7]))
    with pytest.raises(InputError, match=r"every labelled row into train.*--split chance"):
        split_rows(np.zeros(2), np.arange(2), how="given", given=["train", "train"])
    with pytest.raises(InputError, match="every labelled row into test"):
        split_rows(np.zeros(2), np.arange(2), how="given", given=["dev", "val"])
    validation = split_rows(np.zeros(3), np.arange(3), how="given", given=["train", "Dev", "val"])
    assert validation.tolist() == ["train", "test", "test"], "no row says test"
    with pytest.raises(InputError, match="unknown split"):
        split_rows(np.zeros(2), np.arange(2), how="random")
    with pytest.raises(InputError, match="between 0 and 1"):
        split_rows(np.zeros(2), np.arange(2), share=20)
    with pytest.raises(InputError, match="one group"):
        folds(np.zeros(4, int), np.zeros(4, int), 5)
    few = folds(np.arange(6) % 2, np.arange(6) // 2, 5)
    assert len(np.unique(few)) == 3, "three groups make three folds, not an error"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=2, max_size=6), st.integers(0, 9))
def test_subsets_are_nested_and_stratified(sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    wanted = [len(sizes), len(labels) // 2 + 1, len(labels), 10 * len(labels)]
    subsets = nested_subsets(labels, sorted(wanted), seed)
    for small, large in pairwise(subsets):
        assert set(small) <= set(large)
    assert set(labels[subsets[sorted(wanted).index(len(sizes))]]) == set(labels)
    assert [len(s) for s in subsets] == [min(w, len(labels)) for w in sorted(wanted)]
    half = nested_subsets(labels, [max(len(sizes), len(labels) // 2)], seed)[0]
    for c, size in enumerate(sizes):
        assert abs((labels[half] == c).sum() - size * len(half) / len(labels)) <= len(sizes) + 1


def test_times_are_read() -> None:
    assert parse_times(["3", "1.5"]).tolist() == [3.0, 1.5]
    a, b, c = parse_times(["2026-01-01", "2026-01-02T00:00:00+00:00", "2026-01-03 00:00"])
    assert b - a == c - b == 86400
    assert np.diff(parse_times(["31.01.2026", "01.02.2026"])).tolist() == [86400]
    assert np.diff(parse_times(["01/31/2026", "02/01/2026"])).tolist() == [86400]
    assert np.diff(parse_times(["1/31/2026 11:30:05 PM", "2/1/2026 12:30:05 AM"])).tolist() == [3600]
    assert np.diff(parse_times(["31 Jan 2026", "1 Feb 2026"])).tolist() == [86400]
    assert np.diff(parse_times(["2026-01", "2026-02"])).tolist() == [31 * 86400]
    with pytest.raises(InputError, match="'soon'"):
        parse_times(["2026-01-01", "soon"], "when")
    with pytest.raises(InputError, match="no time in 1 rows"):
        parse_times(["2026-01-01", None])
    with pytest.raises(InputError, match=r"no time in 1 rows \(row 10\)"):
        parse_times(["2026-01-01", None], row_ids=np.array([4, 9]))
    for texts, odd in ((["3", "nan"], "nan"), (["3", "inf"], "inf"), (["31.01.2026", "soon"], "soon")):
        with pytest.raises(InputError, match=f"{odd!r} in row 10"):
            parse_times(texts, "when", np.array([4, 9]))


def test_a_split_as_it_is_written() -> None:
    from basewise.core.split import asked_split

    assert asked_split(None) == asked_split("") == (None, None, None)
    assert asked_split("chance") == ("chance", None, None)
    assert asked_split("group:customer") == ("group", "customer", None)
    assert asked_split("time:date") == ("time", None, "date")
    assert asked_split("time:date+group:customer") == ("time", "customer", "date")
    assert asked_split("kept_split+group:shop") == ("kept_split", "shop", None)
    assert asked_split("none+group:shop") == ("none", "shop", None)
