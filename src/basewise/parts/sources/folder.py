"""A folder on this machine that transformers opens: config.json, model.safetensors, tokenizer.json.

Where the weights are there only in parts, they are joined once; where only as a pickle (pytorch_model.bin, or its parts), they are
converted once in the sandbox. The result lies with copies of the folder's small files under the store, in `converted/<sha256 of all of them>`: the user's folder
stays as it is, and another tokenizer or another pickle is another conversion.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from basewise.core.base import UNSTATED_CONTEXT, Base, Card, positions_of, size_of
from basewise.core.errors import BaseUnavailable, UnsafeWeights
from basewise.core.files import Progress, lock, read_json, silent, write_json
from basewise.core.hashing import digest_json, sha256_file
from basewise.engine.safetensor_checks import check_safetensors, join, shards_of
from basewise.engine.sandbox import convert_all, pickles
from basewise.engine.store import WEIGHTS, Store, verify

DECODERS = ("CausalLM", "LMHeadModel")
MASKED = ("ForMaskedLM",)
SMALL_FILES = (".json", ".txt", ".model")
RECORD = "conversion.json"
LOCATOR = ("folder",)


def cards() -> list[Card]:
    """None: folders are named when they are used."""
    return []


def here(card: Card) -> bool:
    """Whether the folder is there."""
    return Path(card.locator["folder"]).is_dir()


def card_of(folder: Path, name: str = "") -> Card:
    """A card read from a folder's own files, which errors call by `name`; of pickled weights it knows the size, not yet the
    exact number."""
    folder = Path(folder).resolve()
    called = name or str(folder)
    config = read_config(folder, called)
    shards = [] if (folder / WEIGHTS).is_file() else shards_of(folder)
    pickled = [] if (folder / WEIGHTS).is_file() or shards else pickles(folder)
    if not ((folder / WEIGHTS).is_file() or shards or pickled):
        raise BaseUnavailable(
            f"{called} has no {WEIGHTS}", f"give one with config.json, {WEIGHTS} and tokenizer.json"
        )
    if not (folder / "tokenizer.json").is_file():
        raise BaseUnavailable(
            f"{called} has no tokenizer.json",
            "open its tokenizer with transformers.AutoTokenizer and save it: save_pretrained writes that file",
        )
    layers, width = size_of(config)
    decoder = any(a.endswith(DECODERS) for a in config.get("architectures") or [])
    static = config.get("model_type") == "static"
    return Card(
        key=folder.name,
        source="folder",
        family="static" if static else "decoder" if decoder else "encoder",
        licence="not stated",
        parameters=sum(p.stat().st_size for p in pickled) // 4
        if pickled
        else sum(map(check_safetensors, shards or [folder / WEIGHTS])),
        layers=layers,
        width=width,
        download_bytes=0,
        context=positions_of(config, UNSTATED_CONTEXT if decoder else 512),
        provides=frozenset({"embed"}) if static else provided(config),
        locator={"folder": str(folder)},
        note=f"{pickled[0].name} is a pickle: converted once, in a sandbox; parameters if fp32"
        if pickled
        else "",
    )


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """The configuration in a folder; what no base can be made of is refused: code of its own, two networks in one, no JSON."""
    path = folder / "config.json"
    if not path.is_file():
        adapter = (folder / "adapter_config.json").is_file()
        raise BaseUnavailable(
            f"{name} has no config.json" + (": it is an adapter, not a base" if adapter else ""),
            "name the base that it was trained on"
            if adapter
            else "give a folder or a repository with config.json",
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError(f"it holds a {type(config).__name__}, an object was expected")
    except (ValueError, RecursionError) as error:
        raise BaseUnavailable(
            f"the config.json of {name} cannot be read: {error}", "fetch it again"
        ) from error
    if "auto_map" in config:
        raise UnsafeWeights(
            f"{name} asks to run code of its own (auto_map)", "use a base of a known architecture"
        )
    if config.get("is_encoder_decoder"):
        raise BaseUnavailable(f"{name} is an encoder and a decoder in one", "use a base that is one of them")
    return config


def provided(config: dict[str, Any]) -> frozenset[str]:
    """What a network of this configuration can do, by the architecture that its weights were saved as."""
    saved_as = config.get("architectures") or []
    if any(a.endswith(DECODERS) for a in saved_as):
        return frozenset({"embed", "train", "score", "generate"})
    return frozenset({"embed", "train", *(("fill",) if any(a.endswith(MASKED) for a in saved_as) else ())})


def load(card: Card, store: Store, progress: Progress = silent) -> Base:
    """The folder itself, its weights checked; only pickled weights are converted, into the store."""
    folder = Path(card.locator["folder"])
    if not (folder / WEIGHTS).is_file():
        if shards_of(folder) or pickles(folder):
            return _converted(card, folder, store, progress)
        raise BaseUnavailable(f"the folder {folder} of {card.key} is gone", "name it where it is now")
    check_safetensors(folder / WEIGHTS)
    digest = (
        verify(folder / WEIGHTS, card.weights_sha256, str(folder / WEIGHTS)) if card.weights_sha256 else ""
    )
    return Base(card=card, folder=folder, digest=digest or sha256_file(folder / WEIGHTS))


def _converted(card: Card, folder: Path, store: Store, progress: Progress) -> Base:
    """The base from parts or pickled weights: the earlier conversion of these very files if it is whole, else a new one."""
    shards = shards_of(folder)
    weights = shards or pickles(folder)
    small = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix in SMALL_FILES)
    digests = {path.name: sha256_file(path) for path in (*weights, *small)}
    if card.weights_sha256:
        verify(weights[0], card.weights_sha256, str(weights[0]))
    name = digest_json(digests)
    place = store.root / "converted" / name
    # folders of one name must not share a place to build in
    own = replace(card, key=f"converted-{name}")
    with lock(store.root / "locks" / f"{own.key}.lock"):
        digest = sha256_file(place / WEIGHTS) if (place / WEIGHTS).is_file() else ""
        if not digest or read_json(place / RECORD)["digest"] != digest:
            what = "joining {}'s parts" if shards else "converting {}'s pickled weights in the sandbox"
            progress(0, 0, what.format(card.key))
            with store.building(own) as temporary:
                made = temporary / "base"
                made.mkdir()
                for path in small:
                    shutil.copyfile(path, made / path.name)
                (join if shards else convert_all)(weights, made / WEIGHTS)
                digest = sha256_file(made / WEIGHTS)
                write_json(made / RECORD, {"digest": digest, "from": digests})
                shutil.rmtree(place, ignore_errors=True)
                place.parent.mkdir(parents=True, exist_ok=True)
                made.rename(place)
    parameters = check_safetensors(place / WEIGHTS)
    return Base(card=replace(card, parameters=parameters, note=""), folder=place, digest=digest)
