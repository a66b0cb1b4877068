"""What each local rank of plan.py does: trains networks of given shapes for some steps and tells the median seconds of one.

Run by torchrun: python ours_steps.py JOB.json ANSWER.json. The job: shapes (fields of core.shapes.Shape with rows and micro_batches), steps.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

from basewise.core.shapes import Shape
from basewise.engine.distributed import Ranks, blocks_of, clip, joined, leave, shard, synchronise
from basewise.engine.tracked import network_of


def median_step(shape: Shape, rows: int, micro_batches: int, steps: int, ranks: Ranks) -> float:
    """Seconds of a step: forward and backward of the micro-batches, clipping, AdamW; the median after two that warm up."""
    torch.manual_seed(0)
    model = network_of(shape)()
    shard(model, blocks_of(model), ranks)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(0, shape.vocabulary, (rows, shape.context))
    took = []
    for _ in range(steps + 2):
        ranks.wait()
        began = time.perf_counter()
        for i in range(micro_batches):
            synchronise(model, last=i == micro_batches - 1)
            (model(ids, ids) / ids.numel()).backward()
        clip(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        took.append(time.perf_counter() - began)
    return statistics.median(took[2:])


def main() -> None:
    job: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    with joined("cpu") as ranks:
        seconds = []
        for one in job["shapes"]:
            rows, micro = one.pop("rows"), one.pop("micro_batches")
            seconds.append(ranks.mean(median_step(Shape(**one), rows, micro, job["steps"], ranks)))
        if ranks.first:
            Path(sys.argv[2]).write_text(json.dumps(seconds))


if __name__ == "__main__":
    main()
    leave()
