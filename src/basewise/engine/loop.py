"""The one training loop: every method that changes weights goes through `train`.

A step's rows are cut into micro-batches of like length under a token budget; the sum of their losses over the step's
row count gives exactly the gradient of the whole step, however it was cut. The learning rate follows the share of the
run that is done, so a run that would overrun its seconds is shortened and still decays to zero. Memory running out
halves the token budget; numbers that are not finite skip the step, and stop the run when they persist. A `Watch` makes a
long run of it: it says where to go on, sees every step, keeps checkpoints, and gives the state to roll back to.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from basewise.core.errors import BasewiseError, OutOfMemory
from basewise.core.files import Progress, silent
from basewise.core.method import Machine
from basewise.engine.batches import batches
from basewise.engine.distributed import ALONE, Ranks, clip, fill, shard_state, synchronise, whole
from basewise.engine.encoder import out_of_memory
from basewise.engine.optim import set_factor, triangle
from basewise.engine.tokens import Tokens

BF16_GAIN = 1.3
MOST_SKIPPED = 5
MEASURED_STEPS = 3
PACE_STEPS = 50
RECENT, ENOUGH_RECENT = 64, 32
MOST_RETURNS = 2

Loss = Callable[[np.ndarray], torch.Tensor]
"""`loss(rows)`: the sum of the losses of some rows, with a graph."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to train. `steps` at most, `seconds` at most; `tokens` a micro-batch, 0: a step is never cut."""

    steps: int
    seconds: float = float("inf")
    warmup: float = 0.1
    clip: float = 1.0
    tokens: int = 2048
    bf16: bool = False
    seed: int = 0
    schedule: Callable[[int, int], float] | None = None
    """`schedule(step, steps)`: factor of the rates; None: up over `warmup`, then linear down."""
    spike: float = 0.0
    """Standard deviations above the recent mean from which a loss is not learned from; 0: all are."""
    ranks: Ranks = ALONE
    """This process among those that train together; all must be given rows of the same lengths."""


@dataclass(frozen=True)
class Outcome:
    """Steps done, seconds, the mean loss a row of the last tenth, whether time cut the run short."""

    steps: int
    seconds: float
    loss: float
    shortened: bool


@dataclass(frozen=True)
class State:
    """All that a run is at a step: weights, optimiser, step, random numbers. A value that can be saved and restored.

    `drawn`: batches taken from the source (more than `step` after a roll-back); `spent` seconds; `recent` losses;
    `total`: steps that its seconds were then thought to hold, by which the rates fall; 0: as planned.
    """

    model: dict[str, torch.Tensor]
    optimiser: dict[str, Any]
    step: int
    random: torch.Tensor
    drawn: int = 0
    spent: float = 0.0
    recent: tuple[float, ...] = ()
    total: int = 0


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one step was: its number from 1, the mean loss, the gradient's norm before clipping, the factor of the rates.

    `seconds` since the run began, with those of the sessions before; `verdict`: "take", or why the step was not learned
    from; `budget`: tokens in a micro-batch now; `drawn`: batches taken from the source.
    """

    step: int
    total: int
    loss: float
    norm: float
    factor: float
    seconds: float
    verdict: str
    budget: int
    drawn: int


class Watch:
    """What looks at a long run from outside the loop; this one does not look."""

    def start(self) -> State | None:
        """Where to go on; None begins anew."""
        return None

    def after(self, seen: Seen, state: Callable[[], State]) -> bool:
        """Called after every step; `state()` copies everything. True ends the run."""
        return False

    def back(self) -> State | None:
        """The state to roll back to when losses stay bad; None where there is none."""
        return None


def snapshot(model: torch.nn.Module, optimiser: torch.optim.Optimizer, step: int) -> State:
    """A copy of the state before `step`: whole tensors, also where the run is sharded (all ranks call it together)."""
    weights = {name: whole(value.detach()).clone() for name, value in model.state_dict().items()}
    return State(weights, _copied(optimiser.state_dict()), step, torch.get_rng_state())


def restore(model: torch.nn.Module, optimiser: torch.optim.Optimizer, state: State) -> None:
    """Put a state back, in place; a sharded run takes its part of it."""
    fill(model, state.model)
    optimiser.load_state_dict(_copied(state.optimiser))
    shard_state(optimiser)
    torch.set_rng_state(state.random)


def _copied(value: Any) -> Any:
    """Nested state with its tensors cloned."""
    if isinstance(value, torch.Tensor):
        return whole(value).clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def prefers_bf16(machine: Machine) -> bool:
    """Whether autocast to bf16 pays here: measured peaks, not processor flags."""
    return machine.bf16_peak > BF16_GAIN * machine.fp32_peak


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's random numbers from `seed` inside, untouched outside."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def padded(tokens: Tokens, rows: np.ndarray, filler: int, device: Any = "cpu") -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask` (b, T), padded on the right to the longest of the rows."""
    lengths = tokens.lengths[rows]
    ids = np.full((len(rows), int(lengths.max())), filler, np.int64)
    mask = np.arange(ids.shape[1])[None, :] < lengths[:, None]
    ids[mask] = np.concatenate([tokens.row(int(r)) for r in rows])
    return {
        "input_ids": torch.from_numpy(ids).to(device),
        "attention_mask": torch.from_numpy(mask.astype(np.int64)).to(device),
    }


def epochs(lengths: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Batches of `size` rows forever: shuffled each epoch, sorted by length within stretches of 16 batches."""
    while True:
        order = rng.permutation(len(lengths))
        cut: list[np.ndarray] = []
        for start in range(0, len(order), 16 * size):
            stretch = order[start : start + 16 * size]
            stretch = stretch[np.argsort(lengths[stretch], kind="stable")]
            cut += [stretch[i : i + size] for i in range(0, len(stretch), size)]
        for i in rng.permutation(len(cut)):
            yield cut[i]


def accumulate(
    loss: Loss,
    rows: np.ndarray,
    lengths: np.ndarray,
    budget: int,
    bf16: bool,
    device: str,
    model: torch.nn.Module | None = None,
) -> float:
    """Add the gradient of the mean loss over `rows`; the mean loss comes back. `budget` 0: in one piece."""
    pieces = [rows[g] for g in batches(lengths[rows], budget)] if budget else [rows]
    total = 0.0
    for i, piece in enumerate(pieces):
        if model is not None:
            synchronise(model, last=i == len(pieces) - 1)
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            value = loss(piece)
        (value / len(rows)).backward()
        total += float(value.detach())
    return total / len(rows)


@dataclass
class _Run:
    """The numbers that change while a run goes on."""

    plan: Plan
    total: int
    budget: int
    step: int = 0
    drawn: int = 0
    skipped: int = 0
    began: float = 0.0
    ends: tuple[float, ...] = ()
    here: int = 0
    recent: tuple[float, ...] = ()
    losses: list[float] = field(default_factory=list)
    returned: dict[int, int] = field(default_factory=dict)

    def resume(self, state: State) -> None:
        self.step, self.drawn, self.recent = state.step, state.drawn, state.recent
        self.began -= state.spent
        if state.total:
            self.total = max(state.step, min(self.total, state.total))

    def factor(self) -> float:
        if self.plan.schedule is not None:
            return self.plan.schedule(self.step, self.total)
        return triangle((self.step + 0.5) / self.total, self.plan.warmup)

    def judge(self, value: float, norm: torch.Tensor) -> str:
        """ "take" the step, or "skip" it: its loss is not finite, or far above the recent ones."""
        if not np.isfinite(value) or not bool(torch.isfinite(norm)):
            return "not finite"
        if self.plan.spike and len(self.recent) >= ENOUGH_RECENT and self.returned.get(self.step, 0) < 2:
            mean, sd = float(np.mean(self.recent)), float(np.std(self.recent))
            if value > mean + self.plan.spike * max(sd, 0.01 * abs(mean)):
                return "spike"
        return "take"

    def taken(self, value: float) -> None:
        self.losses.append(value)
        self.skipped = 0
        if self.plan.spike:
            self.recent = (*self.recent, value)[-RECENT:]

    def shorten(self) -> None:
        """Fewer steps where the seconds would not hold them all, by the pace of the last steps.

        Where a schedule has a flat part the number may grow again on it: a machine that was busy may become free.
        """
        now = time.perf_counter()
        self.here += 1
        # the first one ends what pays for warming up
        self.ends = (*self.ends, now)[-PACE_STEPS:]
        if self.here >= MEASURED_STEPS and np.isfinite(self.plan.seconds):
            each = (now - self.ends[0]) / (len(self.ends) - 1)
            left = int(self.plan.ranks.mean((self.plan.seconds - (now - self.began)) / max(each, 1e-9)))
            flat = self.plan.schedule is not None and self.factor() >= 1.0
            self.total = max(self.step, min(self.plan.steps if flat else self.total, self.step + left))


def train(
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    source: Iterator[np.ndarray],
    loss: Loss,
    lengths: np.ndarray,
    plan: Plan,
    progress: Progress = silent,
    watch: Watch | None = None,
) -> Outcome:
    """Train `model` in place on the rows that `source` gives for each step; `lengths` (n,) tokens of all rows.

    `model` may be wrapped for many processes; the loop asks nothing of it but parameters and state. A `watch` says where to
    go on, sees every step, and may end the run; `source` must then give the batch after the `drawn` ones of its state.
    Raises BasewiseError when the loss stays not finite, OutOfMemory when one row alone does not fit. Without a time
    limit the result depends on `plan.seed` and `source` alone.
    """
    trained = [p for group in optimiser.param_groups for p in group["params"]]
    watch = watch or Watch()
    run = _Run(plan, max(plan.steps, 1), plan.tokens, began=time.perf_counter())
    ended = False
    model.train()
    with seeded(plan.seed):
        if start := watch.start():
            restore(model, optimiser, start)
            run.resume(start)
        while run.step < run.total and not ended:
            rows = next(source)
            run.drawn += 1
            factor = run.factor()
            set_factor(optimiser, factor)
            value, run.budget = _gradients(loss, rows, lengths, run.budget, plan, model, optimiser)
            value, norm = plan.ranks.mean(value), clip(trained, plan.clip)
            verdict = run.judge(value, norm)
            if verdict == "take":
                optimiser.step()
                run.taken(value)
            optimiser.zero_grad(set_to_none=True)
            if verdict != "take" and _too_many(run, verdict, watch, model, optimiser):
                continue
            run.step += 1
            progress(run.step, run.total, f"training, loss {value:.3f}")
            seconds = time.perf_counter() - run.began
            seen = Seen(
                step=run.step, total=run.total, loss=value, norm=float(norm), factor=factor, seconds=seconds,
                verdict=verdict, budget=run.budget, drawn=run.drawn,
            )  # fmt: skip
            ended = watch.after(seen, functools.partial(_state, model, optimiser, run))
            run.shorten()
    model.eval()
    last = run.losses[-max(1, len(run.losses) // 10) :] or list(run.recent)
    return Outcome(
        run.step,
        time.perf_counter() - run.began,
        float(np.mean(last)) if last else float("nan"),
        run.total < plan.steps,
    )


def _state(model: torch.nn.Module, optimiser: torch.optim.Optimizer, run: _Run) -> State:
    """A copy of everything now."""
    spent = time.perf_counter() - run.began
    kept = snapshot(model, optimiser, run.step)
    return replace(kept, drawn=run.drawn, spent=spent, recent=run.recent, total=run.total)


def _too_many(
    run: _Run, verdict: str, watch: Watch, model: torch.nn.Module, optimiser: torch.optim.Optimizer
) -> bool:
    """Count a step that was not learned from; after MOST_SKIPPED in a row go back to the watch's last good state.

    Losses that are too high a second time after going back are the data's and are learned from; losses that are not finite
    end the run.
    """
    run.skipped += 1
    if run.skipped <= MOST_SKIPPED:
        return False
    state = watch.back()
    again = 0 if state is None else run.returned.get(state.step, 0)
    if verdict == "not finite" and (state is None or again >= MOST_RETURNS):
        first = "from the first step on" if not run.losses else f"at step {run.step + 1}"
        raise BasewiseError(
            f"training broke down at step {run.step + 1}: the loss is not a finite number {first}",
            "use a lower rate, another base or method, or fp32",
        )
    run.skipped = 0
    if state is None or again >= MOST_RETURNS:
        run.recent = ()
        return False
    restore(model, optimiser, state)
    run.step, run.recent = state.step, state.recent
    run.returned[state.step] = again + 1
    if again:
        run.recent = ()
    return True


def _gradients(
    loss: Loss,
    rows: np.ndarray,
    lengths: np.ndarray,
    budget: int,
    plan: Plan,
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
) -> tuple[float, int]:
    """(mean loss, token budget that worked): halved until the step fits. Many ranks cannot halve alone: there it is an error."""
    device = next(model.parameters()).device.type
    while True:
        try:
            return accumulate(loss, rows, lengths, budget, plan.bf16, device, model), budget
        except (RuntimeError, MemoryError) as error:
            longest = int(lengths[rows].max())
            if not out_of_memory(error):
                raise
            if plan.ranks.many:
                raise OutOfMemory(
                    f"memory ran out on rank {plan.ranks.rank} with {budget} tokens at once",
                    f"write tokens_at_once = {max(longest, budget // 2) * plan.ranks.world} and run again",
                ) from error
            if budget and budget <= longest:
                raise OutOfMemory(
                    f"memory ran out training on one row of {longest} tokens",
                    "use a smaller base or method probe",
                ) from error
            optimiser.zero_grad(set_to_none=True)
            gc.collect()
            budget = max(longest, (budget or longest * len(rows)) // 2)
