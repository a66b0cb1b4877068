"""How many tokens: the size whose text and embedding together are shortest, in bits per byte of held-out text.

Not a network's loss, but a stand-in that takes a second: an interpolated bigram model (absolute discounting) over the tokens of the
sample says how many bits a byte of held-out text takes at each size. Loss a token would favour small vocabularies and loss a byte
alone large ones, as a bigram over long tokens sees further. So each size also pays for its embedding, at 2 bits a weight (what a
weight was found to hold: Allen-Zhu and Li, arXiv 2404.05405), spread over the bytes of the corpus: a two-part code. The network's own
best size may differ; give `vocabulary` where you have measured it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from basewise.engine import bpe

BITS_A_WEIGHT = 2.0
DISCOUNT = 0.75


def bigram_bits(train: np.ndarray, test: np.ndarray, size: int) -> np.ndarray:
    """(len(test),) bits of each token of `test` after the one before it (the first after token 0), by a model of `train`."""
    train, test = train.astype(np.int64), test.astype(np.int64)
    ones = np.bincount(train, minlength=size)
    unigram = (ones + 0.5) / (len(train) + 0.5 * size)
    pairs, counts = np.unique(train[:-1] * size + train[1:], return_counts=True)
    before = np.bincount(train[:-1], minlength=size)
    followers = np.bincount(pairs // size, minlength=size)
    previous = np.concatenate([[0], test[:-1]])
    wanted = previous * size + test
    place = np.minimum(np.searchsorted(pairs, wanted), max(0, len(pairs) - 1))
    count = np.where(pairs[place] == wanted, counts[place], 0) if len(pairs) else np.zeros(len(test))
    total = before[previous]
    known = np.maximum(count - DISCOUNT, 0) / np.maximum(total, 1)
    backed = np.where(total > 0, DISCOUNT * followers[previous] / np.maximum(total, 1), 1.0)
    return -np.log2(known + backed * unigram[test])


def choose(
    tokenizer: Any, sizes: Sequence[int], sample: Sequence[str], held_out: Sequence[str], cost: float
) -> list[dict[str, Any]]:
    """One entry a size that the tokenizer reaches, the best first.

    `cost`: weights that a token costs over the bytes of the corpus. bits_per_byte is the sum of text and embedding; `behind` is how
    much more than the best it is, on the same held-out documents, with its 95 % interval.
    """
    table, each = [], {}
    size_of = np.array([len(text.encode("utf-8", "surrogatepass")) for text in held_out], float)
    for size in sorted({min(size, tokenizer.get_vocab_size()) for size in sizes}):
        encoder = bpe.Encoder(bpe.smaller(tokenizer, size))
        train, _ = encoder.encode(sample)
        test, begin = encoder.encode(held_out)
        bits = np.concatenate([[0.0], np.cumsum(bigram_bits(train, test, size))])
        each[size] = bits[begin[1:]] - bits[begin[:-1]] + BITS_A_WEIGHT * size * cost * size_of
        table.append(
            {
                "vocabulary": size,
                "bits_per_byte": each[size].sum() / size_of.sum(),
                "embedding": BITS_A_WEIGHT * size * cost,
                "bytes_per_token": size_of.sum() / len(test),
                "documents": len(held_out),
            }
        )
    table.sort(key=lambda entry: entry["bits_per_byte"])
    best = each[table[0]["vocabulary"]]
    return [{**entry, "behind": _rate(each[entry["vocabulary"]] - best, size_of)} for entry in table]


def _rate(bits: np.ndarray, sizes: np.ndarray) -> dict[str, float]:
    """Bits a byte over documents, with its 95 % interval (a ratio, linearised). bits and sizes (documents,)."""
    rate = bits.sum() / sizes.sum()
    spread = 1.96 * np.sqrt(((bits - rate * sizes) ** 2).sum()) / sizes.sum()
    return {"estimate": rate, "low": rate - spread, "high": rate + spread}


def save(tokenizer: Any, folder: Any) -> None:
    """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json and token_bytes.npy, the first of them last."""
    import io

    from basewise.core.files import write_bytes, write_json, write_text

    special = bpe.SPECIAL
    tokens = {
        "bos_token": special["start"],
        "eos_token": special["start"],
        "cls_token": special["start"],
        "sep_token": special["separator"],
        "mask_token": special["mask"],
        "pad_token": special["pad"],
    }
    buffer = io.BytesIO()
    np.save(buffer, bpe.token_bytes(tokenizer))
    write_bytes(folder / "token_bytes.npy", buffer.getvalue())
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_input_names": ["input_ids", "attention_mask"],
            **tokens,
        },
    )
    write_json(folder / "special_tokens_map.json", tokens)
    write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
