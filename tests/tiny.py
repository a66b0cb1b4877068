"""A tiny base and a small table made on the spot: a random BERT in a plain folder, and rows of three classes.

The base has two narrow layers, random weights and a WordPiece vocabulary, so that everything from `choose` to `predict` runs
on it offline within seconds. The words of a topic lie near one another in its embeddings, as pretraining would have it, so
that a base is worth something here. No two rows of the table are alike enough to be taken for near-duplicates.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TOPICS = {
    "billing": "invoice charge refund price payment card bank amount tax discount receipt euros fee account",
    "delivery": "parcel courier van street doorstep late tracking depot box arrived customs route lost shipment",
    "technical": "screen crash update driver cable reboot error password login server battery firmware button noise",
}
COMMON = (
    "hello please could someone tell me today again this that my the your with about since when still really "
    "monday friday morning evening nothing something asked wrote twice three weeks team thanks soon maybe just "
    "checked found another colleague sister office happened quite strange never before"
)
COLUMNS = ("text", "queue", "channel")


def rows(count: int = 120, seed: int = 0) -> list[dict[str, str]]:
    """`count` rows of COLUMNS in turn over the classes of TOPICS; the same for the same seed."""
    draw = np.random.default_rng(seed)
    common, names = COMMON.split(), list(TOPICS)
    made = []
    for i in range(count):
        queue = names[i % len(names)]
        words = [
            *draw.choice(TOPICS[queue].split(), 2, replace=False),
            *draw.choice(common, 7, replace=False),
        ]
        made.append(
            {
                "text": " ".join(draw.permutation(words)),
                "queue": queue,
                "channel": ("mail", "web")[int(draw.integers(2))],
            }
        )
    return made


def write_csv(path: Path, table: Sequence[dict[str, str]], delimiter: str = ",") -> Path:
    """The rows as a CSV file; its path."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(table)
    return path


def vocabulary() -> dict[str, int]:
    """WordPiece pieces: the words of the topics and the common ones, and single letters for all other words."""
    words = sorted({word for text in (*TOPICS.values(), COMMON) for word in text.split()})
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + list("0123456789.,?!-")
    pieces = [*SPECIAL, *words, *letters, *(f"##{c}" for c in letters)]
    return {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}


def base_folder(folder: Path, seed: int = 0, masked: bool = False) -> Path:
    """Write config.json, model.safetensors and tokenizer.json of a two-layer BERT of width 32 that reads 64 tokens.

    `masked`: with its output matrix, as a masked language model that reads 256.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import BertConfig, BertForMaskedLM, BertModel

    folder.mkdir(parents=True, exist_ok=True)
    pieces = vocabulary()
    _tokenizer(pieces, folder / "tokenizer.json")
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(pieces),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=256 if masked else 64,
        )
        model = BertForMaskedLM(config) if masked else BertModel(config)
        words = model.base_model.embeddings.word_embeddings.weight
        for topic in TOPICS.values():
            words[[pieces[word] for word in topic.split()]] += 0.03 * torch.randn(config.hidden_size)
        (folder / "config.json").write_text(
            json.dumps(config.to_dict() | {"architectures": [type(model).__name__]})
        )
        # the token table again
        tied = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
        save_file(
            {name: value.contiguous() for name, value in model.state_dict().items() if name not in tied},
            folder / "model.safetensors",
        )
    return folder


def _tokenizer(pieces: dict[str, int], path: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", pieces["[CLS]"]), ("[SEP]", pieces["[SEP]"])]
    )
    tokenizer.save(str(path))


@dataclass(frozen=True)
class Answered:
    """What a command gave: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def command(*words: object, stdin: bytes = b"") -> Answered:
    """`basewise WORDS` through its own entry point, in this process."""
    from basewise.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["basewise", *map(str, words)])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
                code: object = 0
            except SystemExit as end:
                code = end.code
    return Answered(int(code or 0), out.getvalue(), err.getvalue())  # type: ignore[call-overload]


def refused(answered: Answered, *words: str) -> None:
    """A mendable error: exit code 2, one line on standard error, nothing on standard output, the words in it."""
    lines = answered.err.strip().splitlines()
    assert answered.code == 2, answered
    assert len(lines) == 1 and lines[0].startswith("error: "), answered.err
    assert "; " in lines[0], f"no fix is given: {lines[0]}"
    assert not answered.out
    for word in words:
        assert word in lines[0], f"{word!r} is not in: {lines[0]}"


def quick(patch: pytest.MonkeyPatch) -> None:
    """One thread, few steps for the methods that train, few fits a learning curve, one fold for the choices of `words`: the way is
    tested, not the quality."""
    import torch

    from basewise.core.registry import part
    from basewise.steps import worth

    torch.set_num_threads(1)
    patch.setenv("OMP_NUM_THREADS", "1")
    patch.setattr(worth, "DRAWS", 2)
    patch.setattr(part("methods", "contrast"), "LEAST_STEPS", 4)
    patch.setattr(part("methods", "words"), "MANY_ROWS", 0)
    for method in ("full", "scratch", "lora"):
        module = part("methods", method)
        patch.setattr(module, "RECIPE", replace(module.RECIPE, least_steps=4, passes=0.1))
