"""A Hugging Face folder that `transformers` opens with no code of ours: config, safetensors, tokeniser, label names.

For methods whose answer is a transformers classifier; LoRA is merged into the weights. The cut of the tokeniser is pinned in its
own configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.export import Exported, write_pins

METHODS = ("full", "lora", "scratch")
USUAL = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "bos": (),
    "eos": (),
    "mask": ("[MASK]", "<mask>"),
}
BOUND = 0.01
AT_ONCE = 8


def write(exported: Exported, folder: Path) -> None:
    """What `save_pretrained` writes, with basewise.json."""
    from transformers import PreTrainedTokenizerFast

    network = exported.fitted.network
    model = network.model.merge_and_unload() if exported.release.method == "lora" else network.model
    model.save_pretrained(folder)
    backend = type(network.tokenise.backend).from_str(network.tokenise.backend.to_str())
    backend.no_truncation()
    named = _special(exported.base, backend, model.config)
    most = network.tokenise.context
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=most,
        padding_side="right",
        truncation_side="right",
        **named,
    )
    tokenizer.save_pretrained(folder)
    pins = {"most_tokens": most, "padding": "right", "pooling": "the network's own", "bound": BOUND}
    write_pins(exported, folder, pins)


def _special(base: Any, backend: Any, config: Any) -> dict[str, str]:
    """Special tokens as the base's own tokenizer names them, else as their kinds are usually written; padding is what the network
    takes for it."""
    from basewise.engine.weights import load_tokenizer

    own = load_tokenizer(base)
    found = {}
    for kind, usual in USUAL.items():
        token = getattr(own, f"{kind}_token", None) or next(
            (name for name in usual if backend.token_to_id(name) is not None), None
        )
        if token is not None and backend.token_to_id(str(token)) is not None:
            found[f"{kind}_token"] = str(token)
    pad = backend.id_to_token(config.pad_token_id) if config.pad_token_id is not None else None
    return {**found, "pad_token": pad} if pad else found


def answers(folder: Path, texts: Sequence[str]) -> np.ndarray:
    """In plain transformers, label order by its own id2label."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from basewise.core.files import read_json

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, local_files_only=True, dtype=torch.float32
    ).eval()
    classes = read_json(folder / "basewise.json")["classes"]
    out = np.empty((len(texts), len(classes)))
    order = [classes.index(model.config.id2label[i]) for i in range(len(classes))]
    with torch.inference_mode():
        # padded, as who uses the folder will ask
        for start in range(0, len(texts), AT_ONCE):
            part = list(texts[start : start + AT_ONCE])
            found = tokenizer(part, truncation=True, padding=True, return_tensors="pt")
            found.pop("token_type_ids", None)
            out[start : start + len(part), order] = torch.softmax(model(**found).logits.double(), 1).numpy()
    return out
