"""A Hugging Face folder that `transformers` opens with no code of ours: config, safetensors, tokeniser, label names.

For methods whose answer is a transformers classifier; LoRA is merged into the weights. The cut of the tokeniser is pinned in its
own configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from basewise.core.export import Exported, write_pins

METHODS = ("full", "lora", "scratch")
BOUND = 0.01


def write(exported: Exported, folder: Path) -> None:
    """What `save_pretrained` writes, with basewise.json."""
    from transformers import PreTrainedTokenizerFast

    network = exported.fitted.network
    model = network.model.merge_and_unload() if exported.release.method == "lora" else network.model
    model.save_pretrained(folder)
    backend = type(network.tokenise.backend).from_str(network.tokenise.backend.to_str())
    backend.no_truncation()
    named = {
        f"{kind}_token": token
        for kind, names in (
            ("pad", ("[PAD]", "<pad>")),
            ("unk", ("[UNK]", "<unk>")),
            ("cls", ("[CLS]", "<s>")),
            ("sep", ("[SEP]", "</s>")),
        )
        if (token := next((n for n in names if backend.token_to_id(n) is not None), None))
    }
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
        for i, text in enumerate(texts):
            found = tokenizer(text, truncation=True, return_tensors="pt")
            found.pop("token_type_ids", None)
            out[i, order] = torch.softmax(model(**found).logits.double(), 1)[0].numpy()
    return out
