"""AdamW with layer-wise rates: deeper layers learn faster, norms and biases are not decayed.

Rate of layer k of L is `rate * decay ** (L + 1 - k)` (Howard & Ruder 2018; 0.9 after Mosbach et al. 2021); the head
has the full rate. The names of the parameters tell the depth, so any transformers model works.
"""

from __future__ import annotations

import re
from typing import Any

import torch

_LAYER = re.compile(r"(?:^|\.)(?:layer|layers|h|blocks?)\.(\d+)\.")
_HEAD = re.compile(r"(?:^|\.)(?:classifier|score|pooler|head)(?:\.|$)")


def depth_of(name: str, layers: int) -> int:
    """0 for token tables, k + 1 for block k, `layers` + 1 for what comes after the blocks."""
    if found := _LAYER.search(name):
        return int(found.group(1)) + 1
    return (
        layers + 1
        if _HEAD.search(name)
        else (0 if "embed" in name or "wte" in name or "wpe" in name else layers)
    )


def groups(
    model: torch.nn.Module, rate: float, layers: int, decay: float = 1.0, weight_decay: float = 0.01
) -> list[dict[str, Any]]:
    """Parameter groups of everything that has `requires_grad`; each keeps its own `rate` for the schedule."""
    found: dict[tuple[int, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            found.setdefault((depth_of(name, layers), parameter.ndim >= 2), []).append(parameter)
    out = []
    for (depth, decayed), parameters in sorted(found.items()):
        own = rate * decay ** (layers + 1 - depth)
        out.append(
            {"params": parameters, "lr": own, "rate": own, "weight_decay": weight_decay if decayed else 0.0}
        )
    return out


def adamw(parameter_groups: list[dict[str, Any]]) -> torch.optim.AdamW:
    """Bias-corrected AdamW in one fused pass."""
    return torch.optim.AdamW(parameter_groups, betas=(0.9, 0.98), eps=1e-6, fused=True)


def set_progress(optimiser: torch.optim.Optimizer, done: float, warmup: float) -> None:
    """Rates at the share `done` in 0..1 of the run: linear up over `warmup`, then linear down to zero."""
    factor = min(1.0, done / max(warmup, 1e-9), max(0.0, (1.0 - done) / max(1.0 - warmup, 1e-9)))
    for group in optimiser.param_groups:
        group["lr"] = group["rate"] * factor
