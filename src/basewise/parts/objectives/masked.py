"""Hidden tokens are predicted from both sides; the share that is hidden falls from 35 to 15 per cent over the run."""

from __future__ import annotations

from typing import Any

import numpy as np

from basewise.engine.feed import Prepared, Setting
from basewise.parts.objectives._masks import hide, rate

NETWORKS = frozenset({"encoder", "bert"})
DATA = "text"
WHOLE = False


def build(recipe: Any, corpus: Any) -> Any:
    """The network with its weights drawn."""
    from basewise.engine.networks import build as language_model

    return language_model(recipe, corpus.vocabulary, corpus.special)


def prepare(rows: np.ndarray, done: float, rng: np.random.Generator, setting: Setting) -> Prepared:
    """rows (B, T + 1) token ids, of which the first T are used."""
    share = rate(done, setting)
    ids, targets = hide(rows[:, :-1], share, rng, setting)
    return Prepared(
        arrays={"ids": ids, "targets": targets}, count=float((targets >= 0).sum()), facts={"mask_rate": share}
    )


def loss(network: Any, batch: Prepared, places: np.ndarray) -> Any:
    """Sum of the losses at the hidden tokens of some rows, nats."""
    piece = batch.tensors(places, next(network.parameters()).device)
    return network(piece["ids"], piece["targets"], causal=False)
