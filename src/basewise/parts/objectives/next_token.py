"""Every token is predicted from those before it."""

from __future__ import annotations

from typing import Any

import numpy as np

from basewise.engine.feed import Prepared, Setting

NETWORKS = frozenset({"decoder", "gpt2"})
DATA = "text"
WHOLE = False


def build(recipe: Any, corpus: Any) -> Any:
    """The network with its weights drawn."""
    from basewise.engine.networks import build as language_model

    return language_model(recipe, corpus.vocabulary, corpus.special)


def prepare(rows: np.ndarray, done: float, rng: np.random.Generator, setting: Setting) -> Prepared:
    """rows (B, T + 1) token ids: T inputs, and the T tokens that follow them."""
    return Prepared(arrays={"ids": rows[:, :-1], "targets": rows[:, 1:]}, count=float(rows[:, 1:].size))


def loss(network: Any, batch: Prepared, places: np.ndarray) -> Any:
    """Sum of the losses of some rows, nats."""
    piece = batch.tensors(places, next(network.parameters()).device)
    return network(piece["ids"], piece["targets"])
