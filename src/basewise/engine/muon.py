"""Muon on whole matrices, whether or not they are sharded: each rank orthogonalises its share of them.

The update of a matrix is its momentum made orthogonal by five Newton-Schulz steps (Jordan et al. 2024), which needs all rows
at once. Sharded momenta are gathered matrix by matrix; matrix i is orthogonalised by rank i mod W alone and sent to the
others, so the work is divided by W instead of repeated, and each rank applies its own rows. On one process small matrices of
one shape are orthogonalised together; the steps are those of torch.optim.Muon.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from basewise.engine.distributed import local, part_of, whole

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic: steepest at zero, singular values end in about 0.7 to 1.2."""
STEPS = 5
EPSILON = 1e-7
TOGETHER = 1 << 20
"""Elements of the matrices of one shape that are orthogonalised in one product: beyond that each fills the cores alone."""


def orthogonal(matrix: torch.Tensor, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """(m, n) nearly orthogonal factor of a matrix, computed in `dtype`."""
    return together([matrix], dtype)[0]


def together(matrices: list[torch.Tensor], dtype: torch.dtype = torch.bfloat16) -> list[torch.Tensor]:
    """`orthogonal` of each; those of one shape in one batched product, which for small ones is most of the time."""
    shapes: dict[tuple[int, int], list[int]] = {}
    for place, matrix in enumerate(matrices):
        rows, columns = sorted(matrix.shape)
        shapes.setdefault((rows, columns), []).append(place)
    found: dict[int, torch.Tensor] = {}
    for (rows, columns), places in shapes.items():
        size = max(1, TOGETHER // (rows * columns))
        for start in range(0, len(places), size):
            some = places[start : start + size]
            wide = [m.T if m.size(0) > m.size(1) else m for m in (matrices[i] for i in some)]
            found_here = (
                _iterated(torch.stack(wide).to(dtype)) if len(wide) > 1 else [_iterated(wide[0].to(dtype))]
            )
            for place, made in zip(some, found_here, strict=True):
                found[place] = made.T if matrices[place].size(0) > matrices[place].size(1) else made
    return [found[place] for place in range(len(matrices))]


def _iterated(x: torch.Tensor) -> torch.Tensor:
    """Newton-Schulz on (k, m, n) wide matrices, or on one (m, n), for which batched products would be slower."""
    a, b, c = COEFFICIENTS
    product = torch.baddbmm if x.ndim == 3 else torch.addmm
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=EPSILON)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = product(x, product(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


class Muon(torch.optim.Muon):
    """The steps of torch's Muon, on whole matrices or on shares of their rows, orthogonalised in `dtype`."""

    def __init__(self, params: Any, dtype: torch.dtype = torch.bfloat16, **more: Any) -> None:
        super().__init__(params, **more)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; all ranks must take it together."""
        work = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        loss = closure() if closure is not None else None
        updates = self._orthogonal([self._momentum(p, group["momentum"]) for group, p in work])
        for (group, p), update in zip(work, updates, strict=True):
            mine = local(p)
            mine.mul_(1 - group["lr"] * group["weight_decay"])
            mine.add_(part_of(update, p), alpha=-group["lr"] * math.sqrt(max(1.0, p.size(0) / p.size(1))))
        return loss

    def _momentum(self, p: torch.Tensor, momentum: float) -> torch.Tensor:
        """The Nesterov momentum after this gradient, sharded as the parameter is."""
        grad, state = p.grad, self.state[p]
        assert grad is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(grad)
        state["momentum_buffer"].lerp_(grad, 1 - momentum)
        return grad.lerp(state["momentum_buffer"], momentum)

    def _orthogonal(self, momenta: list[torch.Tensor]) -> list[torch.Tensor]:
        """The whole updates on every rank; the orthogonalising itself is divided among the ranks."""
        if not any(hasattr(m, "full_tensor") for m in momenta):
            return together(momenta, self.dtype)
        import torch.distributed as dist

        rank, world, updates = dist.get_rank(), dist.get_world_size(), []
        for i, momentum in enumerate(momenta):
            matrix = whole(momentum)
            updates.append(
                orthogonal(matrix, self.dtype).contiguous()
                if i % world == rank
                else matrix.new_empty(matrix.shape, dtype=self.dtype)
            )
        waiting = [dist.broadcast(u, src=i % world, async_op=True) for i, u in enumerate(updates)]
        for one in waiting:
            one.wait()
        return updates
