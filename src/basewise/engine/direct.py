"""BERT-shaped bases opened straight from their files: importing transformers takes longer than many an answer.

Only what is sure to be the same goes this way: every weight is there under a name that is known and in the shape that the
configuration says, and the tokenizer's file does what transformers would build from its settings. For anything else the
answer is None and transformers opens the base. A test compares both ways on every kind and many settings.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from basewise.core.base import Base

PREFIXES = {"bert": "bert.", "roberta": "roberta.", "xlm-roberta": "roberta.", "mpnet": "mpnet."}
"""Kinds of encoders, and what stands before a weight's name where the file holds a head too."""
STATED = [
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "layer_norm_eps",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "pad_token_id",
    "vocab_size",
]
"""What a configuration has to state: defaults are transformers' business."""
SPECIAL = {
    "BertTokenizer": {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "unk": "[UNK]", "mask": "[MASK]"},
    "MPNetTokenizer": {"cls": "<s>", "sep": "</s>", "pad": "<pad>", "unk": "[UNK]", "mask": "<mask>"},
}
"""Tokenizers by the name in their settings, and transformers' defaults for their special tokens."""


@dataclass(frozen=True)
class Weights:
    """An encoder's `config` (attributes named as transformers names them) and its fp32 `tensors`, named without a prefix."""

    config: Any
    tensors: Mapping[str, torch.Tensor]

    @staticmethod
    def of(model: Any) -> Weights:
        """The weights of a transformers model without a head; they are shared, not copied."""
        return Weights(model.config, {name: tensor.detach() for name, tensor in model.state_dict().items()})

    def pair(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of one module."""
        return self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]

    def changed(self, tensors: Mapping[str, torch.Tensor]) -> Weights:
        """The same with some tensors replaced; ValueError for one that is not there."""
        if wrong := sorted(tensors.keys() - self.tensors.keys()):
            raise ValueError(f"weights that the network lacks: {wrong[:3]}")
        return Weights(self.config, {**self.tensors, **tensors})


def modules_of(config: Any, layer: int) -> dict[str, str]:
    """The modules of one layer (from 0): what it is to its name."""
    here = f"encoder.layer.{layer}"
    if config.model_type == "mpnet":
        names = {"query": "attn.q", "key": "attn.k", "value": "attn.v", "out": "attn.o", "norm1": "LayerNorm"}
    else:
        inner = {"query": "self.query", "key": "self.key", "value": "self.value"}
        names = {**inner, "out": "output.dense", "norm1": "output.LayerNorm"}
    return {
        **{what: f"{here}.attention.{name}" for what, name in names.items()},
        "up": f"{here}.intermediate.dense",
        "down": f"{here}.output.dense",
        "norm2": f"{here}.output.LayerNorm",
    }


def weights(base: Base) -> Weights | None:
    """The weights of a BERT-shaped base from `model.safetensors`; None where transformers has to open it."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        stated = json.loads((base.folder / "config.json").read_text(encoding="utf-8"))
        odd = base.random_seed is not None or any(k in stated for k in ("auto_map", "quantization_config"))
        if odd or stated.get("model_type") not in PREFIXES or any(stated.get(k) is None for k in STATED):
            return None
        config = SimpleNamespace(**stated)
        found = load_file(base.folder / "model.safetensors")
    except (OSError, ValueError, TypeError, AttributeError, SafetensorError):
        # transformers says what is wrong
        return None
    prefix = PREFIXES[config.model_type]
    named = {_today(name.removeprefix(prefix)): tensor for name, tensor in found.items()}
    shapes = _shapes(config)
    if any(name not in named or tuple(named[name].shape) != shape for name, shape in shapes.items()):
        return None
    return Weights(config, {name: named[name].float() for name in shapes})


def _today(name: str) -> str:
    """Norms of files from before 2019 have gamma and beta."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """Every tensor of such an encoder without its pooler, with its shape."""
    wide, inner = config.hidden_size, config.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config.vocab_size, wide),
        "embeddings.position_embeddings.weight": (config.max_position_embeddings, wide),
    }
    if config.model_type == "mpnet":
        buckets = getattr(config, "relative_attention_num_buckets", 32)
        shapes["encoder.relative_attention_bias.weight"] = (buckets, config.num_attention_heads)
    else:
        shapes["embeddings.token_type_embeddings.weight"] = (getattr(config, "type_vocab_size", 2), wide)
    modules = {"embeddings.LayerNorm": (wide,)}
    for layer in range(config.num_hidden_layers):
        for what, name in modules_of(config, layer).items():
            modules[name] = {
                "up": (inner, wide),
                "down": (wide, inner),
                "norm1": (wide,),
                "norm2": (wide,),
            }.get(what, (wide, wide))
    for name, shape in modules.items():
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]
    return shapes


def tokenizer(folder: Path) -> Any:
    """The `tokenizers.Tokenizer` of a BERT or MPNet folder; None where transformers would build another one from its settings."""
    from tokenizers import Tokenizer

    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        kind = str(settings.get("tokenizer_class")).removesuffix("Fast")
        if kind not in SPECIAL:
            return None
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        named = {w: _content(settings.get(f"{w}_token", usual)) for w, usual in SPECIAL[kind].items()}
        if _more_tokens(folder, settings, named) or not _as_stated(json.loads(text), settings, named):
            return None
        found = Tokenizer.from_str(text)
        found.no_truncation()
        found.no_padding()
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    around = [found.token_to_id(named["cls"]), found.token_to_id(named["sep"])]
    inside = found.encode("a").ids
    return found if found.encode("").ids == around == [inside[0], inside[-1]] else None


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, Mapping) else token)


def _more_tokens(folder: Path, settings: dict[str, Any], named: dict[str, str]) -> bool:
    """Whether the settings bring tokens that the tokenizer's file need not have."""
    both = list(settings.items())
    with contextlib.suppress(FileNotFoundError):
        both += json.loads((folder / "special_tokens_map.json").read_text(encoding="utf-8")).items()
    told = {_content(token) for name, token in both if name.endswith("_token") and token is not None}
    added = [token for name, token in both if name in ("additional_special_tokens", "extra_special_tokens")]
    return bool(told - set(named.values()) or any(added) or (folder / "added_tokens.json").exists())


def _as_stated(file: dict[str, Any], settings: dict[str, Any], named: dict[str, str]) -> bool:
    """Whether a tokenizer's file is what transformers builds from the settings."""
    model = file["model"]
    added = {token["content"]: token for token in file["added_tokens"]}
    plain = {"special": True, "single_word": False, "rstrip": False, "normalized": False}
    return (
        file["normalizer"]
        == {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
            "strip_accents": settings.get("strip_accents"),
            "lowercase": settings.get("do_lower_case", True),
        }
        and file["pre_tokenizer"] == {"type": "BertPreTokenizer"}
        and (model["type"], model["continuing_subword_prefix"]) == ("WordPiece", "##")
        and (model["unk_token"], model["max_input_chars_per_word"]) == (named["unk"], 100)
        and all(
            added[name].items() >= {**plain, "lstrip": name == "<mask>"}.items() for name in named.values()
        )
    )
