"""What a step of pretraining learns from: packed rows in an order that is a function of seed and step alone.

So a resumed run needs no record of where its data was: batch number `drawn` is the same batch in every session. Each epoch is a
new permutation; the rows of a step are prepared at once (masks and all), however they are cut into micro-batches later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import torch

from basewise.core.errors import InputError
from basewise.core.hashing import generator


class Rows(Protocol):
    """Training rows: `rows.take(index)` gives them as an array, the first axis in the order asked."""

    def __len__(self) -> int: ...

    def take(self, index: np.ndarray) -> np.ndarray:
        """(b, …) rows: token ids (b, T), images (b, 3, H, W), or pairs of token rows (b, 2, T)."""


@dataclass(frozen=True)
class Windows:
    """Rows of `length` tokens cut from one flat array of ids, one after the other."""

    ids: np.ndarray
    length: int

    def __len__(self) -> int:
        return len(self.ids) // self.length

    def take(self, index: np.ndarray) -> np.ndarray:
        """(b, length) int64."""
        places = np.asarray(index)[:, None] * self.length + np.arange(self.length)
        return self.ids[places].astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What an objective needs to know beside its rows. Ids of special tokens, -1 where the tokenizer has none."""

    vocabulary: int = 0
    mask: int = -1
    special: tuple[int, ...] = ()
    mask_first: float = 0.0
    mask_last: float = 0.0
    causal_share: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """One step's rows ready to be learned from: arrays of the same first axis, `count` of what the loss is a mean over.

    `ranks`: processes that share the step. Where there are many, all must run the network equally often in a micro-batch,
    because each run gathers its shards.
    """

    arrays: dict[str, np.ndarray]
    count: float
    facts: dict[str, Any] = field(default_factory=dict)
    ranks: int = 1

    def tensors(self, places: np.ndarray, device: Any) -> dict[str, torch.Tensor]:
        """Some of the rows as tensors."""
        return {name: torch.from_numpy(array[places]).to(device) for name, array in self.arrays.items()}


@dataclass
class Feed:
    """Batches without end for the loop. `share`: (rank, ranks), the part of each step that this process takes.

    `done(drawn)`: share of the run that is done, for schedules of the objective.
    """

    rows: Rows
    per_step: int
    seed: int
    objective: ModuleType
    setting: Setting
    model: torch.nn.Module
    done: Callable[[int], float]
    share: tuple[int, int] = (0, 1)
    drawn: int = 0
    prepared: Prepared | None = None
    _order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        ranks = self.share[1]
        if self.per_step % ranks:
            raise InputError(
                f"{self.per_step} rows a step cannot be shared evenly among {ranks} processes",
                f"set batch_tokens so that the rows are a multiple of {ranks}",
            )

    def index(self, drawn: int) -> np.ndarray:
        """(per_step,) rows of batch number `drawn`, from 0."""
        count = len(self.rows)
        places = np.arange(drawn * self.per_step, (drawn + 1) * self.per_step)
        return np.concatenate(
            [self._epoch(int(e))[places[places // count == e] % count] for e in np.unique(places // count)]
        )

    def _epoch(self, epoch: int) -> np.ndarray:
        if self._order[0] != epoch:
            self._order = (epoch, generator("rows", self.seed, epoch).permutation(len(self.rows)))
        return self._order[1]

    def __iter__(self) -> Iterator[np.ndarray]:
        rank, ranks = self.share
        while True:
            rows = self.rows.take(self.index(self.drawn))
            rng = generator("batch", self.seed, self.drawn)
            whole = self.objective.prepare(rows, self.done(self.drawn), rng, self.setting)
            mine = np.arange(rank, len(rows), ranks)
            self.prepared = Prepared(
                arrays={name: array[mine] for name, array in whole.arrays.items()},
                count=whole.count / ranks,
                facts=whole.facts,
                ranks=ranks,
            )
            self.drawn += 1
            yield np.arange(len(mine))

    def loss(self, places: np.ndarray) -> torch.Tensor:
        """For the loop: what divided by the number of rows and summed over the pieces is the mean loss of the step."""
        assert self.prepared is not None
        each = next(iter(self.prepared.arrays.values()))
        total = self.objective.loss(self.model, self.prepared, places)
        return total * (len(each) / max(self.prepared.count, 1.0))


def check_enough(rows: Rows, per_step: int, context: int) -> None:
    """Raise InputError where the corpus has less than one step's rows, with the batch that fits."""
    if len(rows) == 0:
        raise InputError(
            f"the corpus has no row of {context} tokens",
            "give more text, or a shorter context",
        )
    if len(rows) < per_step:
        raise InputError(
            f"the corpus has {len(rows)} rows of {context} tokens and a step takes {per_step}",
            f"batch_tokens = {len(rows) * context} is the most that fits",
        )
