"""race: run arms over rising rungs under the budget and drop them by evidence that holds at every look.

A rung is a fold. Arms are always compared on rows that both predicted; an arm is dropped when the paired comparison with the
leader proves it worse on the rows (stats/sequential, exact under continuous looking) and beyond the luck of training (stats/luck).
Another metric than accuracy is no count of rows: the luck's test, corrected for rivals and looks, decides by itself there.
What does not fit into the budget is skipped before it starts, with its predicted time in the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from basewise.core.base import EMBED, Base, Card
from basewise.core.budget import Cost
from basewise.core.evidence import Trial
from basewise.core.files import Progress, silent
from basewise.core.method import Machine, Wording
from basewise.core.registry import part
from basewise.core.rundir import RunDir
from basewise.core.task import COLUMNS, Examples
from basewise.engine.costs import PROCESS_BYTES, encode_seconds, network_memory
from basewise.engine.meter import resident_bytes
from basewise.steps.elimination import LEAST_FOLDS, drop, give_way
from basewise.steps.entries import Clock, Entry, limit_of, spare_of
from basewise.steps.jobs import Arm, Job, Outcome, keep, outcome_from
from basewise.steps.jobs import run as run_job
from basewise.steps.measures import scores_of


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
    metric: str = "accuracy"
    asked: str | None = None
    """Method whose arms are never ended for being worse: it was asked for by name."""
    memory_bytes: float | None = None
    features: object = None
    progress: Progress = silent
    watch: Callable[[Race, Entry | None], None] = lambda race, now: None
    wording: Wording = field(default_factory=Wording)
    entries: list[Entry] = field(default_factory=list)
    forward: dict[str, float] = field(default_factory=dict)
    """Seconds a row of each base's forward pass; arms whose features were stored pay it when they are used."""
    planned_folds: int | None = None
    """Folds that must fit for a trained arm to be started; all when None. What time leaves of the others comes on top."""
    precisions: dict[str, str] = field(default_factory=dict)
    """The number format of each base's features, verified once on these rows."""
    slower: dict[str, float] = field(default_factory=dict)
    """By family of networks: how many times longer than predicted a forward pass took when last measured."""
    look_rows: int = 0
    """Locked test rows that the chosen arm predicts at the end, inside the budget."""

    def enter(self, arm: Arm) -> Entry:
        """Put an arm on the list, with its cost predicted for one fold; what is stored already is not paid again."""
        card, (rows, held_out) = arm.base.card if arm.base else None, self.rows_of(self.wanted[0])
        # a head on stored features is small work, which a busy machine hardly slows; networks feel it in full
        on = self.machine_now(card) if self.network_runs(arm) else self.machine
        predicted = part("methods", arm.method).estimate(rows, card, on)
        if card is not None and self.stored(arm):
            requires = part("methods", arm.method).REQUIRES
            forward, _, _ = encode_seconds(rows.read_by(requires), card, on)
            _, each, _ = encode_seconds(rows.texts, card, on)
            predicted = replace(
                predicted,
                seconds=max(predicted.seconds - forward, 0.01),
                predict_seconds_per_row=self.forward.get(card.key, each) * self.passes(arm),
            )
        elif self.network_runs(arm):
            # a fold also answers its held-out rows
            answers = len(held_out) * predicted.predict_seconds_per_row
            predicted = replace(predicted, seconds=predicted.seconds + answers)
        # what the arm adds to this process; networks whose features are stored are loaded already
        here = PROCESS_BYTES if arm.base else 0.0
        if arm.base and not self.network_runs(arm):
            here = network_memory(arm.base.card)
        entry = Entry(arm, predicted, adds_bytes=max(predicted.memory_bytes - here, 0.0))
        self.entries.append(entry)
        self.foresee_memory(entry)
        return entry

    def foresee_memory(self, entry: Entry) -> bool:
        """Predict the peak memory from what this process holds now; an arm above the budget is skipped (False)."""
        most = resident_bytes() + entry.adds_bytes
        entry.predicted = replace(entry.predicted, memory_bytes=most)
        if self.memory_bytes and most > self.memory_bytes:
            entry.status = "skipped"
            entry.why = f"predicted peak memory {most / 1e9:.1f} GB is above the budget"
        return entry.status != "skipped"

    def memory_short(self, card: Card) -> str:
        """Why a base cannot be loaded within the memory budget; empty where it can."""
        most = resident_bytes() + network_memory(card) - PROCESS_BYTES
        # the first network brings its libraries with it
        if card.family != "static":
            most = max(most, network_memory(card))
        if not self.memory_bytes or most <= self.memory_bytes:
            return ""
        return f"with its network loaded this process would hold {most / 1e6:,.0f} MB, above the budget of {self.memory_bytes / 1e6:,.0f} MB"

    def measured_forward(self, base: Base, seconds_a_row: float) -> None:
        """Note what a row of a base's forward pass takes here and now.

        What it took beyond its prediction says how busy the machine is: later predictions are made for the machine as it is.
        """
        self.forward[base.key] = seconds_a_row
        family = base.card.family
        if family != "static":
            said = encode_seconds(self.train.texts, base.card, self.machine)[1]
            self.slower[family] = float(np.clip(seconds_a_row / said, 0.5, 6.0))

    def machine_now(self, card: Card | None) -> Machine:
        """The machine as it was last seen to run networks of this family; as measured when it was idle before that."""
        slower = self.slower.get(card.family, max(self.slower.values(), default=1.0)) if card else 1.0
        return replace(
            self.machine,
            fp32_peak=self.machine.fp32_peak / slower,
            bf16_peak=self.machine.bf16_peak / slower,
        )

    @staticmethod
    def network_runs(arm: Arm) -> bool:
        """Whether fitting the arm runs its network, beyond the forward pass that is stored for all arms."""
        return arm.base is not None and part("methods", arm.method).REQUIRES - {COLUMNS} != {EMBED}

    @staticmethod
    def passes(arm: Arm) -> int:
        """Forward passes over the words of a row: one over the row, and one over its columns where they are compared."""
        return 2 if COLUMNS in part("methods", arm.method).REQUIRES else 1

    @staticmethod
    def stored(arm: Arm) -> bool:
        """Whether the arm reads features that one forward pass has stored for all arms."""
        return arm.base is not None and EMBED in part("methods", arm.method).REQUIRES

    def rows_of(self, fold: int) -> tuple[Examples, Examples]:
        """(train, held out) of one fold."""
        return self.train.take(self.folds != fold), self.train.take(self.folds == fold)

    def job(self, entry: Entry, fold: int) -> Job:
        fit_rows, held_out = self.rows_of(fold)
        return self.job_of(entry.arm, fit_rows, held_out.texts)

    def job_of(self, arm: Arm, train: Examples, texts: Sequence[str] = (), draw: int = 0) -> Job:
        """The job of fitting an arm on some rows. The precision of its features is the race's, whoever runs it."""
        precision = self.precisions.get(arm.base.key, "auto") if arm.base and self.stored(arm) else "auto"
        return Job(
            arm=arm,
            train=train,
            texts=tuple(texts),
            draw=draw,
            features=self.features,  # type: ignore[arg-type]
            wording=self.wording,
            precision=precision,
        )

    def reserve(self) -> float:
        """Seconds to keep for fitting the best arm so far on all rows, and for the report."""
        leader = self.leader()
        if leader is None or not leader.outcomes:
            return 0.0
        return self.last_seconds(leader)

    def last_seconds(self, entry: Entry) -> float:
        """Seconds to fit this arm on all rows, to look at the test rows with it, and to write the report."""
        each = self.predict_seconds(entry)
        return 1.3 * self.seconds_a_fold(entry) + self.look_rows * each + 0.5

    def fits(self, entry: Entry, folds: int) -> bool:
        """Whether `folds` more fits of this arm, a last one on all rows and the test look fit into what is left."""
        return self.seconds_a_fold(entry) * folds + self.last_seconds(entry) <= self.clock.left

    def predict_seconds(self, entry: Entry) -> float:
        """Seconds a row in use, the forward pass included: measured where it ran, predicted where it did not."""
        if not entry.outcomes:
            return entry.predicted.predict_seconds_per_row
        measured = float(np.median([o.cost.predict_seconds_per_row for o in entry.outcomes.values()]))
        base = entry.arm.base
        if base is None or not self.stored(entry.arm):
            return measured
        return measured + self.passes(entry.arm) * self.forward.get(base.key, 0.0)

    def seconds_a_fold(self, entry: Entry) -> float:
        """Measured where it ran, predicted where it did not."""
        if entry.outcomes:
            return float(np.mean([o.cost.seconds for o in entry.outcomes.values()]))
        return entry.predicted.seconds

    def go(self, entry: Entry, fold: int) -> None:
        """Run one fold of one arm, or read it from the journal."""
        job = replace(self.job(entry, fold), spare=spare_of(self, entry), seconds=limit_of(self, entry))
        saved = self.run.saved(job.name)
        if saved is None and not entry.outcomes and not self.foresee_memory(entry):
            # other arms have run since it was entered, and the memory is taken
            return
        if saved is not None:
            outcome = outcome_from(*saved)
        else:
            self.progress(len(entry.outcomes), len(self.wanted), entry.arm.name)
            self.watch(self, entry)
            if entry.arm.base and self.network_runs(entry.arm):
                from basewise.engine.weights import import_network

                import_network(entry.arm.base)
            outcome = run_job(job, self.progress)
            keep(self.run, job.name, outcome)
        self.take(entry, fold, outcome)
        # what the journal held took no time to watch
        if saved is None and not outcome.error:
            self.watch(self, None)

    def take(self, entry: Entry, fold: int, outcome: Outcome) -> None:
        """Put down what one fold of an arm came to."""
        if outcome.error:
            entry.status, entry.why = "failed", outcome.error
            return
        entry.outcomes[fold] = outcome
        entry.status = "finished" if len(entry.outcomes) == len(self.wanted) else "partial"

    def kept(self, entry: Entry) -> bool:
        """Whether the journal holds the next fold of an arm, which then takes no time."""
        return self.run.saved(self.job(entry, self.wanted[len(entry.outcomes)]).name) is not None

    def recall(self, entry: Entry) -> None:
        """Read what the journal holds of an arm beyond what was read; nothing runs."""
        for fold in self.wanted[len(entry.outcomes) :]:
            saved = self.run.saved(self.job(entry, fold).name)
            if saved is None or entry.status == "failed":
                return
            self.take(entry, fold, outcome_from(*saved))

    def run_plain(self, entry: Entry) -> None:
        """All folds of an arm that costs little, or as many as fit beside its last fit, so that it can be compared all the same. It is
        skipped where that is fewer than LEAST_FOLDS."""
        for fold in self.wanted:
            if entry.status in ("failed", "skipped"):
                return
            needed = len(self.wanted) - len(entry.outcomes)
            least = min(needed, max(1, LEAST_FOLDS - len(entry.outcomes)))
            if not self.fits(entry, least) and self.leader() is not None and not self.kept(entry):
                self.skip(entry, needed)
                return
            self.go(entry, fold)

    def skip(self, entry: Entry, needed: int) -> None:
        """The budget does not hold `needed` more fits of this arm; what it has stays as evidence."""
        entry.out_of_time = True
        entry.status = "dropped" if entry.outcomes else "skipped"
        how = "measured" if entry.outcomes else "predicted"
        entry.why = f"{needed} fit{'s' * (needed > 1)} and a last one on all rows, {how} {self.seconds_a_fold(entry):.0f} s each, do not fit into the {max(0.0, self.clock.left):.0f} s left"

    def run_raced(self, entries: list[Entry]) -> None:
        """Rung by rung (a rung is a fold) over the arms that fit together, the likeliest first; then drop by evidence.

        An arm that is not run to its planned end cannot be chosen, so one is started only when its fits go beside
        those of the arms already started; each arm that falls makes room for the next. Where none fits at all, the likeliest that can be
        compared on fewer folds is; so is one whose first fit took longer than planned.
        """
        running: list[Entry] = []
        while running := self._on_track(running, entries):
            give_way(self, running)
            for entry in sorted(running, key=lambda e: len(e.outcomes)):
                # those who came later catch up first, so that all are compared on the same rows
                if len(entry.outcomes) == min(len(e.outcomes) for e in running):
                    self._next_fold(entry)
            drop(self, entries)
        for entry in entries:
            if entry.status == "waiting":
                self.skip(entry, len(self.wanted))

    def _on_track(self, running: list[Entry], entries: list[Entry]) -> list[Entry]:
        """The arms that go on, and behind them those that still wait and whose fits go beside theirs; the likeliest that can be shortened
        where nothing was started yet."""
        running = [e for e in running if e.status in ("waiting", "partial")]
        for entry in entries:
            new = entry.status == "waiting" and entry not in running
            if new and (self.fit_together([*running, entry]) or self.kept(entry)):
                running.append(entry)
        if not running and not any(entry.outcomes for entry in entries):
            running = next(([e] for e in entries if e.status == "waiting" and self.shorten(e)), [])
        return running

    def _next_fold(self, entry: Entry) -> None:
        """One more fit of an arm, or its end where the time does not hold what it still needs."""
        if self.fits(entry, max(1, self.planned(entry))) or self.kept(entry) or self.shorten(entry):
            self.go(entry, self.wanted[len(entry.outcomes)])
        else:
            self.skip(entry, len(self.wanted) - len(entry.outcomes))

    def shorten(self, entry: Entry) -> bool:
        """Plan as many folds of an arm as fit where all do not; False where that is fewer than LEAST_FOLDS, or it was scored on as many."""
        done = len(entry.outcomes)
        for folds in range(done + self.planned(entry) - 1, LEAST_FOLDS - 1, -1):
            if done < LEAST_FOLDS and self.fits(entry, folds - done):
                entry.folds = folds
                return True
        return False

    def fit_together(self, entries: list[Entry]) -> bool:
        """Whether the fits that these arms still need, and the last steps of the slowest of them, fit into what is left."""
        fits = sum(self.seconds_a_fold(e) * max(1, self.planned(e)) for e in entries)
        return fits + max(self.last_seconds(e) for e in entries) <= self.clock.left

    def planned(self, entry: Entry) -> int:
        """Fits that this arm still needs before it may be compared at the end."""
        folds = entry.folds or self.planned_folds or len(self.wanted)
        return max(0, min(folds, len(self.wanted)) - len(entry.outcomes))

    def score(self, entry: Entry) -> float:
        """The metric on the rows this arm was scored on."""
        return float(self.scores(entry, sorted(entry.outcomes)).mean())

    def common(self, a: Entry, b: Entry) -> tuple[np.ndarray, np.ndarray]:
        """Per-row scores of both on the rows that both predicted."""
        shared = sorted(set(a.outcomes) & set(b.outcomes))
        return self.scores(a, shared), self.scores(b, shared)

    def scores(self, entry: Entry, folds: list[int], metric: str = "") -> np.ndarray:
        """(n,) per-row scores, fold after fold, under the metric of the race if none is named: 1 where right, else 0, for accuracy."""
        if not folds:
            return np.zeros(0)
        probabilities = np.concatenate([entry.outcomes[fold].probabilities for fold in folds])
        return scores_of(metric or self.metric, probabilities, self.labels(folds))

    def labels(self, folds: list[int]) -> np.ndarray:
        """(n,) labels of the rows of these folds, fold after fold."""
        return np.concatenate([self.train.labels[self.folds == fold] for fold in folds])

    def groups(self, folds: list[int]) -> np.ndarray:
        """(n,) groups of the rows of these folds, fold after fold."""
        return np.concatenate([self.train.groups[self.folds == fold] for fold in folds])

    def loss(self, entry: Entry, folds: list[int]) -> float:
        """Log-loss, for breaking ties where rows are few."""
        return float(self.scores(entry, folds, "log_loss").mean())

    def leader(self) -> Entry | None:
        """The arm that beats every other on common rows: the metric first, then log-loss."""
        best: Entry | None = None
        for entry in self.entries:
            if not entry.outcomes or entry.status in ("failed", "dropped"):
                continue
            best = best or entry
            shared = sorted(set(entry.outcomes) & set(best.outcomes))
            if best is entry or not shared:
                continue
            gain = self.scores(entry, shared).mean() - self.scores(best, shared).mean()
            if gain > 0 or (gain == 0 and self.loss(entry, shared) < self.loss(best, shared)):
                best = entry
        return best

    def trials(self) -> list[Trial]:
        """Everything that ran, as evidence."""
        return [self.trial(entry) for entry in self.entries]

    def trial(self, entry: Entry) -> Trial:
        folds = sorted(entry.outcomes)
        classes = len(self.train.classes)
        held = [np.flatnonzero(self.folds == fold) for fold in folds]
        index = np.concatenate(held) if held else np.zeros(0, np.int64)
        outcomes = [entry.outcomes[fold] for fold in folds]
        cost = Cost()
        if outcomes:
            cost = Cost(
                seconds=float(np.mean([o.cost.seconds for o in outcomes])),
                memory_bytes=max(o.cost.memory_bytes for o in outcomes),
                predict_seconds_per_row=self.predict_seconds(entry),
            )
        trial = Trial(
            method=entry.arm.method,
            base=entry.arm.base.key if entry.arm.base else None,
            base_digest=entry.arm.base.digest if entry.arm.base else None,
            row_ids=self.train.row_ids[index],
            labels=self.train.labels[index],
            probabilities=np.concatenate([np.zeros((0, classes)), *(o.probabilities for o in outcomes)]),
            fold=np.repeat(folds, [len(h) for h in held]) if held else index,
            seed=np.zeros(len(index), np.int64),
            groups=self.train.groups[index],
            n_train=int((self.folds != folds[0]).sum()) if folds else 0,
            predicted_cost=entry.predicted,
            cost=cost,
            choices=outcomes[-1].choices if outcomes else {},
            status=entry.status if entry.status != "waiting" else "skipped",
            why=entry.why,
            late=entry.out_of_time and entry.status != "finished",
        )
        return trial if trial.status != "partial" else replace(trial, status="dropped")
