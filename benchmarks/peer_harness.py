"""The rivals' side of benchmarks/scoring.py, in .venv-peers: lm-evaluation-harness' own hf model, and transformers' generate.

peer_harness.py job.json answer.json; job: {"folder", "dtype", "batch", "pairs", "prompts", "most_tokens", "threads"}.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def timed(work: Any) -> tuple[Any, float, float]:
    """(result, wall seconds, processor seconds)."""
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - processor


def score(job: dict[str, Any]) -> dict[str, Any]:
    """Log-likelihoods as `lm_eval --model hf` computes them."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    batch = job["batch"]
    model = HFLM(
        pretrained=job["folder"],
        dtype=job["dtype"],
        device="cpu",
        batch_size=batch,
        max_length=job["context"],
    )
    pairs = [Instance("loglikelihood", {}, (a, b), i) for i, (a, b) in enumerate(job["pairs"])]
    model.loglikelihood(pairs[:1], disable_tqdm=True)
    found, wall, processor = timed(lambda: model.loglikelihood(pairs, disable_tqdm=True))
    return {
        "log_probability": [float(value) for value, _ in found],
        "seconds": wall,
        "processor_seconds": processor,
    }


def generate(job: dict[str, Any]) -> dict[str, Any]:
    """Greedy texts by transformers: all prompts in one batch, padded on the left, or with job["alone"] one after another."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job["folder"], padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(job["folder"], dtype=getattr(torch, job["dtype"])).eval()
    asked = [[prompt] for prompt in job["prompts"]] if job.get("alone") else [job["prompts"]]
    batches = [tokenizer(prompts, return_tensors="pt", padding=True) for prompts in asked]

    with torch.inference_mode():
        model.generate(**tokenizer(["Warm"], return_tensors="pt"), max_new_tokens=2, do_sample=False)

    def work() -> Any:
        with torch.inference_mode():
            return [model.generate(**b, max_new_tokens=job["most_tokens"], do_sample=False) for b in batches]

    found, wall, processor = timed(work)
    new = [row for rows, b in zip(found, batches, strict=True) for row in rows[:, b["input_ids"].shape[1] :]]
    ends = [(row == tokenizer.eos_token_id).nonzero() for row in new]
    lengths = [int(end[0]) + 1 if len(end) else len(row) for end, row in zip(ends, new, strict=True)]
    return {
        "texts": tokenizer.batch_decode(new, skip_special_tokens=True),
        "generated": sum(lengths),
        "generate_seconds": wall,
        "generate_processor_seconds": processor,
    }


def main(job_path: str, answer_path: str) -> None:
    """What the job asks for."""
    with open(job_path, encoding="utf-8") as file:
        job = json.load(file)
    import torch

    torch.set_num_threads(int(job["threads"]))
    answer: dict[str, Any] = {}
    if job.get("pairs"):
        answer |= score(job)
    if job.get("prompts"):
        answer |= generate(job)
    with open(answer_path, "w", encoding="utf-8") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main(*sys.argv[1:3])
