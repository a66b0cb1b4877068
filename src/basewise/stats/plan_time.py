"""How long a training step takes on many ranks, and the search over ways to lay it out.

Compute is FLOP over a reached share of the peak; FSDP's traffic hides behind it as far as it is shorter; tensor parallelism stands
in the way of every layer; a pipeline waits (p - 1) of (m + p - 1) of the time; the optimiser reads and writes its states
once. Then Young and Daly: write a checkpoint every sqrt(2 x its cost x time between failures).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from basewise.core.shapes import Shape, flop_per_token, parameters, root_parameters
from basewise.stats.plan_memory import Layout, resident

MARGIN = 0.08
"""Share of a device's memory that a feasible layout leaves free."""
MOST_TENSOR, MOST_PIPELINE, MOST_SEQUENCE = 8, 16, 8
STARTING = 2e-4
"""Seconds a layer and micro-batch that a GPU waits for about a hundred kernels to be started: assumed, not measured."""
RECOMPUTED = 4.0 / 3.0
COPY_SECONDS_PER_BYTE = 1.0 / 2e9
"""Of staging a checkpoint into the host's memory."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One kind of rank. FLOP/s reached at `share` of the peak, bytes a second of its memory and of its links, per rank."""

    name: str
    device: str
    memory_bytes: float
    peak_flop: float
    share: float
    memory_rate: float
    near_rate: float
    """Bytes a second to a rank of the same node."""
    far_rate: float
    """Bytes a second to a rank of another node."""
    per_node: int
    price_per_hour: float
    watts: float
    step_overhead: float = 0.0
    """Seconds a micro-batch that no formula explains (starting kernels, gloo's messages), measured where it is known."""
    hours_between_failures: float = 50_000.0
    """Of one rank."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """Seconds of one step by part; `total` is not their sum, because traffic hides behind compute."""

    compute: float
    traffic: float
    tensor: float
    bubble: float
    optimiser: float
    overhead: float
    total: float


def step_time(s: Shape, layout: Layout, m: Machine) -> Step:
    """Seconds of one optimiser step of `layout.micro_batches` micro-batches."""
    t, p, c, micro = layout.tensor, layout.pipeline, layout.sequence, layout.micro_batches
    tokens = layout.rows * s.context / c * micro
    flop = tokens * flop_per_token(s) / (t * p) * (RECOMPUTED if layout.recompute else 1.0)
    compute = flop / (m.share * m.peak_flop)
    shards = layout.data * c
    rate = m.near_rate if layout.ranks <= m.per_node else m.far_rate
    here = (parameters(s) - root_parameters(s)) / (t * p) + root_parameters(s) / t
    number_bytes = 2.0 if m.device == "cuda" else 4.0
    # gathered twice a micro-batch, fp32 gradients added once
    fetched = number_bytes * 2.0 * here * micro + 4.0 * here
    traffic = fetched * (shards - 1) / shards / rate if shards > 1 else 0.0
    moved = 8.0 * tokens * s.width * 2.0 * s.layers / p
    tensor = moved * (t - 1) / t / m.near_rate if t > 1 else 0.0
    bubble = (compute + tensor) * (p - 1) / micro if p > 1 else 0.0
    optimiser = 28.0 * here / shards / m.memory_rate
    overhead = (m.step_overhead + (STARTING * s.layers / p if m.device == "cuda" else 0.0)) * micro
    # gloo uses the cores that compute
    hidden = max(compute, traffic) if m.device == "cuda" else compute + traffic
    total = hidden + tensor + bubble + optimiser + overhead
    return Step(compute=compute, traffic=traffic, tensor=tensor, bubble=bubble, optimiser=optimiser, overhead=overhead, total=total)  # fmt: skip


def compute_bound_tokens(m: Machine, ranks: int) -> float:
    """Tokens a rank and step from which FSDP's traffic hides behind compute: reached FLOP/s over bytes/s, at 2 bytes a number."""
    return m.share * m.peak_flop / (m.near_rate if ranks <= m.per_node else m.far_rate)


def checkpoint_interval(s: Shape, ranks: int, m: Machine) -> tuple[float, float]:
    """(seconds between checkpoints, seconds that one stops the run for): Young 1974, Daly 2006."""
    cost = 12.0 * parameters(s) / ranks * COPY_SECONDS_PER_BYTE + 0.1
    between = m.hours_between_failures * 3600.0 / ranks
    return math.sqrt(2.0 * cost * between), cost


def layouts(s: Shape, ranks: int, batch_rows: int, m: Machine) -> Iterator[Layout]:
    """Every division of `ranks` that fits heads, layers, tokens and rows without remainder."""
    tensor = [
        t
        for t in _divisors(ranks, min(MOST_TENSOR, m.per_node))
        if s.heads % t == s.kv_heads % t == s.inner % t == 0
    ]
    pipeline = [p for p in _divisors(ranks, MOST_PIPELINE) if s.layers % p == 0]
    sequence = [c for c in _divisors(ranks, MOST_SEQUENCE) if s.context % (2 * c) == 0]
    for t, p, c in product(tensor, pipeline, sequence):
        data, over = divmod(ranks, t * p * c)
        if over or batch_rows % data:
            continue
        each = batch_rows // data
        for rows, recompute in product(_divisors(each, each), (False, True)):
            if each // rows >= p:
                yield Layout(
                    data=data, tensor=t, pipeline=p, sequence=c, rows=rows, micro_batches=each // rows, recompute=recompute
                )  # fmt: skip


def _divisors(n: int, most: int) -> list[int]:
    """Divisors of n up to `most`, rising; found in pairs, so the work grows with the square root of n."""
    low = [k for k in range(1, math.isqrt(n) + 1) if n % k == 0]
    return [k for k in sorted({*low, *(n // k for k in low)}) if k <= most]


@dataclass(frozen=True)
class Candidate:
    """A layout with its seconds a step and bytes a rank."""

    layout: Layout
    step: Step
    memory: float


def fits(memory: float, m: Machine) -> bool:
    """Whether so many bytes leave MARGIN of a rank's memory free."""
    return memory <= m.memory_bytes * (1.0 - MARGIN)


def search(s: Shape, ranks: int, batch_rows: int, m: Machine, optimiser: str = "adamw") -> list[Candidate]:
    """Layouts that fit with MARGIN to spare and that no other one beats in both time and memory, the fastest first.

    Of equally fast ones the simplest (fewest kinds of parallelism, no recomputing) stands first.
    """
    found = [
        Candidate(layout, step_time(s, layout, m), resident(s, layout, optimiser, m.device))
        for layout in layouts(s, ranks, batch_rows, m)
    ]
    found = sorted(
        (c for c in found if fits(c.memory, m)),
        key=lambda c: (round(c.step.total, 6), _pieces(c.layout), c.memory),
    )
    front: list[Candidate] = []
    for one in found:
        if not front or one.memory < front[-1].memory:
            front.append(one)
    return front


def smallest(s: Shape, ranks: int, batch_rows: int, m: Machine, optimiser: str = "adamw") -> Candidate | None:
    """The layout that needs the least memory, whether or not it fits; None where none divides."""
    found = [
        Candidate(layout, step_time(s, layout, m), resident(s, layout, optimiser, m.device))
        for layout in layouts(s, ranks, batch_rows, m)
    ]
    return min(found, key=lambda c: c.memory, default=None)


def _pieces(layout: Layout) -> int:
    return (layout.tensor > 1) + (layout.pipeline > 1) + (layout.sequence > 1) + layout.recompute


# ---------------------------------------------------------------- learning from what steps took


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A run that was measured: what its step had to do, the seconds that were predicted before, the seconds it took."""

    ranks: int
    flop: float
    fetched: float
    micro_batches: int
    predicted: float
    measured: float


def work(s: Shape, layout: Layout, m: Machine) -> tuple[float, float, int]:
    """(FLOP, bytes over the links, micro-batches) of a rank's step: what `calibrated` explains seconds by."""
    plain = step_time(s, layout, m)
    rate = m.near_rate if layout.ranks <= m.per_node else m.far_rate
    return plain.compute * m.share * m.peak_flop, plain.traffic * rate, layout.micro_batches


def calibrated(m: Machine, runs: list[Seen]) -> Machine:
    """The machine with the share of the peak, the rate of its links and the overhead that explain past runs best.

    Least squares of relative errors, none negative; with fewer than three runs only the share is learned.
    """
    import numpy as np
    from scipy.optimize import nnls

    if not runs:
        return m
    took = np.array([r.measured for r in runs])
    columns = np.array([[r.flop, r.fetched, r.micro_batches] for r in runs], np.float64)
    if len(runs) >= 3:
        scale = np.maximum(columns.max(0), 1e-30)
        found = nnls(columns / scale / took[:, None], np.ones(len(runs)))[0] / scale
        if found[0] > 0:
            rate = 1.0 / found[1] if found[1] > 0 else m.near_rate * 100.0
            share = 1.0 / (found[0] * m.peak_flop)
            return replace(m, share=float(share), near_rate=float(rate), far_rate=float(rate), step_overhead=float(found[2]))  # fmt: skip
    left = took - columns[:, 1] / m.near_rate - columns[:, 2] * m.step_overhead
    share = np.median(columns[:, 0] / np.maximum(left, 0.1 * took) / m.peak_flop)
    return replace(m, share=float(share))


def past_error(runs: list[Seen]) -> tuple[float, float, int] | None:
    """(median, worst, n) of |predicted / measured - 1| over past runs; None where there are none."""
    errors = sorted(abs(r.predicted / r.measured - 1.0) for r in runs if r.measured > 0)
    return (errors[len(errors) // 2], errors[-1], len(errors)) if errors else None
