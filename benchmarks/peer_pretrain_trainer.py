"""Tokens a second of Hugging Face `Trainer` on a given network; runs in .venv-peers: peer_pretrain_trainer.py job.json answer.json."""

from __future__ import annotations

import json
import sys
import tempfile
import time

import numpy as np

WARM = 2


def main(job_path: str, answer_path: str) -> None:
    """Train for the job's steps, time those after the first WARM ones."""
    with open(job_path, encoding="utf-8") as file:
        job = json.load(file)
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

    ids = np.load(job["ids"])
    data = Dataset.from_dict({"input_ids": ids, "labels": ids}).with_format("torch")
    model = AutoModelForCausalLM.from_pretrained(job["network"], dtype=torch.float32)
    ends: list[float] = []

    class Times(TrainerCallback):
        def on_step_end(self, *_args: object, **_more: object) -> None:
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, max_steps=int(job["steps"]), per_device_train_batch_size=int(job["rows"]), bf16=True, use_cpu=True,
            optim="adamw_torch_fused", learning_rate=1e-3, report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        Trainer(model=model, args=arguments, train_dataset=data, callbacks=[Times()]).train()
    each = float(np.median(np.diff(ends)[WARM - 1 :] if len(ends) > WARM + 1 else np.diff(ends)))
    answer = {
        "tokens_per_second": job["rows"] * ids.shape[1] / each,
        "flop_per_token": job["flop_per_token"],
        "threads": torch.get_num_threads(),
    }
    with open(answer_path, "w", encoding="utf-8") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main(*sys.argv[1:3])
