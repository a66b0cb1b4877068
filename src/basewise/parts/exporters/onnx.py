"""ONNX: network and head in one graph that plain onnxruntime runs, beside its tokeniser and a small file that asks it.

The head is inside (several layers, label names, temperature); the tokeniser's cut, padding and end tokens are pinned in
basewise.json.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.errors import InputError, MissingExtra
from basewise.core.export import Exported, write_pins

METHODS = ("probe", "prototype", "full", "lora", "scratch")
BOUND = 0.02
LIBRARIES = ("onnx", "onnxscript", "onnxruntime")


def write(exported: Exported, folder: Path) -> None:
    """model.onnx, tokenizer.json, basewise.json, answer.py and requirements.txt."""
    for library in LIBRARIES:
        if importlib.util.find_spec(library) is None:
            raise MissingExtra.of(library, "onnx")
    from basewise.engine import onnx_answer
    from basewise.engine.onnx_graph import write_onnx
    from basewise.engine.tokens import Tokeniser
    from basewise.engine.weights import load_tokenizer

    base = exported.base
    if base is None:
        raise InputError("there is no network in this release", "use --to container, or the release itself")
    graph, most = graph_of(exported)
    tokenizer = load_tokenizer(base)
    tokeniser = Tokeniser(tokenizer, most, base.card.family != "static")
    write_onnx(graph, folder / "model.onnx", tokeniser.backend.get_vocab_size())
    tokeniser.backend.save(str(folder / "tokenizer.json"))
    pad = getattr(tokenizer, "pad_token_id", None)
    write_pins(
        exported,
        folder,
        {
            "most_tokens": most,
            "special": tokeniser.special,
            "filler": tokeniser.filler,
            "pad": int(pad) if pad is not None else _pad_of(tokeniser.backend),
            "padding": "right",
            "pooling": pooling_of(exported),
            "special_tokens": tokeniser.backend.encode("", add_special_tokens=tokeniser.special).tokens,
            "bound": BOUND,
        },
    )
    shutil.copyfile(onnx_answer.__file__, folder / "answer.py")
    versions = [f"{name}\n" for name in ("numpy", "tokenizers", "onnxruntime")]
    (folder / "requirements.txt").write_text("".join(versions), "utf-8")


def graph_of(exported: Exported) -> tuple[Any, int]:
    """(the module that gives probabilities, the most tokens it reads)."""
    from basewise.engine import onnx_graph as graphs

    fitted, base, method = exported.fitted, exported.base, exported.release.method
    assert base is not None
    if method == "probe":
        frozen = fitted.frozen
        names = (*frozen.probe.names, *((frozen.names.layer,) if frozen.names else ()))
        return graphs.FrozenGraph(
            frozen, graphs.states_of(base, tuple(dict.fromkeys(names)))
        ), base.card.context
    if method == "prototype":
        states = graphs.states_of(base, (fitted.layer,))
        return graphs.NearestGraph(
            states, fitted.layer, fitted.centre, fitted.means, fitted.temperature
        ), base.card.context
    model = fitted.network.model
    if method == "lora":
        model = model.merge_and_unload()
    model.set_attn_implementation("eager")
    return graphs.ClassifierGraph(model.cpu()), fitted.network.tokenise.context


def pooling_of(exported: Exported) -> str:
    """In words, for whoever builds the same elsewhere."""
    method = exported.release.method
    if method == "probe":
        return f"mean over real tokens of {', '.join(exported.fitted.frozen.probe.names)}, each of length 1, side by side"
    return (
        f"mean over real tokens of {exported.fitted.layer}" if method == "prototype" else "the network's own"
    )


def _pad_of(backend: Any) -> int:
    found = next((i for name in ("[PAD]", "<pad>") if (i := backend.token_to_id(name)) is not None), 0)
    return int(found)


def answers(folder: Path, texts: Sequence[str]) -> np.ndarray:
    """In onnxruntime, by the file that goes with the export."""
    from basewise.engine.onnx_answer import Answers

    return Answers(folder).probabilities(list(texts))
