"""The upper half of a network, trained on what its lower half says once.

With few rows and many passes the layers that keep their weights would compute the same states over and over. Here they
run once, without dropout; in training their blocks are stand-ins that hand over what was kept. Any transformers network
whose blocks are one module list works, because only those blocks are exchanged.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch

from basewise.engine.batches import CPU_TOKENS, batches
from basewise.engine.encoder import blocks_of, pool
from basewise.engine.loop import padded
from basewise.engine.optim import depth_of
from basewise.engine.tokens import Tokens

MOST_BYTES = 1 << 30
"""Kept states beyond this are computed anew each time instead."""


class _Enough(Exception):
    """The lower half has been run."""


class _Kept(torch.nn.Module):
    """In place of the last block that keeps its weights: gives `state` (b, T, D), in the shape that the block answers."""

    def __init__(self, as_tuple: bool) -> None:
        super().__init__()
        self.as_tuple = as_tuple
        self.state: torch.Tensor | None = None

    def _given(self, hidden: torch.Tensor, *_: Any, **__: Any) -> Any:
        """The kept state; before one is set (blocks below), the input. What else a block is given differs by network."""
        given = hidden if self.state is None else self.state
        return (given,) if self.as_tuple else given

    forward = _given


class UpperHalf:
    """A model of which the last `tuned` layers learn; the layers below and the embeddings keep their weights."""

    def __init__(self, model: Any, tuned: int) -> None:
        self.model = model.eval()
        self.device = next(model.parameters()).device
        self.filler = int(getattr(model.config, "pad_token_id", None) or 0)
        self.layers = int(getattr(model.config, "num_hidden_layers", 1))
        self.lower = max(0, self.layers - tuned)
        for name, parameter in model.named_parameters():
            below = depth_of(name, self.layers) <= self.lower
            # means pass no pooler; positions are shared with below
            if below or "pooler" in name or "relative" in name:
                parameter.requires_grad_(False)
        self._blocks = blocks_of(model, self.layers)
        self._originals = list(self._blocks)
        self._states: torch.Tensor | None = None
        self._offsets = np.zeros(1, np.int64)

    def remember(self, tokens: Tokens, bf16: bool) -> None:
        """Run the lower half over all rows and keep its states (N, D), unless there are too many or nothing is below."""
        width = int(self.model.config.hidden_size)
        total = int(tokens.offsets[-1])
        if not self.lower or total * width * (2 if bf16 else 4) > MOST_BYTES:
            return
        states = torch.empty(
            total, width, dtype=torch.bfloat16 if bf16 else torch.float32, device=self.device
        )
        last, as_tuple = self._blocks[self.lower - 1], False

        def take(_module: Any, _inputs: Any, output: Any) -> None:
            nonlocal as_tuple
            as_tuple = isinstance(output, tuple)
            state = output[0] if as_tuple else output
            for place, row in enumerate(rows):
                start, end = tokens.offsets[row], tokens.offsets[row + 1]
                states[start:end] = state[place, : end - start]
            raise _Enough

        handle = last.register_forward_hook(take)
        try:
            with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                for rows in batches(tokens.lengths, CPU_TOKENS):
                    with contextlib.suppress(_Enough):
                        self.model(**padded(tokens, rows, self.filler, self.device))
        finally:
            handle.remove()
        self._states, self._offsets = states, tokens.offsets
        for place in range(self.lower):
            self._blocks[place] = _Kept(as_tuple)

    def forget(self) -> None:
        """Put the lower blocks back; the model is whole again."""
        self._states = None
        for place in range(self.lower):
            self._blocks[place] = self._originals[place]

    def means(self, tokens: Tokens, rows: np.ndarray, most_tokens: int) -> torch.Tensor:
        """(b, D) token means of some rows with a graph, in pieces of at most `most_tokens` with little padding."""
        pieces = batches(tokens.lengths[rows], most_tokens)
        found = []
        for piece in pieces:
            inputs = padded(tokens, rows[piece], self.filler, self.device)
            self._hand_over(rows[piece], inputs["attention_mask"])
            found.append(pool(self.model(**inputs).last_hidden_state, inputs["attention_mask"], "mean"))
        back = np.argsort(np.concatenate(pieces))
        return torch.cat(found)[torch.from_numpy(back).to(self.device)]

    def _hand_over(self, rows: np.ndarray, mask: torch.Tensor) -> None:
        """Set the kept states of these rows, side by side (b, T, D), as what the lower half gives."""
        if self._states is None:
            return
        wide = self._states.new_zeros(*mask.shape, self._states.shape[1])
        where = [np.arange(self._offsets[r], self._offsets[r + 1]) for r in rows]
        wide[mask.bool()] = self._states[torch.from_numpy(np.concatenate(where)).to(self.device)]
        self._blocks[self.lower - 1].state = wide
