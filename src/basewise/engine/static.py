"""Static bases: a text is the mean of its token vectors; no transformer, some hundred thousand rows a second.

Following Tulkens & van Dongen (model2vec) and WordLlama: a table of token vectors distilled from a large model.
"""

from __future__ import annotations

import numpy as np
import torch

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
        self.table = torch.from_numpy(np.ascontiguousarray(tensors["embedding.weight"], dtype=np.float32))
        self.width = int(self.table.shape[1])

    def encode(self, tokens: Tokens) -> np.ndarray:
        """(n, width) float32 means; a row without tokens is zeros. Rows are gathered and added in one pass."""
        ids = torch.from_numpy(np.minimum(tokens.ids, len(self.table) - 1))
        with torch.inference_mode():
            starts = torch.from_numpy(tokens.offsets[:-1].astype(np.int32))
            return torch.nn.functional.embedding_bag(ids, self.table, starts, mode="mean").numpy()
