"""The bases of a finished run: plain Hugging Face folders with the card that `basewise bases add RUN/base` takes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from basewise.core.errors import BasewiseError
from basewise.core.files import write_json
from basewise.core.hashing import sha256_file
from basewise.core.recipe import Recipe
from basewise.core.registry import part
from basewise.steps.pretrain_data import Corpus, note_of

CARD = "card.json"


def check_finite(result: Any, network: Any, verdict: str, folder: Path) -> None:
    """Raise BasewiseError, before anything is saved, where training broke down.

    `network` has a weight, or the result a loss or a held-out score, that is not finite; or the last step was not (`verdict`)
    and no held-out score says that the weights are good all the same.
    """
    import torch

    from basewise.engine.checkpoint import steps_there
    from basewise.steps.pretrain_watch import CHECKPOINTS

    weights = all(bool(torch.isfinite(p).all()) for p in network.parameters())
    told = [result.loss, *_numbers(result.scores)]
    if not weights:
        what = "weights"
    elif not all(map(math.isfinite, told)):
        what = "loss or scores"
    elif verdict == "not finite" and len(told) == 1:
        what = "last loss"
    else:
        return
    verb = "is" if what == "last loss" else "are"
    good = max(steps_there(folder / CHECKPOINTS), default=0)
    kept = f"the last good checkpoint is that of step {good}" if good else "no checkpoint is good"
    raise BasewiseError(
        f"training broke down: the {what} after step {result.steps} {verb} not finite; {kept}",
        'lower the rate or write precision = "fp32", and give another --to',
    )


def last_losses(metrics: Path, otherwise: float) -> float:
    """The mean loss of the last tenth of the steps that were learned from and written down; `otherwise` where there is none."""
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    losses = [line["loss"] for line in lines if line["verdict"] == "take"]
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last) if last else otherwise


def _numbers(value: Any) -> list[float]:
    """All floating point numbers in nested values."""
    if isinstance(value, dict):
        return [number for one in value.values() for number in _numbers(one)]
    if isinstance(value, (list, tuple)):
        return [number for one in value for number in _numbers(one)]
    return [value] if isinstance(value, float) else []


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
        # the catalogue's verbs read text
        if corpus.tokenizer is not None:
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
