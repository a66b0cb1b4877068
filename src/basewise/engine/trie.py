"""Token sequences as a trie in preorder: what a job shares is there once, and a pass is an interval of nodes.

Sequences are sorted; each adds only the nodes that it does not share with the one before. In preorder a subtree is an
interval, which gives the rule that everything here rests on: all ancestors of the nodes in [a, b) lie in [a, b) or
on the path from the root to a. So what has to be kept between two passes is one path.

N nodes, R requests, Q queries (a query: the probability of one token after one node).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

GROUP_ROWS = 128
MOST_GROUP_ROWS = 512


@dataclass(frozen=True)
class Trie:
    """tokens, depth, parent, end (N,): token id, tokens before it, parent node (-1: none), one past its subtree.

    Queries sorted by node: query_node, query_token, query_request (Q,). `owners` (N,): a sequence that runs through each node.
    """

    tokens: np.ndarray
    depth: np.ndarray
    parent: np.ndarray
    end: np.ndarray
    query_node: np.ndarray
    query_token: np.ndarray
    query_request: np.ndarray
    owners: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    def path(self, node: int, least: int = 0) -> np.ndarray:
        """The ancestors of `node` from the root down, those below `least` left out; for node N, nothing."""
        if node >= len(self):
            return np.zeros(0, np.int64)
        found = []
        above = int(self.parent[node])
        while above >= least:
            found.append(above)
            above = int(self.parent[above])
        return np.array(found[::-1], np.int64)

    def chain(self) -> int:
        """Nodes from the root on before the first branch or query: what all requests share."""
        above = self.parent[1:]
        branched = above[above != np.arange(len(above))]
        first = int(branched.min()) + 1 if len(branched) else len(self)
        asked = int(self.query_node[0]) if len(self.query_node) else len(self)
        return max(0, min(first, asked))

    def queries(self, start: int, stop: int) -> slice:
        """Where the queries of the nodes [start, stop) stand."""
        low, high = np.searchsorted(self.query_node, [start, stop])
        return slice(int(low), int(high))


def build(befores: Sequence[Any], afters: Sequence[Any]) -> Trie:
    """The trie of R requests: the probability of each token of afters[i] in turn, after befores[i] (each at least one token).

    The nodes of a request are its tokens but the last. Requests that hold the same list as `before` are recognised cheaply.
    """
    contexts, whose = _distinct(befores)
    rows = [np.asarray(after, np.int64) for after in afters]
    order = _order(contexts, whose, rows)
    lengths = [len(contexts[c]) for c in whose]
    most = sum(map(len, contexts)) + sum(len(row) - 1 for row in rows)
    columns = np.zeros((5, most), np.int64)
    path = np.zeros(max((n + len(r) for n, r in zip(lengths, rows, strict=True)), default=0), np.int64)
    asked: list[np.ndarray] = []
    before, after, here, size, grown = np.zeros(0, np.int64), np.zeros(0, np.int64), -1, 0, 0
    for index in order:
        context, own = contexts[whose[index]], rows[index]
        length = len(context) + len(own) - 1
        if whose[index] == here:
            shared = len(context) + common(after[:-1], own[:-1])
        else:
            shared = common(np.concatenate([before, after[:-1]]), np.concatenate([context, own[:-1]]))
        before, after, here = context, own, whose[index]
        columns[3, path[shared:grown]] = size
        fresh = length - shared
        new = np.arange(size, size + fresh)
        split = max(len(context) - shared, 0)
        columns[0, new[:split]] = context[shared:]
        columns[0, new[split:]] = own[max(shared - len(context), 0) : -1]
        columns[1, new], columns[2, new], columns[4, new] = np.arange(shared, length), new - 1, index
        if fresh:
            columns[2, size] = path[shared - 1] if shared else -1
        path[shared:length] = new
        asked.append(path[len(context) - 1 : length].copy())
        size, grown = size + fresh, length
    columns[3, path[:grown]] = size
    return _joined(columns[:, :size], asked, order, rows)


def _distinct(befores: Sequence[Any]) -> tuple[list[np.ndarray], list[int]]:
    """(the different contexts, the context of each request)."""
    contexts: list[np.ndarray] = []
    by_identity: dict[int, int] = {}
    by_content: dict[bytes, int] = {}
    whose = []
    for before in befores:
        if id(before) not in by_identity:
            tokens = np.asarray(before, np.int64)
            content = tokens.tobytes()
            if content not in by_content:
                by_content[content] = len(contexts)
                contexts.append(tokens)
            by_identity[id(before)] = by_content[content]
        whose.append(by_identity[id(before)])
    return contexts, whose


def _order(contexts: list[np.ndarray], whose: list[int], rows: list[np.ndarray]) -> list[int]:
    """Requests sorted by their tokens; by context first where no context is the beginning of another, which is the same."""
    keys = [context.astype(">u4").tobytes() for context in contexts]
    ranked = sorted(range(len(keys)), key=keys.__getitem__)
    if any(keys[b].startswith(keys[a]) for a, b in pairwise(ranked)):
        return sorted(range(len(rows)), key=lambda i: keys[whose[i]] + rows[i].astype(">u4").tobytes())
    rank = {context: place for place, context in enumerate(ranked)}
    return sorted(range(len(rows)), key=lambda i: (rank[whose[i]], rows[i].astype(">u4").tobytes()))


def _joined(columns: np.ndarray, asked: list[np.ndarray], order: list[int], rows: list[np.ndarray]) -> Trie:
    """The trie with its queries sorted by node."""
    nodes = np.concatenate([*asked, np.zeros(0, np.int64)])
    wanted = np.concatenate([*(rows[i] for i in order), np.zeros(0, np.int64)])
    requests = np.repeat(np.array(order, np.int64), [len(rows[i]) for i in order])
    by_node = np.argsort(nodes, kind="stable")
    tokens, depth, parent, end, owners = columns
    return Trie(tokens, depth, parent, end, nodes[by_node], wanted[by_node], requests[by_node], owners)


def common(a: np.ndarray, b: np.ndarray) -> int:
    """Length of the common prefix."""
    size = min(len(a), len(b))
    differ = np.flatnonzero(a[:size] != b[:size])
    return int(differ[0]) if len(differ) else size


@dataclass(frozen=True)
class Group:
    """Neighbouring rows [start, stop) of a pass and what they may see.

    Keys are the first `past` states kept, then the pass's rows `inside`, then the rows themselves; `allowed`
    (stop - start, keys) says who sees whom, `distance` how many tokens lie between (for sliding windows).
    """

    start: int
    stop: int
    past: int
    inside: np.ndarray
    allowed: np.ndarray
    distance: np.ndarray


@dataclass(frozen=True)
class Pass:
    """Nodes [start, stop) of a trie, their groups, and which states the next pass needs: of the kept ones the first
    `keep_past`, of its own the rows `keep`."""

    start: int
    stop: int
    groups: tuple[Group, ...]
    keep_past: int
    keep: np.ndarray


def stop_of(trie: Trie, start: int, budget: int, most_rows: int) -> int:
    """Where the pass that begins at `start` ends: at most `budget` nodes, at most `most_rows` of them with a query."""
    stop = min(start + budget, len(trie))
    nodes = trie.query_node[trie.queries(start, stop)]
    if len(nodes):
        first = np.flatnonzero(np.diff(nodes, prepend=-1))
        if len(first) > most_rows:
            stop = int(nodes[first[most_rows]])
    return max(stop, start + 1)


def plan(trie: Trie, start: int, stop: int) -> Pass:
    """The pass over [start, stop), given the path to `start`."""
    groups = []
    at = start
    while at < stop:
        inside = trie.path(at, start)
        past = int(trie.depth[at]) - len(inside)
        last = _cut(trie, at, stop, past)
        groups.append(_group(trie, at, last, past, inside, start))
        at = last
    kept = trie.path(stop, start)
    keep_past = int(trie.depth[stop]) - len(kept) if stop < len(trie) else 0
    return Pass(start, stop, tuple(groups), keep_past, kept - start)


def _cut(trie: Trie, at: int, stop: int, past: int) -> int:
    """The end of a group: about GROUP_ROWS rows, more where much is kept, cut where the next path is shortest."""
    rows = int(np.clip(past // 2, GROUP_ROWS, MOST_GROUP_ROWS))
    if stop - at <= rows + rows // 2:
        return stop
    first = at + rows // 2
    return first + int(np.argmin(trie.depth[first : at + rows + 1]))


def _group(trie: Trie, at: int, last: int, past: int, inside: np.ndarray, start: int) -> Group:
    """Masks of the rows [at, last): a row sees the part of the path to `at` that it shares, and its ancestors among them."""
    depth = trie.depth[at:last]
    shared = np.minimum.accumulate(depth)
    path_depth = np.arange(past + len(inside))
    rows = np.arange(at, last)
    within = (rows[None, :] <= rows[:, None]) & (rows[:, None] < trie.end[None, at:last])
    allowed = np.concatenate([path_depth[None, :] < shared[:, None], within], 1)
    distance = depth[:, None] - np.concatenate([path_depth, depth])[None, :]
    return Group(at - start, last - start, past, inside - start, allowed, distance)
