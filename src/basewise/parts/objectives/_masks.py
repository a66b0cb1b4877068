"""Which tokens are hidden: a fixed share of each row, 80 % behind the mask token, 10 % another token, 10 % as they are."""

from __future__ import annotations

import numpy as np

from basewise.core.errors import InputError
from basewise.engine.feed import Setting
from basewise.engine.networks import IGNORED

FIRST, LAST = 0.35, 0.15
"""The share falls from FIRST to LAST over the run (methods after Wettig et al. 2023 and GPT-BERT)."""


def rate(done: float, setting: Setting) -> float:
    """The share of hidden tokens when the share `done` of the run is done: linear from first to last."""
    first, last = setting.mask_first or FIRST, setting.mask_last or LAST
    return first + (last - first) * min(max(done, 0.0), 1.0)


def hide(
    ids: np.ndarray, share: float, rng: np.random.Generator, setting: Setting
) -> tuple[np.ndarray, np.ndarray]:
    """(inputs, targets) of ids (B, T): targets are IGNORED where nothing is hidden. Special tokens are never hidden."""
    if setting.mask < 0:
        raise InputError(
            "the tokenizer has no mask token", "build the corpus with one, or use objective next_token"
        )
    length = ids.shape[1]
    order = rng.random(ids.shape)
    if setting.special:
        order[np.isin(ids, setting.special)] = 2.0
    count = max(1, round(share * length))
    cut = np.partition(order, count - 1, axis=1)[:, count - 1 : count]
    hidden = (order <= cut) & (order < 2.0)
    targets = np.where(hidden, ids, IGNORED)
    dice = rng.random(ids.shape)
    other = rng.integers(0, setting.vocabulary, ids.shape)
    inputs = np.where(hidden & (dice < 0.8), setting.mask, ids)
    return np.where(hidden & (dice >= 0.8) & (dice < 0.9), other, inputs), targets
