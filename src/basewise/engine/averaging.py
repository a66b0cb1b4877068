"""A last layer that averages, so that a classifier of BERT's shape reads the mean of all tokens and still is stock transformers.

Such a classifier reads the state of its first token. A sentence encoder never trained that one (its vector is the mean), and few
labels cannot make up for it. The layer added here looks at all tokens alike (queries and keys are zero), hands on what it sees
so much enlarged that the first token's own state hardly counts beside it, and its feed-forward half adds nothing. The dense layer
before the head hands small numbers through its tanh almost unchanged. Queries, keys and feed-forward matrices are zero and have no
gradient, so training leaves it a mean.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from basewise.core.base import Card

SHAPES = ("bert", "roberta", "xlm-roberta", "camembert")
ENLARGED = 20.0
SMALL = 0.1


def add_average(model: Any) -> bool:
    """Add the layer to a transformers sequence classifier, in place; False where the network has another shape."""
    import torch

    config = model.config
    if config.model_type not in SHAPES or getattr(config, "is_decoder", False):
        return False
    blocks = model.base_model.encoder.layer
    block = type(blocks[0])(config, layer_idx=len(blocks))
    pooler = model.base_model.pooler.dense if config.model_type == "bert" else model.classifier.dense
    with torch.no_grad():
        for parameter in (*block.parameters(), *pooler.parameters()):
            parameter.zero_()
        block.attention.self.value.weight.fill_diagonal_(1.0)
        block.attention.output.dense.weight.fill_diagonal_(ENLARGED)
        block.attention.output.LayerNorm.weight.fill_(1.0)
        block.output.LayerNorm.weight.fill_(1.0)
        pooler.weight.fill_diagonal_(SMALL)
    blocks.append(block.train(model.training))
    config.num_hidden_layers = len(blocks)
    return True


def averaged(card: Card) -> Card:
    """The card of the network with the layer, for estimates; only encoders may have it."""
    if card.family != "encoder":
        return card
    return replace(card, layers=card.layers + 1, parameters=card.parameters + 12 * card.width**2)
