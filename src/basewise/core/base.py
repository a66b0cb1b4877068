"""Base: a pretrained network named by the sha256 of its weights. Card: what the catalogue knows before fetching it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

EMBED, SCORE, GENERATE, TRAIN, FILL = "embed", "score", "generate", "train", "fill"
"""What a base can do. "fill": a masked language model says what stands at a mask."""


OFFSET_POSITIONS = {
    "camembert", "data2vec-text", "ibert", "lilt", "longformer", "luke", "markuplm", "mpnet", "roberta", "roberta-prelayernorm",
    "xlm-roberta", "xlm-roberta-xl", "xmod",
}  # fmt: skip
"""Kinds of networks that count positions from behind their padding token."""


STATED_IN = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length", "context_length")
UNSTATED_CONTEXT = 2048
"""Tokens that a decoder reads where it states none (Mamba, some with linear biases), as lm-evaluation-harness takes it."""


def positions_of(config: Mapping[str, Any], otherwise: int = 512) -> int:
    """How many tokens a network of this configuration reads; `otherwise` where it states none.

    RoBERTa and its kin have 514 positions for 512 tokens: those up to the padding token's number are never used.
    """
    stated = next((int(value) for name in STATED_IN if (value := config.get(name))), 0)
    if not stated:
        return otherwise
    padding = config.get("pad_token_id")
    taken = 1 + (1 if padding is None else int(padding))
    return stated - taken if config.get("model_type") in OFFSET_POSITIONS else stated


DEPTH_IN = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
WIDTH_IN = ("hidden_size", "n_embd", "d_model", "dim")


def size_of(config: Mapping[str, Any]) -> tuple[int, int]:
    """(layers, width) of a network of this configuration, by the names that families give them; 0 where it states none."""
    layers, width = (
        next((int(value) for name in names if (value := config.get(name))), 0)
        for names in (DEPTH_IN, WIDTH_IN)
    )
    return layers, width


@dataclass(frozen=True, kw_only=True)
class Card:
    """One line of the catalogue. `locator` is for the source alone; sizes in bytes.

    `family` is "encoder" (bidirectional transformer), "decoder" (causal) or "static" (token vectors only).
    `weights_sha256` is that of the published weights file; None where it is only known after the first fetch.
    """

    key: str
    source: str
    family: str
    licence: str
    parameters: int
    layers: int
    width: int
    download_bytes: int
    context: int = 512
    provides: frozenset[str] = frozenset({EMBED, TRAIN})
    weights_sha256: str | None = None
    locator: dict[str, Any] = field(default_factory=dict)
    training_data: str = "not disclosed"
    terms: str = ""
    """Name of terms that a person must accept first; empty where the licence alone is enough."""
    note: str = ""
    hub: str = ""
    """Id ("owner/model") on the Hugging Face hub of the very same weights; empty where there is none or it is not known for sure."""
    fallback: bool = False
    """Taken by `choose` only where no other base can be had."""

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "provides": sorted(self.provides)}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Card:
        return cls(**{**value, "provides": frozenset(value.get("provides", (EMBED, TRAIN)))})


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base on this machine.

    `folder` is a plain Hugging Face folder (config.json, model.safetensors, tokenizer.json …) that
    `AutoModel.from_pretrained(folder)` opens without remote code; for family "static" it holds `model.safetensors`
    with one matrix named `embedding.weight` (vocabulary x width) and `tokenizer.json`.
    `digest` is the sha256 of `model.safetensors` in that folder: the base's name in every record.
    `random_seed` set: the same network with random weights (the control); then `digest` names the seed too.
    """

    card: Card
    folder: Path
    digest: str
    random_seed: int | None = None

    @property
    def key(self) -> str:
        return self.card.key

    @property
    def provides(self) -> frozenset[str]:
        return self.card.provides
