"""An alarm over windows with a stated rate of false alarms: a CUSUM of bets on small p-values.

Where nothing changes, the joint p-value of `stats/drift` is uniform on k / (B + 1), and those of successive windows are independent when
each window is held against the rows before it (given the unordered rows so far, which of them are the newest is a fair draw).
So the score log(k p^(k-1)), k = 0.4, of every window has a known distribution, and the threshold whose mean time to a false alarm
is the one stated is computed from it (Brook and Evans 1972) instead of bounded.
"""

from __future__ import annotations

import functools

import numpy as np

from basewise.stats.drift import PERMUTATIONS

SHARPNESS = 0.4
WINDOWS_TO_FALSE_ALARM = 1_000
STATES = 600


def score(p: np.ndarray | float) -> np.ndarray:
    """Log of the bet on a p-value: positive for small ones."""
    return np.log(SHARPNESS) + (SHARPNESS - 1) * np.log(np.asarray(p, float))


def cusum(before: float, p: float) -> float:
    """The alarm's level after one more window."""
    return max(0.0, float(before + score(p)))


def run_length(threshold: float, permutations: int = PERMUTATIONS, states: int = STATES) -> float:
    """Mean number of windows until the level reaches `threshold`, from 0, where nothing changes."""
    width = threshold / states
    centres = (np.arange(states) + 0.5) * width
    # the level rests at exactly 0 for most windows
    centres[0] = 0.0
    steps = score(np.arange(1, permutations + 2) / (permutations + 1))
    reached = np.maximum(0.0, centres[:, None] + steps[None])
    place = np.minimum((reached / width).astype(int), states)
    moves = np.zeros((states, states + 1))
    for column in range(len(steps)):
        np.add.at(moves, (np.arange(states), place[:, column]), 1 / len(steps))
    inner = moves[:, :states]
    return float(np.linalg.solve(np.eye(states) - inner, np.ones(states))[0])


@functools.cache
def threshold_for(windows: float = WINDOWS_TO_FALSE_ALARM, permutations: int = PERMUTATIONS) -> float:
    """The level at which a false alarm comes once in so many windows."""
    low, high = 0.1, 20.0
    for _ in range(30):
        middle = (low + high) / 2
        if run_length(middle, permutations, 200) < windows:
            low = middle
        else:
            high = middle
    return high
