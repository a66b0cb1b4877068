"""The fast forward pass: several layers and poolings of many texts at once, in batches of like length.

A `Network` gives hidden states block by block to a callback; the encoder pools them at once and keeps nothing else,
and stops after the deepest layer asked for. Two networks: any transformers model watched through hooks, and, for
BERT-shaped encoders, `lean_bert`, which computes the same with fewer and faster steps.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from basewise.core.base import Base
from basewise.core.errors import BasewiseError, InputError, OutOfMemory
from basewise.core.files import Progress, read_json, silent
from basewise.engine.batches import CPU_TOKENS, GPU_TOKENS, batches
from basewise.engine.direct import Weights
from basewise.engine.layers import View
from basewise.engine.tokens import Tokens

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.bfloat16}
"""What hidden states are in; "int8" is for the weights and the inputs of matrix products only."""


class Packed:
    """One batch on the device: `ids` flat (N,) of rows sorted by length; pooling of flat or padded hidden states."""

    def __init__(self, tokens: Tokens, rows: np.ndarray, device: torch.device) -> None:
        self.rows = rows
        self.lengths = tokens.lengths[rows]
        flat = np.concatenate([tokens.row(int(r)) for r in rows]).astype(np.int64)
        self.flat = torch.from_numpy(flat).to(device)
        self.device = device
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)])

    def padded(self, filler: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(ids (b, T), mask (b, T) or None where no row is padded)."""
        count, longest = len(self.rows), int(self.lengths.max())
        if (self.lengths == longest).all():
            return self.flat.view(count, longest), None
        keep = torch.from_numpy(np.arange(longest)[None, :] < self.lengths[:, None]).to(self.device)
        ids = torch.full((count, longest), filler, dtype=torch.int64, device=self.device)
        ids[keep] = self.flat
        return ids, keep.long()


Seen = Callable[[int, Callable[[str], torch.Tensor]], None]
"""`seen(layer, pool)`: called after each block; `pool("mean")` gives (b, D) float32."""


class Network(Protocol):
    """What the encoder needs of a network."""

    layers: int
    width: int
    device: torch.device

    def forward(self, batch: Packed, deepest: int, seen: Seen) -> None:
        """Run one batch up to layer `deepest`, calling `seen` after every block."""


class _Deep(Exception):
    """The deepest layer asked for has been seen."""


class HookedNetwork:
    """Any transformers model without a head, watched block by block."""

    def __init__(self, model: Any, precision: str, device: torch.device) -> None:
        config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
        self.layers, self.width = int(config.num_hidden_layers), int(config.hidden_size)
        self.model = model.to(device=device, dtype=DTYPES[precision]).eval()
        self.device = device
        self.filler = int(getattr(config, "pad_token_id", None) or 0)
        self.blocks = blocks_of(model, self.layers)

    def forward(self, batch: Packed, deepest: int, seen: Seen) -> None:
        ids, mask = batch.padded(self.filler)
        handles = []

        def watch(layer: int) -> Callable[..., None]:
            def hook(_module: Any, _inputs: Any, output: Any) -> None:
                state = output[0] if isinstance(output, tuple) else output
                seen(layer, lambda how: pool(state, mask, how))
                if layer == deepest:
                    raise _Deep

            return hook

        try:
            for index, block in enumerate(self.blocks[: min(deepest, self.layers - 1)], start=1):
                handles.append(block.register_forward_hook(watch(index)))
            attend = torch.ones_like(ids) if mask is None else mask
            extra = {"use_cache": False} if getattr(self.model.config, "use_cache", False) else {}
            result = self.model(input_ids=ids, attention_mask=attend, **extra)
            seen(self.layers, lambda how: pool(result.last_hidden_state, mask, how))
        except _Deep:
            return
        finally:
            for handle in handles:
                handle.remove()


def blocks_of(model: Any, count: int) -> torch.nn.ModuleList:
    """The stack of transformer blocks: the first module list of the right length."""
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return module
    raise BasewiseError(
        f"cannot find the {count} layers of {type(model).__name__}",
        "use a base whose blocks are one module list",
    )


def pool(state: torch.Tensor, mask: torch.Tensor | None, how: str) -> torch.Tensor:
    """(b, T, D) to (b, D) float32 over the tokens that `mask` (b, T) keeps; padding is on the right."""
    if how == "first":
        return state[:, 0].float()
    if mask is None:
        return state[:, -1].float() if how == "last" else state.float().mean(1)
    counts = mask.sum(1)
    if how == "last":
        return state[torch.arange(len(state), device=state.device), counts - 1].float()
    return (state.float() * mask[:, :, None]).sum(1) / counts[:, None]


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out (torch has no one class for it on a CPU)."""
    words = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and ("not enough memory" in words or "allocate memory" in words)
    )


def open_network(base: Base, precision: str) -> Network:
    """The network of a base in "fp32", "bf16" or "int8", on the GPU if there is one."""
    return open_networks(base, DTYPES[precision])(precision)


def open_networks(base: Base, dtype: torch.dtype = torch.float32) -> Callable[[str], Network]:
    """Precision to network, over weights that are read once.

    Lower precisions may convert them in place, so they come last; `dtype`: the widest that will be asked for.
    """
    from basewise.engine import direct
    from basewise.engine.device import keep_memory
    from basewise.engine.lean_bert import LeanBert, fits

    keep_memory()
    weights = direct.weights(base)
    if weights is not None and fits(weights.config):
        return lambda precision: LeanBert(weights, precision, _device())
    from basewise.engine.weights import load_network

    known = read_json(base.folder / "config.json").get("model_type") in direct.PREFIXES
    model = load_network(base, torch.float32 if known else dtype)
    return lambda precision: as_network(base, model, precision)


def as_network(base: Base, model: Any, precision: str) -> Network:
    """A loaded fp32 model as a network in `precision`; the model may be converted in place, so lower precisions come last."""
    if network := lean(Weights.of(model), precision):
        return network
    if precision == "int8":
        raise InputError(
            f"int8 is offered for BERT-shaped encoders only, and {base.key} is a {model.config.model_type}",
            "use precision auto, bf16 or fp32",
        )
    return HookedNetwork(model, precision, _device())


def lean(weights: Weights, precision: str) -> Network | None:
    """The lean network of BERT-shaped weights; None where their kind is not computed by it."""
    from basewise.engine.lean_bert import LeanBert, fits

    return LeanBert(weights, precision, _device()) if fits(weights.config) else None


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Encoder:
    """Tokens of many rows to pooled layers."""

    def __init__(self, network: Network, budget: int | None = None) -> None:
        self.network = network
        self.budget = budget or (CPU_TOKENS if network.device.type == "cpu" else GPU_TOKENS)

    def encode(self, tokens: Tokens, wanted: Sequence[View], progress: Progress = silent) -> np.ndarray:
        """(n, views, width) float32. Out of memory halves the budget and goes on, down to one row."""
        out = np.empty((len(tokens), len(wanted), self.network.width), np.float32)
        done = 0
        pending = batches(tokens.lengths, self.budget)[::-1]
        while pending:
            rows = pending.pop()
            try:
                self._one(tokens, rows, wanted, out)
            except IndexError as error:
                raise InputError(
                    f"the base has no place for the tokens of its tokenizer, numbers up to {tokens.ids.max()} in rows of up to"
                    f" {tokens.lengths.max()}",
                    "give the folder the tokenizer and the configuration that belong to its weights",
                ) from error
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if len(rows) == 1:
                    raise OutOfMemory(
                        f"memory ran out on a single row of {int(tokens.lengths[rows[0]])} tokens",
                        "use a smaller base or a machine with more memory",
                    ) from error
                gc.collect()
                self.budget = max(1, self.budget // 2)
                rest = np.concatenate([rows, *pending[::-1]])
                pending = [rest[g] for g in batches(tokens.lengths[rest], self.budget)][::-1]
                continue
            done += len(rows)
            progress(done, len(tokens), "features")
        return out

    def _one(self, tokens: Tokens, rows: np.ndarray, wanted: Sequence[View], out: np.ndarray) -> None:
        """One batch into its places in `out`."""
        total = self.network.layers
        deepest = total if any(v.layer == 0 for v in wanted) else max(v.layer for v in wanted)
        sums: dict[str, torch.Tensor] = {}
        kept: dict[View, torch.Tensor] = {}

        def seen(layer: int, pooled: Callable[[str], torch.Tensor]) -> None:
            cache: dict[str, torch.Tensor] = {}
            for view in wanted:
                if view.layer in (0, layer) and view.pooling not in cache:
                    cache[view.pooling] = pooled(view.pooling)
                if view.layer == layer:
                    kept[view] = cache[view.pooling]
                elif view.layer == 0:
                    before = sums.get(view.pooling)
                    sums[view.pooling] = (
                        cache[view.pooling] if before is None else before + cache[view.pooling]
                    )

        with torch.inference_mode():
            self.network.forward(Packed(tokens, rows, self.network.device), deepest, seen)
            for place, view in enumerate(wanted):
                value = kept[view] if view.layer else sums[view.pooling] / total
                out[rows, place] = value.cpu().numpy()
