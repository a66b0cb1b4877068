"""Texts of many callers that grow together: each joins when it comes and leaves when it ends (Yu et al. 2022, Orca, OSDI).

The weights are read once for all texts of a step, so sixteen take about twice as long as one (benchmarks/growing.py); nobody waits
for a batch to fill or for its longest text. What a text becomes does not depend on the others: its draws are its own, see
`engine/generate.py`.
"""

from __future__ import annotations

import numpy as np

from basewise.engine.generate import Answer, Generator, Row, Sampling
from basewise.engine.rows import Rows

Grown = tuple[int, str, Answer | None]
"""(key, text so far, the answer once it has ended)."""


class Growing:
    """The texts under way on one decoder; not for several threads."""

    def __init__(self, maker: Generator) -> None:
        self.maker = maker
        self.live: list[Row] = []
        self._rows: Rows | None = None
        self._room = 0

    def __len__(self) -> int:
        return len(self.live)

    def fits(self, prompt: np.ndarray, options: Sampling) -> bool:
        """Whether one more text finds room in the buffers; a first one always does."""
        room = max(self._room, len(prompt) + options.most_tokens)
        # buffers that grow are made with room for as many rows again
        return not self.live or 2 * (len(self.live) + 1) <= self.maker.most_rows(room)

    def add(self, key: int, prompt: np.ndarray, options: Sampling, name: str) -> Grown:
        """Read a prompt; what its first token gives. `key`, not in use, names it from here on; `name` seeds its draws."""
        new = [self.maker.row(key, options, name)]
        rows, found = self.maker.begin(new, [prompt])
        self.maker.extend(new, found)
        grown = (key, new[0].text, new[0].answer)
        if grown[2] is None:
            if self._rows is None:
                self._rows, self._room = rows, 0
            else:
                self._rows.join(rows)
            self._room = max(self._room, len(prompt) + options.most_tokens)
            self.live += new
        return grown

    def step(self) -> list[Grown]:
        """A token more for every text."""
        assert self._rows is not None
        self.maker.extend(self.live, self.maker.step(self.live, self._rows))
        grown = [(row.index, row.text, row.answer) for row in self.live]
        self._let_go()
        return grown

    def cancel(self, key: int) -> None:
        """Forget a text; one that is not here has ended."""
        for row in self.live:
            if row.index == key:
                row.ended = "cancelled"
        self._let_go()

    def _let_go(self) -> None:
        if self._rows is not None and not self.maker.drop(self.live, self._rows):
            # the buffers go with the last text
            self._rows = None
