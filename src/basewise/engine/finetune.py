"""Fine-tuning a classifier: exact head first, then its weights with label smoothing and decaying layer-wise rates.

Shared by `full`, `lora` and `scratch`, which differ in what they train and how fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import Base
from basewise.core.budget import Cost
from basewise.core.files import read_json, write_json
from basewise.core.hashing import generator
from basewise.core.method import Context, Machine
from basewise.core.task import Examples
from basewise.engine.costs import encode_seconds, fp32_slowdown, tokens_of, train_memory, train_seconds
from basewise.engine.heads import rotate, solve

MOST_TOKENS = 256


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Rate of the head and the last layer, decay a layer, rows a step, passes over the rows, bounds of the steps."""

    rate: float
    layer_decay: float = 0.9
    rows: int = 16
    passes: float = 3.0
    least_steps: int = 60
    most_steps: int = 3000
    smoothing: float = 0.05
    head_first: bool = True
    head_strength: float = 1.0

    def steps(self, n: int) -> int:
        """Steps for n rows."""
        return int(np.clip(np.ceil(self.passes * n / self.rows), self.least_steps, self.most_steps))


@dataclass(frozen=True)
class FineTuned:
    """A transformers classifier with all weights tuned; `record`: the file that keeps its classes and choices."""

    record: str
    classes: tuple[str, ...]
    network: Any
    base: Base
    choices: dict[str, Any]

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(n, C) in fp32."""
        return self.network.probabilities(texts)

    def save(self, folder: Path) -> None:
        """A plain Hugging Face folder with tokeniser and label names, and the record."""
        from basewise.engine.weights import save_tokenizer

        self.network.model.save_pretrained(folder)
        save_tokenizer(self.base, folder)
        record = {"classes": list(self.classes), "base": self.base.digest, "choices": self.choices}
        write_json(folder / self.record, record)

    @classmethod
    def load(cls, record: str, folder: Path, base: Base) -> FineTuned:
        """The inverse of `save`."""
        from basewise.engine.classifier import open_classifier

        said = read_json(folder / record)
        return cls(record, tuple(said["classes"]), open_classifier(folder, base), base, said["choices"])


def finetune(classifier: Any, examples: Examples, recipe: Recipe, context: Context) -> dict[str, Any]:
    """Train `classifier` in place on labelled rows; what was decided comes back."""
    import torch

    from basewise.engine.device import machine
    from basewise.engine.loop import Plan, epochs, prefers_bf16, train
    from basewise.engine.optim import adamw, groups

    tokens = classifier.tokenise(list(examples.texts))
    if recipe.head_first:
        x = classifier.before_head(tokens, context.progress)
        # one number, so that the head stays exact
        scale = float(np.sqrt((x**2).sum(1).mean())) or 1.0
        rotated, rotation = rotate(x / scale)
        head = solve(
            rotated,
            examples.labels,
            len(examples.classes),
            recipe.head_strength * 10.0,
            energy=rotation.energy,
        )
        head = rotation.unrotate(head)
        classifier.set_head(head.weights / scale, head.bias)
    targets = torch.from_numpy(examples.labels.astype(np.int64)).to(classifier.device)

    def loss(rows: np.ndarray) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(
            classifier.logits(tokens, rows).float(),
            targets[torch.from_numpy(rows)],
            label_smoothing=recipe.smoothing,
            reduction="sum",
        )

    optimiser = adamw(groups(classifier.model, recipe.rate, classifier.layers, recipe.layer_decay))
    plan = Plan(
        steps=recipe.steps(len(examples)),
        seconds=context.seconds,
        bf16=prefers_bf16(machine()),
        seed=context.seed,
    )
    source = epochs(tokens.lengths, min(recipe.rows, len(examples)), generator("finetune", context.seed))
    outcome = train(classifier.model, optimiser, source, loss, tokens.lengths, plan, context.progress)
    return {
        "steps": outcome.steps,
        "rate": recipe.rate,
        "layer_decay": recipe.layer_decay,
        "smoothing": recipe.smoothing,
        "bf16": plan.bf16,
        "final_loss": round(outcome.loss, 4),
        "shortened": outcome.shortened,
        "cut_rows": int(tokens.cut.sum()),
        "read_tokens": classifier.tokenise.context,
    }


def estimate_finetune(
    examples: Examples, card: Any, machine: Machine, recipe: Recipe, share: float = 1.0
) -> Cost:
    """Steps x rows x tokens, twelve per cent for padding; `share` of the weights have gradients and moments."""
    lengths = np.minimum(tokens_of(examples.texts, card), MOST_TOKENS)
    rows = max(min(recipe.rows, len(examples)), 1)
    steps = recipe.steps(len(examples))
    mean = float(lengths.mean()) if len(lengths) else 1.0
    training, flop = train_seconds(1.12 * steps * rows * mean, steps, card, machine, share)
    forward, each, more = encode_seconds(examples.texts, card, machine)
    slower = fp32_slowdown(machine)
    first = forward * slower if recipe.head_first else 0.0
    at_once = min(2048.0, rows * (float(lengths.max()) if len(lengths) else 1.0))
    return Cost(
        seconds=training + first,
        memory_bytes=train_memory(card, at_once, share),
        flop=flop + more,
        predict_seconds_per_row=each * slower,
    )
