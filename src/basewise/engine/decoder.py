"""A decoder opened for passes over a trie: logits in fp32 where they are asked for, checked against one-by-one when opened.

Two ways give the same numbers. Packed: many sequences in one row, attention along paths (`engine/paths.py`). Plain: one
sequence at a time through the network's own attention, for architectures whose attention is not a function of queries, keys
and values alone (recurrent, or with positions in its biases).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from basewise.core.base import Base
from basewise.core.errors import InputError
from basewise.engine import paths
from basewise.engine.encoder import DTYPES
from basewise.engine.scoring import sweep, sweep_plain
from basewise.engine.trie import build
from basewise.engine.weights import load_causal

CHECK_BOUND = {"fp32": 2e-4, "bf16": 0.3}
"""Largest difference in nats between the two ways on the check's few tokens; bf16 rounds the same sums differently."""


class Decoder:
    """The network of a base in "fp32" or "bf16", on the GPU if there is one. `packed`: whether sequences may share a row."""

    def __init__(self, base: Base, precision: str, packed: bool = True) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype, self.precision = DTYPES[precision], precision
        self.model = load_causal(base, self.dtype).to(self.device)
        config = self.model.config.get_text_config()
        self.layers, self.vocabulary = int(config.num_hidden_layers), int(config.vocab_size)
        if getattr(config, "is_encoder_decoder", False):
            raise InputError(f"{base.key} is an encoder with a decoder", "use a decoder alone")
        self._head_in_fp32()
        self.packed = packed and self._packs()

    def _head_in_fp32(self) -> None:
        """Logits of magnitude 20 keep two digits in bf16; the output matrix is a small part of the work."""
        head = self.model.get_output_embeddings()
        if self.dtype == torch.float32 or head is None:
            return
        head.weight = torch.nn.Parameter(head.weight.detach().float(), requires_grad=False)
        if getattr(head, "bias", None) is not None:
            head.bias = torch.nn.Parameter(head.bias.detach().float(), requires_grad=False)
        head.register_forward_pre_hook(lambda _module, inputs: (inputs[0].float(), *inputs[1:]))

    def forward(
        self, ids: np.ndarray, positions: np.ndarray | None, rows: np.ndarray, state: paths.State | None
    ) -> torch.Tensor:
        """(len(rows), V) float32 logits after the tokens `rows` of one packed row `ids` (T,)."""
        inputs: dict[str, Any] = {"input_ids": torch.from_numpy(np.asarray(ids, np.int64))[None]}
        if positions is not None:
            inputs["position_ids"] = torch.from_numpy(np.asarray(positions, np.int64))[None]
        inputs["logits_to_keep"] = torch.from_numpy(np.asarray(rows, np.int64))
        inputs = {name: value.to(self.device) for name, value in inputs.items()}
        with torch.inference_mode():
            if state is None:
                return self.model(**inputs, use_cache=False).logits[0].float()
            with paths.attending(state):
                return self.model(**inputs, use_cache=False).logits[0].float()

    def _packs(self) -> bool:
        """Whether the packed way works for this network: every layer asks our attention, and a small trie agrees."""
        draw = np.random.default_rng(0)
        most = min(self.vocabulary, 1000)
        stem = draw.integers(0, most, 12)
        before = [
            [*stem[:n], *draw.integers(0, most, m)] for n, m in ((4, 3), (9, 1), (9, 4), (1, 5), (12, 0))
        ]
        trie = build(before, [draw.integers(0, most, 3) for _ in before])
        try:
            plain = sweep_plain(self, trie)
            self.model.set_attn_implementation(paths.register())
            packed = sweep(self, trie, budget=11)
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, paths.Unsupported):
            packed = None
        if packed is not None:
            gap = float(np.abs(plain.log_probability - packed.log_probability).max())
            if gap <= CHECK_BOUND[self.precision]:
                return True
        self.model.set_attn_implementation("eager")
        return False
