"""Jobs: one method on one base, fitted on some rows and scored on others; pure functions of their content.

A job carries its rows, so it runs the same here or in a worker; its seed and its name in the journal are digests of
what it is, so a result never depends on when, where or after what it ran.
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import Base
from basewise.core.budget import Cost
from basewise.core.errors import BasewiseError, OutOfMemory, RunError
from basewise.core.files import Progress, silent
from basewise.core.hashing import digest_json, digest_texts, seed_from
from basewise.core.method import Context, Fitted, Wording
from basewise.core.registry import part
from basewise.core.rundir import RunDir
from basewise.core.task import Examples

# raise it when a method's result changes for the same job, so that old journals are not read
SCHEMA = 5


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to solve the task: a method, and the base it adapts (None for the controls without a base)."""

    method: str
    base: Base | None = None

    @property
    def name(self) -> str:
        return f"{self.base.key} + {self.method}" if self.base else self.method


@dataclass(frozen=True, kw_only=True)
class Job:
    """Fit `arm` on `train`, then give probabilities for `texts`. `seconds`: soft limit of the fit; `spare`: seconds beyond its
    estimate that it may take; `answers`: rows that the fit will answer, those of `texts` when None."""

    arm: Arm
    train: Examples
    texts: tuple[str, ...]
    draw: int = 0
    seconds: float = float("inf")
    features: Path | None = None
    wording: Wording = field(default_factory=Wording)
    precision: str = "auto"
    spare: float = 0.0
    answers: int | None = None

    @functools.cached_property
    def name(self) -> str:
        """Digest of what decides the result; the time limits are left out, for they are the machine's affair."""
        base = self.arm.base.digest if self.arm.base else None
        what = [SCHEMA, self.arm.method, base, self.train.digest(), digest_texts(self.texts), self.draw]
        if self.wording != Wording():
            what.append(asdict(self.wording))
        if self.precision != "auto":
            what.append(self.precision)
        return digest_json(what)[:32]

    @property
    def seed(self) -> int:
        return seed_from(
            self.arm.method, self.arm.base.digest if self.arm.base else "", self.train.digest(), self.draw
        )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a job gave: probabilities (n, C), what it took, what it decided. `error` is set when it could not run.

    `passing`: the error may be gone the next time (a fault of the machine, or of a version), so no journal keeps it.
    """

    probabilities: np.ndarray
    cost: Cost
    choices: dict[str, Any]
    error: str = ""
    passing: bool = False


@functools.lru_cache(maxsize=4)
def feature_store(root: Path | None) -> Any:
    """The features' store of this process; opened once a folder."""
    from basewise.engine.features import FeatureStore

    return FeatureStore(root)


def context_of(job: Job, progress: Progress = silent) -> Context:
    """What a method may use for this job."""
    return Context(
        seed=job.seed,
        features=feature_store(job.features),
        seconds=job.seconds,
        progress=progress,
        wording=job.wording,
        precision=job.precision,
        spare=job.spare,
        answers=len(job.texts) if job.answers is None else job.answers,
    )


def fit(job: Job, progress: Progress = silent) -> tuple[Fitted, Any]:
    """The fitted arm and the meter that watched it."""
    from basewise.engine.meter import Meter

    with Meter() as meter:
        fitted = part("methods", job.arm.method).fit(job.train, job.arm.base, context_of(job, progress))
    return fitted, meter


def run(job: Job, progress: Progress = silent) -> Outcome:
    """Fit and score. An error is an outcome, told beside the arm's name, not a crash: the other arms go on."""
    from basewise.engine.meter import Meter

    try:
        fitted, fit_meter = fit(job, progress)
        with Meter() as meter:
            probabilities = np.asarray(fitted.probabilities(job.texts), dtype=np.float64)
    except BasewiseError as error:
        # a disk or a memory may have room the next time
        return _failed(str(error), isinstance(error, (RunError, OutOfMemory)))
    except OSError:
        # the disk or the machine: the next arm would meet it too
        raise
    except Exception as error:  # noqa: BLE001 - a fault of ours or of a library, on one base with one method
        return _failed(f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:200]}", True)
    cost = Cost(
        seconds=fit_meter.seconds + meter.seconds,
        memory_bytes=max(fit_meter.peak_bytes, meter.peak_bytes),
        predict_seconds_per_row=meter.seconds / max(1, len(job.texts)),
    )
    return Outcome(probabilities=probabilities, cost=cost, choices=dict(fitted.choices))


def _failed(error: str, passing: bool) -> Outcome:
    return Outcome(probabilities=np.zeros((0, 0)), cost=Cost(), choices={}, error=error, passing=passing)


def keep(run: RunDir, name: str, outcome: Outcome) -> None:
    """Write an outcome into the journal of a run, but an error that may be gone the next time."""
    if not outcome.passing:
        run.keep(name, *outcome_record(outcome))


def outcome_record(outcome: Outcome) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """An outcome as arrays and JSON for the journal."""
    return {"probabilities": outcome.probabilities}, {
        "cost": asdict(outcome.cost),
        "choices": outcome.choices,
        "error": outcome.error,
    }


def outcome_from(arrays: dict[str, np.ndarray], values: dict[str, Any]) -> Outcome:
    """The inverse of `outcome_record`."""
    return Outcome(
        probabilities=arrays["probabilities"],
        cost=Cost(**values["cost"]),
        choices=values["choices"],
        error=values["error"],
    )
