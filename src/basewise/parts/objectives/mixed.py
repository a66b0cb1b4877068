"""Causal batches and batches with hidden tokens train one decoder, which can then be both decoder and encoder (GPT-BERT).

Charpentier and Samuel 2024 (arXiv 2410.24159): in both kinds the state at a position predicts the next token; with hidden tokens
the decoder runs without its causal mask and the hidden token is predicted from the position before it, so nothing but the mask and
the inputs differs. A share of the rows of every step is causal.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from basewise.engine.feed import Prepared, Setting
from basewise.engine.networks import IGNORED
from basewise.parts.objectives._masks import hide, rate

NETWORKS = frozenset({"decoder"})
DATA = "text"
WHOLE = False
CAUSAL_SHARE = 0.25


def build(recipe: Any, corpus: Any) -> Any:
    """The network with its weights drawn."""
    from basewise.engine.networks import build as language_model

    return language_model(recipe, corpus.vocabulary, corpus.special)


def prepare(rows: np.ndarray, done: float, rng: np.random.Generator, setting: Setting) -> Prepared:
    """rows (B, T + 1) token ids. The hidden tokens of a row are told from the states one place before."""
    causal = np.zeros(len(rows), bool)
    causal[: round((setting.causal_share or CAUSAL_SHARE) * len(rows))] = True
    causal = rng.permutation(causal)
    share = rate(done, setting)
    inputs, targets = hide(rows, share, rng, setting)
    ids = np.where(causal[:, None], rows, inputs)[:, :-1]
    wanted = np.where(causal[:, None], rows, targets)[:, 1:]
    return Prepared(
        arrays={"ids": ids, "targets": wanted, "causal": causal},
        count=float((wanted >= 0).sum()),
        facts={"mask_rate": share, "causal_share": float(causal.mean())},
    )


def loss(network: Any, batch: Prepared, places: np.ndarray) -> Any:
    """Sum of the losses of some rows, nats: those with the causal mask, then those without.

    One of many ranks runs both even where it has rows of one kind only (the other then has no target), as the others may have both.
    """
    device = next(network.parameters()).device
    causal = batch.arrays["causal"][places]
    total: Any = 0.0
    for kind in (True, False):
        rows = places[causal == kind]
        if len(rows) or batch.ranks > 1:
            piece = batch.tensors(rows if len(rows) else places[:1], device)
            targets = piece["targets"] if len(rows) else piece["targets"].fill_(IGNORED)
            total = total + network(piece["ids"], targets, causal=kind)
    return total
