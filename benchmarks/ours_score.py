"""Our side of benchmarks/scoring.py, in a fresh process: ours_score.py job.json answer.json.

job: {"base", "precision", "pairs": [[context, continuation]], "choices" a question, "prompts", "most_tokens", "way"}; wall and processor seconds of scoring and of
generating apart, what was computed, and the peak of matrix multiplication in the same process.
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


def alone(causal: Any) -> Any:
    """Prompts answered one after another."""
    return lambda prompts, options: [causal.answers([prompt], options)[0] for prompt in prompts]


def together(causal: Any) -> Any:
    """Prompts that come at once and grow together, as in the service."""

    def answers(prompts: list[str], options: Any) -> list[Any]:
        growing, found = causal.growing(), {}
        grown = [growing.add(i, causal.prompt_tokens(p, options), options, p) for i, p in enumerate(prompts)]
        while True:
            found |= {key: answer for key, _, answer in grown if answer is not None}
            if not len(growing):
                return [found[i] for i in range(len(prompts))]
            grown = growing.step()

    return answers


def main(job_path: str, answer_path: str) -> None:
    """Score and generate what the job asks, write the answer."""
    with open(job_path, encoding="utf-8") as file:
        job = json.load(file)
    import torch

    from basewise.engine.causal import Causal
    from basewise.engine.costs import block_parameters
    from basewise.engine.decoder import DTYPES
    from basewise.engine.device import matmul_peak
    from basewise.engine.generate import Sampling
    from basewise.steps.bases import pull

    torch.set_num_threads(int(job["threads"]))
    base = pull(job["base"])
    causal = Causal(base, job["precision"])
    causal.score([("Warm", " up")])
    answer: dict[str, Any] = {"precision": causal.precision, "context": causal.context}
    if job.get("pairs"):
        pairs = [(context, continuation) for context, continuation in job["pairs"]]
        counts = [job["choices"]] * (len(pairs) // job["choices"])
        scores, wall, processor = timed(lambda: causal.pick(pairs, counts))
        flop = 2.0 * block_parameters(base.card) * scores.unique
        peak = matmul_peak(DTYPES[causal.precision])
        answer |= {
            "log_probability": scores.log_probability.tolist(),
            "seconds": wall,
            "processor_seconds": processor,
            "computed": scores.computed,
            "unique": scores.unique,
            "redundancy": scores.computed / scores.unique,
            "share_of_peak": flop / processor * int(job["threads"]) / peak,
        }
    if job.get("prompts"):
        causal.answers(["Warm"], Sampling(most_tokens=2))
        options = Sampling(most_tokens=job["most_tokens"])
        ways = {"batch": causal.answers, "alone": alone(causal), "together": together(causal)}
        way = ways[job.get("way", "batch")]
        found, wall, processor = timed(lambda: way(job["prompts"], options))
        answer |= {
            "texts": [a.text for a in found],
            "generated": sum(a.tokens + (a.ended == "end") for a in found),
            "generate_seconds": wall,
            "generate_processor_seconds": processor,
        }
    with open(answer_path, "w", encoding="utf-8") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main(*sys.argv[1:3])
