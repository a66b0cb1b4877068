"""Whether a new release does harm, at every look: e-values for rows that both answered and for shares of the traffic.

Shadow: old and new answer the same rows, so discordant pairs decide (`stats/sequential.log_e_value`). Canary: each request is answered
by one of them, drawn anew, so that what comes often comes to both. Given the outcomes of the old release since the new one's last
outcome, and how many of all of them were wrong, the new one's outcome is a draw without replacement where both err alike; a bet on
higher odds of error, mixed over four odds, is an e-process whatever the common rate is and however it drifts between blocks.
Reaching 20 happens by chance with probability at most 1/20.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from basewise.stats.sequential import log_e_value

ODDS = (1.5, 2.0, 4.0, 10.0)
PROVEN = 20.0
MOST_BLOCK = 10_000


@dataclass(frozen=True, kw_only=True)
class Canary:
    """Outcomes so far: of the old release since the last outcome of the new one, all of both, the log of each bet."""

    old_right: int = 0
    old_wrong: int = 0
    seen_old: tuple[int, int] = (0, 0)
    seen_new: tuple[int, int] = (0, 0)
    logs: tuple[float, ...] = (0.0,) * len(ODDS)

    def old(self, right: bool) -> Canary:
        """One more outcome of the old release."""
        rights, wrongs = self.seen_old
        seen = (rights + right, wrongs + (not right))
        if self.old_right + self.old_wrong >= MOST_BLOCK:
            return replace(self, seen_old=seen)
        return replace(
            self, old_right=self.old_right + right, old_wrong=self.old_wrong + (not right), seen_old=seen
        )

    def new(self, right: bool) -> Canary:
        """One more outcome of the new release: the bets on it are settled and a new block begins."""
        wrong = not right
        rights, wrongs = self.seen_new
        seen = (rights + right, wrongs + wrong)
        size, errors = self.old_right + self.old_wrong + 1, self.old_wrong + wrong
        logs = tuple(
            log + math.log((odds if wrong else 1.0) * size / (odds * errors + size - errors))
            for log, odds in zip(self.logs, ODDS, strict=True)
        )
        return Canary(seen_old=self.seen_old, seen_new=seen, logs=logs)

    @property
    def log_e(self) -> float:
        """Natural log of the evidence that the new release errs more often."""
        highest = max(self.logs)
        return highest + math.log(sum(math.exp(x - highest) for x in self.logs) / len(self.logs))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "old_right": self.old_right,
            "old_wrong": self.old_wrong,
            "seen_old": list(self.seen_old),
            "seen_new": list(self.seen_new),
            "logs": list(self.logs),
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Canary:
        """The inverse of `to_dict`."""
        return cls(
            old_right=value["old_right"],
            old_wrong=value["old_wrong"],
            seen_old=tuple(value["seen_old"]),
            seen_new=tuple(value["seen_new"]),
            logs=tuple(value["logs"]),
        )


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """Rows that both answered and whose truth came: only the old one right, only the new one right, all."""

    old_only: int = 0
    new_only: int = 0
    rows: int = 0

    def add(self, pairs: Iterable[tuple[bool, bool]]) -> Shadow:
        """More (old right, new right) pairs."""
        old, new, rows = self.old_only, self.new_only, self.rows
        for a, b in pairs:
            old, new, rows = old + (a and not b), new + (b and not a), rows + 1
        return Shadow(old_only=old, new_only=new, rows=rows)

    @property
    def log_e(self) -> float:
        """Natural log of the evidence that the new release is worse on the same rows."""
        return float(log_e_value(self.old_only, self.new_only))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"old_only": self.old_only, "new_only": self.new_only, "rows": self.rows}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Shadow:
        """The inverse of `to_dict`."""
        return cls(**value)


def proven(log_e: float) -> bool:
    """Whether the evidence has reached PROVEN."""
    return log_e >= math.log(PROVEN)
