"""BenchTask and Item: a benchmark as frozen data, and Data, the folder that suites read from.

A suite is a module under parts/suites with
    FILES: tuple[str, ...]                 files it reads, relative to the data folder; empty: it makes its items
    tasks(data: Data) -> list[BenchTask]   every task, in reading order, the same for the same files
or, where the tasks are another package's, BY_NAME = True and
    named(name: str, data: Data) -> BenchTask      the task "<key>/<its name there>"; such a suite is no part of "all"
It says what is asked and what counts as right; how a base is asked is the affair of steps/bench_ask.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basewise.core.base import SCORE
from basewise.core.errors import TableError
from basewise.core.hashing import digest_json

CHOICE, ROLLING, GENERATE = "choice", "rolling", "generate"
ACCURACY, PER_BYTE, CALIBRATED = "accuracy", "accuracy per byte", "accuracy calibrated"
SHARE, AUROC, BITS = "share", "auroc", "bits per byte"
HIGH, LOW, HALF = "high", "low", "half"
SEPARATOR = "\n\n"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question. `context` leaves the answer open; `choices` continue it, a leading space included.

    `answer` indexes the choices, -1 for none of them. `target`: what a generated answer must be. `text`: the item's own
    words, for a probe and for contamination. `cluster`: equal for items that share a passage or a template; empty: alone.
    """

    context: str = ""
    choices: tuple[str, ...] = ()
    answer: int = -1
    target: str = ""
    text: str = ""
    cluster: str = ""

    @property
    def shown(self) -> str:
        """The item as a demonstration: question and right answer."""
        return self.context + (self.choices[self.answer] if self.choices else f" {self.target}")

    @property
    def digest(self) -> str:
        """Names the item in evidence, so that two runs can be put side by side."""
        return digest_json([self.context, list(self.choices), self.answer, self.target])[:16]


@dataclass(frozen=True, kw_only=True)
class BenchTask:
    """One benchmark task.

    kind      CHOICE: each choice is scored after the context, the likeliest is the guess; ROLLING: the text itself is
              scored; GENERATE: greedy text up to `stop` must equal the target
    measure   ACCURACY | PER_BYTE | SHARE (of first choices) | AUROC (in scope against answer -1) | BITS
    better    HIGH | LOW | HALF (a share of one half is the aim)
    shots     usual number of demonstrations; `pool`: where they come from; empty: from the items, which are then not scored
    named     the choices mean the same in every item (labels), so that a majority answer exists
    share     of --limit that this task takes, for items that are long
    shotless  demonstrations make no sense, whatever --shots says
    """

    name: str
    items: tuple[Item, ...]
    about: str
    kind: str = CHOICE
    measure: str = ACCURACY
    better: str = HIGH
    shots: int = 0
    pool: tuple[Item, ...] = ()
    named: bool = False
    share: float = 1.0
    shotless: bool = False
    stop: tuple[str, ...] = ("\n",)
    most_tokens: int = 48
    requires: frozenset[str] = frozenset({SCORE})

    @property
    def suite(self) -> str:
        return self.name.partition("/")[0]

    @property
    def probed(self) -> bool:
        """Whether a base that only embeds can answer: labelled rows beside the items, over the same choices."""
        return bool(self.pool) and self.named and self.kind == CHOICE


@dataclass(frozen=True)
class Data:
    """The folder of the public sets: <set>/<split>.parquet."""

    folder: Path

    @classmethod
    def of(cls, folder: str | Path | None = None) -> Data:
        """A folder given, else $BASEWISE_DATA, else ../shared/data beside a checkout or the working folder."""
        if folder is not None:
            return cls(Path(folder).expanduser())
        if given := os.environ.get("BASEWISE_DATA"):
            return cls(Path(given).expanduser())
        places = [start.parent / "shared" / "data" for start in (Path.cwd(), Path(__file__).parents[3])]
        return cls(next((place for place in places if place.is_dir()), places[0]))

    def missing(self, files: Sequence[str]) -> list[str]:
        """Which of the files are not there."""
        return [name for name in files if not (self.folder / name).is_file()]

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of one Parquet file; TableError where it is not there or cannot be read."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.folder / name
        if not path.is_file():
            raise TableError(
                f"the benchmark data {name} is not in {self.folder}",
                "name the folder of the sets with --data or in BASEWISE_DATA",
            )
        try:
            return pq.read_table(path).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise TableError(
                f"cannot read {path}: {str(error).splitlines()[0]}", "fetch the file again"
            ) from error


def columns_of(rows: Sequence[dict[str, Any]], name: str, wanted: Sequence[str]) -> None:
    """TableError unless the rows of file `name` have the wanted columns."""
    lacking = [column for column in wanted if not rows or column not in rows[0]]
    if lacking:
        found = ", ".join(rows[0]) if rows else "no rows"
        raise TableError(
            f"{name} has no column {', '.join(lacking)}; found: {found}", "give the set in its usual form"
        )
