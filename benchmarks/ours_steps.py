"""What each local rank of plan.py does: trains networks of given shapes for some steps and tells the median seconds of one, over three rounds.

Run by torchrun: python ours_steps.py JOB.json ANSWER.json. The job: shapes (fields of core.shapes.Shape with rows and micro_batches), steps.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from basewise.core.shapes import Shape
from basewise.engine.distributed import Ranks, blocks_of, clip, joined, leave, shard, synchronise
from basewise.engine.tracked import network_of

ROUNDS = 3
"""The shapes take turns, so that a machine whose speed drifts is as fast for each of them."""


def stepper(shape: Shape, rows: int, micro_batches: int, ranks: Ranks) -> Callable[[], float]:
    """A function that takes one step and tells its seconds: forward and backward of the micro-batches, clipping, AdamW."""
    torch.manual_seed(0)
    model = network_of(shape)()
    shard(model, blocks_of(model), ranks)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(0, shape.vocabulary, (rows, shape.context))

    def step() -> float:
        ranks.wait()
        began = time.perf_counter()
        for i in range(micro_batches):
            synchronise(model, last=i == micro_batches - 1)
            (model(ids, ids) / ids.numel()).backward()
        clip(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return time.perf_counter() - began

    return step


def main() -> None:
    job: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    with joined("cpu") as ranks:
        steppers = []
        for one in job["shapes"]:
            rows, micro = one.pop("rows"), one.pop("micro_batches")
            steppers.append(stepper(Shape(**one), rows, micro, ranks))
        took: list[list[float]] = [[] for _ in steppers]
        for _ in range(ROUNDS):
            for mine, step in zip(took, steppers, strict=True):
                # the first of a round finds cold caches
                step()
                mine += [step() for _ in range(job["steps"])]
        seconds = [ranks.mean(statistics.median(mine)) for mine in took]
        if ranks.first:
            Path(sys.argv[2]).write_text(json.dumps(seconds))


if __name__ == "__main__":
    main()
    leave()
