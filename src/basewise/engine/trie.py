"""Token sequences as a trie in preorder: what a job shares is there once, and a pass is an interval of nodes.

Sequences are sorted; each adds only the nodes that it does not share with the one before. In preorder a subtree is an
interval, which gives the rule that everything here rests on: all ancestors of the nodes in [a, b) lie in [a, b) or
on the path from the root to a. So what has to be kept between two passes is one path.

N nodes, R requests, Q queries (a query: the probability of one token after one node).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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

    def queries(self, start: int, stop: int) -> slice:
        """Where the queries of the nodes [start, stop) stand."""
        low, high = np.searchsorted(self.query_node, [start, stop])
        return slice(int(low), int(high))


def build(sequences: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> Trie:
    """The trie of R token sequences (each at least one token), and what is asked on them.

    targets[i] (m_i,): the tokens whose probability is asked after each of the last m_i tokens of sequence i; m_i <= its length.
    """
    keys = [np.asarray(s, ">u4").tobytes() for s in sequences]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    total = sum(len(s) for s in sequences)
    tokens, depth, parent, end, owners = (np.zeros(total, np.int64) for _ in range(5))
    longest = max((len(s) for s in sequences), default=0)
    path = np.zeros(longest, np.int64)
    asked: list[np.ndarray] = []
    before, size = np.zeros(0, np.int64), 0
    for index in order:
        sequence = np.asarray(sequences[index], np.int64)
        shared = _common(before, sequence)
        end[path[shared : len(before)]] = size
        fresh = len(sequence) - shared
        new = np.arange(size, size + fresh)
        tokens[new], depth[new], owners[new] = sequence[shared:], np.arange(shared, len(sequence)), index
        parent[new] = new - 1
        if fresh:
            parent[size] = path[shared - 1] if shared else -1
        path[shared : len(sequence)] = new
        asked.append(path[len(sequence) - len(targets[index]) : len(sequence)].copy())
        before, size = sequence, size + fresh
    end[path[: len(before)]] = size
    nodes = np.concatenate([*asked, np.zeros(0, np.int64)])
    wanted = np.concatenate([*(np.asarray(targets[i], np.int64) for i in order), np.zeros(0, np.int64)])
    whose = np.repeat(np.array(order, np.int64), [len(targets[i]) for i in order])
    by_node = np.argsort(nodes, kind="stable")
    asked_at, asked_for, asked_by = nodes[by_node], wanted[by_node], whose[by_node]
    tokens, depth, parent, end = tokens[:size], depth[:size], parent[:size], end[:size]
    return Trie(tokens, depth, parent, end, asked_at, asked_for, asked_by, owners[:size])


def _common(a: np.ndarray, b: np.ndarray) -> int:
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
