"""Linear layers of a decoder laid out for this processor: fp32 or bf16 in the layout of oneDNN, or int8.

A weight as it is stored has to be rearranged in every product; rearranged once, products of few rows took about half of the
time on a CPU (one run by hand, docs/log.md). The numbers are the same but for the order of the sums. int8: a scale a row of the input and
one a channel of the weight (Dettmers et al. 2022, LLM.int8(), without its outlier columns), sums exact in int32. For the few rows of a step of
generation, which is mostly reading weights, those that were stored in bf16 are kept in half of the bytes a second time: fp16 holds them as well as fp32 does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch

ROWS = 16
"""The number of rows that the layout is told to expect, a hint: a product of any other number is as right."""
HALF_ROWS = {torch.float32: 64, torch.bfloat16: 8}
"""Rows up to which products took less processor time with weights in fp16 than laid out: by hand on one core of an EPYC, all layers of
smollm2-135m, fp32 11 ms against 38 for one row, 38 against 51 for 16 and 143 against 158 for 64; bf16 21 against 25 for 8, 38 against 31 for 16."""
ROUNDING = 2.0**-24
"""Of a number in float32, relative."""


class Laid(torch.nn.Module):
    """x W' + b with a weight (N, K) in oneDNN's layout, in the weight's dtype whatever that of x."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.dtype = weight.dtype
        self.laid = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), ROWS)
        self.bias = None if bias is None else bias.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, K) to (…, N)."""
        if x.dtype != self.dtype:
            x = x.to(self.dtype)
        return torch.ops.mkldnn._linear_pointwise(x, self.laid, self.bias, "none", [], "")


class Whole(torch.nn.Module):
    """x W' + b in int8, from and to float32."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        whole, self.scale = rounded(weight)
        self.laid = torch.ops.onednn.qlinear_prepack(whole, [ROWS, self.in_features])
        self.zero = torch.zeros(self.out_features, dtype=torch.int32)
        self.bias = None if bias is None else bias.detach().float()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, K) to (…, N)."""
        high, scale, low, fine = coded_twice(x.reshape(-1, self.in_features).float())
        found, rest = self.product(torch.cat([high, low])).chunk(2)
        found = found.mul_(scale).addcmul_(rest, fine)
        if self.bias is not None:
            found += self.bias
        return found.view(*x.shape[:-1], self.out_features)

    def product(self, codes: torch.Tensor) -> torch.Tensor:
        """(n, N) float32 from codes (n, K) of `coded`, still to be multiplied by their scale."""
        return torch.ops.onednn.qlinear_pointwise(
            codes, 1.0, 128, self.laid, self.scale, self.zero, None, 1.0, 0, torch.float32, "none", [], ""
        )


class Half:
    """x W' + b of several weights (N, K) over one input, in float32 sums, the weights in float16: half of the bytes are read.

    A row's result does not depend on the other rows. Raises ValueError for weights that float16 does not hold as exactly as float32 rounds.
    """

    def __init__(self, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor | None]) -> None:
        self.sizes = [len(weight) for weight in weights]
        whole = torch.cat([weight.float() for weight in weights])
        lost = (whole.half().float() - whole).norm()
        if not float(lost) <= ROUNDING * float(whole.norm()):
            raise ValueError("weights of more digits than float16 has")
        added = None
        if any(bias is not None for bias in biases):
            pairs = zip(self.sizes, biases, strict=True)
            added = torch.cat([torch.zeros(n) if bias is None else bias.float() for n, bias in pairs])
        self.packed = torch.ops.quantized.linear_prepack_fp16(whole, added)

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, N) of each weight in the dtype of x (B, K)."""
        found = torch.ops.quantized.linear_dynamic_fp16(x.float(), self.packed)
        return found.to(x.dtype).split(self.sizes, 1)


class Products:
    """Linear layers over one input, read as `Half` for few rows where their weights allow it; `half`: whether they do."""

    def __init__(self, *layers: Any, halved: bool = True) -> None:
        self.layers = layers
        self.half: Half | None = None
        kept = [_kept(layer) for layer in layers] if halved else [None]
        if all(weight is not None for weight in kept):
            with contextlib.suppress(ValueError, AttributeError, RuntimeError, NotImplementedError):
                self.half = Half(kept, [layer.bias for layer in layers])  # type: ignore[arg-type]

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, N) of each layer for x (B, K)."""
        if self.half is not None and len(x) <= HALF_ROWS[x.dtype]:
            return self.half(x)
        return tuple(layer(x) for layer in self.layers)


def _kept(layer: Any) -> torch.Tensor | None:
    """The weight (N, K) of a linear layer as it is stored or laid out; None for other layers, such as those in int8."""
    if isinstance(layer, Laid):
        found: torch.Tensor = layer.laid.to_dense()
        return found
    return layer.weight.detach() if type(layer) is torch.nn.Linear else None


def rounded(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """((N, K) int8, (N,) float32 scales) whose product is nearest to the weight."""
    weight = weight.detach().float()
    scale = weight.abs().amax(1).clamp_min_(1e-12) / 127
    return (weight / scale[:, None]).round_().to(torch.int8), scale


def coded(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """((n, K) uint8 around 128, (n, 1) float32 scales) of rows (n, K) float32."""
    scale = x.abs().amax(1, keepdim=True).clamp_min_(1e-12).mul_(1 / 127)
    return (x / scale).add_(128.5).to(torch.uint8), scale


def coded_twice(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The codes and scales of rows (n, K), and those of what they leave."""
    high, scale = coded(x)
    return high, scale, *coded(x - (high.float() - 128) * scale)


@lru_cache(maxsize=1)
def whole_numbers() -> bool:
    """Whether this processor sums int8 products exactly: without the instructions for it, large ones are cut off."""
    try:
        layer = Whole(torch.ones(16, 64), None)
        extreme = layer.product(torch.full((2, 64), 255, dtype=torch.uint8))
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return bool(torch.allclose(extreme, torch.full((2, 16), 64.0 * 127), rtol=1e-6))


def lay_out(model: torch.nn.Module, kind: type[torch.nn.Module], but: torch.nn.Module | None = None) -> int:
    """Replace every linear layer of a model (but one) by its `kind`, Laid or Whole, and say how many were.

    One by one, so that memory is needed for one layer more. Where torch cannot, a layer stays as it is.
    """
    done = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            weight = _weight(child)
            if weight is None or child is but:
                continue
            try:
                setattr(parent, name, kind(weight, child.bias))
            except (AttributeError, RuntimeError, NotImplementedError):
                continue
            done += 1
    return done


def _weight(module: Any) -> torch.Tensor | None:
    """The weight (N, K) of a linear layer, also of one that keeps it the other way round (GPT-2)."""
    if type(module) is torch.nn.Linear:
        return module.weight
    if type(module).__name__ == "Conv1D" and getattr(module, "nf", None) is not None:
        return module.weight.t()
    return None
