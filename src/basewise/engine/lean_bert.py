"""A lean forward pass for BERT-shaped encoders (BERT, RoBERTa, XLM-R, MPNet): equal to transformers', with less work.

Tokens of all rows lie one after the other without padding through every matrix product, normalisation and activation
(at least 85 % of the work); only attention sees rows side by side, and there short rows take two batched products,
which on a CPU beat the fused kernel up to some hundred tokens. Query, key and value are one product; weights are laid out
once for the processor's matrix unit where torch can. A test compares it with transformers on every architecture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from basewise.engine.batches import room_for
from basewise.engine.direct import PREFIXES, Weights, modules_of
from basewise.engine.encoder import DTYPES, Packed, Seen

SHORT = 512
"""Up to this many tokens, softmax(QK')V as plain products is faster on a CPU than fused attention (measured)."""
CACHED_SCORES = 1_600_000
"""Attention scores held at once on a CPU: about 3 MB in bf16."""
SMALLEST = 1e-30
"""Sums of exponentials below this, or above its inverse, send attention the plain way."""
TINY = 32
"""Up to this many tokens a bf16 softmax is slower than one in fp32 with both conversions (measured)."""

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}


def fits(config: Any) -> bool:
    """Whether this file computes such a network exactly."""
    return (
        config.model_type in PREFIXES
        and getattr(config, "hidden_act", None) in ACTIVATIONS
        and getattr(config, "position_embedding_type", "absolute") in ("absolute", None)
        and not getattr(config, "is_decoder", False)
        and not getattr(config, "add_cross_attention", False)
    )


class _Linear:
    """x W' + b with the weights laid out once; torch's own linear where the layout is not on offer."""

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.weight, self.bias = weight.detach().to(device, dtype), bias.detach().to(device, dtype)
        self.run: Callable[[torch.Tensor], torch.Tensor] = self._plain
        if dtype == torch.bfloat16 and device.type == "cpu":
            self._lay_out()

    def _plain(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight, self.bias)

    def _lay_out(self) -> None:
        """Try the processor library's own weight layout (3-5 % on Zen 4); keep it only if it gives the same."""
        try:
            laid = torch.ops.mkldnn._reorder_linear_weight(self.weight, 1024)
            point = torch.ops.mkldnn._linear_pointwise

            def run(x: torch.Tensor) -> torch.Tensor:
                return point(x, laid, self.bias, "none", [], "")

            probe = torch.linspace(-1, 1, 8 * self.weight.shape[1]).view(8, -1).to(self.weight.dtype)
            if torch.allclose(run(probe).float(), self._plain(probe).float(), rtol=0.02, atol=0.02):
                self.run = run
        except (AttributeError, RuntimeError, NotImplementedError):
            return


class _Int8Linear:
    """x W' + b in int8 with one scale a row of x and one a channel of W; worth it only where `precision` says so.

    One scale a tensor (torch's dynamic quantisation) ruins MiniLM, whose activations have outliers (LLM.int8(),
    Dettmers et al. 2022, found the same at scale); a scale a row confines an outlier to its own token.
    """

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor, dtype: torch.dtype, device: torch.device
    ) -> None:
        weight = weight.detach().float()
        self.scale = weight.abs().amax(1).clamp_min_(1e-12) / 127
        self.weight = (weight / self.scale[:, None]).round().to(device, torch.int8).t()
        self.scale, self.bias, self.dtype = self.scale.to(device), bias.detach().float().to(device), dtype

    def run(self, x: torch.Tensor) -> torch.Tensor:
        """(N, K) to (N, M) in the dtype of the network."""
        x = x.float()
        scale = x.abs().amax(1, keepdim=True).clamp_min_(1e-12) / 127
        whole = torch._int_mm((x / scale).round_().to(torch.int8), self.weight)
        return torch.addcmul(self.bias, whole.float().mul_(scale), self.scale).to(self.dtype)


class _Norm:
    """LayerNorm in the dtype of its input (torch accumulates in fp32 inside)."""

    def __init__(
        self, pair: tuple[torch.Tensor, torch.Tensor], eps: float, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.weight, self.bias = (tensor.to(device, dtype) for tensor in pair)
        self.eps = eps

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, (x.shape[-1],), self.weight, self.bias, self.eps)


class _Block:
    """The weights of one layer."""

    def __init__(self, weights: Weights, layer: int, precision: str, device: torch.device) -> None:
        dtype, eps = DTYPES[precision], float(weights.config.layer_norm_eps)
        kind = _Int8Linear if precision == "int8" else _Linear
        modules = {what: weights.pair(name) for what, name in modules_of(weights.config, layer).items()}
        triple = [modules[what] for what in ("query", "key", "value")]
        self.qkv = kind(torch.cat([w for w, _ in triple]), torch.cat([b for _, b in triple]), dtype, device)
        self.out = kind(*modules["out"], dtype, device)
        self.up, self.down = kind(*modules["up"], dtype, device), kind(*modules["down"], dtype, device)
        self.norm1 = _Norm(modules["norm1"], eps, dtype, device)
        self.norm2 = _Norm(modules["norm2"], eps, dtype, device)


class LeanBert:
    """A `Network` over an encoder's fp32 weights (not needed afterwards)."""

    def __init__(self, weights: Weights, precision: str, device: torch.device) -> None:
        config, tensors = weights.config, weights.tensors
        self.layers, self.width = int(config.num_hidden_layers), int(config.hidden_size)
        self.heads, self.device, self.dtype = int(config.num_attention_heads), device, DTYPES[precision]
        self.act = ACTIVATIONS[config.hidden_act]
        self.shift = 0 if config.model_type == "bert" else int(config.pad_token_id) + 1
        self.words = tensors["embeddings.word_embeddings.weight"].float().to(device)
        self.places = tensors["embeddings.position_embeddings.weight"].float().to(device)
        kinds = tensors.get("embeddings.token_type_embeddings.weight")
        if kinds is not None:
            self.places = self.places + kinds.float()[0].to(device)
        eps = float(config.layer_norm_eps)
        self.norm = _Norm(weights.pair("embeddings.LayerNorm"), eps, torch.float32, device)
        self.blocks = [_Block(weights, layer, precision, device) for layer in range(self.layers)]
        table = tensors.get("encoder.relative_attention_bias.weight")
        self.relative = None if table is None else table.float().to(device)

    def forward(self, batch: Packed, deepest: int, seen: Seen) -> None:
        """One batch, tokens packed; calls `seen` after every block."""
        layout = _Layout(batch, self.dtype, self.relative, self.heads)
        state = F.embedding(batch.flat, self.words) + F.embedding(layout.places + self.shift, self.places)
        state = layout.widen(self.norm(state).to(self.dtype))
        for number, block in enumerate(self.blocks[:deepest], start=1):
            mixed = self._attend(block.qkv.run(state), layout)
            state = block.norm1(block.out.run(mixed).add_(state))
            state = block.norm2(block.down.run(self.act(block.up.run(state))).add_(state))
            here = state
            seen(number, lambda how, here=here: layout.pool(here, how))  # type: ignore[misc]

    def _attend(self, qkv: torch.Tensor, layout: _Layout) -> torch.Tensor:
        """(room, 3 D) to (room, D)."""
        rows, longest, heads = layout.rows, layout.longest, self.heads
        size = self.width // heads
        wide = layout.spread(qkv).view(rows, longest, 3, heads, size).permute(2, 0, 3, 1, 4)
        if longest <= SHORT and self.device.type == "cpu":
            found = None
            if self.dtype == torch.bfloat16 and layout.relative is None:
                found = _fast_attention(wide, layout, size**-0.5)
            if found is None:
                found = _plain_attention(wide.reshape(3, rows * heads, longest, size), layout, size**-0.5)
            mixed = found.view(rows, heads, longest, size)
        else:
            query, key, value = wide.unbind(0)
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=layout.bias4)
        return layout.gather(mixed.transpose(1, 2).reshape(rows * longest, self.width))


def _fast_attention(wide: torch.Tensor, layout: _Layout, scale: float) -> torch.Tensor | None:
    """(3, b, heads, T, d) to (b * heads, T, d) with softmax as exp(QK') [V, 1] divided by its last column.

    One pass over the scores instead of softmax's three. The mask costs nothing: it is the added column, and the values
    of masked tokens are zero. Without subtracting the maximum exp could overflow or vanish; then the sums show it,
    and None is returned for the plain way to be taken.
    """
    _, rows, heads, longest, size = wide.shape
    query, key = wide[:2].reshape(2, rows * heads, longest, size).unbind(0)
    key = key.transpose(1, 2)
    value = torch.empty(rows, heads, longest, size + 1, dtype=wide.dtype, device=wide.device)
    if layout.ragged:
        torch.mul(wide[2], layout.real, out=value[..., :size])
        value[..., size:] = layout.real
    else:
        value[..., :size] = wide[2]
        value[..., size] = 1.0
    value = value.view(rows * heads, longest, size + 1)
    mixed = torch.empty_like(value)
    step = max(1, CACHED_SCORES // longest**2)
    for start in range(0, len(query), step):
        part = slice(start, start + step)
        scores = torch.baddbmm(layout.nothing, query[part], key[part], beta=0, alpha=scale)
        torch.bmm(scores.exp_(), value[part], out=mixed[part])
    sums = mixed[..., size:]
    low, high = torch.aminmax(sums)
    if not (float(low) > SMALLEST and float(high) < 1 / SMALLEST):
        return None
    return mixed[..., :size] / sums


def _plain_attention(triple: torch.Tensor, layout: _Layout, scale: float) -> torch.Tensor:
    """(3, b * heads, T, d) to (b * heads, T, d), a slice of heads at a time so that the scores stay in the cache."""
    query, key, value = triple.unbind(0)
    key, out = key.transpose(1, 2), torch.empty_like(query)
    step = max(1, CACHED_SCORES // layout.longest**2)
    for start in range(0, len(query), step):
        part = slice(start, start + step)
        bias = layout.bias3 if layout.beta == 0 else layout.bias3[part]
        scores = torch.baddbmm(bias, query[part], key[part], beta=layout.beta, alpha=scale)
        if layout.longest <= TINY:
            weights = scores.float().softmax(-1).to(scores.dtype)
        else:
            weights = scores.softmax(-1)
        torch.bmm(weights, value[part], out=out[part])
    return out


def _buckets(longest: int, device: torch.device) -> torch.Tensor:
    """(T, T) int64: which of MPNet's 32 biases a query has for a key: one for each of 8 steps on either side, then ever wider."""
    steps = torch.arange(longest, device=device)
    apart = steps[:, None] - steps[None, :]
    far = apart.abs()
    wide = 8 + (torch.log(far.float() / 8) / math.log(128 / 8) * 8).long()
    return (apart < 0) * 16 + torch.where(far < 8, far, wide.clamp(max=15))


class _Layout:
    """Where the tokens of a packed batch lie when rows stand side by side, and what attention may see."""

    def __init__(self, batch: Packed, dtype: torch.dtype, relative: torch.Tensor | None, heads: int) -> None:
        device, lengths = batch.device, torch.from_numpy(batch.lengths).to(batch.device)
        self.rows, self.longest = len(batch.rows), int(batch.lengths.max())
        self.lengths = lengths
        self.starts = torch.from_numpy(batch.starts[:-1]).to(device)
        self.row = torch.repeat_interleave(torch.arange(self.rows, device=device), lengths)
        self.places = torch.arange(len(batch.flat), device=device) - self.starts[self.row]
        self.relative = relative
        self.nothing = torch.zeros(1, dtype=dtype, device=device)
        self.ragged = self.rows * self.longest != len(batch.flat)
        self.count = self.room = len(batch.flat)
        if dtype == torch.bfloat16 and device.type == "cpu" and self.rows > 1:
            # a row alone has one of few lengths, and would be copied at every layer
            self.room = room_for(self.count)
        bias: torch.Tensor | None = None
        if self.ragged:
            steps = torch.arange(self.longest, device=device)
            self.into = (self.starts[:, None] + torch.minimum(steps, lengths[:, None] - 1)).view(-1)
            self.back = F.pad(self.row * self.longest + self.places, (0, self.room - self.count))
            bias = torch.zeros(self.rows, 1, 1, self.longest, dtype=dtype, device=device)
            self.real = (steps < lengths[:, None]).to(dtype)[:, None, :, None]
            bias.masked_fill_((steps >= lengths[:, None])[:, None, None], torch.finfo(dtype).min / 2)
        if relative is not None:
            near = relative[_buckets(self.longest, device)].permute(2, 0, 1)[None].to(dtype)
            bias = near if bias is None else near + bias
        self.bias4 = bias
        self.beta = 0.0 if bias is None else 1.0
        if bias is None:
            self.bias3 = self.nothing
        else:
            shape = (self.rows, heads, bias.shape[2], self.longest)
            self.bias3 = bias.expand(shape).reshape(self.rows * heads, bias.shape[2], self.longest)

    def widen(self, flat: torch.Tensor) -> torch.Tensor:
        """Packed (count, W) to packed (room, W); nobody reads what stands in the added rows."""
        return F.pad(flat, (0, 0, 0, self.room - self.count)) if self.room > self.count else flat

    def spread(self, flat: torch.Tensor) -> torch.Tensor:
        """Packed (room, W) to rows side by side (b * T, W); places behind a row's end repeat its last token, masked."""
        return flat.index_select(0, self.into) if self.ragged else flat[: self.count]

    def gather(self, wide: torch.Tensor) -> torch.Tensor:
        """Rows side by side back to packed (room, W)."""
        return wide.index_select(0, self.back) if self.ragged else self.widen(wide)

    def pool(self, state: torch.Tensor, how: str) -> torch.Tensor:
        """Packed (room, D) to (b, D) float32."""
        state = state[: self.count]
        if how == "first":
            return state[self.starts].float()
        if how == "last":
            return state[self.starts + self.lengths - 1].float()
        if not self.ragged:
            return state.view(self.rows, self.longest, -1).sum(1, dtype=torch.float32) / self.longest
        sums = torch.zeros(self.rows, state.shape[1], device=state.device)
        return sums.index_add_(0, self.row, state.float()) / self.lengths[:, None]
