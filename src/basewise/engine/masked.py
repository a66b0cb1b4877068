"""A masked language model asked at its mask: log-probabilities of label words where the label is missing (Schick & Schütze 2021).

A label of k tokens is asked at k masks, all filled in one pass: log p is the sum over its tokens, each given the text and the
other masks (arXiv 2009.07118, section 3). Labels of the same number of tokens share a pass. Texts of different lengths stand
in one batch behind a padding mask. The output matrix is applied at the masks only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from basewise.core.base import FILL, Base, positions_of
from basewise.core.errors import InputError
from basewise.engine.prompting import Prompt
from basewise.engine.tokens import CHARACTERS_PER_TOKEN
from basewise.engine.weights import load_masked, load_tokenizer

BATCH_TOKENS = 2048
MASKS = ("[MASK]", "<mask>")
END = "."
"""Stands behind the mask: at the very end of a text masked models expect punctuation, whatever the label (arXiv 2001.07676)."""


class Masked:
    """An opened masked language model, in fp32 on the GPU if there is one.

    base: one that provides "fill". `context`: the most tokens beside the special ones. Raises InputError for a base without
    its output matrix or a mask token.
    """

    precision = "fp32"

    def __init__(self, base: Base) -> None:
        from tokenizers import Tokenizer

        if FILL not in base.provides:
            raise InputError(
                f"{base.key} is no masked language model and cannot fill a mask",
                "use a base with its output matrix, or a method that embeds, such as prototype or probe",
            )
        self.base, self.digest = base, base.digest
        self.tokenizer = load_tokenizer(base)
        backend = getattr(self.tokenizer, "backend_tokenizer", self.tokenizer)
        # one of our own: some files ask for padding and cuts
        self.backend = Tokenizer.from_str(backend.to_str())
        self.backend.no_padding()
        self.backend.no_truncation()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = load_masked(base).to(self.device)
        self.mask = self._mask_token()
        empty = self.backend.encode("", add_special_tokens=True).ids
        half = (len(empty) + 1) // 2
        self.opening, self.closing = tuple(empty[:half]), tuple(empty[half:])
        self.end = tuple(self.encode(END))
        most = positions_of(self.model.config.to_dict(), base.card.context)
        self.context = most - len(empty) - len(self.end) - 1
        self._rows: torch.Tensor | None = None
        self.model.get_output_embeddings().register_forward_pre_hook(self._only_masks)

    def encode(self, text: str, special: bool | None = None) -> list[int]:
        """Token ids without special ones; a line is a space to a masked model, and nothing but spaces is nothing."""
        text = text.replace("\n", " ")
        return list(self.backend.encode(text, add_special_tokens=False).ids) if text.strip() else []

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of token ids."""
        return str(self.backend.decode([int(t) for t in tokens]))

    def label_scores(self, prompt: Prompt, texts: Sequence[str]) -> np.ndarray:
        """(n, C) summed log-probability of each label's tokens at as many masks; InputError for labels that read the same."""
        self._check(prompt)
        scores = np.zeros((len(texts), len(prompt.labels)))
        lengths = np.array([len(label) for label in prompt.labels])
        for count in np.unique(lengths):
            own = np.flatnonzero(lengths == count)
            tokens = torch.tensor([prompt.labels[c] for c in own], device=self.device)
            rows = [self._row(prompt, text, int(count)) for text in texts]
            for batch in batches([len(row) for row in rows]):
                logs = self._logs([rows[i] for i in batch], int(count))
                picked = logs.gather(2, tokens.T[None].expand(len(batch), -1, -1)).sum(1)
                scores[np.ix_(batch, own)] = picked.double().cpu().numpy()
        return scores

    def _check(self, prompt: Prompt) -> None:
        where = f"in the vocabulary of {self.base.key}"
        for place, label in enumerate(prompt.labels):
            first = prompt.labels.index(label)
            if label and first == place:
                continue
            said = f"{where} the words {self.decode(label)!r} stand for two labels"
            raise InputError(
                said if label else f"a label has no token {where}",
                f"give label {first if label else place} words of its own: labels in the file of --config",
            )

    def _row(self, prompt: Prompt, text: str, masks: int) -> list[int]:
        own = self.encode(prompt.head + text[: prompt.room * CHARACTERS_PER_TOKEN])[: prompt.room]
        asked = [*prompt.prefix, *own, *prompt.between, *[self.mask] * masks, *self.end]
        return [*self.opening, *asked, *self.closing]

    def _logs(self, rows: list[list[int]], masks: int) -> torch.Tensor:
        """(b, masks, V) float32 log-probabilities at the masks of each row."""
        widest = max(map(len, rows))
        ids = torch.zeros((len(rows), widest), dtype=torch.long)
        real = torch.zeros((len(rows), widest), dtype=torch.long)
        places = torch.zeros((len(rows), masks), dtype=torch.long)
        last = len(self.end) + len(self.closing)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            real[i, : len(row)] = 1
            places[i] = torch.arange(len(row) - last - masks, len(row) - last) + i * widest
        self._rows = places.reshape(-1).to(self.device)
        with torch.inference_mode():
            found = self.model(input_ids=ids.to(self.device), attention_mask=real.to(self.device)).logits
        found = found.reshape(-1, found.shape[-1])
        # a head that applies its matrix past our hook
        if len(found) != len(self._rows):
            found = found[self._rows]
        self._rows = None
        return torch.log_softmax(found.float(), -1).reshape(len(rows), masks, -1)

    def _only_masks(self, _module: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        """The states at the masks in place of all states."""
        if self._rows is None:
            return None
        states = inputs[0].reshape(-1, inputs[0].shape[-1])
        return (states[self._rows], *inputs[1:])

    def _mask_token(self) -> int:
        named = getattr(self.tokenizer, "mask_token_id", None)
        found = [named, *(self.backend.token_to_id(name) for name in MASKS)]
        if (mask := next((int(i) for i in found if i is not None), None)) is None:
            raise InputError(
                f"the tokenizer of {self.base.key} has no mask token",
                "put its tokenizer.json into its folder",
            )
        return mask


def batches(lengths: Sequence[int]) -> list[np.ndarray]:
    """Positions in batches of like length, at most BATCH_TOKENS with their padding."""
    made: list[list[int]] = [[]]
    for i in np.argsort(lengths, kind="stable"):
        if made[-1] and (len(made[-1]) + 1) * lengths[i] > BATCH_TOKENS:
            made.append([])
        made[-1].append(int(i))
    return [np.array(batch) for batch in made if batch]


_opened: dict[tuple[Any, ...], Masked] = {}


def opened(base: Base) -> Masked:
    """The masked language model of a base, the last one kept open: the folds of a race and the texts of a predictor share it."""
    key = (str(base.folder), base.digest, base.random_seed)
    if key not in _opened:
        _opened.clear()
        _opened[key] = Masked(base)
    return _opened[key]
