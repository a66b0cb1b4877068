"""How good a network is on the held-out documents of its corpus: bits per byte or masked loss, with intervals, and samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.recipe import Recipe
from basewise.steps.pretrain_data import Corpus

ON_THE_WAY = 65_536
"""Held-out tokens of all sources together that are scored while a run goes on; at its end all are."""


def score(
    network: Any, corpus: Corpus, recipe: Recipe, bf16: bool = False, most_tokens: int = 0
) -> dict[str, Any]:
    """{"bits_per_byte": {source: interval}, "nats_per_token": …, "masked_nats": …, "samples": …} as the objective allows.

    Intervals are 95 %, over documents; a source with one document has none. `most_tokens`: the beginnings of the documents only.
    """
    from basewise.engine.held_out import masked_nats, nats, sample

    found: dict[str, Any] = {}
    causal = recipe.objective in ("next_token", "mixed")
    held_out = corpus.held_out
    if most_tokens and held_out:
        held_out = tuple(d.shortened(most_tokens // len(held_out)) for d in held_out)
    if causal and held_out:
        parts = [(d.source, *nats(network, d, recipe.context, bf16), d.bytes) for d in held_out]
        found["bits_per_byte"] = _by_source([(s, n / np.log(2), b) for s, n, _, b in parts])
        found["nats_per_token"] = _by_source([(s, n, c) for s, n, c, _ in parts])
    if recipe.objective in ("masked", "mixed") and held_out:
        shifted = recipe.objective == "mixed"
        mask = corpus.special["mask"]
        parts2 = [(d.source, *masked_nats(network, d, recipe.context, mask, shifted, bf16)) for d in held_out]
        found["masked_nats"] = _by_source(parts2)
    if causal and recipe.samples and corpus.tokenizer:
        tokenizer = _tokenizer(corpus.tokenizer)
        found["samples"] = [sample(network, tokenizer, prompt) for prompt in recipe.samples]
    return found


def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def _by_source(parts: list[tuple[str, np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """{source: ratio of sums with its interval}, "all" for all documents together."""
    made = {source: ratio(amounts, sizes) for source, amounts, sizes in parts}
    if len(parts) > 1:
        made["all"] = ratio(np.concatenate([p[1] for p in parts]), np.concatenate([p[2] for p in parts]))
    else:
        made["all"] = next(iter(made.values()))
    return made


def ratio(amounts: np.ndarray, sizes: np.ndarray) -> dict[str, Any]:
    """sum(amounts) / sum(sizes) over n documents, with the interval of its linearisation (Student's t)."""
    from scipy.special import stdtrit

    from basewise.stats.benchmarks import ratio_parts

    kept = sizes > 0
    amounts, sizes = amounts[kept], sizes[kept]
    n = len(sizes)
    if n == 0:
        return {"estimate": None, "low": None, "high": None, "n": 0}
    estimate = float(amounts.sum() / sizes.sum())
    if n == 1:
        return {"estimate": estimate, "low": None, "high": None, "n": 1}
    values = ratio_parts(amounts, sizes)
    half = float(stdtrit(n - 1, 0.975) * values.std(ddof=1) / np.sqrt(n))
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half, "n": n}
