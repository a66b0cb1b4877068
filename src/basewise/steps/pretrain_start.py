"""A run that starts from a base: whether recipe, corpus and base belong together, and the sizes that the base has.

Sizes that the recipe leaves out are those of the base, so rates and FLOP are counted from the network that is trained.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from basewise.core.errors import InputError
from basewise.core.files import read_json
from basewise.core.hashing import sha256_file
from basewise.core.recipe import NETWORK_KINDS, Recipe

TOKENIZER = "tokenizer.json"
NAMES = {
    "depth": ("num_hidden_layers", "n_layer"),
    "width": ("hidden_size", "n_embd"),
    "heads": ("num_attention_heads", "n_head"),
}


def with_sizes_of_start(recipe: Recipe, tokenizer: Path | None) -> Recipe:
    """The recipe with depth, width and heads of the base in `start`; as it is where there is none.

    `tokenizer`: folder of the corpus's, None where it is not there yet. Raises InputError for a base of another network, another
    tokenizer, other sizes than those that the recipe gives, or fewer positions than the context.
    """
    if not recipe.start:
        return recipe
    config = _config(recipe)
    wanted = NETWORK_KINDS.get(recipe.network, "")
    if config.get("model_type") != wanted:
        raise InputError(
            f"start {recipe.start} is a {config.get('model_type')}, and network {recipe.network!r} is {wanted or 'none that starts from a base'}",
            "name a base of the same network, or the network of the base",
        )
    sizes = {key: next((int(config[n]) for n in names if n in config), 0) for key, names in NAMES.items()}
    default = {key: getattr(Recipe, key) for key in NAMES}
    for key, size in sizes.items():
        if getattr(recipe, key) not in (default[key], size):
            raise InputError(
                f"{key} is {getattr(recipe, key)}, and the base {recipe.start} has {size}",
                f"take {key} out: a run that starts from a base has its sizes",
            )
    most = int(config.get("max_position_embeddings") or config.get("n_positions") or recipe.context)
    if wanted in ("bert", "gpt2") and recipe.context > most:
        raise InputError(
            f"context is {recipe.context}, and the base {recipe.start} has {most} positions",
            f"write context = {most} or less",
        )
    _same_tokenizer(recipe, tokenizer)
    return replace(recipe, depth=sizes["depth"], width=sizes["width"], heads=sizes["heads"])


def _config(recipe: Recipe) -> dict[str, Any]:
    path = Path(recipe.start) / "config.json"
    if not path.is_file():
        raise InputError(
            f"start {recipe.start} holds no base", "name a folder base/ that `basewise pretrain` saved"
        )
    return dict(read_json(path))


def _same_tokenizer(recipe: Recipe, tokenizer: Path | None) -> None:
    """The base has learned the pieces of this tokenizer, not of one that numbers others."""
    if tokenizer is None:
        return
    own = Path(recipe.start) / TOKENIZER
    if not own.is_file() or sha256_file(own) != sha256_file(tokenizer / TOKENIZER):
        raise InputError(
            f"start {recipe.start} has learned another tokenizer than that of the corpus {recipe.corpus}",
            "start from a base that was trained on this corpus",
        )
