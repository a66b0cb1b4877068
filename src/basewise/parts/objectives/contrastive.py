"""Two pieces of one text are nearer than pieces of other texts: a sentence encoder, best on top of a masked or mixed base.

InfoNCE in both directions over the pieces of a step (van den Oord et al. 2018) with cosines at temperature 0.05 (SimCSE, 2021). A
pair is two spans of a row, drawn independently (Contriever, Izacard et al. 2022), so that any corpus will do. Rows of a step are
each other's negatives, therefore a step is never cut into micro-batches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from basewise.engine.feed import Prepared, Setting
from basewise.engine.networks import LanguageModel
from basewise.engine.networks import build as language_model

NETWORKS = frozenset({"encoder", "bert", "decoder"})
DATA = "text"
WHOLE = True
TEMPERATURE = 0.05
SHORTEST, LONGEST = 0.2, 0.5
"""A span's share of the row."""


class Pairs(torch.nn.Module):
    """A language model seen as two batches of spans in, a sum of losses out. `model` is the transformers model."""

    def __init__(self, inner: LanguageModel) -> None:
        super().__init__()
        self.inner = inner

    @property
    def model(self) -> Any:
        """The transformers model."""
        return self.inner.model

    def forward(self, first_BT: torch.Tensor, second_BT: torch.Tensor) -> torch.Tensor:
        """Sum over rows of the mean of both directions, nats."""
        one, two = (self._means(ids) for ids in (first_BT, second_BT))
        cosines = one @ two.T / TEMPERATURE
        own = torch.arange(len(one), device=one.device)
        there = torch.nn.functional.cross_entropy(cosines, own, reduction="sum")
        back = torch.nn.functional.cross_entropy(cosines.T, own, reduction="sum")
        return (there + back) / 2

    def _means(self, ids: torch.Tensor) -> torch.Tensor:
        means = self.inner.states(ids, causal=False).float().mean(1)
        return torch.nn.functional.normalize(means, dim=-1)


def build(recipe: Any, corpus: Any) -> Any:
    """The network; a decoder runs without its causal mask, here and where it is saved."""
    inner = language_model(recipe, corpus.vocabulary, corpus.special)
    for parameter in inner.model.parameters():
        parameter.requires_grad_(True)
    unused = ("lm_head", "cls.", "head.", "decoder.")
    for name, parameter in inner.model.named_parameters():
        if name.startswith(unused):
            parameter.requires_grad_(False)
    return Pairs(inner)


def prepare(rows: np.ndarray, done: float, rng: np.random.Generator, setting: Setting) -> Prepared:
    """rows (B, T + 1) token ids: two spans of each, all of one length drawn for the step."""
    longest = rows.shape[1]
    length = int(rng.integers(max(2, round(SHORTEST * longest)), max(3, round(LONGEST * longest)) + 1))
    starts = rng.integers(0, longest - length + 1, (2, len(rows), 1))
    first, second = (np.take_along_axis(rows, start + np.arange(length), 1) for start in starts)
    return Prepared(arrays={"first": first, "second": second}, count=float(len(rows)), facts={"span": length})


def loss(network: Any, batch: Prepared, places: np.ndarray) -> Any:
    """Sum over the rows of the step, nats."""
    piece = batch.tensors(places, next(network.parameters()).device)
    return network(piece["first"], piece["second"])
