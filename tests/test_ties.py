"""Close questions in a faster precision are scored again in fp32, so that the same choice is made."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from basewise.engine.causal import Scores
from basewise.engine.ties import settled


def scores(values: np.ndarray) -> Scores:
    return Scores(
        values, np.zeros(len(values), bool), np.ones(len(values), np.int64), len(values), len(values)
    )


def judged(exact: np.ndarray, error: np.ndarray, counts: list[int]) -> tuple[Scores, list[int]]:
    """`settled` on made-up log-probabilities; and the requests that were scored again."""
    requests = [(f"question {i}", "x" * (1 + i % 5)) for i in range(len(exact))]
    place, asked = {r: i for i, r in enumerate(requests)}, []

    def score(some: list[tuple[str, str]]) -> Scores:
        rows = [place[r] for r in some]
        asked.extend(rows)
        return scores(exact[rows])

    causal: Any = SimpleNamespace(precision="bf16", exact=SimpleNamespace(score=score))
    return settled(causal, requests, counts, scores(exact + error)), asked


def picks(values: np.ndarray, counts: list[int]) -> list[int]:
    return [int(v.argmax()) for v in np.split(values, np.cumsum(counts)[:-1])]


# the promise is one of statistics
@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.floats(0.001, 0.3), st.integers(2, 5))
def test_the_choices_are_those_of_fp32(seed: int, size: float, choices: int) -> None:
    """For errors up to three of their standard deviations, which is what is promised."""
    rng = np.random.default_rng(seed)
    counts = [choices] * 120
    exact = rng.normal(-20, 2, sum(counts))
    error = size * np.clip(rng.standard_normal(sum(counts)), -1.5, 1.5)
    found, asked = judged(exact, error, counts)
    assert picks(found.log_probability, counts) == picks(exact, counts)
    # nothing is paid twice
    assert len(asked) == len(set(asked))
    again = np.array(sorted(asked))
    np.testing.assert_array_equal(found.log_probability[again], exact[again])


def test_few_are_scored_again_where_the_error_is_small() -> None:
    rng = np.random.default_rng(0)
    exact = rng.normal(-20, 3, 4000)
    found, asked = judged(exact, 1e-4 * rng.standard_normal(4000), [4] * 1000)
    assert 64 <= len(asked) < 120
    assert found.computed == 4000 + len(asked)


def test_one_choice_and_few_questions() -> None:
    exact = np.array([-1.0, -2.0, -2.0, -5.0])
    found, _ = judged(exact, np.array([0.5, -0.2, 0.3, 0.1]), [1, 3])
    assert picks(found.log_probability, [1, 3]) == picks(exact, [1, 3])
