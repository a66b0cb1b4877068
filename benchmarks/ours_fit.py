"""One base and one method on given rows, in a fresh process, to the end: ours_fit.py job.json answer.json.

No race, no deadline: what the arm is worth with every train row. Together the arms are the exhaustive search that
`choice.py` holds `choose` against.
"""

from __future__ import annotations

import json
import resource
import sys
import time


def main(job_path: str, answer_path: str) -> None:
    """Fit job["method"] on job["base"], predict the test rows, write the answer."""
    with open(job_path, encoding="utf-8") as file:
        job = json.load(file)
    import numpy as np
    import peft  # noqa: F401  imported before the clock starts, as for the peers
    import sklearn.linear_model  # noqa: F401
    import transformers  # noqa: F401

    from basewise.core.method import Context
    from basewise.core.registry import part
    from basewise.core.task import Examples
    from basewise.steps.bases import pull
    from basewise.steps.jobs import feature_store
    from basewise.steps.predict import cache_folder

    classes = tuple(sorted(set(job["train_labels"])))
    labels = np.array([classes.index(x) for x in job["train_labels"]], dtype=np.int64)
    n = len(labels)
    rows = Examples(tuple(job["train_texts"]), labels, np.arange(n), np.arange(n), classes)
    base = pull(job["base"]) if job["base"] else None
    began = time.perf_counter()
    context = Context(seed=int(job["seed"]), features=feature_store(cache_folder()))
    fitted = part("methods", job["method"]).fit(rows, base, context)
    trained = time.perf_counter()
    predicted = [classes[int(i)] for i in np.asarray(fitted.probabilities(job["test_texts"])).argmax(1)]
    answer = {
        "predicted": predicted,
        "seconds": trained - began,
        "predict_seconds": time.perf_counter() - trained,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    with open(answer_path, "w", encoding="utf-8") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
