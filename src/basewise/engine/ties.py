"""Close questions again in fp32, so that a faster precision hardly ever makes another choice than fp32.

A rounded network moves each log-probability by a little, which matters only where the best two choices of a question are
closer than that. How much it moves them is measured on the questions at hand: the closest ones are scored in both
precisions, the spread of the difference says which others are close, and so on until none is left.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from basewise.engine.causal import Causal, Scores

FIRST = 16
"""Questions scored again at first, the closest ones, whatever their distance."""
SPREADS = 3.0
"""Standard deviations of the difference of two choices' errors within which a question counts as close; or twice the
largest error seen, if that is more: long continuations are off by more than short ones."""
LEAST_SPREAD = 1e-3


def settled(
    causal: Causal, requests: Sequence[tuple[str, str]], counts: Sequence[int], near: Scores
) -> Scores:
    """`near` with the log-probabilities of close questions in fp32.

    requests: (context, choice), the choices of one question after another; `counts` of them a question. A question is
    close by the sum of its tokens' log-probabilities or by that sum per byte, so that both ways of picking hold.
    """
    from basewise.engine.causal import Scores

    starts = np.concatenate([[0], np.cumsum(counts)])
    sizes = np.array([max(len(choice.strip().encode()), 1) for _, choice in requests], float)
    values, greedy = near.log_probability.copy(), near.greedy.copy()
    distance = np.array([_distance(values[a:b], sizes[a:b]) for a, b in itertools.pairwise(starts)])
    order = np.argsort(distance, kind="stable")
    again, computed, unique, errors = order[:FIRST], near.computed, near.unique, np.zeros(0)
    done, free = np.zeros(len(distance), bool), 0
    while len(again):
        rows = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in again])
        exact = causal.exact.score([requests[r] for r in rows])
        moved = exact.log_probability - near.log_probability[rows]
        question = np.repeat(np.arange(len(again)), [starts[i + 1] - starts[i] for i in again])
        mean = np.bincount(question, moved) / np.bincount(question)
        errors = np.concatenate([errors, (moved - mean[question])[np.isfinite(moved)]])
        # a question's own mean has been taken off
        free += len(rows) - len(again)
        values[rows], greedy[rows] = exact.log_probability, exact.greedy
        computed, unique = computed + exact.computed, unique + exact.unique
        done[again] = True
        spread = max(float(np.sqrt((errors**2).sum() / max(free, 1))), LEAST_SPREAD)
        within = max(SPREADS * np.sqrt(2.0) * spread, 2.0 * float(np.abs(errors).max(initial=0.0)))
        again = np.flatnonzero(~done & (distance < within))
    return Scores(values, greedy, near.tokens, computed, unique)


def _distance(values: np.ndarray, sizes: np.ndarray) -> float:
    """Nats between the best two of some choices, by their sums or by their sums per byte, whichever is less."""
    if len(values) < 2:
        return float("inf")
    plain, best = np.sort(values), np.sort(values / sizes)
    return float(min(plain[-1] - plain[-2], (best[-1] - best[-2]) * sizes.min()))
