"""TransformerRanker's order of the bases at its defaults; runs in .venv-peers: peer_ranker.py job.json answer.json.

H-score on the mean of all layers, every row embedded (its default is no downsampling). A base it cannot open (static
embeddings have no transformer) is left out and named in the answer.
"""

from __future__ import annotations

import importlib.metadata
import json
import resource
import sys
import time


def main(job_path: str, answer_path: str) -> None:
    """Rank job["folders"] (base key -> folder) on the rows, write the order, best first, with its scores."""
    with open(job_path, encoding="utf-8") as file:
        job = json.load(file)
    from datasets import Dataset
    from transformer_ranker import TransformerRanker

    began = time.perf_counter()
    classes = sorted(set(job["train_labels"]))
    rows = Dataset.from_dict(
        {"text": job["train_texts"], "label": [classes.index(x) for x in job["train_labels"]]}
    )
    scores, left_out = {}, {}
    for key, folder in job["folders"].items():
        try:
            ranker = TransformerRanker(rows, text_column="text", label_column="label")
            result = ranker.run([folder], batch_size=32, device="cpu")
            scores[key] = float(next(iter(result.scores.values())))
        except Exception as error:
            left_out[key] = f"{type(error).__name__}: {error}"[:200]
    answer = {
        "order": sorted(scores, key=scores.__getitem__, reverse=True),
        "scores": scores,
        "left_out": left_out,
        "seconds": time.perf_counter() - began,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "versions": {
            n: importlib.metadata.version(n) for n in ("transformer-ranker", "transformers", "torch")
        },
    }
    with open(answer_path, "w", encoding="utf-8") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
