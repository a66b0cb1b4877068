"""SetFit at its own defaults on given rows; runs in .venv-peers: peer_setfit.py job.json answer.json.

The defaults of setfit 1.2: batch 16, one epoch over the oversampled pairs, body learning rate 2e-5, logistic regression as
the head, cosine-similarity loss. `max_steps` bounds that one epoch; handed to SetFit as it is, it would repeat a shorter
epoch until the steps are full. Times leave imports out and count loading the weights.
"""

from __future__ import annotations

import importlib.metadata
import json
import resource
import sys
import time

BATCH = 16


def epoch_steps(labels: list[int]) -> int:
    """Steps of SetFit's one epoch: all pairs of rows, themselves included, the rarer kind repeated to the other's number."""
    counts = [labels.count(c) for c in set(labels)]
    alike = sum(n * (n + 1) // 2 for n in counts)
    apart = len(labels) * (len(labels) + 1) // 2 - alike
    return -(-2 * max(alike, apart) // BATCH)


def main(job_path: str, answer_path: str) -> None:
    """Train, predict, write the answer."""
    with open(job_path, encoding="utf-8") as file:
        job = json.load(file)
    import torch
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    torch.set_num_threads(int(job.get("threads") or torch.get_num_threads()))
    began = time.perf_counter()
    classes = sorted(set(job["train_labels"]))
    model = SetFitModel.from_pretrained(job["folder"])
    labels = [classes.index(x) for x in job["train_labels"]]
    steps = min(int(job["max_steps"]), epoch_steps(labels))
    arguments = TrainingArguments(
        max_steps=steps,
        batch_size=BATCH,
        seed=int(job["seed"]),
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
    )
    rows = Dataset.from_dict({"text": job["train_texts"], "label": labels})
    trainer = Trainer(model=model, args=arguments, train_dataset=rows)
    trainer.train()
    trained = time.perf_counter()
    predicted = [classes[int(i)] for i in model.predict(job["test_texts"])]
    answer = {
        "predicted": predicted,
        "seconds": trained - began,
        "predict_seconds": time.perf_counter() - trained,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "steps": steps,
        "versions": {
            n: importlib.metadata.version(n)
            for n in ("setfit", "sentence-transformers", "transformers", "torch")
        },
    }
    with open(answer_path, "w", encoding="utf-8") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
