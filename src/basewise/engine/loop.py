"""The one training loop: every method that changes weights goes through `train`.

A step's rows are cut into micro-batches of like length under a token budget; the sum of their losses over the step's
row count gives exactly the gradient of the whole step, however it was cut. The learning rate follows the share of the
run that is done, so a run that would overrun its seconds is shortened and still decays to zero. Memory running out
halves the token budget; numbers that are not finite skip the step, and stop the run when they persist.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from basewise.core.errors import BasewiseError, OutOfMemory
from basewise.core.files import Progress, silent
from basewise.core.method import Machine
from basewise.engine.batches import batches
from basewise.engine.encoder import out_of_memory
from basewise.engine.optim import set_progress
from basewise.engine.tokens import Tokens

BF16_GAIN = 1.3
MOST_SKIPPED = 5
MEASURED_STEPS = 3

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


@dataclass(frozen=True)
class Outcome:
    """Steps done, seconds, the mean loss a row of the last tenth, whether time cut the run short."""

    steps: int
    seconds: float
    loss: float
    shortened: bool


@dataclass(frozen=True)
class State:
    """All that a run is at a step: weights, optimiser, step, random numbers. A value that can be saved and restored."""

    model: dict[str, torch.Tensor]
    optimiser: dict[str, Any]
    step: int
    random: torch.Tensor


def snapshot(model: torch.nn.Module, optimiser: torch.optim.Optimizer, step: int) -> State:
    """A copy of the state before `step`."""
    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    return State(weights, _copied(optimiser.state_dict()), step, torch.get_rng_state())


def _copied(value: Any) -> Any:
    """Nested state with its tensors cloned."""
    if isinstance(value, torch.Tensor):
        return value.clone()
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
    loss: Loss, rows: np.ndarray, lengths: np.ndarray, budget: int, bf16: bool, device: str
) -> float:
    """Add the gradient of the mean loss over `rows`; the mean loss comes back. `budget` 0: in one piece."""
    pieces = [rows[g] for g in batches(lengths[rows], budget)] if budget else [rows]
    total = 0.0
    for piece in pieces:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            value = loss(piece)
        (value / len(rows)).backward()
        total += float(value.detach())
    return total / len(rows)


def train(
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    source: Iterator[np.ndarray],
    loss: Loss,
    lengths: np.ndarray,
    plan: Plan,
    progress: Progress = silent,
) -> Outcome:
    """Train `model` in place on the rows that `source` gives for each step; `lengths` (n,) tokens of all rows.

    Raises BasewiseError when the loss stays not finite, OutOfMemory when one row alone does not fit. Without a time
    limit the result depends on `plan.seed` and `source` alone.
    """
    trained = [p for group in optimiser.param_groups for p in group["params"]]
    device = trained[0].device.type
    total, budget, skipped, step = max(plan.steps, 1), plan.tokens, 0, 0
    losses: list[float] = []
    started = measured = time.perf_counter()
    model.train()
    with seeded(plan.seed):
        while step < total:
            rows = next(source)
            set_progress(optimiser, (step + 0.5) / total, plan.warmup)
            value, budget = _gradients(loss, rows, lengths, budget, plan.bf16, device, optimiser)
            norm = torch.nn.utils.clip_grad_norm_(trained, plan.clip)
            if np.isfinite(value) and bool(torch.isfinite(norm)):
                optimiser.step()
                losses.append(value)
                skipped = 0
            elif (skipped := skipped + 1) > MOST_SKIPPED:
                raise BasewiseError(
                    f"training broke down at step {step}: the loss is not a finite number",
                    "use another base or method, or fp32",
                )
            optimiser.zero_grad(set_to_none=True)
            step += 1
            progress(step, total, f"training, loss {value:.3f}")
            now = time.perf_counter()
            if step == 1:
                measured = now  # the first step pays for warming up
            elif step >= MEASURED_STEPS and np.isfinite(plan.seconds):
                each = (now - measured) / (step - 1)
                total = max(step, min(total, step + int((plan.seconds - (now - started)) / max(each, 1e-9))))
    model.eval()
    last = losses[-max(1, len(losses) // 10) :]
    return Outcome(
        step,
        time.perf_counter() - started,
        float(np.mean(last)) if last else float("nan"),
        total < plan.steps,
    )


def _gradients(
    loss: Loss,
    rows: np.ndarray,
    lengths: np.ndarray,
    budget: int,
    bf16: bool,
    device: str,
    optimiser: torch.optim.Optimizer,
) -> tuple[float, int]:
    """(mean loss, token budget that worked): halved until the step fits."""
    while True:
        try:
            return accumulate(loss, rows, lengths, budget, bf16, device), budget
        except (RuntimeError, MemoryError) as error:
            longest = int(lengths[rows].max())
            if not out_of_memory(error):
                raise
            if budget and budget <= longest:
                raise OutOfMemory(
                    f"memory ran out training on one row of {longest} tokens",
                    "use a smaller base or method probe",
                ) from error
            optimiser.zero_grad(set_to_none=True)
            gc.collect()
            budget = max(longest, (budget or longest * len(rows)) // 2)
