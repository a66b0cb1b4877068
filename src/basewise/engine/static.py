"""Static bases: a text is the mean of its token vectors; no transformer, some hundred thousand rows a second.

Following Tulkens & van Dongen (model2vec) and WordLlama: a table of token vectors distilled from a large model.
"""

from __future__ import annotations

import numpy as np

from basewise.core.base import Base
from basewise.core.errors import UnsafeWeights
from basewise.engine.tokens import Tokens


class StaticEncoder:
    """Token-vector mean of a base of family "static"."""

    def __init__(self, base: Base) -> None:
        from safetensors.numpy import load_file

        path = base.folder / "model.safetensors"
        tensors = load_file(path)
        if "embedding.weight" not in tensors or tensors["embedding.weight"].ndim != 2:
            raise UnsafeWeights(
                f"{path} has no matrix named embedding.weight but {sorted(tensors)[:5]}",
                "fetch the base again",
            )
        self.table = np.ascontiguousarray(tensors["embedding.weight"], dtype=np.float32)
        self.width = self.table.shape[1]

    def encode(self, tokens: Tokens) -> np.ndarray:
        """(n, width) float32 means; a row without tokens is zeros. Summed in slices so that memory stays flat."""
        out = np.zeros((len(tokens), self.width), np.float32)
        lengths = tokens.lengths
        filled = np.flatnonzero(lengths)
        step = max(1, (1 << 17) // max(1, int(lengths.mean()) if len(lengths) else 1))
        for start in range(0, len(filled), step):
            rows = filled[start : start + step]
            first, last = int(tokens.offsets[rows[0]]), int(tokens.offsets[rows[-1] + 1])
            ids = np.minimum(tokens.ids[first:last], len(self.table) - 1)
            sums = np.add.reduceat(self.table[ids], tokens.offsets[rows] - first, axis=0)
            out[rows] = sums / lengths[rows, None]
        return out
