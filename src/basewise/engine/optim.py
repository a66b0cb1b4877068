"""AdamW with layer-wise rates: deeper layers learn faster, norms and biases are not decayed.

Rate of layer k of L is `rate * decay ** (L + 1 - k)` (Howard & Ruder 2018; 0.9 after Mosbach et al. 2021); the head
has the full rate. The names of the parameters tell the depth, so any transformers model works.

For pretraining: Muon (Jordan et al. 2024; `torch.optim.Muon`) for matrices with AdamW for the rest, and the schedules
warm-up-stable-decay and cosine.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch

from basewise.core.recipe import Recipe
from basewise.engine.muon import Muon

MATRIX_RATE, EMBEDDING_RATE, HEAD_RATE = 0.02, 0.1, 0.004
"""Rates at width 768 (modded-nanogpt, nanochat); Muon's does not depend on the width."""
CONTINUED = 0.1
"""Share of these rates where a run starts from a trained base."""

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


def triangle(done: float, warmup: float) -> float:
    """Factor of the rates at the share `done`: linear up over the share `warmup`, then linear down to zero."""
    return min(1.0, done / max(warmup, 1e-9), max(0.0, (1.0 - done) / max(1.0 - warmup, 1e-9)))


# ---------------------------------------------------------------- pretraining


class Together(torch.optim.Optimizer):
    """Several optimisers as one: each keeps its own parameters, the loop sees one `step` and all groups."""

    def __init__(self, optimisers: Sequence[torch.optim.Optimizer]) -> None:
        self.members = tuple(optimisers)
        super().__init__(
            [p for one in self.members for group in one.param_groups for p in group["params"]], {}
        )
        self.param_groups = [group for one in self.members for group in one.param_groups]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of each; no closure is called."""
        for one in self.members:
            one.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all."""
        for one in self.members:
            one.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The state of each under its place."""
        return {str(place): one.state_dict() for place, one in enumerate(self.members)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`; the groups stay the members' own."""
        for place, one in enumerate(self.members):
            one.load_state_dict(state_dict[str(place)])
        self.param_groups = [group for one in self.members for group in one.param_groups]


def _role(name: str, parameter: torch.nn.Parameter) -> str:
    """ "embeddings", "head", "matrices" (2-D inside the blocks) or "rest", by name and shape."""
    if re.search(r"embed|wte|wpe", name) and parameter.ndim == 2:
        return "embeddings"
    if re.search(r"lm_head|predictions\.decoder|(?:^|\.)decoder\.weight$", name):
        return "head"
    return "matrices" if parameter.ndim == 2 else "rest"


def for_pretraining(model: torch.nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimiser of a recipe: Muon on the matrices of the blocks and AdamW on the rest, or AdamW on all.

    Rates of embeddings and head fall with the square root of the width (nanochat); norms and biases learn at the head's rate.
    With tied weights the table is the output matrix too, so it learns at the head's rate. Muon orthogonalises in bf16, but in fp32
    where the recipe asks for that precision: only then do many ranks take the steps of one to 1e-5.
    """
    roles: dict[str, list[torch.nn.Parameter]] = {"matrices": [], "embeddings": [], "head": [], "rest": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            roles[_role(name, parameter)].append(parameter)
    if recipe.optimiser == "adamw":
        decayed = [*roles["matrices"], *roles["embeddings"], *roles["head"]]
        made = [
            {"params": decayed, "lr": recipe.rate, "rate": recipe.rate, "weight_decay": recipe.weight_decay},
            {"params": roles["rest"], "lr": recipe.rate, "rate": recipe.rate, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW([g for g in made if g["params"]], betas=(0.9, 0.95), eps=1e-8, fused=True)
    scale = (recipe.hidden / 768) ** -0.5 * (CONTINUED if recipe.start else 1.0)
    head = recipe.rate_head or HEAD_RATE * scale
    embeddings = recipe.rate_embeddings or (head if recipe.tied else EMBEDDING_RATE * scale)
    rates = {"embeddings": embeddings, "head": head, "rest": head}
    made = [
        {"params": roles[role], "lr": rate, "rate": rate, "weight_decay": 0.0}
        for role, rate in rates.items()
        if roles[role]
    ]
    adam = torch.optim.AdamW(made, betas=(0.8, 0.95), eps=1e-10, fused=True)
    if not roles["matrices"]:
        return adam
    rate = recipe.rate or MATRIX_RATE * (CONTINUED if recipe.start else 1.0)
    dtype = torch.float32 if recipe.precision == "fp32" else torch.bfloat16
    muon = Muon(roles["matrices"], dtype, lr=rate, momentum=0.95, weight_decay=recipe.weight_decay)
    muon.param_groups[0]["rate"] = rate
    return Together([muon, adam])


def warm_stable_decay(done: int, total: int, warmup_steps: int, cooldown: float) -> float:
    """Factor of the rates at step `done` of `total`: up in `warmup_steps`, flat, then linear to zero over the last share."""
    left = (total - done) / max(cooldown * total, 1e-9)
    return min(1.0, (done + 1) / max(warmup_steps, 1), left)


def cosine(done: int, total: int, warmup_steps: int) -> float:
    """Factor of the rates: up in `warmup_steps`, then half a cosine down to a tenth (nanoGPT)."""
    if done < warmup_steps:
        return (done + 1) / max(warmup_steps, 1)
    share = (done - warmup_steps) / max(total - warmup_steps, 1)
    return 0.1 + 0.45 * (1.0 + math.cos(math.pi * min(share, 1.0)))


def set_factor(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Every group's rate times `factor`."""
    for group in optimiser.param_groups:
        group["lr"] = group["rate"] * factor
