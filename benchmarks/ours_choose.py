"""`choose` and its saved predictor on given rows, in a fresh process: ours_choose.py job.json answer.json.

The same protocol as the peers': times leave imports out and count everything else, here audit, ranking, race and saving. As for
them, the table holds the train rows alone, and predicting the test texts is timed apart.
"""

from __future__ import annotations

import json
import resource
import sys
import time


def main(job_path: str, answer_path: str) -> None:
    """Choose on job["table"], predict job["test_texts"] with the saved predictor, write the answer."""
    with open(job_path, encoding="utf-8") as file:
        job = json.load(file)
    import peft  # noqa: F401  imported before the clock starts, as for the peers
    import sklearn.linear_model  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401

    import basewise as bw

    chosen = {k: tuple(job[k]) for k in ("bases", "methods") if job.get(k)}
    began = time.perf_counter()
    task = bw.audit(job["table"], inputs="text", target="label", split="none")
    audited = time.perf_counter()
    decision = bw.choose(task, budget=job["budget"], to=job["run"], seed=int(job["seed"]), **chosen)
    decided = time.perf_counter()
    predictor = bw.load(decision.folder)
    predicted = predictor.predict(job["test_texts"])
    finished = time.perf_counter()
    answer = {
        "predicted": list(predicted),
        "seconds": decided - began,
        "audit_seconds": audited - began,
        "predict_seconds": finished - decided,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "verdict": decision.verdict,
        "chosen": decision.chosen,
        "promised": decision.winner,
        "budget": decision.budget,
        "leaderboard": [
            {
                k: line.get(k)
                for k in (
                    "name",
                    "status",
                    "score",
                    "seconds",
                    "predicted_seconds",
                    "n_train",
                    "memory_bytes",
                    "predicted_memory_bytes",
                    "why",
                )
            }
            for line in decision.leaderboard
        ],
    }
    with open(answer_path, "w", encoding="utf-8") as file:
        json.dump(answer, file, default=lambda v: v.tolist() if hasattr(v, "tolist") else str(v))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
