"""Tunes the base by contrast between classes in few steps, then a linear head; strong with few labels.

Like SetFit (Tunstall et al. 2022), but the pairs are those within a class-aware batch (supervised contrast, Khosla et
al. 2020), so memory is linear in the rows and a few dozen steps are enough. Label names, spoken as words, are one more row
of their class. The head averages log-probabilities of tuned features, the frozen probe and nearness to label names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import EMBED, TRAIN, Base, Card
from basewise.core.budget import Cost
from basewise.core.files import Progress, read_json, silent, write_bytes, write_json
from basewise.core.hashing import generator
from basewise.core.method import Context, Machine
from basewise.core.task import Examples
from basewise.engine.costs import (
    START_SECONDS,
    encode_seconds,
    solving_rate,
    tokens_of,
    train_memory,
    train_seconds,
)
from basewise.engine.folds import folds_of, rows_a_class
from basewise.engine.frozen import FLOOR, Frozen, fit_frozen, spoken, store_of
from basewise.engine.heads import Head, fit_temperature, out_of_fold, rotate, softmax, solve
from basewise.engine.probe import FIRST_STRENGTH, column_scale, unit
from basewise.engine.probe_costs import estimate_solving

REQUIRES: frozenset[str] = frozenset({EMBED, TRAIN})
RUNGS = "rows"

BATCH_ROWS = 64
MOST_STEPS = 200
LEAST_STEPS = 12
PASSES = 2.3
"""Times each row is shown. More tunes the body to the luck of the draw: on few labels 12 steps do as well as 60."""
RATE = 2.5e-4
LAYER_DECAY = 0.9
TAU = 0.1
MOST_TOKENS = 128
PIECE_TOKENS = 512
MOST_TUNED = 4
"""Layers that learn, from above: half of them and no more than this; the others keep their weights."""
TUNED_SHARE = 0.5


def steps_for(rows: int) -> int:
    """Steps that show every row about PASSES times, within bounds."""
    return int(np.clip(round(PASSES * rows / BATCH_ROWS), LEAST_STEPS, MOST_STEPS))


def tuned_layers(layers: int) -> int:
    """How many of so many layers learn."""
    return min((layers + 1) // 2, MOST_TUNED)


def class_batches(labels: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Batches of at most BATCH_ROWS rows in which every class drawn has at least two places, forever.

    A class with one row fills both places with it: two dropouts of one text are a positive pair (Gao et al. 2021).
    """
    members = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    size = min(BATCH_ROWS, max(2 * len(members), len(labels)))
    drawn = min(len(members), max(2, size // 3))
    while True:
        picked = rng.permutation(len(members))[:drawn]
        each = max(2, size // len(picked))
        yield np.concatenate(
            [
                rng.permutation(members[c])[:each] if len(members[c]) >= 2 else np.repeat(members[c], 2)
                for c in picked
            ]
        )


class Body:
    """A network with token means of its last layer as output; to be trained, or in use with the weights that training gave."""

    def __init__(self, base: Base, precision: str, tuned: dict[str, np.ndarray] | None = None) -> None:
        from basewise.engine.features import open_tokeniser

        self.base, self.precision, self._tuned = base, precision, tuned
        self.tokenise = open_tokeniser(base, MOST_TOKENS)
        self._encoder: Any = None if tuned is None else self._in_use(tuned)

    def _in_use(self, tuned: dict[str, np.ndarray]) -> Any:
        """The forward pass with some weights replaced; ValueError for one that the network lacks."""
        import torch

        from basewise.engine import direct
        from basewise.engine.encoder import Encoder, lean

        tensors = {name: torch.from_numpy(value) for name, value in tuned.items()}
        weights = direct.weights(self.base)
        network = lean(weights.changed(tensors), self.precision) if weights else None
        if network is not None:
            return Encoder(network)
        if wrong := self.model.load_state_dict(tensors, strict=False).unexpected_keys:
            raise ValueError(f"weights that the network lacks: {wrong[:3]}")
        return self._trained()

    def _trained(self) -> Any:
        """The forward pass with the model's own weights."""
        from basewise.engine.encoder import Encoder, as_network
        from basewise.engine.lean_bert import fits

        precision = self.precision if fits(self.model.config) else "fp32"
        return Encoder(as_network(self.base, self.model, precision))

    @cached_property
    def model(self) -> Any:
        """The network as transformers opens it, with attention that trains fast."""
        import torch

        from basewise.engine.attention import train_attention
        from basewise.engine.weights import load_network

        model = train_attention(load_network(self.base, torch.float32))
        return model.to("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def upper(self) -> Any:
        """The layers that are trained."""
        from basewise.engine.upper import UpperHalf

        return UpperHalf(self.model, tuned_layers(self.base.card.layers))

    def features(self, texts: Sequence[str], progress: Progress = silent) -> np.ndarray:
        """(n, D) float32 of the tuned network, in length-sorted batches and the precision verified on the base."""
        from basewise.engine.layers import views

        layers = self.base.card.layers
        self._encoder = self._encoder or self._trained()
        tokens = self.tokenise(list(texts))
        return self._encoder.encode(tokens, views([f"layer{layers}"], ("mean",), layers), progress)[:, 0]

    def state(self) -> dict[str, np.ndarray]:
        """The weights that training changed."""
        return self._tuned or {
            name: parameter.detach().cpu().numpy().copy()
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
        }


def tune(body: Body, texts: Sequence[str], labels: np.ndarray, context: Context, seconds: float) -> Any:
    """Train the body in place by supervised contrast; the loop's Outcome."""
    import torch

    from basewise.engine.device import machine
    from basewise.engine.loop import Plan, prefers_bf16, train
    from basewise.engine.optim import adamw, groups

    tokens = body.tokenise(list(texts))
    bf16 = prefers_bf16(machine())
    body.upper.remember(tokens, bf16)
    targets = torch.from_numpy(labels.astype(np.int64)).to(body.upper.device)

    def loss(rows: np.ndarray) -> torch.Tensor:
        means = torch.nn.functional.normalize(body.upper.means(tokens, rows, PIECE_TOKENS).float(), dim=1)
        scores = means @ means.T / TAU
        itself = torch.eye(len(rows), dtype=torch.bool, device=scores.device)
        mine = targets[torch.from_numpy(rows)]
        same = (mine[:, None] == mine[None, :]) & ~itself
        log_share = scores - torch.logsumexp(scores.masked_fill(itself, -torch.inf), 1, keepdim=True)
        return -((log_share * same).sum(1) / same.sum(1).clamp(min=1)).sum()

    layers = int(getattr(body.model.config, "num_hidden_layers", 1))
    optimiser = adamw(groups(body.model, RATE, layers, LAYER_DECAY))
    plan = Plan(
        steps=steps_for(len(texts)),
        seconds=seconds,
        tokens=0,
        bf16=bf16,
        seed=context.seed,
    )
    source = class_batches(labels, generator("contrast", context.seed))
    try:
        return train(body.model, optimiser, source, loss, tokens.lengths, plan, context.progress)
    finally:
        body.upper.forget()


@dataclass(frozen=True)
class Contrasted:
    """The frozen views of a text, and a linear head on the tuned body."""

    classes: tuple[str, ...]
    frozen: Frozen
    body: Body
    tuned: Head
    choices: dict[str, Any] = field(default_factory=dict)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(n, C) from the weighted log-probabilities."""
        if not len(texts):
            return np.empty((0, len(self.classes)))
        tuned = np.log(np.maximum(self.tuned.probabilities(unit(self.body.features(texts))), FLOOR))
        return softmax((1.0 - TUNED_SHARE) * self.frozen.logits(texts) + TUNED_SHARE * tuned)

    def save(self, folder: Path) -> None:
        """contrast.json, heads.safetensors and body.safetensors (only what training changed)."""
        from safetensors.numpy import save

        record = {"classes": list(self.classes), **self.frozen.record(), "choices": self.choices}
        write_json(folder / "contrast.json", record)
        heads = {**self.frozen.tensors(), **self.tuned.tensors("tuned.")}
        write_bytes(folder / "heads.safetensors", save(heads))
        write_bytes(folder / "body.safetensors", save(self.body.state()))


def estimate(examples: Examples, card: Card | None, machine: Machine) -> Cost:
    """Forward pass and probe, the steps, a second forward pass with the tuned weights in fp32."""
    assert card is not None
    rows, classes = len(examples), len(examples.classes)
    lengths = np.minimum(tokens_of(examples.texts, card), MOST_TOKENS)
    mean, longest = float(lengths.mean()), float(np.percentile(lengths, 97)) if rows else 1.0
    size = min(BATCH_ROWS, max(2 * classes, rows))
    steps = steps_for(rows + classes)
    layers = tuned_layers(card.layers)
    upper = replace(card, layers=layers, parameters=12 * layers * card.width**2)
    training, flop = train_seconds(1.1 * steps * size * mean, steps, upper, machine, dropout=False)
    forward, each, more = encode_seconds(examples.texts, card, machine)
    solving = estimate_solving(examples.counts, card, solving_rate(machine))
    memory = train_memory(card, size * max(longest, mean), upper.parameters / card.parameters)
    return Cost(
        # frozen views, and with the weights at hand the states of the lower half and the tuned features
        seconds=training + forward + 1.6 * (forward - START_SECONDS) + solving,
        memory_bytes=memory + rows * (card.width * 64.0 + mean * card.width * 2.0),
        flop=flop + 2.6 * more,
        predict_seconds_per_row=2.0 * each,
    )


def tuned_head(
    x: np.ndarray, labels: np.ndarray, n_classes: int, seed: int, groups: np.ndarray | None = None
) -> Head:
    """A logistic head on tuned unit rows; its temperature from held-out rows (optimistic: the body has seen them)."""
    scale = column_scale(x)
    rotated, rotation = rotate(x / scale)
    head = rotation.unrotate(solve(rotated, labels, n_classes, FIRST_STRENGTH, energy=rotation.energy))
    temperature = 1.0
    if (usual_rows := rows_a_class(np.bincount(labels))) >= 2:
        fold = folds_of(labels, min(3, usual_rows), generator("tuned", seed), groups)
        held = out_of_fold(rotated, labels, n_classes, (FIRST_STRENGTH,), fold, rotation.energy)[
            FIRST_STRENGTH
        ]
        known = np.isfinite(held).all(1)
        temperature = float(np.clip(fit_temperature(held[known], labels[known]), 0.5, 2.0))
    weights = (head.weights / scale[:, None]).astype(np.float32)
    return replace(head, weights=weights, temperature=temperature)


def fit(examples: Examples, base: Base | None, context: Context) -> Contrasted:
    """Frozen views first, then the body within what is left of the time, then its head."""
    import time

    from basewise.engine.loop import seeded

    assert base is not None
    started = time.perf_counter()
    examples = examples.take(examples.labels >= 0)
    n_classes = len(examples.classes)
    frozen, choices = fit_frozen(examples, base, context)
    with seeded(context.seed):
        body = Body(base, frozen.precision)
    names = [spoken(c) for c in examples.classes] if frozen.names else []
    labels = np.concatenate([examples.labels, np.arange(len(names))])
    left = max(context.seconds - 2.0 * (time.perf_counter() - started), 0.2 * context.seconds)
    outcome = tune(body, [*examples.texts, *names], labels, context, left)
    features = unit(body.features(examples.texts, context.progress))
    tuned = tuned_head(features, examples.labels, n_classes, context.seed, examples.groups)
    choices = {**choices, "steps": outcome.steps, "rate": RATE, "shortened": outcome.shortened}
    # the tuned half; the frozen one reads as far as the base does
    choices["read_tokens"] = body.tokenise.context
    return Contrasted(examples.classes, frozen, body, tuned, choices)


def load(folder: Path, base: Base | None, context: Context) -> Contrasted:
    """The inverse of `save`."""
    from safetensors.numpy import load_file

    assert base is not None
    record, heads = read_json(folder / "contrast.json"), load_file(folder / "heads.safetensors")
    frozen = Frozen.of(record, heads, base, store_of(context))
    return Contrasted(
        tuple(record["classes"]),
        frozen,
        Body(base, frozen.precision, load_file(folder / "body.safetensors")),
        Head.of_tensors(heads, "tuned."),
        record["choices"],
    )
