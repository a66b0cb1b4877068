"""race: run arms over rising rungs under the budget and drop them by evidence that holds at every look.

Rungs are folds where rows are few, and a quarter of the rows before all of them where they are many. Arms are
always compared on rows that both predicted; an arm is dropped when the e-value of the paired comparison with the
leader (stats/sequential, exact under continuous looking) passes its bar. What does not fit into the budget is
skipped before it starts, with its predicted time in the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from basewise.core.base import EMBED
from basewise.core.budget import Cost
from basewise.core.evidence import Trial
from basewise.core.files import Progress, silent
from basewise.core.method import Machine, Wording
from basewise.core.registry import part
from basewise.core.rundir import RunDir
from basewise.core.task import Examples
from basewise.engine.costs import encode_seconds
from basewise.steps.jobs import Arm, Job, Outcome, outcome_from, outcome_record
from basewise.steps.jobs import run as run_job


@dataclass
class Entry:
    """An arm in the race: its prediction before, its outcomes so far by fold."""

    arm: Arm
    predicted: Cost
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    status: str = "waiting"
    why: str = ""

    @property
    def raced(self) -> bool:
        """Whether the arm trains a network and so runs over rungs."""
        return getattr(part("methods", self.arm.method), "RUNGS", "none") == "rows"


@dataclass(frozen=True, kw_only=True)
class Clock:
    """The time budget as a contract: `left` is what may still be promised."""

    started: float
    seconds: float

    @property
    def used(self) -> float:
        return time.monotonic() - self.started

    @property
    def left(self) -> float:
        return self.seconds - self.used


@dataclass
class Race:
    """The state of one race over the train rows; results go to the journal of the run as they come."""

    train: Examples
    folds: np.ndarray
    wanted: tuple[int, ...]
    run: RunDir
    clock: Clock
    machine: Machine
    alpha: float = 0.05
    memory_bytes: float | None = None
    features: object = None
    execute: Callable = None  # type: ignore[assignment]
    progress: Progress = silent
    wording: Wording = field(default_factory=Wording)
    entries: list[Entry] = field(default_factory=list)
    forward: dict[str, float] = field(default_factory=dict)
    """Seconds a row of each base's forward pass; arms whose features were stored pay it when they are used."""

    def enter(self, arm: Arm) -> Entry:
        """Put an arm on the list, with its cost predicted for one fold; what is stored already is not paid again."""
        card, rows = arm.base.card if arm.base else None, self.rows_of(self.wanted[0])[0]
        predicted = part("methods", arm.method).estimate(rows, card, self.machine)
        if card is not None and self.stored(arm):
            forward, each, _ = encode_seconds(rows.texts, card, self.machine)
            predicted = replace(
                predicted,
                seconds=max(predicted.seconds - forward, 0.01),
                predict_seconds_per_row=self.forward.get(card.key, each),
            )
        entry = Entry(arm, predicted)
        if self.memory_bytes and predicted.memory_bytes > self.memory_bytes:
            entry.status = "skipped"
            entry.why = f"predicted peak memory {predicted.memory_bytes / 1e9:.1f} GB is above the budget"
        self.entries.append(entry)
        return entry

    @staticmethod
    def stored(arm: Arm) -> bool:
        """Whether the arm reads features that one forward pass has stored for all arms."""
        return arm.base is not None and EMBED in part("methods", arm.method).REQUIRES

    def rows_of(self, fold: int) -> tuple[Examples, Examples]:
        """(train, held out) of one fold."""
        return self.train.take(self.folds != fold), self.train.take(self.folds == fold)

    def job(self, entry: Entry, fold: int) -> Job:
        fit_rows, held_out = self.rows_of(fold)
        return Job(
            arm=entry.arm,
            train=fit_rows,
            texts=held_out.texts,
            features=self.features,  # type: ignore[arg-type]
            wording=self.wording,
        )

    def reserve(self) -> float:
        """Seconds to keep for fitting the best arm so far on all rows, and for the report."""
        leader = self.leader()
        if leader is None or not leader.outcomes:
            return 0.0
        fold_seconds = float(np.mean([o.cost.seconds for o in leader.outcomes.values()]))
        return 1.3 * fold_seconds + 0.5

    def fits(self, entry: Entry, folds: int) -> bool:
        """Whether `folds` more fits of this arm and a last one on all rows fit into what is left."""
        each = self.seconds_a_fold(entry)
        return each * (folds + 1.3) + 0.5 <= self.clock.left

    def seconds_a_fold(self, entry: Entry) -> float:
        """Measured where it ran, predicted where it did not."""
        if entry.outcomes:
            return float(np.mean([o.cost.seconds for o in entry.outcomes.values()]))
        return entry.predicted.seconds

    def go(self, entry: Entry, fold: int) -> None:
        """Run one fold of one arm, or read it from the journal."""
        job = self.job(entry, fold)
        saved = self.run.saved(job.name)
        if saved is not None:
            outcome = outcome_from(*saved)
        else:
            self.progress(len(entry.outcomes), len(self.wanted), entry.arm.name)
            outcome = run_job(job, self.progress)
            self.run.keep(job.name, *outcome_record(outcome))
        if outcome.error:
            entry.status, entry.why = "failed", outcome.error
            return
        entry.outcomes[fold] = outcome
        entry.status = "finished" if len(entry.outcomes) == len(self.wanted) else "partial"

    def run_plain(self, entry: Entry) -> None:
        """All folds of an arm that costs little; it is skipped as a whole when it does not fit."""
        for fold in self.wanted:
            if entry.status == "failed":
                return
            needed = len(self.wanted) - len(entry.outcomes)
            if not self.fits(entry, needed) and self.leader() is not None:
                self.skip(entry, needed)
                return
            self.go(entry, fold)

    def skip(self, entry: Entry, needed: int) -> None:
        """The budget does not hold `needed` more fits of this arm; what it has stays as evidence."""
        entry.status = "partial" if entry.outcomes else "skipped"
        how = "measured" if entry.outcomes else "predicted"
        entry.why = (
            f"{needed} fits and a last one on all rows at {how} {self.seconds_a_fold(entry):.0f} s a fit"
            f" do not fit into the {max(0.0, self.clock.left):.0f} s left"
        )

    def run_raced(self, entries: list[Entry]) -> None:
        """Rung by rung (a rung is a fold): each surviving arm once, then drop by evidence."""
        for fold in self.wanted:
            for entry in entries:
                if entry.status not in ("waiting", "partial"):
                    continue
                needed = len(self.wanted) - len(entry.outcomes)
                least = needed if entry.outcomes else min(needed, 2)
                if not self.fits(entry, least):
                    self.skip(entry, least)
                    if entry.status == "partial":
                        entry.status = "dropped"
                else:
                    self.go(entry, fold)
            self.drop()

    def common(self, a: Entry, b: Entry) -> tuple[np.ndarray, np.ndarray]:
        """Right or wrong of both on the rows that both predicted, as two bool arrays."""
        shared = sorted(set(a.outcomes) & set(b.outcomes))
        if not shared:
            return np.zeros(0, bool), np.zeros(0, bool)
        return self.right(a, shared), self.right(b, shared)

    def right(self, entry: Entry, folds: list[int]) -> np.ndarray:
        labels = [self.train.labels[self.folds == fold] for fold in folds]
        guesses = [entry.outcomes[fold].probabilities.argmax(1) for fold in folds]
        return np.concatenate(guesses) == np.concatenate(labels)

    def losses(self, entry: Entry, folds: list[int]) -> np.ndarray:
        """Log-loss a row, for breaking ties of accuracy where rows are few."""
        values = []
        for fold in folds:
            labels = self.train.labels[self.folds == fold]
            values.append(
                -np.log(np.maximum(entry.outcomes[fold].probabilities[np.arange(len(labels)), labels], 1e-12))
            )
        return np.concatenate(values)

    def leader(self) -> Entry | None:
        """The arm that beats every other on common rows: accuracy first, then log-loss."""
        best: Entry | None = None
        for entry in self.entries:
            if not entry.outcomes or entry.status in ("failed", "dropped"):
                continue
            if best is None:
                best = entry
                continue
            shared = sorted(set(entry.outcomes) & set(best.outcomes))
            if not shared:
                continue
            gain = self.right(entry, shared).mean() - self.right(best, shared).mean()
            if gain > 0 or (
                gain == 0 and self.losses(entry, shared).mean() < self.losses(best, shared).mean()
            ):
                best = entry
        return best

    def drop(self) -> None:
        """End arms that are proven worse than the leader on the rows that both were scored on."""
        from basewise.stats.sequential import proven_worse

        leader = self.leader()
        if leader is None:
            return
        for entry in self.entries:
            if entry is leader or entry.status != "partial":
                continue
            ours, theirs = self.common(leader, entry)
            wins, losses = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
            if proven_worse(wins, losses, len(self.entries), len(self.wanted), self.alpha):
                entry.status = "dropped"
                entry.why = f"proven worse than {leader.arm.name} on {len(ours)} rows"

    def drop_slow(self, most: float) -> None:
        """End arms that take more than `most` seconds a row in use; the controls that guess are never that slow."""
        for entry in self.entries:
            each = self.trial(entry).cost.predict_seconds_per_row
            if entry.outcomes and each > most:
                entry.status = "dropped"
                entry.why = f"{1e3 * each:.2f} ms a row is above the latency allowed, {1e3 * most:.2f} ms"

    def trials(self) -> list[Trial]:
        """Everything that ran, as evidence."""
        return [self.trial(entry) for entry in self.entries]

    def trial(self, entry: Entry) -> Trial:
        folds = sorted(entry.outcomes)
        classes = len(self.train.classes)
        held = [np.flatnonzero(self.folds == fold) for fold in folds]
        index = np.concatenate(held) if held else np.zeros(0, np.int64)
        outcomes = [entry.outcomes[fold] for fold in folds]
        arm = entry.arm
        forward = self.forward.get(arm.base.key, 0.0) if arm.base and self.stored(arm) else 0.0
        cost = Cost()
        if outcomes:
            cost = Cost(
                seconds=float(np.mean([o.cost.seconds for o in outcomes])),
                memory_bytes=max(o.cost.memory_bytes for o in outcomes),
                predict_seconds_per_row=float(np.median([o.cost.predict_seconds_per_row for o in outcomes]))
                + forward,
            )
        trial = Trial(
            method=entry.arm.method,
            base=entry.arm.base.key if entry.arm.base else None,
            base_digest=entry.arm.base.digest if entry.arm.base else None,
            row_ids=self.train.row_ids[index],
            labels=self.train.labels[index],
            probabilities=np.concatenate([o.probabilities for o in outcomes])
            if outcomes
            else np.zeros((0, classes)),
            fold=np.concatenate([np.full(len(h), f) for h, f in zip(held, folds, strict=True)])
            if held
            else index,
            seed=np.zeros(len(index), np.int64),
            n_train=int((self.folds != folds[0]).sum()) if folds else 0,
            predicted_cost=entry.predicted,
            cost=cost,
            choices=outcomes[-1].choices if outcomes else {},
            status=entry.status if entry.status != "waiting" else "skipped",
            why=entry.why,
        )
        return trial if trial.status != "partial" else replace(trial, status="dropped")
