"""Attention for training in bf16 on a processor, registered with transformers: the model's own code, another way back.

Torch's fused attention is no faster in bf16 than in fp32 on its way back, and for short rows far slower than plain products: of a
step of contrast on MiniLM it took half. Up to MOST_TOKENS the shares are kept and both ways are batched products; everything else
(no gradients, dropout, other precisions and devices, longer rows) goes to torch's own.

Shapes: B rows, H heads, T tokens, D head width.
"""

from __future__ import annotations

from typing import Any

import torch

NAME = "basewise_training"
MOST_TOKENS = 512
"""Tokens a row up to which shares are kept: two cores, bf16, 1.5 to 7 times as fast as torch's own; slower at 1,024 (docs/log.md)."""


def register() -> str:
    """Make the attention known to transformers; its name, for `attn_implementation`. What is saved does not name it."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME


def train_attention(model: Any) -> Any:
    """Let a transformers network attend this way, where its attention can be exchanged; the network comes back."""
    if getattr(model, "_supports_attention_backend", False):
        model.set_attn_implementation(register())
    return model


def pays(query: torch.Tensor, key: torch.Tensor) -> bool:
    """Whether kept shares are the faster way for queries (B, H, T, D) and keys of the same rows."""
    short = query.shape[2] == key.shape[2] <= MOST_TOKENS
    learns = torch.is_grad_enabled() and query.requires_grad
    return short and learns and query.dtype == torch.bfloat16 and query.device.type == "cpu"


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None, scale: float
) -> torch.Tensor:
    """Softmax attention of (B, H, T, D); `bias` is added to the scores and broadcasts to (B, H, T, T)."""
    found: torch.Tensor = _Kept.apply(query, key, value, bias, scale)
    return found


def causal_bias(length: int, dtype: torch.dtype) -> torch.Tensor:
    """(T, T): minus infinity above the diagonal."""
    return torch.full((length, length), float("-inf"), dtype=dtype).triu_(1)


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' signature; (B, T, H, D) comes back."""
    odd = any(more.get(name) is not None for name in ("softcap", "s_aux", "position_bias", "cache"))
    if odd or more.get("dropout") or not pays(query, key):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        found: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **more
        )
        return found
    scaling, is_causal = more.get("scaling"), more.get("is_causal")
    if (groups := query.shape[1] // key.shape[1]) > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    bias: torch.Tensor | None = None
    if attention_mask is not None:
        bias = attention_mask
        # the least number and not -inf: a row that sees nothing stays finite
        if bias.dtype == torch.bool:
            least = torch.finfo(query.dtype).min
            bias = torch.zeros_like(bias, dtype=query.dtype).masked_fill_(~bias, least)
    elif getattr(module, "is_causal", True) if is_causal is None else is_causal:
        bias = causal_bias(query.shape[2], query.dtype)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return attend(query, key, value, bias, scale).transpose(1, 2).contiguous(), None


class _Kept(torch.autograd.Function):
    """Attention whose shares (B x H, T, T) are kept for the way back."""

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None, scale: float
    ) -> torch.Tensor:
        rows, heads, length, width = q.shape
        q, k, v = (x.reshape(-1, length, width) for x in (q, k, v))
        if bias is not None and bias.ndim == 2:
            scores = torch.baddbmm(bias, q, k.mT, alpha=scale)
        else:
            scores = torch.bmm(q, k.mT).mul_(scale)
            if bias is not None:
                scores.view(rows, heads, length, length).add_(bias)
        shares = torch.softmax(scores, -1)
        ctx.save_for_backward(q, k, v, shares)
        ctx.shape, ctx.scale = (rows, heads, length, width), scale
        return torch.bmm(shares, v).view(ctx.shape)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> Any:
        q, k, v, shares = ctx.saved_tensors
        g = upstream[0].reshape(v.shape)
        scores = torch._softmax_backward_data(torch.bmm(g, v.mT), shares, -1, shares.dtype)
        for_q, for_k = torch.bmm(scores, k).mul_(ctx.scale), torch.bmm(scores.mT, q).mul_(ctx.scale)
        for_v = torch.bmm(shares.mT, g)
        return (*(x.view(ctx.shape) for x in (for_q, for_k, for_v)), None, None)
