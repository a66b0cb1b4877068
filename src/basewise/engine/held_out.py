"""Held-out documents: bits per byte of a decoder, the loss at hidden tokens of an encoder, and samples of text.

Bits per byte compare networks with different tokenizers. Every token of a document but its first is predicted once, in windows
of the context that share one token. Rows are padded to a few lengths, so that memory and shapes stay put.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from basewise.core.hashing import generator
from basewise.engine.networks import IGNORED, LanguageModel

MASKED_SHARE = 0.15
ROWS = 16


@dataclass(frozen=True)
class Documents:
    """Held-out documents of one source: token ids of each, the begin token first if there is one.

    `token_bytes` (V,): the UTF-8 bytes that each token stands for.
    """

    source: str
    ids: Sequence[np.ndarray]
    token_bytes: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def bytes(self) -> np.ndarray:
        """(n,) bytes of each document."""
        return np.array([self.token_bytes[ids].sum() for ids in self.ids], np.float64)

    def shortened(self, most_tokens: int) -> Documents:
        """The beginnings of all documents, of one length, `most_tokens` together at most."""
        lengths = np.sort([len(ids) for ids in self.ids])
        if lengths.sum() <= most_tokens:
            return self
        room, cut = most_tokens, 2
        # short ones leave their share to the others
        for place, length in enumerate(lengths):
            cut = max(2, room // (len(lengths) - place))
            if length > cut:
                break
            room -= int(length)
        return Documents(self.source, [ids[:cut] for ids in self.ids], self.token_bytes)


def windows(ids: np.ndarray, context: int) -> list[np.ndarray]:
    """Pieces of up to context + 1 tokens; each begins with the last token of the one before."""
    return [ids[start : start + context + 1] for start in range(0, max(len(ids) - 1, 1), context)]


@torch.no_grad()
def nats(
    network: LanguageModel, documents: Documents, context: int, bf16: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """((n,) nats, (n,) predicted tokens) of n documents, each token given those before it in its window."""
    pieces = [
        (place, piece)
        for place, ids in enumerate(documents.ids)
        for piece in windows(np.asarray(ids), context)
    ]
    pieces = [pair for pair in pieces if len(pair[1]) > 1]
    rows = [np.stack([_filled(p[:-1], context, 0), _filled(p[1:], context, IGNORED)]) for _, p in pieces]
    losses = _per_row(network, rows, causal=True, bf16=bf16)
    total, counts = np.zeros(len(documents)), np.zeros(len(documents))
    np.add.at(total, [place for place, _ in pieces], losses)
    np.add.at(counts, [place for place, _ in pieces], [len(piece) - 1 for _, piece in pieces])
    return total, counts


@torch.no_grad()
def masked_nats(
    network: LanguageModel, documents: Documents, context: int, mask: int, shifted: bool, bf16: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """((n,) nats, (n,) hidden tokens): 15 % of the tokens behind the mask token, the same ones every time.

    `shifted`: a hidden token is told from the state one place before it (the mixed objective).
    """
    rows, places, counts = [], [], np.zeros(len(documents))
    for place, ids in enumerate(documents.ids):
        for number, whole in enumerate(windows(np.asarray(ids), context)):
            rng = generator("held out", documents.source, place, number)
            hidden = rng.random(len(whole)) < MASKED_SHARE
            if shifted:
                hidden[0] = False
                inputs, targets = np.where(hidden, mask, whole)[:-1], np.where(hidden, whole, IGNORED)[1:]
            else:
                whole, hidden = whole[:context], hidden[:context]
                inputs, targets = np.where(hidden, mask, whole), np.where(hidden, whole, IGNORED)
            if (targets != IGNORED).any():
                rows.append(np.stack([inputs, targets]))
                places.append(place)
                counts[place] += (targets != IGNORED).sum()
    total = np.zeros(len(documents))
    by_length: dict[int, list[int]] = {}
    # without a causal mask padding would be seen: rows of one length go together
    for at, row in enumerate(rows):
        by_length.setdefault(row.shape[1], []).append(at)
    for group in by_length.values():
        np.add.at(
            total, [places[at] for at in group], _per_row(network, [rows[at] for at in group], False, bf16)
        )
    return total, counts


def _filled(ids: np.ndarray, length: int, filler: int) -> np.ndarray:
    """Padded on the right to a multiple of 32, `length` at most."""
    wanted = min(length, -(-len(ids) // 32) * 32)
    return np.concatenate([ids, np.full(wanted - len(ids), filler, ids.dtype)]).astype(np.int64)


def _per_row(network: LanguageModel, rows: list[np.ndarray], causal: bool, bf16: bool) -> np.ndarray:
    """(n,) summed losses of rows (2, T_i) of ids and targets, in batches of equal length."""
    device = next(network.parameters()).device
    out = np.zeros(len(rows))
    order = sorted(range(len(rows)), key=lambda at: rows[at].shape[1])
    start = 0
    while start < len(order):
        length = rows[order[start]].shape[1]
        batch = [at for at in order[start : start + ROWS] if rows[at].shape[1] == length]
        start += len(batch)
        both = torch.from_numpy(np.stack([rows[at] for at in batch])).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            each = network.token_losses(both[:, 0], both[:, 1], causal).cpu().double().numpy()
        owner = np.repeat(np.arange(len(batch)), (both[:, 1] != IGNORED).sum(1).cpu().numpy())
        out[batch] = np.bincount(owner, weights=each, minlength=len(batch))
    return out


def sample(network: LanguageModel, tokenizer: Any, prompt: str, tokens: int = 40, seed: int = 0) -> str:
    """`prompt` continued by draws at temperature 0.8, the same for the same weights; leaves torch's random numbers alone."""
    ids = tokenizer.encode(prompt).ids or [0]
    context = int(
        getattr(network.model.config, "max_position_embeddings", None) or network.model.config.n_positions
    )
    device = next(network.parameters()).device
    rng = np.random.default_rng(seed)
    begin = len(ids)
    with torch.no_grad():
        for _ in range(tokens):
            states = network.states(torch.tensor([ids[-context:]], device=device))[:, -1]
            logits = network.model.get_output_embeddings()(states)[0].float()
            shares = torch.softmax(logits[: tokenizer.get_vocab_size()] / 0.8, 0).cpu().double().numpy()
            ids.append(int(rng.choice(len(shares), p=shares / shares.sum())))
    return prompt + tokenizer.decode(ids[begin:])
