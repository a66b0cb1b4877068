"""A decoder of Llama's shape as a GGUF file: weights, tokeniser and end tokens, as llama.cpp reads them.

The inverse of `gguf_convert`. Queries and keys are reordered, because llama.cpp turns neighbouring pairs of a head's dimensions
and transformers its halves. Matrices are float16, vectors float32.
"""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import Base
from basewise.core.errors import InputError, MissingExtra
from basewise.core.files import read_json

SHAPES = ("llama",)


def write_gguf(base: Base, path: Path) -> None:
    """Write the base's weights; InputError for networks of another shape or a tokeniser that GGUF has no form for."""
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtra.of("gguf", "gguf")
    import gguf

    config = read_json(base.folder / "config.json")
    if config.get("model_type") not in SHAPES:
        raise InputError(
            f"{base.key} is a {config.get('model_type')}, GGUF is written for {', '.join(SHAPES)} only",
            "use --to folder or onnx",
        )
    writer = gguf.GGUFWriter(str(path), "llama")
    _shape(writer, config, base)
    _tokeniser(writer, base, int(config["vocab_size"]))
    _weights(writer, config, base, gguf)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _shape(writer: Any, config: dict[str, Any], base: Base) -> None:
    heads = int(config["num_attention_heads"])
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    # golden rows are too short to show what is lost without it
    if kind != "default":
        raise InputError(
            f"{base.key} stretches its positions ({kind}), which is not written here",
            "use --to folder or onnx",
        )
    writer.add_name(base.key)
    writer.add_license(base.card.licence)
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_rope_dimension_count(int(config.get("head_dim") or config["hidden_size"] // heads))
    writer.add_rope_freq_base(float(config.get("rope_theta") or rope.get("rope_theta") or 10000.0))
    writer.add_layer_norm_rms_eps(float(config.get("rms_norm_eps", 1e-6)))
    writer.add_vocab_size(int(config["vocab_size"]))


def _tokeniser(writer: Any, base: Base, size: int) -> None:
    """Vocabulary, merges, kinds of tokens, end tokens and the chat template."""
    import gguf

    value = json.loads((base.folder / "tokenizer.json").read_text("utf-8"))
    if value["model"].get("type") != "BPE" or value["model"].get("byte_fallback"):
        raise InputError(f"the tokeniser of {base.key} is no byte-level BPE", "use --to folder or onnx")
    tokens = [f"[UNUSED{i}]" for i in range(size)]
    kinds = [int(gguf.TokenType.UNUSED)] * size
    for token, i in value["model"]["vocab"].items():
        tokens[i], kinds[i] = token, int(gguf.TokenType.NORMAL)
    for added in value.get("added_tokens", []):
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = int(gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED)
    merges = [m if isinstance(m, str) else " ".join(m) for m in value["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm" if "smollm" in base.key.lower() else "default")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    path = base.folder / "tokenizer_config.json"
    settings = read_json(path) if path.exists() else {}
    for name, add in (
        ("bos_token", writer.add_bos_token_id),
        ("eos_token", writer.add_eos_token_id),
        ("unk_token", writer.add_unk_token_id),
        ("pad_token", writer.add_pad_token_id),
    ):
        said = settings.get(name)
        said = said["content"] if isinstance(said, dict) else said
        if said in tokens:
            add(tokens.index(said))
    writer.add_add_bos_token(bool(settings.get("add_bos_token", False)))
    if template := settings.get("chat_template"):
        writer.add_chat_template(template)


def _weights(writer: Any, config: dict[str, Any], base: Base, gguf: Any) -> None:
    from safetensors import safe_open

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, int(config["num_hidden_layers"]))
    heads = int(config["num_attention_heads"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    with safe_open(base.folder / "model.safetensors", framework="pt") as file:
        for name in sorted(file.keys()):
            if name.endswith("rotary_emb.inv_freq") or (
                name == "lm_head.weight" and config.get("tie_word_embeddings")
            ):
                continue
            value = file.get_tensor(name).float().numpy()
            if re.search(r"(q|k)_proj\.weight$", name):
                value = turned(value, heads if "q_proj" in name else kv_heads)
            known = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if known is None:
                raise InputError(
                    f"{base.key} has the weights {name}, which GGUF has no name for",
                    "use --to folder or onnx",
                )
            writer.add_tensor(known, value.astype(np.float16) if value.ndim > 1 else value)


def turned(value: np.ndarray, heads: int) -> np.ndarray:
    """Rows (heads * d, D) of each head from halves to neighbouring pairs."""
    rows, width = value.shape
    return value.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)
