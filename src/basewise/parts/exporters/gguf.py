"""GGUF for decoders that are prompted: weights, tokeniser and end tokens for llama.cpp; the prompt is pinned beside them.

The file is opened again, turned back into a network, and gives the golden answers through the release's own prompt.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from basewise.core.base import Base, Card
from basewise.core.errors import InputError
from basewise.core.export import PINS, Exported, write_pins
from basewise.core.files import read_json
from basewise.core.hashing import sha256_file
from basewise.core.method import Context
from basewise.core.registry import part

METHODS = ("prompt",)
BOUND = 0.02


def write(exported: Exported, folder: Path) -> None:
    """<base>.gguf, the prompt's own files, and basewise.json with the template as text."""
    from basewise.engine.gguf_write import write_gguf
    from basewise.engine.weights import load_tokenizer

    base = exported.base
    if base is None:
        raise InputError("there is no decoder in this release", "use another exporter")
    name = f"{base.key.replace('/', '--')}.gguf"
    write_gguf(base, folder / name)
    (folder / "prompt").mkdir()
    exported.fitted.save(folder / "prompt")
    tokenizer = load_tokenizer(base)
    prompt = exported.fitted.prompt
    card = {**asdict(base.card), "provides": sorted(base.card.provides), "locator": {}}
    write_pins(
        exported,
        folder,
        {
            "file": name,
            "card": card,
            "template": tokenizer.decode(list(prompt.prefix))
            + prompt.head
            + "{text}"
            + tokenizer.decode(list(prompt.between)),
            "labels": [tokenizer.decode(list(label)) for label in prompt.labels],
            "end_token": getattr(tokenizer, "eos_token", None),
            "bound": BOUND,
        },
    )


def answers(folder: Path, texts: Sequence[str]) -> np.ndarray:
    """From the GGUF file alone: weights and tokeniser are read back from it."""
    from basewise.engine.gguf_convert import convert

    pins = read_json(folder / PINS)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".gguf."))
    try:
        convert(folder / pins["file"], made)
        base = Base(
            card=Card.from_dict(pins["card"]), folder=made, digest=sha256_file(made / "model.safetensors")
        )
        return part("methods", "prompt").load(folder / "prompt", base, Context()).probabilities(list(texts))
    finally:
        shutil.rmtree(made, ignore_errors=True)
