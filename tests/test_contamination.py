"""Contamination: the longest match against a search by hand; what must and must not hide a match."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

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
