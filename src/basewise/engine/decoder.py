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
from basewise.engine.linear import Laid, Whole, lay_out, whole_numbers
from basewise.engine.scoring import sweep, sweep_plain
from basewise.engine.screen import Screen
from basewise.engine.trie import Trie, build
from basewise.engine.weights import load_causal

CHECK_BOUND = {"fp32": 2e-4, "bf16": 0.3, "int8": 0.3}
"""Largest difference in nats between the two ways on the check's few tokens; bf16 rounds the same sums differently."""


class Decoder:
    """The network of a base in "fp32", "bf16" or "int8", on the GPU if there is one.

    int8 is that of the weights, on a processor that can; all else, also the output matrix, is in fp32.
    `packed`: whether sequences may share a row; `stretched`: see `stretched_at`. Its linear layers are laid out for the processor
    (`engine/linear.py`).
    """

    def __init__(self, base: Base, precision: str, packed: bool = True) -> None:
        self.base, self.precision = base, precision
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if precision == "int8" and (self.device.type != "cpu" or not whole_numbers()):
            raise InputError("this machine has no fast exact int8 products", "use fp32 or bf16")
        self.dtype = torch.float32 if precision == "int8" else DTYPES[precision]
        self._load()
        config = self.model.config.get_text_config()
        self.layers, self.vocabulary = int(config.num_hidden_layers), int(config.vocab_size)
        self.softcap = getattr(config, "final_logit_softcapping", None)
        if getattr(config, "is_encoder_decoder", False):
            raise InputError(f"{base.key} is an encoder with a decoder", "use a decoder alone")
        self.stretched = stretched_at(config)
        self.packed = self._prepare(packed and not self.stretched and not chunked(config))
        self._screen: Screen | None = None

    def _load(self) -> None:
        """The network as it is stored, its output matrix in fp32."""
        self.model = load_causal(self.base, self.dtype).to(self.device)
        head = self.model.get_output_embeddings()
        self.head_weight = None if head is None else head.weight.detach()
        self._head_in_fp32(head)

    def _head_in_fp32(self, head: Any) -> None:
        """Logits of magnitude 20 keep two digits in bf16; the output matrix is a small part of the work."""
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

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, V) float32 of last states (B, W)."""
        found = self.model.get_output_embeddings()(hidden).float()
        return found if self.softcap is None else torch.tanh(found / self.softcap) * self.softcap

    def likeliest(self, hidden: torch.Tensor) -> list[int]:
        """The token with the largest logit of each row of last states (B, W)."""
        head = self.model.get_output_embeddings()
        if self._screen is None and head.bias is None and self.softcap is None and whole_numbers():
            assert self.head_weight is not None
            self._screen = Screen(self.head_weight)
        found = self._screen.likeliest(hidden) if self._screen is not None else None
        return self.logits(hidden).argmax(1).tolist() if found is None else found

    def _prepare(self, packed: bool) -> bool:
        """Lay the linear layers out and set our attention, each only where a small trie then gets the same answers.

        Whether the packed way works for this network: every layer asks our attention, and its answers agree.
        """
        self._check_causal()
        trie = _small(self.vocabulary)
        plain = sweep_plain(self, trie).log_probability
        on_processor = self.device.type == "cpu"
        if on_processor and self.precision != "int8":
            lay_out(self.model, Laid)
        works = packed and self._agrees(plain, trie, True)
        if not works:
            self.model.set_attn_implementation("eager")
            if on_processor and not self._agrees(plain, trie, False):
                self._load()
                self.model.set_attn_implementation("eager")
        if self.precision == "int8":
            lay_out(self.model, Whole, but=self.model.get_output_embeddings())
            lay_out(self.model, Laid)
        return works

    def _check_causal(self) -> None:
        """InputError where the end of a text changes what is said of its beginning, as of an encoder that was saved with such a head.

        In bf16 two lengths are rounded apart, which a mixture of experts makes large; a base is seen in fp32 before.
        """
        if self.dtype != torch.float32:
            return
        ids = np.arange(1, 13) % self.vocabulary
        short, long = (torch.log_softmax(self.forward(ids[:n], None, np.arange(6), None), 1) for n in (6, 12))
        if float((short - long).abs().max()) > CHECK_BOUND["bf16"]:
            raise InputError(
                f"{self.base.key} is no causal language model: it reads texts in both directions",
                "use a decoder such as smollm2-135m, or a method that embeds, such as prototype or probe",
            )

    def _agrees(self, plain: np.ndarray, trie: Trie, packed: bool) -> bool:
        """Whether the trie's log-probabilities are `plain`, the packed way or one by one."""
        try:
            if packed:
                self.model.set_attn_implementation(paths.register())
                if not self._windows_told():
                    return False
            found = sweep(self, trie, budget=11) if packed else sweep_plain(self, trie)
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, paths.Unsupported):
            return False
        return float(np.abs(plain - found.log_probability).max()) <= CHECK_BOUND[self.precision]

    def _windows_told(self) -> bool:
        """Whether every layer with a window tells our attention of it: some have it in their mask alone, which a packed row does not
        read."""
        told = _Windows()
        self.forward(np.arange(2), np.arange(2), np.arange(1), told)
        config = self.model.config.get_text_config()
        return all(told.found.get(layer, 0) is not None for layer in windowed(config, self.layers))


class _Windows:
    """A `paths.State` that notes the window of each layer."""

    def __init__(self) -> None:
        self.found: dict[int, int | None] = {}

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, how: paths.How
    ) -> torch.Tensor:
        """See `paths.State`; of the answer only the shape counts."""
        self.found[layer] = how.window
        return value.repeat_interleave(query.shape[1] // value.shape[1], 1)


def windowed(config: Any, layers: int) -> list[int]:
    """The layers whose attention has a window that is shorter than the context."""
    window, context = (
        getattr(config, "sliding_window", None),
        getattr(config, "max_position_embeddings", None),
    )
    if not window or (context and window >= context):
        return []
    kinds = getattr(config, "layer_types", None) or ["sliding"] * layers
    return [layer for layer, kind in enumerate(kinds[:layers]) if "sliding" in kind]


def stretched_at(config: Any) -> int:
    """The length from which on the positions of the whole text change ("longrope", "dynamic"); 0 where the context is no longer.

    The check's few tokens cannot show it, and a packed row holds texts of many lengths.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    context, least = int(getattr(config, "max_position_embeddings", 0) or 0), 0
    for one in (rope, *(each for each in rope.values() if isinstance(each, dict))):
        if one.get("rope_type") in ("longrope", "dynamic"):
            own = one.get("original_max_position_embeddings")
            most = int(own or getattr(config, "original_max_position_embeddings", None) or context)
            least = min(least or most, most)
    return least if least < context else 0


def chunked(config: Any) -> bool:
    """Whether attention changes at places of the text that a packed row does not tell: chunks, or a scale by position."""
    context = int(getattr(config, "max_position_embeddings", 0) or 0)
    scale = getattr(config, "attn_temperature_tuning", None) and getattr(config, "floor_scale", None)
    return any(0 < (at or context) < context for at in (getattr(config, "attention_chunk_size", None), scale))


def _small(vocabulary: int) -> Trie:
    """Five requests that share parts of their beginnings."""
    draw = np.random.default_rng(0)
    most = min(vocabulary, 1000)
    stem = draw.integers(0, most, 12)
    before = [[*stem[:n], *draw.integers(0, most, m)] for n, m in ((4, 3), (9, 1), (9, 4), (1, 5), (12, 0))]
    return build(before, [draw.integers(0, most, 3) for _ in before])
