"""basewise pretrain in a fresh process: ours_pretrain.py job.json answer.json; the curve of the held-out loss over training seconds."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path


def main(job_path: str, answer_path: str) -> None:
    """Run the recipe of the job, answer with its curve."""
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    import torch

    from basewise.core.recipe import recipe_of
    from basewise.steps import pretrain_scores
    from basewise.steps.pretrain import pretrain

    torch.set_num_threads(int(job["threads"]))
    # the whole validation, as the peer scores it
    pretrain_scores.ON_THE_WAY = 10**12
    with tempfile.TemporaryDirectory() as folder:
        result = pretrain(recipe_of(job["recipe"]), to=Path(folder) / "run")
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    metrics = [json.loads(line) for line in lines]
    curve = [
        {
            "step": m["step"],
            "seconds": m["seconds"] - m["evaluation_seconds"],
            "nats": m["nats_per_token"]["all"]["estimate"],
        }
        for m in metrics
        if "nats_per_token" in m
    ]
    spent = metrics[-1]["seconds"] - metrics[-1]["evaluation_seconds"]
    nats = result.scores["nats_per_token"]["all"]["estimate"]
    curve.append({"step": result.steps, "seconds": spent, "nats": nats})
    answer = {
        "curve": curve,
        "seconds": spent,
        "nats": nats,
        "bits_per_byte": result.scores["bits_per_byte"]["all"]["estimate"],
        "tokens": result.tokens,
        "parameters": result.parameters,
    }
    Path(answer_path).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:3])
