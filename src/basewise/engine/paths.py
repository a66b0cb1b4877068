"""Attention along the paths of a trie, registered with transformers: the model's own code, another attention.

The function sees queries, keys and values after positions and norms were applied, so it works for every architecture that
calls a registered attention function. What it does is set by `attending(state)`: a `PathState` for scoring (a pass of a
trie over one path of kept states) or a `RowState` for generation (one token for each of several rows).

Shapes: B batch (1 when scoring), H heads, K key heads, T rows of the pass, S keys, D head width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Protocol

import torch

from basewise.engine.trie import Pass

NAME = "basewise_paths"
SCRATCH_BYTES = 2**25
KNOWN = ("s_aux", "position_ids")
"""Tensors among the arguments that are dealt with here or were applied before."""


class Unsupported(Exception):
    """An architecture hands the attention something that cannot be packed, such as biases by position."""


class State(Protocol):
    """What the attention function asks."""

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, how: How
    ) -> torch.Tensor:
        """(B, H, T, D) from queries of that shape and keys and values (B, K, T, D) of the new rows."""


class How:
    """Scale, window, soft cap and sinks of one attention layer."""

    def __init__(self, scaling: float | None, more: dict[str, Any]) -> None:
        self.scaling = scaling
        self.window: int | None = more.get("sliding_window")
        self.softcap: float | None = more.get("softcap")
        self.sinks: torch.Tensor | None = more.get("s_aux")


_current: ContextVar[State | None] = ContextVar("basewise_paths", default=None)


def register() -> str:
    """Make the attention known to transformers; its name, for `attn_implementation`."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attention)
    return NAME


@contextlib.contextmanager
def attending(state: State) -> Iterator[None]:
    """Forward passes inside attend through `state`."""
    token = _current.set(state)
    try:
        yield
    finally:
        _current.reset(token)


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' signature; (B, T, H, D) comes back."""
    state = _current.get()
    if state is None:
        raise RuntimeError("this network is run by engine/causal.py only")
    if odd := [name for name, given in more.items() if isinstance(given, torch.Tensor) and name not in KNOWN]:
        raise Unsupported(", ".join(odd))
    found = state.attend(int(module.layer_idx), query, key, value, How(scaling, more))
    return found.transpose(1, 2).contiguous(), None


def attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, how: How
) -> torch.Tensor:
    """Softmax attention of (B, H, T, D) over (B, K, S, D) under an additive mask that broadcasts to (B, 1, T, S), if any."""
    if how.softcap is None and how.sinks is None:
        grouped = query.shape[1] != key.shape[1]
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=how.scaling, enable_gqa=grouped
        )
    repeat = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
    scale = how.scaling if how.scaling is not None else query.shape[-1] ** -0.5
    scores = query @ key.transpose(2, 3) * scale
    if how.softcap is not None:
        scores = torch.tanh(scores / how.softcap) * how.softcap
    if mask is not None:
        scores = scores + mask
    if how.sinks is None:
        return torch.softmax(scores.float(), -1).to(value.dtype) @ value
    sinks = how.sinks.reshape(1, -1, 1, 1).expand(len(scores), -1, scores.shape[2], 1).to(scores.dtype)
    shares = torch.softmax(torch.cat([scores, sinks], -1).float(), -1)[..., :-1]
    return shares.to(value.dtype) @ value


class Scratch:
    """Memory for the scores of one group in bf16, used again by the next: fresh pages would cost as much as the products."""

    def __init__(self, plan: Pass) -> None:
        self.most = max((group.allowed.size for group in plan.groups), default=0)
        self._parts: tuple[torch.Tensor, torch.Tensor] | None = None

    def fits(self, query: torch.Tensor, how: How) -> bool:
        """Whether attention by plain products pays: bf16 on a processor, where torch's fused kernel is no faster than in fp32."""
        plain = how.softcap is None and how.sinks is None
        small = query.shape[1] * self.most * query.itemsize <= SCRATCH_BYTES
        return plain and small and query.dtype == torch.bfloat16 and query.device.type == "cpu"

    def parts(self, size: int, heads: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Two flat tensors of `size` elements."""
        if self._parts is None:
            empty = torch.empty(2, heads * self.most, dtype=torch.bfloat16)
            self._parts = (empty[0], empty[1])
        return self._parts[0][:size], self._parts[1][:size]

    def attention(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, how: How
    ) -> torch.Tensor:
        """As `attention`, for B = 1: two products and a softmax, the heads that share keys side by side."""
        _, heads, rows, width = query.shape
        kinds, keys = key.shape[1], key.shape[2]
        scores, shares = (
            part.view(kinds, heads // kinds * rows, keys) for part in self.parts(heads * rows * keys, heads)
        )
        scale = how.scaling if how.scaling is not None else width**-0.5
        torch.bmm((query * scale).reshape(kinds, -1, width), key[0].transpose(1, 2), out=scores)
        scores.view(heads, rows, keys).add_(mask)
        torch.softmax(scores, -1, out=shares)
        return torch.bmm(shares, value[0]).view(1, heads, rows, width)


Kept = dict[int, tuple[torch.Tensor, torch.Tensor]]
"""Keys and values (1, K, P, D) of the kept path, by layer."""


class PathState:
    """One pass of a trie: attends over the kept path and the pass itself, and collects the path for the next pass."""

    def __init__(self, plan: Pass, kept: Kept, device: torch.device, dtype: torch.dtype) -> None:
        self.plan, self.kept, self.device, self.dtype = plan, kept, device, dtype
        self.next: Kept = {}
        self.keep = torch.from_numpy(plan.keep).to(device)
        self.inside = [torch.from_numpy(group.inside).to(device) for group in plan.groups]
        self._masks: dict[int | None, list[torch.Tensor]] = {}
        self.scratch = Scratch(plan)

    def masks(self, window: int | None) -> list[torch.Tensor]:
        """An additive mask (rows, keys) for each group."""
        if window not in self._masks:
            made = []
            for group in self.plan.groups:
                allowed = group.allowed if window is None else group.allowed & (group.distance < window)
                mask = torch.zeros(allowed.shape, dtype=self.dtype)
                made.append(mask.masked_fill_(~torch.from_numpy(allowed), float("-inf")).to(self.device))
            self._masks[window] = made
        return self._masks[window]

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, how: How
    ) -> torch.Tensor:
        """See `State`."""
        past = self.kept.get(layer)
        out = torch.empty_like(query)
        attend = self.scratch.attention if self.scratch.fits(query, how) else attention
        for group, inside, mask in zip(self.plan.groups, self.inside, self.masks(how.window), strict=True):
            rows = slice(group.start, group.stop)
            pieces = [(key[:, :, rows], value[:, :, rows])]
            if len(inside):
                pieces.insert(0, (key.index_select(2, inside), value.index_select(2, inside)))
            if past is not None and group.past:
                pieces.insert(0, (past[0][:, :, : group.past], past[1][:, :, : group.past]))
            keys, values = (
                pieces[0] if len(pieces) == 1 else (torch.cat([p[i] for p in pieces], 2) for i in (0, 1))
            )
            out[:, :, rows] = attend(query[:, :, rows], keys, values, mask, how)
        self.next[layer] = (
            self._onwards(past[0] if past else None, key),
            self._onwards(past[1] if past else None, value),
        )
        return out

    def _onwards(self, past: torch.Tensor | None, new: torch.Tensor) -> torch.Tensor:
        """The states of the path to the next pass's first node."""
        own = new.index_select(2, self.keep)
        if past is None or not self.plan.keep_past:
            return own
        return torch.cat([past[:, :, : self.plan.keep_past], own], 2)
