"""Tokens a second of basewise's loop, and of a bare torch loop on the same network: ours_pretrain_speed.py job.json answer.json."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

WARM = 2


def main(job_path: str, answer_path: str) -> None:
    """Time the steps after the first WARM ones; "save" only writes the network for a rival."""
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    import torch

    from basewise.core.recipe import recipe_of
    from basewise.engine.device import matmul_peak
    from basewise.engine.feed import Windows
    from basewise.engine.networks import flop_per_token
    from basewise.steps.pretrain import assemble
    from basewise.steps.pretrain_data import Corpus

    recipe = recipe_of(job["recipe"])
    rows = job["steps"] * recipe.rows
    ids = np.random.default_rng(0).integers(4, job["vocabulary"], rows * (recipe.context + 1))
    corpus = Corpus(
        rows=Windows(ids, recipe.context + 1), held_out=(), tokenizer=None, vocabulary=job["vocabulary"],
        special={}, digest="", tokens=len(ids),
    )  # fmt: skip
    made = assemble(recipe, corpus)
    answer: dict[str, Any] = {"flop_per_token": flop_per_token(made.model, recipe)}
    if job["who"] == "save":
        made.model.model.save_pretrained(Path(job["folder"]) / "network")
        np.save(Path(job["folder"]) / "ids.npy", corpus.rows.take(np.arange(rows))[:, :-1])
        answer |= {
            "network": str(Path(job["folder"]) / "network"),
            "ids": str(Path(job["folder"]) / "ids.npy"),
            "rows": recipe.rows,
        }
    else:
        times = ours(made, recipe) if job["who"] == "ours" else bare(made, recipe)
        each = float(np.median(np.diff(times)[WARM:] if len(times) > WARM + 1 else np.diff(times)))
        answer |= {
            "tokens_per_second": recipe.rows * recipe.context / each,
            "parameters": sum(p.numel() for p in made.model.parameters()),
            "threads": torch.get_num_threads(),
            "peak": matmul_peak(torch.bfloat16, seconds=1.0),
        }
    Path(answer_path).write_text(json.dumps(answer), encoding="utf-8")


def ours(made: Any, recipe: Any) -> list[float]:
    """When each step of the loop ended."""
    from basewise.engine.loop import Watch, train

    class Times(Watch):
        def __init__(self) -> None:
            self.ends = [time.perf_counter()]

        def after(self, seen: Any, state: Any) -> bool:
            self.ends.append(time.perf_counter())
            return False

    watch = Times()
    lengths = np.full(recipe.rows, recipe.context)
    train(made.model, made.optimiser, iter(made.feed), made.feed.loss, lengths, made.plan, watch=watch)
    return watch.ends


def bare(made: Any, recipe: Any) -> list[float]:
    """When each step of a plain loop ended, on the stock network."""
    import torch
    from transformers import AutoModelForCausalLM

    stock = AutoModelForCausalLM.from_config(made.model.model.config, attn_implementation="sdpa")
    stock.load_state_dict(made.model.model.state_dict())
    model = stock.float().train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    ends = [time.perf_counter()]
    for step in range(recipe.steps):
        rows = torch.from_numpy(made.feed.rows.take(made.feed.index(step)))[:, :-1]
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        ends.append(time.perf_counter())
    return ends


if __name__ == "__main__":
    main(*sys.argv[1:3])
