"""A model on the Hugging Face hub, at a pinned revision; a local mirror or cache works too.

Safetensors are taken wherever there are any; a model that has only pickles (pytorch_model*.bin) is converted in the sandbox.
"""

from __future__ import annotations

import errno
import json
import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from basewise.core.base import UNSTATED_CONTEXT, Base, Card, positions_of
from basewise.core.errors import BaseUnavailable, UnsafeWeights
from basewise.core.files import Progress, silent
from basewise.core.registry import part
from basewise.engine.safetensor_checks import check_safetensors
from basewise.engine.sandbox import PICKLES, convert_all, pickles
from basewise.engine.store import WEIGHTS, Store, full_disk, verify

LOCATOR = ("repository",)
PATTERNS = [
    "*.json",
    "*.txt",
    "*.model",
    "*.safetensors",
    "1_Pooling/*",
    "LICEN[SC]E*",
    "NOTICE*",
    "USE_POLICY*",
]


def cards() -> list[Card]:
    """The catalogue's bases of this source."""
    path = Path(__file__).with_name("catalogue.json")
    return [Card.from_dict(v) for v in json.loads(path.read_text(encoding="utf-8")) if v["source"] == "hub"]


def _snapshot(repository: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    _quiet()
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except Exception as error:
        # the hub's client raises a dozen kinds; each means that the base cannot be had now
        if full_disk(str(error)):
            raise OSError(errno.ENOSPC, "No space left on device") from error
        said = str(error).partition("\n")[0]
        raise BaseUnavailable(
            f"{repository} cannot be fetched from the hub ({type(error).__name__}: {said[:120]})",
            "connect to the hub or a mirror (HF_ENDPOINT), or use a base that is here: basewise bases list",
        ) from error


def _quiet() -> None:
    """The client's own bars are for terminals; elsewhere an error stays one line."""
    from huggingface_hub.utils import disable_progress_bars, logging

    if not sys.stderr.isatty():
        disable_progress_bars()
        logging.set_verbosity_error()


def card_of(name: str) -> Card:
    """A card for "owner/model" or "owner/model@revision", from its configuration; the commit is pinned."""
    repository, _, revision = name.partition("@")
    snapshot = _snapshot(repository, revision or None, ["config.json"])
    config = json.loads((snapshot / "config.json").read_text(encoding="utf-8"))
    if "auto_map" in config:
        raise UnsafeWeights(
            f"{repository} asks to run code of its own (auto_map)", "use a base of a known architecture"
        )
    info = _info(repository, snapshot.name)
    decoder = any(a.endswith(part("sources", "folder").DECODERS) for a in config.get("architectures") or [])
    return Card(
        key=f"{repository}@{revision}" if revision else repository,
        source="hub",
        family="decoder" if decoder else "encoder",
        licence=str(info.get("licence") or "not stated"),
        parameters=int(info.get("parameters") or 0),
        layers=int(config.get("num_hidden_layers") or config.get("n_layer") or 0),
        width=int(config.get("hidden_size") or config.get("n_embd") or 0),
        download_bytes=int(info.get("bytes") or 0),
        context=positions_of(config, UNSTATED_CONTEXT if decoder else 512),
        provides=part("sources", "folder").provided(config),
        locator={"repository": repository, "revision": snapshot.name},
        hub=repository,
    )


def _info(repository: str, revision: str) -> dict[str, Any]:
    """Licence and sizes where the hub answers; nothing in an offline mirror."""
    from huggingface_hub import HfApi, errors

    try:
        info = HfApi().model_info(repository, revision=revision, files_metadata=True)
    except (OSError, ValueError, errors.HTTPError):
        # offline: the card then says what it does not know
        return {}
    siblings = info.siblings or []
    files = [s for s in siblings if s.rfilename.endswith(".safetensors")] or [
        s for s in siblings if fnmatch(s.rfilename, PICKLES)
    ]
    card = info.card_data.to_dict() if info.card_data else {}
    total = info.safetensors.total if info.safetensors else 0
    return {"licence": card.get("license"), "parameters": total, "bytes": sum(s.size or 0 for s in files)}


def load(card: Card, store: Store, progress: Progress = silent) -> Base:
    """The snapshot at its commit, copied into the store; several weight files become one."""

    def build(temporary: Path) -> Path:
        progress(0, 0, f"downloading {card.key}")
        snapshot = _snapshot(card.locator["repository"], card.locator.get("revision"), PATTERNS)
        made = temporary / "base"
        shutil.copytree(snapshot, made, symlinks=False, ignore=shutil.ignore_patterns("*.bin"))
        if (made / WEIGHTS).exists() or list(made.glob("model-*.safetensors")):
            if not (made / WEIGHTS).exists():
                _join(made)
            verify(made / WEIGHTS, card.weights_sha256, f"{card.key}'s weights")
        else:
            _convert(made, card, progress)
        # refuses remote code and missing files
        part("sources", "folder").card_of(made)
        return made

    return store.fetch(card, build)


def _convert(made: Path, card: Card, progress: Progress) -> None:
    """The snapshot's pickled weights, fetched only where it has no safetensors, through the sandbox into `made`."""
    snapshot = _snapshot(card.locator["repository"], card.locator.get("revision"), [PICKLES])
    weights = pickles(snapshot)
    if not weights:
        raise UnsafeWeights(
            f"{card.key} has neither safetensors nor {PICKLES}",
            "ask its authors for them, or use another base",
        )
    if card.weights_sha256:
        verify(weights[0], card.weights_sha256, f"{card.key}'s weights")
    progress(0, 0, f"converting {card.key}'s pickled weights in the sandbox")
    convert_all(weights, made / WEIGHTS)


def _join(made: Path) -> None:
    """Sharded safetensors as one file."""
    from safetensors.torch import load_file, save_file

    shards = sorted(made.glob("model-*.safetensors"))
    for shard in shards:
        check_safetensors(shard)
    tensors = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    save_file(tensors, made / WEIGHTS, metadata={"format": "pt"})
    for shard in shards:
        shard.unlink()
