"""Tiny decoders with random weights, one an architecture, each in a plain folder with a tokenizer of letters and words.

Weights are drawn wide (0.3), so that a wrong mask or position moves the log-probabilities by whole nats and not by rounding.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from basewise.core.base import Base, Card
from basewise.core.hashing import sha256_file

VOCABULARY = 128
CONTEXT = 64
WORDS = (
    "good",
    "bad",
    "yes",
    "no",
    "the",
    "film",
    "was",
    "label",
    "text",
    "question",
    "answer",
    "red",
    "blue",
)
SPECIAL = ("<unk>", "<s>", "</s>")
CHAT = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def configuration(kind: str) -> Any:
    """The configuration of one architecture at a width of 32."""
    import transformers as t

    common = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.3,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    window = {
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "sliding_window": 6,
    }
    tokens = {"bos_token_id": 0, "eos_token_id": 0}
    old = {"vocab_size": VOCABULARY, "initializer_range": 0.3, **tokens}
    longer = {**common, "max_position_embeddings": 96}
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0, 4.0, 8.0, 16.0]}
    makers = {
        "gpt2": lambda: t.GPT2Config(n_embd=32, n_layer=3, n_head=4, n_positions=CONTEXT, **old),
        "llama": lambda: t.LlamaConfig(**common),
        "qwen2": lambda: t.Qwen2Config(**common),
        "qwen3": lambda: t.Qwen3Config(**common, head_dim=8),
        "mistral": lambda: t.MistralConfig(**common, sliding_window=6),
        "gemma2": lambda: t.Gemma2Config(**common, **window, head_dim=8, attn_logit_softcapping=5.0),
        "gemma3": lambda: t.Gemma3TextConfig(**common, **window, head_dim=8),
        "olmo2": lambda: t.Olmo2Config(**common),
        "gptneox": lambda: t.GPTNeoXConfig(**{k: v for k, v in common.items() if k != "num_key_value_heads"}),
        "bloom": lambda: t.BloomConfig(hidden_size=32, n_layer=3, n_head=4, **old),
        "phi3": lambda: t.Phi3Config(
            **longer,
            original_max_position_embeddings=24,
            rope_scaling={"rope_type": "longrope", **factors},
            sliding_window=None,
        ),
        "llama4": lambda: t.Llama4TextConfig(
            **longer,
            head_dim=8,
            attention_chunk_size=20,
            num_local_experts=2,
            intermediate_size_mlp=48,
            interleave_moe_layer_step=2,
        ),
        "qwen2moe": lambda: t.Qwen2MoeConfig(
            **common,
            layer_types=["full_attention", "sliding_attention", "sliding_attention"],
            use_sliding_window=True,
            sliding_window=20,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=16,
        ),
        "bert": lambda: t.BertConfig(**{k: v for k, v in common.items() if k != "num_key_value_heads"}),
        "mamba": lambda: t.MambaConfig(
            hidden_size=32, state_size=8, num_hidden_layers=2, pad_token_id=0, **old
        ),
        "bamba": lambda: t.BambaConfig(
            **common,
            attn_layer_indices=[1],
            mamba_n_heads=8,
            mamba_d_head=8,
            mamba_d_state=8,
            mamba_n_groups=1,
        ),
        "mpt": lambda: t.MptConfig(d_model=32, n_layers=2, n_heads=4, max_seq_len=96, **old),
        "openai": lambda: t.OpenAIGPTConfig(n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT, **old),
    }
    return makers[kind]()


def grown(words: Iterable[str], single: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """(merges, pieces): words that grow letter by letter from their first, behind the pieces that are there."""
    merges, pieces = [], list(single)
    for word in words:
        left = word[0]
        for letter in word[1:]:
            if (left, letter) not in merges:
                merges.append((left, letter))
            left += letter
            if left not in pieces:
                pieces.append(left)
    return merges, pieces


def tokenizer(folder: Path, chat: bool = True) -> None:
    """Byte-level BPE without merges but for whole words, so that boundaries with spaces behave as in real ones."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = [*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:?!-<>", "Ġ", "Ċ"]
    merges, pieces = grown(WORDS, ["<|end|>", *letters])
    assert len(pieces) <= VOCABULARY
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token=None))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<|end|>", special=True)])
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    record = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|end|>", "eos_token": "<|end|>"}
    if chat:
        record["chat_template"] = CHAT
    (folder / "tokenizer_config.json").write_text(json.dumps(record), encoding="utf-8")


SPM_VOCABULARY = 340


def sentencepiece(folder: Path) -> None:
    """A tokenizer as Llama-2's in the folder of a decoder: "▁" before a text, letters it lacks as bytes, a beginning token."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

    letters = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789.,:?!'\n"
    single = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    merges, pieces = grown(("▁the", "▁yes", "▁no", "▁good", "▁bad"), single)
    assert len(pieces) <= SPM_VOCABULARY
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(steps)
    made.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    made.save(str(folder / "tokenizer.json"))
    record = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(record), encoding="utf-8")


def spm_decoder(folder: Path) -> Base:
    """A random Llama with that tokenizer."""
    made = decoder(folder, "llama", vocab_size=SPM_VOCABULARY, bos_token_id=1, eos_token_id=2)
    sentencepiece(folder)
    return made


def decoder(folder: Path, kind: str = "llama", seed: int = 0, chat: bool = True, **changed: Any) -> Base:
    """A random decoder of one architecture as a base."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer(folder, chat)
    config = configuration(kind)
    for name, value in changed.items():
        setattr(config, name, value)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    card = Card(
        key=f"tiny-{kind}",
        source="folder",
        family="decoder",
        licence="Apache-2.0",
        parameters=40_000,
        layers=3,
        width=32,
        download_bytes=0,
        context=CONTEXT,
        provides=frozenset({"embed", "train", "score", "generate"}),
        locator={"folder": str(folder)},
    )
    return Base(card=card, folder=folder, digest=sha256_file(folder / "model.safetensors"))
