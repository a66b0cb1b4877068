"""Full fine-tuning by Hugging Face `Trainer` at its defaults, 3 epochs; runs in .venv-peers: peer_trainer.py job.json answer.json.

`AutoModelForSequenceClassification` on the given folder, batch 16, learning rate 2e-5, fp32, padding by batch: what the
course and most tutorials show. Times leave imports out and count loading the weights.
"""

from __future__ import annotations

import importlib.metadata
import json
import resource
import sys
import tempfile
import time


def main(job_path: str, answer_path: str) -> None:
    """Train, predict, write the answer."""
    with open(job_path, encoding="utf-8") as file:
        job = json.load(file)
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    began = time.perf_counter()
    classes = sorted(set(job["train_labels"]))
    tokenizer = AutoTokenizer.from_pretrained(job["folder"])
    torch.manual_seed(int(job["seed"]))
    model = AutoModelForSequenceClassification.from_pretrained(
        job["folder"], num_labels=len(classes), dtype=torch.float32
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id

    def encode(rows: dict) -> dict:
        return tokenizer(rows["text"], truncation=True, max_length=256)

    labels = [classes.index(x) for x in job["train_labels"]]
    train = Dataset.from_dict({"text": job["train_texts"], "labels": labels}).map(
        encode, batched=True, remove_columns=["text"]
    )
    test = Dataset.from_dict({"text": job["test_texts"]}).map(encode, batched=True, remove_columns=["text"])
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=float(job.get("epochs", 3)),
            max_steps=int(job.get("max_steps", -1)),
            per_device_train_batch_size=16,
            per_device_eval_batch_size=64,
            learning_rate=float(job.get("learning_rate", 2e-5)),
            seed=int(job["seed"]),
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = Trainer(
            model=model, args=arguments, train_dataset=train, data_collator=DataCollatorWithPadding(tokenizer)
        )
        trainer.train()
        trained = time.perf_counter()
        predicted = [classes[int(i)] for i in trainer.predict(test).predictions.argmax(-1)]
    answer = {
        "predicted": predicted,
        "seconds": trained - began,
        "predict_seconds": time.perf_counter() - trained,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "versions": {n: importlib.metadata.version(n) for n in ("transformers", "torch", "accelerate")},
    }
    with open(answer_path, "w", encoding="utf-8") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
