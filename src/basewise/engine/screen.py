"""The likeliest token without the whole output matrix: an int8 product screens the vocabulary, the rest is computed in fp32.

A bound says how far each screened logit can be from the exact one, so no token that could be the likeliest is lost: what the
weight of a token lost by rounding, times the length of the state (Cauchy and Schwarz). The state itself is coded in two int8 parts, which
makes its own rounding negligible. Exact, for a quarter of the memory read; of 49,152 tokens 14 were left to compute on average (one
run by hand, docs/log.md).
"""

from __future__ import annotations

import torch

from basewise.engine.linear import Whole, coded_twice, rounded

MOST_LEFT = 256
"""Tokens a row that are worth computing one by one; where more are left, the whole matrix is cheaper."""
SLACK = 1e-5
"""Relative, for sums in fp32."""


class Screen:
    """For an output matrix (V, D) without bias. `weight` is kept as it is, in its own dtype; beside it V x D bytes are needed."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight = weight.detach()
        self.layer = Whole(self.weight, None)
        apart, sizes = [], []
        for rows in self.weight.split(4096):
            whole, scale = rounded(rows)
            near = whole.float() * scale[:, None]
            apart.append((rows.float() - near).norm(dim=1))
            sizes.append(near.norm(dim=1))
        size = torch.cat(sizes)
        self.apart, self.size = torch.cat(apart) + SLACK * size, float(size.max())

    def likeliest(self, hidden: torch.Tensor) -> list[int] | None:
        """The first token with the largest logit of each row of (B, D); None where too many are left to tell."""
        hidden = hidden.float()
        count = len(hidden)
        high, scale, low, fine = coded_twice(hidden)
        products = self.layer.product(torch.cat([high, low]))
        logits = products[:count].mul_(scale).addcmul_(products[count:], fine)
        lost = hidden - (high.float() - 128) * scale - (low.float() - 128) * fine
        lost = lost.norm(dim=1, keepdim=True) * self.size
        bound = torch.addcmul(lost, hidden.norm(dim=1, keepdim=True), self.apart)
        least = (logits - bound).amax(1, keepdim=True)
        rows, tokens = (logits.add_(bound) >= least).nonzero(as_tuple=True)
        if len(rows) > MOST_LEFT * count:
            return None
        exact = (hidden[rows] * self.weight[tokens].float()).sum(1)
        best = exact.new_full((count,), float("-inf")).scatter_reduce_(0, rows, exact, "amax")
        first = torch.where(exact == best[rows], tokens, len(self.weight))
        found = torch.full((count,), len(self.weight)).scatter_reduce_(0, rows, first, "amin")
        return [int(token) for token in found] if bool((found < len(self.weight)).all()) else None
