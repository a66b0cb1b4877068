"""Contamination: the longest match against a search by hand; what must and must not hide a match."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basewise.core.suite import AUROC, BITS
from basewise.stats.contamination import WORDS, longest_matches, longest_run
from basewise.stats.duplicates import normalise

WORD = st.sampled_from(["a", "b", "c", "d", "e", "f"])
TEXT = st.lists(WORD, max_size=24).map(" ".join)


def by_hand(item: str, corpus: list[str], n: int) -> int:
    """The longest run of words all of whose n-grams stand somewhere in the corpus."""
    words = normalise(item).split()
    seen = {
        tuple(text.split()[i : i + n])
        for text in map(normalise, corpus)
        for i in range(len(text.split()) - n + 1)
    }
    best = 0
    for start in range(len(words)):
        for end in range(start + n, len(words) + 1):
            if all(tuple(words[i : i + n]) in seen for i in range(start, end - n + 1)):
                best = max(best, end - start)
    return best


@settings(deadline=None)
@given(st.lists(TEXT, max_size=4), st.lists(TEXT, max_size=4), st.integers(1, 4))
def test_the_longest_match_is_that_of_a_search_by_hand(items: list[str], corpus: list[str], n: int) -> None:
    runs, sizes = longest_matches(items, corpus, n)
    assert runs.tolist() == [by_hand(item, corpus, n) for item in items]
    assert sizes.tolist() == [len(item.split()) for item in items]


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=30))
def test_a_run_is_the_longest_unbroken_one(seen: list[bool]) -> None:
    runs = "".join("x" if s else " " for s in seen).split()
    longest = max(map(len, runs), default=0)
    assert longest_run(np.array(seen, bool), 8) == (longest + 7 if longest else 0)


def test_case_signs_and_line_breaks_hide_nothing() -> None:
    item = "The quick brown fox jumps over the lazy dog today"
    corpus = ["Once: THE QUICK, brown\nfox -- jumps over the lazy dog (today) and then"]
    runs, sizes = longest_matches([item, "something else that nobody has written down here before"], corpus)
    assert runs.tolist() == [10, 0] and sizes.tolist() == [10, 9]


def test_an_item_shorter_than_the_window_cannot_match() -> None:
    item = " ".join("abcdefg")
    assert len(item.split()) == WORDS - 1
    assert longest_matches([item], [item])[0].tolist() == [0]


def test_a_plain_file_is_read_in_pieces_that_cut_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from basewise.steps import bench_clean

    monkeypatch.setattr(bench_clean, "PIECE", 40)
    monkeypatch.setattr(bench_clean, "OVERLAP", 60)
    words = [f"word{i}" for i in range(60)]
    (tmp_path / "a.txt").write_text(" ".join(words), "utf-8")
    items = [" ".join(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1)]
    runs, _ = longest_matches([*items, " ".join(reversed(words))], bench_clean.corpus_texts(tmp_path))
    assert runs.tolist() == [WORDS] * len(items) + [0]


def test_forgetting_words_changes_no_match(monkeypatch: pytest.MonkeyPatch) -> None:
    from basewise.stats import contamination

    item = " ".join(f"word{i}" for i in range(12))
    corpus = [f"other{i} thing{i}" for i in range(20)] + [f"before {item} after"]
    monkeypatch.setattr(contamination, "MOST_WORDS", 5)
    assert longest_matches([item], corpus)[0].tolist() == [12]


@pytest.mark.parametrize("measure", [BITS, AUROC])
def test_the_score_without_the_matches_is_that_of_the_others(measure: str) -> None:
    """Long documents match more often, and a ratio of sums over the others is not the mean of what stood for them in all."""
    from basewise.core.benchmark import Answers
    from basewise.core.suite import BenchTask, Item
    from basewise.steps.bench_clean import contamination
    from basewise.steps.bench_scores import scores
    from basewise.steps.bench_tables import Cell

    n, leaked = 40, np.arange(40) < 8
    sizes = np.where(leaked, 9_000.0, 1_000.0)[:, None]
    rng = np.random.default_rng(0)
    logs = -np.log(2) * np.where(leaked, 0.7, 1.0)[:, None] * sizes
    if measure == AUROC:
        logs, sizes = rng.normal(size=(n, 3)), np.ones((n, 3))
    answers = Answers(
        base="b", task="t", shots=0, way="asked", digests=tuple(map(str, range(n))), clusters=("",) * n,
        right=np.where(np.arange(n) % 2, 0, -1), logs=logs, sizes=sizes,
    )  # fmt: skip
    items = tuple(Item(choices=("x", "y", "z"), answer=-1) for _ in range(n))
    task = BenchTask(name="t", about="", measure=measure, items=items)
    runs = np.where(leaked, 20, 0)
    found = contamination([Cell.of(answers, task)], {"t": (runs, np.full(n, 50))}, Path("corpus"))
    (line,) = found["cells"]
    clean = scores(answers.take(~leaked), task).mean()
    assert line["without"]["estimate"] == pytest.approx(clean)
    assert line["gap"]["estimate"] == pytest.approx(scores(answers.take(leaked), task).mean() - clean)
    if measure == BITS:
        assert line["without"]["estimate"] == pytest.approx(1.0)
        assert line["gap"]["estimate"] == pytest.approx(-0.3)


def test_the_gap_of_few_matched_items_is_not_certain() -> None:
    """Items of one difficulty, a few of them matched: their gap left zero out in 67 % (two items) and 34 % (five)."""
    from basewise.steps.bench_clean import _gap

    two = _gap((np.ones(2), np.arange(2)), (np.arange(100) % 2, np.arange(100)))
    assert (two.low, two.high) == (pytest.approx(-0.16461, abs=1e-4), pytest.approx(0.59617, abs=1e-4))
    rng = np.random.default_rng(0)
    for k in (2, 5, 12):
        beyond = 0
        for _ in range(150):
            found = _gap(*((1.0 * (rng.random(n) < 0.8), np.arange(n)) for n in (k, 300)))
            beyond += not found.low <= 0 <= found.high
        assert beyond / 150 <= 0.1, k
    bits = [
        _gap((rng.normal(size=4), np.arange(4)), (rng.normal(size=300), np.arange(300))) for _ in range(100)
    ]
    assert np.mean([not b.low <= 0 <= b.high for b in bits]) <= 0.09
    assert _gap((np.array([0.3]), np.arange(1)), (rng.normal(size=9), np.arange(9))).high == float("inf")
