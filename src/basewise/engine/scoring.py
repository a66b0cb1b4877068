"""A sweep over a trie: the log-probability of every query, pass by pass, with one path of states kept between passes.

Memory running out halves the pass and goes on: the kept path is replaced only after a pass has succeeded.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from basewise.core.errors import OutOfMemory
from basewise.core.files import Progress, silent
from basewise.engine.encoder import out_of_memory
from basewise.engine.paths import Kept, PathState, State
from basewise.engine.trie import Pass, Trie, common, plan, stop_of

HEAD_BYTES = 2**27
"""Of fp32 logits at once; their softmax is computed in their place."""
LEAST_ROWS = 64
LEAST_STEM = 48
"""Tokens from which on a shared beginning is worth a pass of its own, so that the next job can start behind it."""
STEM_BYTES = 2**28


class Network(Protocol):
    """What a sweep needs of a decoder."""

    device: torch.device
    dtype: torch.dtype
    vocabulary: int
    stretched: int
    """Tokens from which on a longer text changes what its beginning gives; 0 where none does."""

    def forward(
        self, ids: np.ndarray, positions: np.ndarray | None, rows: np.ndarray, state: State | None
    ) -> torch.Tensor:
        """(len(rows), V) float32 logits after the tokens `rows` of one packed row of ids."""


@dataclass
class Swept:
    """log_probability (Q,) float64, greedy (Q,) bool, in the trie's order of queries; tokens computed; the last pass's size;
    best (Q,) int64: the likeliest token in each query's place."""

    log_probability: np.ndarray
    greedy: np.ndarray
    computed: int
    budget: int
    best: np.ndarray

    @classmethod
    def none_of(cls, queries: int, budget: int) -> Swept:
        """Before anything is computed."""
        return cls(np.zeros(queries), np.zeros(queries, bool), 0, budget, np.zeros(queries, np.int64))


@dataclass
class Stem:
    """The states of a beginning that many jobs share, such as demonstrations: tokens (P,) and their states; `frozen`: not to be
    replaced."""

    tokens: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    kept: Kept = field(default_factory=dict)
    frozen: bool = False

    def start(self, trie: Trie, chain: int) -> tuple[int, Kept]:
        """How many of the trie's first nodes are known, and their states."""
        known = common(self.tokens, trie.tokens[:chain])
        return known, {layer: (k[:, :, :known], v[:, :, :known]) for layer, (k, v) in self.kept.items()}

    def remember(self, tokens: np.ndarray, kept: Kept) -> None:
        """Keep the states of a job's beginning for the next job, unless they are large."""
        if not self.frozen and sum(k.nbytes + v.nbytes for k, v in kept.values()) <= STEM_BYTES:
            self.tokens, self.kept = tokens.copy(), kept


def most_rows(vocabulary: int) -> int:
    """Rows of logits that fit into HEAD_BYTES."""
    return max(LEAST_ROWS, HEAD_BYTES // (4 * vocabulary))


def sweep(
    network: Network, trie: Trie, budget: int, progress: Progress = silent, stem: Stem | None = None
) -> Swept:
    """Packed: every node once, at most `budget` of them a pass; what `stem` still knows of the beginning, not again."""
    found = Swept.none_of(len(trie.query_node), budget)
    rows_at_once = most_rows(network.vocabulary)
    chain = trie.chain() if stem is not None else 0
    chain = chain if chain >= LEAST_STEM else 0
    start, kept = stem.start(trie, chain) if stem is not None and chain else (0, {})
    while start < len(trie):
        stop = stop_of(trie, start, found.budget, rows_at_once)
        stop = min(stop, chain) if start < chain else stop
        try:
            kept = _one(network, trie, plan(trie, start, stop), kept, found)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if stop - start <= 1:
                raise OutOfMemory(
                    f"memory ran out on one token at depth {int(trie.depth[start])}",
                    "use shorter prompts, a smaller base or a machine with more memory",
                ) from error
            gc.collect()
            found.budget = max(1, (stop - start) // 2)
            continue
        found.computed += stop - start
        start = stop
        if stem is not None and start == chain:
            stem.remember(trie.tokens[:chain], kept)
        progress(start, len(trie), "scoring")
    return found


def _one(network: Network, trie: Trie, this: Pass, kept: Kept, found: Swept) -> Kept:
    """One pass; the path for the next one."""
    where = trie.queries(this.start, this.stop)
    nodes, place = np.unique(trie.query_node[where], return_inverse=True)
    state = PathState(this, kept, network.device, network.dtype)
    span = slice(this.start, this.stop)
    logits = network.forward(trie.tokens[span], trie.depth[span], nodes - this.start, state)
    _judge(logits, place, trie, where, found)
    return state.next


def sweep_plain(network: Network, trie: Trie, progress: Progress = silent) -> Swept:
    """One sequence at a time through the network's own attention; sequences that add no query are not computed.

    Where the length of a text changes what its beginning gives, each request is a sequence of its own.
    """
    found = Swept.none_of(len(trie.query_node), 1)
    if network.stretched:
        return _sweep_alone(network, trie, progress, found)
    edges = np.flatnonzero(np.diff(trie.owners)) + 1
    for start, stop in zip([0, *edges], [*edges, len(trie)], strict=True):
        where = trie.queries(start, stop)
        nodes, place = np.unique(trie.query_node[where], return_inverse=True)
        if len(nodes):
            path = np.concatenate([trie.path(start), np.arange(start, stop)])
            rows = len(path) - (stop - nodes)
            _judge(network.forward(trie.tokens[path], None, rows, None), place, trie, where, found)
            found.computed += len(path)
        progress(int(stop), len(trie), "scoring")
    return found


def _sweep_alone(network: Network, trie: Trie, progress: Progress, found: Swept) -> Swept:
    """`sweep_plain` with nothing shared: a request sees the positions of its own length."""
    requests = np.unique(trie.query_request)
    for done, request in enumerate(requests, 1):
        where = np.flatnonzero(trie.query_request == request)
        last = int(trie.query_node[where].max())
        path = np.append(trie.path(last), last)
        nodes, place = np.unique(trie.query_node[where], return_inverse=True)
        rows = np.searchsorted(path, nodes)
        _judge(network.forward(trie.tokens[path], None, rows, None), place, trie, where, found)
        found.computed += len(path)
        progress(done, len(requests), "scoring")
    return found


def _judge(
    logits: torch.Tensor, place: np.ndarray, trie: Trie, where: slice | np.ndarray, found: Swept
) -> None:
    """Log-probability and greediness of the queries `where` from logits (rows, V); `place` (queries,) is each one's row."""
    if not len(place):
        return
    rows = torch.from_numpy(place.reshape(-1)).to(logits.device)
    wanted = torch.from_numpy(trie.query_token[where]).to(logits.device)
    best = logits.argmax(1)
    # in place: fresh memory of this size costs more than the sums
    with torch.inference_mode():
        top, asked = logits.gather(1, best[:, None]), logits[rows, wanted].double()
        total = logits.sub_(top).exp_().sum(1).log_().double() + top[:, 0]
        values = asked - total[rows]
    found.log_probability[where] = values.cpu().numpy()
    found.greedy[where] = (best[rows] == wanted).cpu().numpy()
    found.best[where] = best[rows].cpu().numpy()
