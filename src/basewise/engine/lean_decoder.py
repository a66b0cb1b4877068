"""One step of a Llama-shaped decoder for several rows at once, written lean: the layers' own weights, none of their code.

A step for a handful of rows is mostly reading weights; what transformers does around the products (masks, caches that are copied,
a module for every sum) costs as much again. Covered by shape, not by name: gated feed-forward, root-mean-square norms before or after
their block, rotary positions over whole heads, grouped keys, norms of queries and keys, windows and soft caps. Whether
it computes the same as the network is checked when it is made (`engine/rows.py`); a network that it does not fit steps through its
own code.

Shapes: B rows, H heads, K key heads, G = H / K, S keys, D head width, W width.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch.nn import functional as F

from basewise.engine.linear import Products
from basewise.engine.paths import How, Unsupported

HALF_BYTES = 2**30
"""Weights that are kept a second time in fp16 at most; a base that is larger reads those that it has."""
Buffers = dict[int, tuple[torch.Tensor, torch.Tensor]]
"""Keys and values (B, K, room, D) of each layer."""


class Norm:
    """A root-mean-square norm over the last axis."""

    def __init__(self, module: Any) -> None:
        plain = copy.deepcopy(module).float()
        self.weight = module.weight.detach()
        self.eps = float(getattr(module, "variance_epsilon", getattr(module, "eps", 0.0)))
        self.width = self.weight.shape[-1]
        probe = torch.linspace(-2, 3, 2 * self.width).view(2, self.width)
        # Gemma keeps the weight less one
        for offset in (0.0, 1.0):
            weight = self.weight.float() + offset
            with torch.inference_mode():
                found = F.rms_norm(probe, (self.width,), weight, self.eps)
                if torch.allclose(found, plain(probe), rtol=1e-5, atol=1e-6):
                    self.weight = weight.to(self.weight.dtype)
                    return
        raise Unsupported(type(module).__name__)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, (self.width,), self.weight, self.eps)


class Block:
    """The parts of one layer; `halved`: see `Products`."""

    def __init__(self, layer: Any, halved: bool) -> None:
        norms = {
            name: Norm(getattr(layer, name))
            for name in (
                "input_layernorm",
                "post_attention_layernorm",
                "pre_feedforward_layernorm",
                "post_feedforward_layernorm",
            )
            if hasattr(layer, name)
        }
        after = "input_layernorm" not in norms or "pre_feedforward_layernorm" in norms
        middle = norms["post_attention_layernorm"]
        self.before = norms.get("input_layernorm")
        self.between = norms.get("pre_feedforward_layernorm", None if after else middle)
        self.after = (middle, norms["post_feedforward_layernorm"]) if after else (None, None)
        attention, self.mlp = layer.self_attn, layer.mlp
        if hasattr(attention, "sinks"):
            raise Unsupported("sinks")
        self.project = Products(attention.q_proj, attention.k_proj, attention.v_proj, halved=halved)
        self.out = Products(attention.o_proj, halved=halved)
        self.width = int(attention.head_dim)
        self.norms = tuple(
            Norm(getattr(attention, name)) if getattr(attention, name, None) is not None else None
            for name in ("q_norm", "k_norm")
        )
        self.widen = Products(self.mlp.gate_proj, self.mlp.up_proj, halved=halved)
        self.narrow = Products(self.mlp.down_proj, halved=halved)
        self.act = self.mlp.act_fn
        self.kind = getattr(attention, "layer_type", None)

    def normed(self, norm: Norm | None, x: torch.Tensor) -> torch.Tensor:
        """(B, n, D) of a projection (B, n * D), normed by head or as a whole where the layer does so."""
        if norm is not None and norm.width != self.width:
            x, norm = norm(x), None
        x = x.view(len(x), -1, self.width)
        return x if norm is None else norm(x)

    def feed(self, x: torch.Tensor) -> torch.Tensor:
        """The gated feed-forward."""
        gate, up = self.widen(x)
        return self.narrow(self.act(gate).mul_(up))[0]


class Lean:
    """Steps of a network of transformers. Raises Unsupported, AttributeError or KeyError for another shape."""

    def __init__(self, model: Any) -> None:
        inner = model.model
        layers = inner.layers[: model.config.num_hidden_layers]
        halved = 2 * sum(_entries(layer) for layer in layers) <= HALF_BYTES
        self.blocks = [Block(layer, halved) for layer in layers]
        self.embed, self.norm, self.rotary = inner.embed_tokens, Norm(inner.norm), inner.rotary_emb
        self._tables: dict[str | None, tuple[torch.Tensor, torch.Tensor]] = {}

    def _table(self, kind: str | None, room: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and signed sines (at least `room`, 1, D) of the positions, of the rotary layer itself."""
        known = self._tables.get(kind)
        if known is not None and len(known[0]) >= room:
            return known
        more = (
            {"layer_type": kind} if "layer_type" in inspect.signature(self.rotary.forward).parameters else {}
        )
        cos, sin = self.rotary(like, torch.arange(room)[None], **more)
        few, _ = self.rotary(like, torch.arange(2)[None], **more)
        width = self.blocks[0].width
        if cos.shape[-1] != width or not torch.equal(cos[:, :2], few):
            raise Unsupported("positions of another kind")
        sin = torch.cat([-sin[0, :, : width // 2], sin[0, :, width // 2 :]], -1)
        self._tables[kind] = (cos[0][:, None], sin[:, None])
        return self._tables[kind]

    def step(
        self, tokens: torch.Tensor, lengths: torch.Tensor, buffers: Buffers, hows: dict[int, How]
    ) -> torch.Tensor:
        """(B, W) states after one more token (B,) a row of the given lengths; writes its keys and values into the buffers."""
        x = self.embed(tokens)
        kinds, room = buffers[0][0].shape[1:3]
        where = torch.arange(len(tokens) * kinds) * room + lengths.repeat_interleave(kinds)
        longest = int(lengths.max()) + 1
        masks: dict[int | None, torch.Tensor | None] = {}
        places: dict[str | None, tuple[torch.Tensor, torch.Tensor]] = {}
        for layer, block in enumerate(self.blocks):
            how = hows[layer]
            if block.kind not in places:
                cos, sin = self._table(block.kind, room, x)
                places[block.kind] = (cos[lengths], sin[lengths])
            if how.window not in masks:
                masks[how.window] = mask_of(lengths, longest, how.window, x.dtype)
            turned = places[block.kind]
            y = x if block.before is None else block.before(x)
            query, key, value = block.project(y)
            query = turn(block.normed(block.norms[0], query), turned)
            key = turn(block.normed(block.norms[1], key), turned)
            flat = [buffer.view(-1, block.width) for buffer in buffers[layer]]
            flat[0].index_copy_(0, where, key.reshape(-1, block.width))
            flat[1].index_copy_(0, where, value.reshape(-1, block.width))
            (y,) = block.out(attend(query, *buffers[layer], longest, masks[how.window], how))
            x = x + (y if block.after[0] is None else block.after[0](y))
            y = block.feed(x if block.between is None else block.between(x))
            x = x + (y if block.after[1] is None else block.after[1](y))
        return self.norm(x)


def _entries(layer: Any) -> int:
    """Entries of the weights of a layer's products."""
    found = (getattr(m, "in_features", 0) * getattr(m, "out_features", 0) for m in layer.modules())
    return sum(map(int, found))


def mask_of(
    lengths: torch.Tensor, longest: int, window: int | None, dtype: torch.dtype
) -> torch.Tensor | None:
    """Additive (B, 1, 1, S): each row sees its own tokens, the new one among them; None where every row sees all."""
    places = torch.arange(longest, device=lengths.device)[None]
    hidden = places > lengths[:, None]
    if window is not None:
        hidden |= lengths[:, None] - places >= window
    if not bool(hidden.any()):
        return None
    mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
    return mask.masked_fill_(hidden, float("-inf"))[:, None, None]


def turn(x: torch.Tensor, turned: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotary positions on (B, n, D): the halves of a head are the two parts of complex numbers."""
    return torch.addcmul(x * turned[0], x.roll(x.shape[-1] // 2, -1), turned[1])


def attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    longest: int,
    mask: torch.Tensor | None,
    how: How,
) -> torch.Tensor:
    """(B, H * D) of one query a row (B, H, D) over `longest` states: two batched products, heads that share keys side by side.

    torch's fused kernel took longer here in fp32 and many times as long in bf16 (one run by hand, docs/log.md).
    """
    if how.sinks is not None:
        raise Unsupported("sinks")
    count, heads, width = query.shape
    kinds, room = keys.shape[1], keys.shape[2]
    scale = how.scaling if how.scaling is not None else width**-0.5
    query = (query * scale).view(count * kinds, heads // kinds, width)
    seen = keys.view(-1, room, width)[: count * kinds, :longest]
    # the same product the other way round: half of the time
    if query.dtype == torch.bfloat16:
        scores = torch.bmm(seen, query.transpose(1, 2)).transpose(1, 2)
    else:
        scores = torch.bmm(query, seen.transpose(1, 2))
    if how.softcap is not None:
        scores = torch.tanh(scores / how.softcap) * how.softcap
    if mask is not None:
        scores = scores.unflatten(0, (count, kinds)).add(mask).flatten(0, 1)
    shares = torch.softmax(scores, -1)
    return torch.bmm(shares, values.view(-1, room, width)[: count * kinds, :longest]).view(count, -1)
