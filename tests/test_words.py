"""Words: the counts are those of a plain count, term by term, whatever the text; old and new rows alike."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basewise.core.method import Context
from basewise.core.task import Examples
from basewise.engine.folds import folds_of
from basewise.parts.methods import words
from basewise.parts.methods.words import MARK, Vocabulary, pieces_of, tokens_of, words_of

TEXT = st.text(st.sampled_from("ab#é \t\n.,'1_"), max_size=24)


def naive(text: str, letters: bool) -> Counter[str]:
    """Terms of one text, counted one after another."""
    tokens = tokens_of(text)
    found = list(words_of(tokens))
    if letters:
        for token in tokens:
            padded = f" {token[:40]} "
            found += [MARK + padded[i : i + n] for n in (2, 3, 4) for i in range(len(padded) - n + 1)]
    return Counter(found)


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=8), st.lists(TEXT, max_size=5), st.booleans())
def test_the_matrix_is_a_plain_count(texts: list[str], others: list[str], letters: bool) -> None:
    vocabulary = Vocabulary.of(texts, letters)
    counts = [naive(text, letters) for text in texts]
    rows_with = Counter(term for each in counts for term in each)
    assert vocabulary.columns == {term: i for i, term in enumerate(sorted(rows_with))}
    for term, column in vocabulary.columns.items():
        expected = np.log((1 + len(texts)) / (1 + rows_with[term])) + 1
        assert vocabulary.idf[column] == pytest.approx(expected, rel=1e-6)
    matrix = vocabulary.matrix(others).toarray()
    assert matrix.dtype == np.float32
    for text, row in zip(others, matrix, strict=True):
        expected_row = np.zeros(max(len(vocabulary.columns), 1))
        for group in (True, False):
            known = {
                t: n
                for t, n in naive(text, letters).items()
                if t in vocabulary.columns and t.startswith(MARK) == group
            }
            values = {t: (1 + np.log(n)) * vocabulary.idf[vocabulary.columns[t]] for t, n in known.items()}
            length = np.sqrt(sum(v * v for v in values.values()))
            for t, v in values.items():
                expected_row[vocabulary.columns[t]] = v / length
        np.testing.assert_allclose(row, expected_row, atol=1e-6)


def test_pieces_and_words_do_not_meet() -> None:
    assert not {t for t in words_of(tokens_of("# x \t a#b ##")) if t.startswith(MARK)}
    assert all(p.startswith(MARK) for p in pieces_of("x"))
    assert "# x" in Vocabulary.of(["# x"], True).columns


def test_rare_pieces_go_where_rows_are_many_and_the_cap_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "MANY_ROWS", 2)
    # pieces are counted over several parts
    monkeypatch.setattr(words, "CHUNK_ROWS", 2)
    columns = Vocabulary.of(["abc", "abd", "xyz"], True).columns
    assert MARK + " ab" in columns
    assert MARK + "xyz" not in columns
    assert "xyz" in columns
    monkeypatch.setattr(words, "MOST_TERMS", 3)
    assert len(Vocabulary.of(["abc", "abd", "xyz"], True).columns) == 3


def test_the_first_word_decides_where_all_of_them_occur_in_every_text() -> None:
    """Four words in each text in any order; the first one is the class."""
    rng = np.random.default_rng(0)
    colours = ["red", "green", "blue", "black"]
    orders = [rng.permutation(4) for _ in range(240)]
    texts = tuple(" ".join(f"{colours[i]} {rng.integers(10**6)}" for i in order) for order in orders)
    labels = np.array([order[0] for order in orders])
    examples = Examples(texts, labels, np.arange(240), np.arange(240), tuple(colours))
    fitted = words.fit(examples.take(np.arange(160)), None, Context(seed=0))
    assert (fitted.probabilities(texts[160:]).argmax(1) == labels[160:]).mean() > 0.95
    assert list(words_of([])) == []


@pytest.mark.slow
def test_rows_that_belong_together_do_not_make_the_answers_too_sure() -> None:
    """Each row three times: what is held out to choose the temperature must not be known from its copies."""
    rng = np.random.default_rng(1)
    names = [f"w{i}" for i in range(400)]
    labels = rng.integers(0, 2, 400)
    shares = np.stack([np.linspace(1, 2, 400), np.linspace(2, 1, 400)])
    drawn = [rng.choice(names, 12, p=shares[y] / shares[y].sum()) for y in labels]
    texts = [" ".join(row) for row in drawn]
    once = np.arange(150)
    losses = []
    for rows in (once, np.repeat(once, 3)):
        examples = Examples(
            tuple(texts[i] for i in rows), labels[rows], np.arange(len(rows)), rows, ("a", "b")
        )
        found = words.fit(examples, None, Context(seed=0)).probabilities(texts[150:])
        losses.append(-np.log(found[np.arange(250), labels[150:]]).mean())
    assert losses[1] < 1.15 * losses[0]


def test_folds_keep_groups_whole() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 5)
    labels = (groups % 3).astype(int)
    # a class in one group, and one of one row
    labels[groups == 7], labels[:1] = 3, 4
    fold = folds_of(labels, 5, rng, groups)
    assert (fold[labels == 3] == -1).all() and (fold[labels == 4] == -1).all()
    dealt = fold >= 0
    assert all(len(np.unique(fold[(groups == g) & dealt])) <= 1 for g in range(60))
    assert set(fold[dealt]) == set(range(5))
    assert np.bincount(fold[dealt]).max() <= 75
    alone = [folds_of(labels, 5, np.random.default_rng(3), g) for g in (None, np.arange(300))]
    np.testing.assert_array_equal(*alone)
