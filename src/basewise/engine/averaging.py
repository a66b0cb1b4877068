"""A last layer that averages, so that a classifier of BERT's shape reads the mean of all tokens and still is stock transformers.

Such a classifier reads the state of its first token. A sentence encoder never trained that one (its vector is the mean), and few
labels cannot make up for it. The layer added here looks at all tokens alike (queries and keys are zero), hands on what it sees
so much enlarged that the first token's own state hardly counts beside it, and its feed-forward half adds nothing. The dense layer
before the head hands small numbers through its tanh almost unchanged. Both are left alone by training: with few rows they only fit
their noise.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from basewise.core.base import Card

SHAPES = ("bert", "roberta", "xlm-roberta", "camembert")
ENLARGED = 20.0
SMALL = 0.1
AVERAGED_ROWS = 600
"""Rows up to which averaging is better (benchmarks/averaging.py)."""


def add_average(model: Any, instead: bool = False) -> tuple[str, ...]:
    """Give a transformers sequence classifier the layer, in place; the names of the modules that are then not the base's, none where the
    network has another shape.

    `instead`: it takes the place of the last layer, so that the network keeps its depth; it has to have another layer then.
    """
    import torch

    config = model.config
    if config.model_type not in SHAPES or getattr(config, "is_decoder", False):
        return ()
    blocks = model.base_model.encoder.layer
    if instead and len(blocks) < 2:
        return ()
    block = type(blocks[0])(config, layer_idx=len(blocks) - instead)
    pooler = model.base_model.pooler.dense if config.model_type == "bert" else model.classifier.dense
    with torch.no_grad():
        for parameter in (*block.parameters(), *pooler.parameters()):
            parameter.zero_()
        block.attention.self.value.weight.fill_diagonal_(1.0)
        block.attention.output.dense.weight.fill_diagonal_(ENLARGED)
        block.attention.output.LayerNorm.weight.fill_(1.0)
        block.output.LayerNorm.weight.fill_(1.0)
        pooler.weight.fill_diagonal_(SMALL)
    block.requires_grad_(False)
    pooler.requires_grad_(False)
    block.train(model.training)
    if instead:
        blocks[-1] = block
    else:
        blocks.append(block)
    config.num_hidden_layers = len(blocks)
    return tuple(name for name, module in model.named_modules() if module is block or module is pooler)


def averaged(card: Card) -> Card:
    """The card of the network with the layer, for estimates; only encoders may have it."""
    if card.family != "encoder":
        return card
    return replace(card, layers=card.layers + 1, parameters=card.parameters + 12 * card.width**2)
