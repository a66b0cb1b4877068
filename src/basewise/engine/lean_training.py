"""Training a Qwen3 decoder on a processor with fewer passes over memory: the same weights and sums, written lean.

At a few hundred columns the matrix products of a step take half of its time; the rest goes into norms and rotary positions written as
a dozen separate operations, copies between precisions, and attention (`engine/attention.py`). `lean` changes the class
of these modules in place, so names, saving and sharding stay; in evaluation, and elsewhere than on a processor, they run
transformers' own code, so a saved network gives the very logits that were scored.

Shapes: B rows, T tokens, H heads, D head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F
from transformers.models.qwen3 import modeling_qwen3 as qwen3

from basewise.engine.attention import attend, causal_bias, pays


def lean(model: Any) -> Any:
    """Change norms and attention of a Qwen3 language model in place; other networks stay as they are."""
    for module in model.modules():
        if type(module) is qwen3.Qwen3Attention and _plain(module):
            module.__class__ = LeanAttention
        elif type(module) is qwen3.Qwen3DecoderLayer:
            for norm in (module.input_layernorm, module.post_attention_layernorm):
                norm.__class__ = LeanNorm
    return model


def _plain(attention: Any) -> bool:
    """Whether it is what pretraining builds: a key a query, no bias, window or dropout. A base to start from may differ."""
    odd = (
        attention.sliding_window is not None
        or attention.q_proj.bias is not None
        or attention.attention_dropout
    )
    return attention.num_key_value_groups == 1 and not odd


def _kind(x: torch.Tensor) -> torch.dtype:
    """What products run in here."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


class LeanNorm(qwen3.Qwen3RMSNorm):
    """A root-mean-square norm that answers in the precision of the products that read it."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if not self.training or hidden_states.device.type != "cpu":
            return super().forward(hidden_states)
        kind = _kind(hidden_states)
        return _Norm.apply(hidden_states, self.weight, self.variance_epsilon, kind)


class LeanAttention(qwen3.Qwen3Attention):
    """Self-attention: one product for queries, keys and values; norms and positions in one step."""

    def _attend(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        **more: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        here = self.training and hidden_states.device.type == "cpu"
        if not here or attention_mask is not None or past_key_values is not None:
            return super().forward(
                hidden_states, position_embeddings, attention_mask, past_key_values, **more
            )
        rows, length, _ = hidden_states.shape
        matrices = [self.q_proj.weight, self.k_proj.weight, self.v_proj.weight]
        together = F.linear(hidden_states, torch.cat(matrices))
        q, k, v = together.view(rows, length, 3, -1, self.head_dim).unbind(2)
        cos, sin = position_embeddings
        kind = _kind(hidden_states)
        q = _Turned.apply(q, self.q_norm.weight, self.q_norm.variance_epsilon, cos, sin, kind)
        k = _Turned.apply(k, self.k_norm.weight, self.k_norm.variance_epsilon, cos, sin, kind)
        causal = bool(more.get("is_causal", self.is_causal))
        if pays(q, k):
            bias = causal_bias(length, kind) if causal else None
            mixed = attend(q, k, v.transpose(1, 2), bias, self.scaling)
        else:
            mixed = F.scaled_dot_product_attention(
                q, k, v.transpose(1, 2), is_causal=causal, scale=self.scaling
            )
        return self.o_proj(mixed.transpose(1, 2).reshape(rows, length, -1)), None

    # under a name of its own: what else transformers may pass is not ours to list
    forward = _attend


def _normed(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(normed x, one over the root mean square of each row) in fp32; x (..., D) fp32."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    scale = torch.rsqrt(length * length / x.shape[-1] + epsilon)
    return (x * scale).mul_(weight), scale


def _norm_back(
    g: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of a norm for x and its weight, in fp32.

    Torch's fused way back of a layer norm, given a mean of zero, lacks only the part that the mean takes away: it is put back.
    """
    width = x.shape[-1]
    found = torch.ops.aten.native_layer_norm_backward(
        g, x, [width], torch.zeros_like(scale), scale, weight, torch.empty_like(weight), [True, True, False]
    )
    back = (g @ weight).unsqueeze(-1).mul_(scale).div_(width)
    return found[0].add_(back), found[1]


class _Norm(torch.autograd.Function):
    """RMS norm of x (..., D), answered in `kind`."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float, kind: torch.dtype
    ) -> torch.Tensor:
        made, scale = _normed(x.float(), weight, epsilon)
        ctx.save_for_backward(x, weight, scale)
        return made.to(kind)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> Any:
        x, weight, scale = ctx.saved_tensors
        back, own = _norm_back(upstream[0].float().contiguous(), x.float().contiguous(), weight, scale)
        return back.to(x.dtype), own, None, None


class _Turned(torch.autograd.Function):
    """RMS norm of x (B, T, H, D), then rotary positions: (B, H, T, D) in `kind`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        epsilon: float,
        cos: torch.Tensor,
        sin: torch.Tensor,
        kind: torch.dtype,
    ) -> torch.Tensor:
        made, scale = _normed(x.float(), weight, epsilon)
        half = x.shape[-1] // 2
        cos, sin = cos[..., None, :half].float(), sin[..., None, :half].float()
        ctx.save_for_backward(x, weight, scale, cos, sin)
        return _rotated(made, cos, sin).transpose(1, 2).to(kind, memory_format=torch.contiguous_format)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> Any:
        x, weight, scale, cos, sin = ctx.saved_tensors
        g = upstream[0].transpose(1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        back, own = _norm_back(_rotated(g, cos, -sin), x.float().contiguous(), weight, scale)
        return back.to(x.dtype), own, None, None, None, None


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Pairs (i, i + D/2) of x (B, T, H, D) turned by their angles; cos, sin (B or 1, T, 1, D/2)."""
    out, half = torch.empty_like(x, memory_format=torch.contiguous_format), x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-1.0)
    torch.mul(second, cos, out=out[..., half:]).addcmul_(first, sin)
    return out
