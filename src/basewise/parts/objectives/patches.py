"""Hidden patches of images are drawn from the others: masked autoencoder (He et al. 2022) on a small ViT.

Three quarters of the patches are hidden; the encoder sees the rest, a narrow decoder of two layers draws the hidden ones. The
network is `ViTMAEForPreTraining`, whose encoder opens as `ViTMAEModel`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from basewise.core.errors import InputError
from basewise.engine.attention import train_attention
from basewise.engine.feed import Prepared, Setting
from basewise.engine.networks import quiet

NETWORKS = frozenset({"vit"})
DATA = "images"
WHOLE = False
HIDDEN = 0.75
MEAN, SD = 0.5, 0.25
"""Pixels in 0..1 are shifted and scaled by these."""


class Images(torch.nn.Module):
    """A masked autoencoder seen as pixels and noise in, a sum of losses out; the noise says which patches are hidden."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels_BCHW: torch.Tensor, noise_BP: torch.Tensor) -> torch.Tensor:
        """Sum over images of the mean squared error of a hidden patch, of which each is normalised."""
        return self.model(pixel_values=pixels_BCHW, noise=noise_BP).loss * len(pixels_BCHW)


def patch_of(side: int) -> int:
    """Pixels of a patch's side: 8 x 8 patches an image, 2 pixels at least."""
    return max(2, side // 8)


def patches_of(side: int) -> int:
    """Patches of a square image of so many pixels a side."""
    return (side // patch_of(side)) ** 2


def visible_of(count: int, share: float) -> int:
    """Patches that the encoder sees of `count`, as ViTMAE rounds them."""
    return int(count * (1 - share))


def build(recipe: Any, corpus: Any) -> Any:
    """The network for square images of the side that the corpus has."""
    import transformers as t

    side = int(corpus.shape["side"])
    patch = patch_of(side)
    if side % patch:
        raise InputError(
            f"images of {side} pixels cannot be cut into patches of {patch}", "resize them to a multiple of 8"
        )
    share = recipe.mask_first or HIDDEN
    count = patches_of(side)
    seen = visible_of(count, share)
    if seen < 2 or seen == count:
        raise InputError(
            f"of {count} patches of an image of {side} pixels {seen} would be seen and {count - seen} hidden",
            "give larger images, or another mask_first: two seen and one hidden are the least",
        )
    if recipe.context != count:
        raise InputError(
            f"context is {recipe.context}, and images of {side} pixels are cut into {count} patches of {patch} pixels a side",
            f"write context = {count}: tokens are counted by it",
        )
    config = t.ViTMAEConfig(
        image_size=side, patch_size=patch, num_channels=3, hidden_size=recipe.hidden, num_hidden_layers=recipe.depth,
        num_attention_heads=recipe.head_count, intermediate_size=4 * recipe.hidden, mask_ratio=share,
        decoder_hidden_size=max(64, recipe.hidden // 2), decoder_num_hidden_layers=2, decoder_num_attention_heads=4,
        decoder_intermediate_size=2 * recipe.hidden, norm_pix_loss=True,
    )  # fmt: skip
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(recipe.seed)
        return Images(train_attention(t.ViTMAEForPreTraining(config)))


def flop_per_token(network: Any, recipe: Any) -> float:
    """FLOP of training on one image over its patches: the encoder on those it sees, the decoder on all, each with a class token."""
    config = network.model.config
    count = (config.image_size // config.patch_size) ** 2
    seen, drawn = visible_of(count, config.mask_ratio) + 1, count + 1
    layers, narrow = config.decoder_num_hidden_layers, config.decoder_hidden_size
    encoder = _matrices(network.model.vit)
    head = network.model.decoder
    # pixels have no gradient
    cut = 4.0 * 3 * config.patch_size**2 * config.hidden_size * count
    inside = 6.0 * encoder * seen + 12.0 * config.num_hidden_layers * config.hidden_size * seen**2
    between = 6.0 * _matrices(head.decoder_embed) * seen
    blocks = _matrices(head.decoder_layers) + _matrices(head.decoder_pred)
    behind = 6.0 * blocks * drawn + 12.0 * layers * narrow * drawn**2
    return (cut + inside + between + behind) / count


def _matrices(module: Any) -> int:
    """Weights of a module that every token is multiplied by."""
    return sum(p.numel() for p in module.parameters() if p.ndim == 2)


def prepare(rows: np.ndarray, done: float, rng: np.random.Generator, setting: Setting) -> Prepared:
    """rows (B, 3, S, S) uint8, each turned over at random; noise (B, patches) for the masks."""
    flip = rng.random(len(rows)) < 0.5
    pixels = np.where(flip[:, None, None, None], rows[..., ::-1], rows).astype(np.float32) / 255
    count = patches_of(rows.shape[-1])
    noise = rng.random((len(rows), count)).astype(np.float32)
    return Prepared(arrays={"pixels": (pixels - MEAN) / SD, "noise": noise}, count=float(len(rows)))


def loss(network: Any, batch: Prepared, places: np.ndarray) -> Any:
    """Sum of the losses of some images."""
    piece = batch.tensors(places, next(network.parameters()).device)
    return network(piece["pixels"], piece["noise"])
