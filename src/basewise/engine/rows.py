"""The states of several texts that grow a token at a time: filled from a trie of their prompts, then stepped together.

Each row has its own length, so nothing is padded in the linear layers: a step is one packed row of one token a text. States
are written in place into buffers made once. A network of the usual shape steps lean (`engine/lean_decoder.py`), others through their
own code. Shapes: B rows, K key heads, S room (tokens), D head width, V vocabulary.
"""

from __future__ import annotations

import inspect
import weakref
from typing import Any, Protocol

import numpy as np
import torch

from basewise.engine.decoder import Decoder
from basewise.engine.lean_decoder import Lean, mask_of
from basewise.engine.paths import How, Kept, PathState, Unsupported, attention
from basewise.engine.scoring import most_rows
from basewise.engine.trie import Pass, Trie, build, plan, stop_of

LEAN_BOUND = {"fp32": (1e-4, 1e-3), "bf16": (0.1, 1.0), "int8": (0.1, 1.0)}
"""Difference in nats over the whole vocabulary between the two ways to step, on average and at worst: what bf16 may differ from fp32."""


class Rows(Protocol):
    """Texts that grow together."""

    def step(self, tokens: np.ndarray) -> torch.Tensor:
        """(B, V) float32 logits after one more token a row."""

    def likeliest(self, tokens: np.ndarray) -> list[int]:
        """The likeliest next token after one more token a row; cheaper than the logits."""

    def drop(self, row: int) -> None:
        """Forget a row; the last row takes its place."""

    def join(self, other: Any) -> None:
        """Take in the rows of another of the same decoder, after one's own; the other is used up."""


class PackedRows:
    """Rows with a buffer of states each; attention of one query a row over its own length."""

    def __init__(self, decoder: Decoder, lengths: np.ndarray, room: int) -> None:
        self.decoder, self.lengths, self.room = decoder, lengths.copy(), room
        self.buffers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.hows: dict[int, How] = {}
        self.lean: Lean | None = None
        self._masks: dict[int | None, torch.Tensor | None] = {}

    def buffer(self, layer: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values (B, K, S, D) of a layer, made when first asked for."""
        if layer not in self.buffers:
            shape = (len(self.lengths), like.shape[1], self.room, like.shape[3])
            self.buffers[layer] = (like.new_zeros(shape), like.new_zeros(shape))
        return self.buffers[layer]

    def step(self, tokens: np.ndarray) -> torch.Tensor:
        """See `Rows`."""
        if self.lean is not None:
            with torch.inference_mode():
                return self.decoder.logits(self._hidden(self.lean, tokens))
        self._masks = {}
        logits = self.decoder.forward(tokens, self.lengths, np.arange(len(tokens)), self)
        self.lengths += 1
        return logits

    def likeliest(self, tokens: np.ndarray) -> list[int]:
        """See `Rows`."""
        if self.lean is None:
            return [int(token) for token in self.step(tokens).argmax(1)]
        with torch.inference_mode():
            return self.decoder.likeliest(self._hidden(self.lean, tokens))

    def _hidden(self, lean: Lean, tokens: np.ndarray) -> torch.Tensor:
        """(B, W) last states after one more token a row."""
        new, lengths = torch.from_numpy(tokens), torch.from_numpy(self.lengths)
        found = lean.step(new, lengths, self.buffers, self.hows)
        self.lengths += 1
        return found

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, how: How
    ) -> torch.Tensor:
        """`paths.State`: (1, H, B, D) queries, one a row."""
        count, longest = len(self.lengths), int(self.lengths.max()) + 1
        keys, values = (b[:count] for b in self.buffer(layer, key))
        here = torch.from_numpy(self.lengths).to(key.device)
        each = torch.arange(count, device=key.device)
        keys[each, :, here] = key[0].transpose(0, 1)
        values[each, :, here] = value[0].transpose(0, 1)
        if how.window not in self._masks:
            self._masks[how.window] = mask_of(here, longest, how.window, key.dtype)
        mask = self._masks[how.window]
        out = attention(query.permute(2, 1, 0, 3), keys[:, :, :longest], values[:, :, :longest], mask, how)
        return out.permute(2, 1, 0, 3)

    def drop(self, row: int) -> None:
        """See `Rows`."""
        last = len(self.lengths) - 1
        if row != last:
            with torch.inference_mode():
                for keys, values in self.buffers.values():
                    keys[row], values[row] = keys[last], values[last]
            self.lengths[row] = self.lengths[last]
        self.lengths = self.lengths[:last]

    def join(self, other: PackedRows) -> None:
        """See `Rows`. Buffers that are too small are made anew, with room for as many rows again."""
        count, more = len(self.lengths), len(other.lengths)
        room = max(self.room, other.room)
        with torch.inference_mode():
            for layer, theirs in other.buffers.items():
                self.buffers[layer] = tuple(
                    _taken_in(a, b, count, more, room)
                    for a, b in zip(self.buffers[layer], theirs, strict=True)
                )  # type: ignore[assignment]
        self.room, self.lengths = room, np.concatenate([self.lengths, other.lengths])


def _taken_in(own: torch.Tensor, other: torch.Tensor, count: int, more: int, room: int) -> torch.Tensor:
    """(at least count + more, K, room, D): the first `count` rows of one's own and `more` of the other's."""
    if len(own) < count + more or own.shape[2] < room:
        rows = len(own) if len(own) >= count + more else 2 * (count + more)
        grown = own.new_zeros((rows, own.shape[1], room, own.shape[3]))
        grown[:count, :, : own.shape[2]] = own[:count]
        own = grown
    own[count : count + more, :, : other.shape[2]] = other[:more]
    return own


class _Filling(PathState):
    """A pass over the prompts' trie that also writes each row's states into its buffer."""

    def __init__(self, plan_: Pass, kept: Kept, rows: PackedRows, where: tuple[np.ndarray, ...]) -> None:
        super().__init__(plan_, kept, rows.decoder.device, rows.decoder.dtype)
        self.rows = rows
        self.row, self.place, self.node = (torch.from_numpy(w).to(self.device) for w in where)

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, how: How
    ) -> torch.Tensor:
        """See `paths.State`."""
        self.rows.hows[layer] = how
        keys, values = self.rows.buffer(layer, key)
        keys[self.row, :, self.place] = key[0][:, self.node].transpose(0, 1)
        values[self.row, :, self.place] = value[0][:, self.node].transpose(0, 1)
        return super().attend(layer, query, key, value, how)


def fill(
    decoder: Decoder, prompts: list[np.ndarray], most_tokens: int, budget: int
) -> tuple[Rows, torch.Tensor]:
    """(rows, (B, V) logits after each prompt); what prompts share is computed once."""
    if not decoder.packed:
        return PlainRows.of(decoder, prompts)
    rows, logits = _filled(decoder, prompts, most_tokens, budget)
    rows.lean = lean_of(decoder)
    return rows, logits


def _filled(
    decoder: Decoder, prompts: list[np.ndarray], most_tokens: int, budget: int
) -> tuple[PackedRows, torch.Tensor]:
    """`fill` for a network that can be packed; the rows step through its own code."""
    lengths = np.array([len(p) for p in prompts], np.int64)
    rows = PackedRows(decoder, lengths, int(lengths.max()) + most_tokens)
    trie = build(prompts, [[0]] * len(prompts))
    paths = [np.zeros(0, np.int64)] * len(prompts)
    for leaf, row in zip(trie.query_node, trie.query_request, strict=True):
        paths[row] = np.append(trie.path(int(leaf)), leaf)
    logits = torch.empty(len(prompts), decoder.vocabulary, device=decoder.device)
    kept: Kept = {}
    start = 0
    while start < len(trie):
        stop = stop_of(trie, start, budget, most_rows(decoder.vocabulary))
        state = _Filling(plan(trie, start, stop), kept, rows, _where(paths, start, stop))
        found, whose = _pass(decoder, trie, start, stop, state)
        logits[torch.from_numpy(whose).to(decoder.device)] = found
        kept, start = state.next, stop
    return rows, logits


_lean: weakref.WeakKeyDictionary[Decoder, Lean | None] = weakref.WeakKeyDictionary()


def lean_of(decoder: Decoder) -> Lean | None:
    """The lean step of a network, made and checked once; None where it would not give the same."""
    if decoder not in _lean:
        try:
            lean = Lean(decoder.model) if decoder.device.type == "cpu" else None
            _lean[decoder] = lean if lean is not None and _agrees(decoder, lean) else None
        except (Unsupported, AttributeError, KeyError, TypeError, ValueError, RuntimeError):
            _lean[decoder] = None
    return _lean[decoder]


def _agrees(decoder: Decoder, lean: Lean) -> bool:
    """Whether two steps of three rows of unlike lengths give the same log-probabilities lean and through the network's own code."""
    draw, most = np.random.default_rng(1), min(decoder.vocabulary, 1000)
    prompts = [draw.integers(0, most, length) for length in (9, 2, 5)]
    new = draw.integers(0, most, (2, 3))
    found = []
    for way in (None, lean):
        rows, _ = _filled(decoder, prompts, 2, 64)
        rows.lean = way
        found.append(torch.log_softmax(torch.cat([rows.step(tokens) for tokens in new]), 1))
    gap, (mean, worst) = (found[0] - found[1]).abs(), LEAN_BOUND[decoder.precision]
    return float(gap.mean()) <= mean and float(gap.max()) <= worst


def _where(paths: list[np.ndarray], start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row, place in the row, node of the pass) of every state of the pass that belongs to a row."""
    row, place, node = [], [], []
    for index, path in enumerate(paths):
        low, high = np.searchsorted(path, [start, stop])
        row.append(np.full(high - low, index))
        place.append(np.arange(low, high))
        node.append(path[low:high] - start)
    return np.concatenate(row), np.concatenate(place), np.concatenate(node)


def _pass(
    decoder: Decoder, trie: Trie, start: int, stop: int, state: PathState
) -> tuple[torch.Tensor, np.ndarray]:
    """(logits a query of the pass, the queries' rows)."""
    where = trie.queries(start, stop)
    nodes, place = np.unique(trie.query_node[where], return_inverse=True)
    found = decoder.forward(trie.tokens[start:stop], trie.depth[start:stop], nodes - start, state)
    return found[torch.from_numpy(place.reshape(-1)).to(found.device)], trie.query_request[where]


CACHES = ("cache", "past_key_values")
"""What transformers calls the states kept of a text: from version 5.24 on, and before. A network that names neither, as Mamba before,
keeps none."""


class PlainRows:
    """Rows with transformers' own cache each, for networks that cannot be packed; one without a cache reads its row anew."""

    def __init__(self, decoder: Decoder, prompts: list[np.ndarray]) -> None:
        self.decoder = decoder
        self.texts = [np.zeros(0, np.int64) for _ in prompts]
        self.caches: list[Any] = [None] * len(prompts)
        known = inspect.signature(decoder.model.forward).parameters
        self.cache_name = next((name for name in CACHES if name in known), "")
        self.placed = "position_ids" in known

    @classmethod
    def of(cls, decoder: Decoder, prompts: list[np.ndarray]) -> tuple[PlainRows, torch.Tensor]:
        """(rows, (B, V) logits after each prompt)."""
        rows = cls(decoder, prompts)
        return rows, torch.stack([rows._one(i, prompt) for i, prompt in enumerate(prompts)])

    def step(self, tokens: np.ndarray) -> torch.Tensor:
        """See `Rows`."""
        return torch.stack([self._one(i, np.array([token])) for i, token in enumerate(tokens)])

    def likeliest(self, tokens: np.ndarray) -> list[int]:
        """See `Rows`."""
        return [int(token) for token in self.step(tokens).argmax(1)]

    def _one(self, row: int, tokens: np.ndarray) -> torch.Tensor:
        known = len(self.texts[row])
        self.texts[row] = np.append(self.texts[row], np.asarray(tokens, np.int64))
        if known <= self.decoder.stretched < len(self.texts[row]):
            # what was kept has the positions of a shorter text
            self.caches[row] = None
        cache = self.caches[row]
        new = self.texts[row] if cache is None else self.texts[row][known:]
        more: dict[str, Any] = {} if cache is None else {self.cache_name: cache}
        ids = torch.from_numpy(new)[None].to(self.decoder.device)
        if self.placed:  # some, such as Bamba, count from 0 again for what comes after the states kept
            end = len(self.texts[row])
            more["position_ids"] = torch.arange(end - len(new), end, device=ids.device)[None]
        with torch.inference_mode():
            found = self.decoder.model(input_ids=ids, use_cache=True, **more)
        self.caches[row] = getattr(found, self.cache_name, None) if self.cache_name else None
        return found.logits[0, -1].float()

    def drop(self, row: int) -> None:
        """See `Rows`."""
        for kept in (self.caches, self.texts):
            last = kept.pop()
            if row < len(kept):
                kept[row] = last

    def join(self, other: PlainRows) -> None:
        """See `Rows`."""
        self.caches += other.caches
        self.texts += other.texts
