"""The bases of a finished run: plain Hugging Face folders with the card that `basewise bases add RUN/base` takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from basewise.core.files import write_json
from basewise.core.hashing import sha256_file
from basewise.core.recipe import Recipe
from basewise.core.registry import part
from basewise.steps.pretrain_data import Corpus, note_of

CARD = "card.json"


def save_bases(result: Any, recipe: Recipe, corpus: Corpus, network: Any, folder: Path) -> dict[str, Path]:
    """Write base/ (and encoder/ for the mixed objective), each with card.json and pretraining.json; {name: folder}."""
    from basewise.engine.networks import save, save_as_encoder

    base = folder / "base"
    save(network.model, corpus.tokenizer, base)
    found = {"base": base}
    if recipe.objective == "contrastive" and recipe.network == "decoder":
        save_as_encoder(base, base)
    if recipe.objective == "mixed":
        save_as_encoder(base, folder / "encoder")
        found["encoder"] = folder / "encoder"
    for name, path in found.items():
        if corpus.tokenizer is not None:  # the catalogue's verbs read text
            write_json(path / CARD, card_of(name, path, result, recipe, corpus).to_dict())
        write_json(
            path / "pretraining.json",
            {"recipe": recipe.to_dict(), "recipe_digest": recipe.digest(), "corpus": {"digest": corpus.digest, **corpus.facts},
             **{key: value for key, value in result.to_dict().items() if key not in ("folder", "bases", "worth")}},
        )  # fmt: skip
    return found


def card_of(name: str, path: Path, result: Any, recipe: Recipe, corpus: Corpus) -> Any:
    """The catalogue's card: sizes read from the folder, data, tokens and FLOP in words."""
    card = part("sources", "folder").card_of(path)
    key = recipe.name if name == "base" else f"{recipe.name}-{name}"
    return replace(
        card,
        key=key,
        licence=recipe.licence,
        context=recipe.context,
        weights_sha256=sha256_file(path / "model.safetensors"),
        locator={"folder": str(path.resolve())},
        training_data=f"{result.tokens:,} tokens of {note_of(corpus.facts)}",
        note=f"pretrained here: objective {recipe.objective}, {result.steps:,} steps, {result.flop:.3g} FLOP, recipe {recipe.digest()[:12]}",
    )
