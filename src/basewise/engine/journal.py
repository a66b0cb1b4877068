"""A scoring job that survives being killed: it is cut into groups, each kept when it is finished, and the same job goes on from there.

The cut depends on the job alone, and a group is computed from the shared beginning and from nothing that other groups left behind, so
a job that was stopped gives bit for bit what it gives in one go (on the same machine, threads and memory). The beginning that all
requests share is computed once a start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from basewise.core.files import Progress
from basewise.core.hashing import digest_json
from basewise.engine.decoder import Decoder
from basewise.engine.scoring import LEAST_STEM, Stem, Swept, sweep, sweep_plain
from basewise.engine.trie import Trie, build

# raise it when a number changes for the same job, so that old groups are not read
SCHEMA = 1
GROUP_NODES = 8_192
"""Tokens of a group, about: some seconds of work, and large beside the path that its first request needs anew."""


class Journal(Protocol):
    """Where finished groups are kept; `core.rundir.RunDir` is one."""

    def saved(self, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Arrays and values of a finished group, None where there are none."""

    def keep(self, name: str, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
        """Keep a finished group, whole or not at all."""


@dataclass(frozen=True)
class Job:
    """R requests as token ids, with what else decides their numbers: the weights' digest and the tokens of a pass."""

    befores: Sequence[Any]
    afters: Sequence[Any]
    digest: str
    budget: int


def kept_in_groups(
    decoder: Decoder, job: Job, progress: Progress, journal: Journal
) -> tuple[np.ndarray, np.ndarray, int]:
    """((R,) summed log-probability, (R,) tokens that are not the likeliest, tokens computed) of a job, from the journal where it is
    there."""
    trie = build(job.befores, job.afters)
    chain = trie.tokens[: trie.chain()]
    settings = [SCHEMA, job.digest, job.budget, decoder.precision, decoder.packed, torch.get_num_threads()]
    stem: Stem | None = None
    sums, wrong, computed, done = np.zeros(len(job.afters)), np.zeros(len(job.afters)), 0, 0
    parts = groups(trie, GROUP_NODES)
    for rows in parts:
        befores, afters = [job.befores[i] for i in rows], [job.afters[i] for i in rows]
        own = build(befores, afters)
        name = digest_json([settings, chain.tolist(), _content(own)])[:32]
        if len(parts) > 1 and (known := journal.saved(name)) is not None:
            arrays, count = known[0], int(known[1]["computed"])
        else:
            if stem is None:
                stem = _stem(decoder, chain, job.budget)
                computed += len(stem.tokens)

            def part(at: int, of: int, what: str, before: int = done) -> None:
                progress(min(before + at, len(trie)), len(trie), what)

            found = (
                sweep(decoder, own, job.budget, part, stem)
                if decoder.packed
                else sweep_plain(decoder, own, part)
            )
            arrays, count = _summed(own, found, len(rows)), found.computed
            # a job of one group is kept by whoever asked
            if len(parts) > 1:
                journal.keep(name, arrays, {"computed": count})
        sums[rows], wrong[rows] = arrays["sums"], arrays["wrong"]
        computed, done = computed + count, done + len(own)
        progress(min(done, len(trie)), len(trie), "scoring")
    return sums, wrong, computed


def groups(trie: Trie, most: int) -> list[np.ndarray]:
    """Requests of a trie in its order, cut every `most` nodes."""
    count = int(trie.query_request.max()) + 1 if len(trie.query_request) else 0
    last = np.zeros(count, np.int64)
    np.maximum.at(last, trie.query_request, trie.query_node)
    order = np.argsort(last, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(last[order] // most)) + 1) if count else []


def _content(trie: Trie) -> list[list[int]]:
    """What decides a group's numbers."""
    return [
        column.tolist()
        for column in (trie.tokens, trie.depth, trie.query_node, trie.query_token, trie.query_request)
    ]


def _stem(decoder: Decoder, chain: np.ndarray, budget: int) -> Stem:
    """The states of what all requests of a job share, the same whichever group comes first."""
    stem = Stem()
    if decoder.packed and len(chain) > LEAST_STEM:
        sweep(decoder, build([chain], [[0]]), budget, stem=stem)
    stem.frozen = True
    return stem


def _summed(trie: Trie, found: Swept, count: int) -> dict[str, np.ndarray]:
    """Sums over the queries of each request."""
    return {
        "sums": np.bincount(trie.query_request, weights=found.log_probability, minlength=count),
        "wrong": np.bincount(trie.query_request, weights=~found.greedy, minlength=count),
    }
