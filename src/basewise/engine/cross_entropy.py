"""Cross-entropy of hidden states against a large vocabulary, chunk by chunk: tokens x vocabulary is never in memory.

The gradients of a chunk are made beside its losses, while its logits are there, so nothing is computed twice and the
largest array is CHUNK_ELEMENTS numbers (after Wijmans et al. 2024, "Cut your losses", without their kernels).

Legend: N tokens, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch

CHUNK_ELEMENTS = 1 << 22
"""Logits in memory at once: 16 MB of float32, about what stays in a cache."""


def _dtype(like: torch.Tensor) -> torch.dtype:
    """What products run in: autocast's type where it is on, else the weights' own."""
    kind = like.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else like.dtype


class _Summed(torch.autograd.Function):
    """Sum of the losses; gradients of states, matrix and bias are kept for the way back."""

    @staticmethod
    def forward(
        ctx: Any,
        states_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: Any,
        targets_N: torch.Tensor,
        learn: bool,
    ) -> torch.Tensor:
        dtype = _dtype(weight_VD)
        chunk = max(1, CHUNK_ELEMENTS // len(weight_VD))
        weight = weight_VD.to(dtype)
        total = torch.zeros(
            (),
            dtype=torch.float64 if states_ND.device.type == "cpu" else torch.float32,
            device=states_ND.device,
        )
        grad_states = torch.empty_like(states_ND) if learn else None
        grad_weight = torch.zeros_like(weight_VD, dtype=torch.float32) if learn else None
        grad_bias = torch.zeros_like(bias_V, dtype=torch.float32) if learn and bias_V is not None else None
        for start in range(0, len(states_ND), chunk):
            states = states_ND[start : start + chunk].to(dtype)
            targets = targets_N[start : start + chunk]
            losses, probabilities = _losses(states, weight, bias_V, targets)
            total += losses.sum(dtype=total.dtype)
            if grad_states is None or grad_weight is None:
                continue
            probabilities[torch.arange(len(targets), device=targets.device), targets] -= 1.0
            if grad_bias is not None:
                grad_bias += probabilities.sum(0)
            small = probabilities.to(dtype)
            grad_states[start : start + chunk] = small @ weight
            grad_weight += small.T @ states
        ctx.save_for_backward(grad_states, grad_weight, grad_bias)
        return total.float()

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        grad_states, grad_weight, grad_bias = ctx.saved_tensors
        (scale,) = upstream
        return (
            grad_states * scale.to(grad_states.dtype),
            grad_weight * scale,
            None if grad_bias is None else grad_bias * scale,
            None,
            None,
        )


def _losses(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """((n,) losses, (n, V) probabilities) of one chunk, float32."""
    with torch.autocast(states.device.type, enabled=False):
        logits = (states @ weight.T).float()
    if bias is not None:
        logits += bias.float()
    own = logits.gather(1, targets[:, None])
    top = logits.amax(1, keepdim=True)
    # one exponential for losses and probabilities, in place: torch.logsumexp and a second one took most of the time of a chunk
    shares = logits.sub_(top).exp_()
    total = shares.sum(1, keepdim=True)
    return (total.log() + top - own)[:, 0], shares.div_(total)


def summed(
    states_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    targets_N: torch.Tensor,
    bias_V: torch.Tensor | None = None,
) -> torch.Tensor:
    """Sum in nats of -log p(target) of N states, with a graph where gradients are on. targets_N: whole numbers below V."""
    with torch.autocast(states_ND.device.type, enabled=torch.is_autocast_enabled(states_ND.device.type)):
        return _Summed.apply(states_ND, weight_VD, bias_V, targets_N, torch.is_grad_enabled())


@torch.no_grad()
def each(
    states_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    targets_N: torch.Tensor,
    bias_V: torch.Tensor | None = None,
) -> torch.Tensor:
    """(N,) losses in nats, without a graph."""
    dtype = _dtype(weight_VD)
    chunk = max(1, CHUNK_ELEMENTS // len(weight_VD))
    weight = weight_VD.to(dtype)
    pieces = [
        _losses(states_ND[s : s + chunk].to(dtype), weight, bias_V, targets_N[s : s + chunk])[0]
        for s in range(0, len(states_ND), chunk)
    ]
    return torch.cat(pieces) if pieces else states_ND.new_zeros(0, dtype=torch.float32)
