"""Low-rank adapters of many tasks on one base, mixed in a batch: the base's products once for all rows, each row its own adapter.

The first adapter's network is the host. In every layer that carries an adapter, the rows of a task get base(x) + scale B A x with the
task's own A and B, as peft computes it, and the head of a task sees its rows alone. So the base is in memory once, and the answers
are those of each task alone up to rounding. Only plain LoRA takes part (no DoRA, no bias, one head behind the network); others stay
by themselves.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from basewise.core.errors import BasewiseError
from basewise.engine.batches import CPU_TOKENS, batches
from basewise.engine.heads import softmax
from basewise.engine.loop import padded
from basewise.engine.tokens import pack

NAME = "default"


@dataclass(frozen=True)
class Adapter:
    """One task's own weights: (A, B, scale) by the name of the layer, and the layers that it saved whole by theirs, its head among them."""

    layers: dict[str, tuple[torch.Tensor, torch.Tensor, float]]
    whole: dict[str, torch.nn.Module]
    classes: int


def adapter_of(model: Any) -> Adapter | None:
    """The adapter inside a peft classifier; None where it is more than plain LoRA and whole layers."""
    layers, whole = {}, {}
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and NAME in module.lora_A:
            plain = not getattr(module, "use_dora", {}).get(NAME, False)
            if not plain or not isinstance(module.get_base_layer(), torch.nn.Linear):
                return None
            a, b = module.lora_A[NAME], module.lora_B[NAME]
            if a.bias is not None or b.bias is not None:
                return None
            layers[name] = (a.weight.detach(), b.weight.detach(), float(module.scaling[NAME]))
        elif hasattr(module, "modules_to_save") and NAME in module.modules_to_save:
            whole[name] = module.modules_to_save[NAME]
    if not whole or not layers:
        return None
    return Adapter(layers, whole, int(model.config.num_labels))


class _Layer(torch.nn.Module):
    """A linear layer of the base with the adapters of the rows at hand."""

    def __init__(self, base: torch.nn.Module, name: str, mixture: Mixture) -> None:
        super().__init__()
        self.base, self.name, self.mixture = base, name, mixture

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.base(x)
        if len(x) != self.mixture.spans[-1][0].stop:
            raise BasewiseError("a layer sees other rows than the batch", "serve these adapters one by one")
        for span, adapter in self.mixture.spans:
            a, b, scale = adapter.layers[self.name]
            rows = torch.nn.functional.linear(torch.nn.functional.linear(x[span], a), b)
            out[span] = out[span] + scale * rows
        return out


class _Whole(torch.nn.Module):
    """A layer that each task has of its own, on its own rows; scores of classes that a head does not have are -inf."""

    def __init__(self, name: str, mixture: Mixture) -> None:
        super().__init__()
        self.name, self.mixture = name, mixture

    def _by_task(self, x: torch.Tensor, *beside: Any, **named: Any) -> torch.Tensor:
        def cut(value: Any, span: slice) -> Any:  # a mask has a row for each row, too
            return value[span] if isinstance(value, torch.Tensor) and len(value) == len(x) else value

        parts = [
            adapter.whole[self.name](
                x[span], *(cut(v, span) for v in beside), **{k: cut(v, span) for k, v in named.items()}
            )
            for span, adapter in self.mixture.spans
        ]
        widest = max(part.shape[-1] for part in parts)
        pad = torch.nn.functional.pad
        return torch.cat([pad(part, (0, widest - part.shape[-1]), value=-torch.inf) for part in parts])

    # whatever a network hands on to a layer of its own
    forward = _by_task


class Mixture:
    """Adapters by name over one network. `probabilities` answers rows of several at once."""

    def __init__(self, classifier: Any) -> None:
        self.tokenise, self.device, self.filler = classifier.tokenise, classifier.device, classifier.filler
        self.model = classifier.model.get_base_model()
        self.adapters: dict[str, Adapter] = {}
        self.spans: list[tuple[slice, Adapter]] = []
        self._lock = threading.Lock()
        prefix = "base_model.model."
        for name, module in list(classifier.model.named_modules()):
            inner = name.removeprefix(prefix)
            if hasattr(module, "lora_A"):
                _put(self.model, inner, _Layer(module.get_base_layer(), name, self))
            elif hasattr(module, "modules_to_save"):
                _put(self.model, inner, _Whole(name, self))

    def add(self, name: str, adapter: Adapter) -> bool:
        """Take in a task's adapter; False where it sits in other layers. Its own copy of the base may then be forgotten."""
        other = next(iter(self.adapters.values()), adapter)
        fits = set(adapter.layers) == set(other.layers) and set(adapter.whole) == set(other.whole)
        if fits:
            self.adapters[name] = adapter
        return fits

    def probabilities(self, asked: Sequence[tuple[str, Sequence[str]]]) -> list[np.ndarray]:
        """(n, C) of each (adapter, texts), all rows in common batches sorted by length."""
        texts = [t for _, some in asked for t in some]
        owner = np.repeat(np.arange(len(asked)), [len(some) for _, some in asked])
        tokens = self.tokenise(texts)
        widest = max(self.adapters[name].classes for name, _ in asked)
        scores = np.full((len(texts), widest), -np.inf)
        with self._lock, torch.inference_mode():
            for rows in batches(tokens.lengths, CPU_TOKENS):
                rows = rows[np.argsort(owner[rows], kind="stable")]
                with self._rows_of(rows, owner, asked):
                    part = pack([tokens.row(int(r)) for r in rows], np.zeros(len(rows), bool))
                    inputs = padded(part, np.arange(len(rows)), self.filler, self.device)
                    found = self.model(**inputs).logits.double().cpu().numpy()
                scores[rows, : found.shape[1]] = found
        ends = np.cumsum([0, *(len(some) for _, some in asked)])
        return [
            softmax(scores[a:b, : self.adapters[name].classes])
            for (name, _), a, b in zip(asked, ends[:-1], ends[1:], strict=True)
        ]

    @contextmanager
    def _rows_of(
        self, rows: np.ndarray, owner: np.ndarray, asked: Sequence[tuple[str, Sequence[str]]]
    ) -> Iterator[None]:
        """The layers know which rows are whose while inside; `rows` are sorted by their owner."""
        own = owner[rows]
        edges = np.concatenate([[0], np.flatnonzero(np.diff(own)) + 1, [len(own)]])
        self.spans = [
            (slice(int(a), int(b)), self.adapters[asked[own[a]][0]]) for a, b in itertools.pairwise(edges)
        ]
        try:
            yield
        finally:
            self.spans = []


def _put(model: Any, name: str, module: torch.nn.Module) -> None:
    """Replace a submodule by its dotted name."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent) if parent else model, last, module)
