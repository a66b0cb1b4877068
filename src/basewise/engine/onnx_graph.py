"""A fitted predictor as one torch module, token ids and mask to probabilities, so that it can be written as an ONNX graph.

The same arithmetic as `encoder` (pooling over real tokens only), `probe`, `frozen` and `heads`, in float32. Shapes: b rows, T
tokens, D features, C classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from basewise.engine.encoder import pool
from basewise.engine.frozen import FLOOR, NAME_SCALE, Frozen
from basewise.engine.heads import Head
from basewise.engine.layers import View, views

OPSET = 18


def _tensor(value: Any) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(value, np.float32))


def _unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=1, keepdim=True).clamp_min(1e-12)


class States(torch.nn.Module):
    """Pooled layers of a network by name: (b, D) each."""

    def __init__(self, model: Any, wanted: tuple[View, ...]) -> None:
        super().__init__()
        self.model, self.wanted = model, wanted

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        states = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[1:]
        out = {}
        for view in self.wanted:
            if view.layer:
                out[view.name] = pool(states[view.layer - 1], mask, view.pooling)
            else:
                out[view.name] = torch.stack([pool(s, mask, view.pooling) for s in states]).mean(0)
        return out


class Vectors(torch.nn.Module):
    """The mean of token vectors of a static base, under the name "all"."""

    def __init__(self, table: np.ndarray) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(_tensor(table), requires_grad=False)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"all": pool(self.table[ids.clamp_max(self.table.shape[0] - 1)], mask, "mean")}


class Linear(torch.nn.Module):
    """`heads.Head`: log-probabilities over its temperature."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.weights, self.bias = (
            torch.nn.Parameter(_tensor(v), requires_grad=False) for v in (head.weights, head.bias)
        )
        self.register_buffer("present", torch.from_numpy(np.asarray(head.present, bool)))
        self.floor, self.temperature, self.absent = head.floor, head.temperature, int((~head.present).sum())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = x @ self.weights + self.bias
        if self.absent:
            seen = torch.where(self.present, scores, torch.full_like(scores, -1e9))
            logs = scores - seen.logsumexp(1, keepdim=True) + float(np.log1p(-self.floor * self.absent))
            scores = torch.where(self.present, logs, torch.full_like(scores, float(np.log(self.floor))))
        return torch.log_softmax(scores, 1) / self.temperature


class FrozenGraph(torch.nn.Module):
    """`frozen.Frozen`: the probe beside the label names."""

    def __init__(self, frozen: Frozen, states: torch.nn.Module) -> None:
        super().__init__()
        self.states, self.head = states, Linear(frozen.probe.head)
        self.names_read = frozen.probe.names
        self.share, self.temperature = (frozen.share if frozen.names else 0.0), frozen.temperature
        self.layer = frozen.names.layer if frozen.names else ""
        if frozen.names is not None:
            self.register_buffer("centre", _tensor(frozen.names.centre))
            self.register_buffer("rows", _tensor(frozen.names.rows))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        found = self.states(input_ids, attention_mask)
        logits = self.head(torch.cat([_unit(found[name]) for name in self.names_read], 1))
        logs = torch.softmax(logits, 1).clamp_min(FLOOR).log()
        if self.share:
            scores = _unit(_unit(found[self.layer]) - self.centre) @ self.rows.T / NAME_SCALE
            named = torch.softmax(scores, 1).clamp_min(FLOOR).log()
            logs = (1.0 - self.share) * logs + self.share * named
        return torch.softmax(logs / self.temperature, 1)


class NearestGraph(torch.nn.Module):
    """`prototype`: cosines to class means (C, D) around a centre (D,)."""

    def __init__(
        self, states: torch.nn.Module, layer: str, centre: np.ndarray, means: np.ndarray, temperature: float
    ) -> None:
        super().__init__()
        self.states, self.layer, self.temperature = states, layer, temperature
        self.register_buffer("centre", _tensor(centre))
        self.register_buffer("means", _tensor(means))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        rows = _unit(_unit(self.states(input_ids, attention_mask)[self.layer]) - self.centre)
        return torch.softmax(rows @ self.means.T / self.temperature, 1)


class ClassifierGraph(torch.nn.Module):
    """A transformers classifier: its softmax is the calibrated answer."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.model(input_ids=input_ids, attention_mask=attention_mask).logits, 1)


def states_of(base: Any, names: tuple[str, ...]) -> torch.nn.Module:
    """The network below a head, in fp32 with the attention that every exporter can write."""
    if base.card.family == "static":
        from safetensors.numpy import load_file

        return Vectors(load_file(base.folder / "model.safetensors")["embedding.weight"])
    from basewise.engine.weights import load_network

    model = load_network(base, torch.float32)
    model.set_attn_implementation("eager")
    return States(model, views(names, ("mean",), base.card.layers))


def write_onnx(graph: torch.nn.Module, path: Path, vocabulary: int) -> None:
    """One file; batch and length stay free."""
    import logging
    import warnings

    # it tells of libraries that are not needed
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    ids = torch.arange(12).reshape(2, 6) % max(vocabulary, 1)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
    rows, tokens = torch.export.Dim("rows"), torch.export.Dim("tokens")
    shapes = {"input_ids": {0: rows, 1: tokens}, "attention_mask": {0: rows, 1: tokens}}
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.eval(),
            (ids, mask),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["probabilities"],
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
