"""Which layers and poolings are asked for, by name: "layer4", "all" (mean of every layer), "layer6:first".

Intermediate layers often carry more than the last one (Skean et al., ICML 2025), so several are taken from one pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from basewise.core.errors import UnknownName

POOLINGS = ("mean", "first", "last")
DEPTHS = (1 / 3, 1 / 2, 2 / 3, 5 / 6, 1.0)


@dataclass(frozen=True)
class View:
    """One feature matrix: `layer` 1-based, 0 for the mean of all layers; `pooling` over the tokens of the row."""

    layer: int
    pooling: str = "mean"

    @property
    def name(self) -> str:
        head = f"layer{self.layer}" if self.layer else "all"
        return head if self.pooling == "mean" else f"{head}:{self.pooling}"


def default_layers(count: int) -> tuple[str, ...]:
    """A third, half, two thirds and five sixths of the depth, the last layer, and the mean of all."""
    return (*dict.fromkeys(f"layer{math.ceil(count * d - 1e-9)}" for d in DEPTHS), "all")


def views(layers: str | Sequence[str], poolings: Sequence[str], count: int) -> tuple[View, ...]:
    """The views asked for, each once. `count` layers; 0 for a static base, which has only "all".

    `layers`: "default", one name or several; a name may carry its own pooling ("layer4:first").
    """
    asked = (
        default_layers(count)
        if layers == "default"
        else (layers,)
        if isinstance(layers, str)
        else tuple(layers)
    )
    if not count:
        asked, poolings = ("all",) if layers == "default" else asked, ("mean",)
    known = {"all": 0} | {f"layer{k}": k for k in range(1, count + 1)}
    out: dict[View, None] = {}
    for name in asked:
        head, _, own = name.partition(":")
        if head not in known:
            raise UnknownName.of("layer", head, known)
        for pooling in (own,) if own else poolings:
            if pooling not in POOLINGS:
                raise UnknownName.of("pooling", pooling, POOLINGS)
            out[View(known[head], pooling)] = None
    return tuple(out)
