"""A model on the Hugging Face hub, at a pinned revision; a local mirror or cache works too.

Safetensors are taken wherever there are any; a model that has only pickles (pytorch_model*.bin) is converted in the sandbox.
"""

from __future__ import annotations

import errno
import json
import shutil
import sys
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from basewise.core.base import UNSTATED_CONTEXT, Base, Card, positions_of, size_of
from basewise.core.errors import BaseUnavailable, UnsafeWeights
from basewise.core.files import Progress, silent
from basewise.core.registry import part
from basewise.engine.safetensor_checks import SHARDS, check_safetensors, join, shards_of
from basewise.engine.sandbox import PICKLES, convert_all, pickles
from basewise.engine.store import WEIGHTS, Store, full_disk, verify

LOCATOR = ("repository",)
ATTEMPTS, LONGEST_WAIT = 3, 30.0
FIXES = {
    "GatedRepoError": "accept its terms on its page of the hub and give your token in HF_TOKEN",
    "RepositoryNotFoundError": "check the name, give your token in HF_TOKEN where it is private",
    "RevisionNotFoundError": "check what stands behind the @",
}
PATTERNS = [
    "*.json",
    "*.txt",
    "*.model",
    WEIGHTS,
    SHARDS,
    "1_Pooling/*",
    "LICEN[SC]E*",
    "NOTICE*",
    "USE_POLICY*",
]


def cards() -> list[Card]:
    """The catalogue's bases of this source."""
    path = Path(__file__).with_name("catalogue.json")
    return [Card.from_dict(v) for v in json.loads(path.read_text(encoding="utf-8")) if v["source"] == "hub"]


def _snapshot(repository: str, revision: str | None, patterns: list[str], again: bool = False) -> Path:
    """The folder of the client's cache with these files; with `again` they are fetched even where they lie there."""
    from huggingface_hub import snapshot_download

    _quiet()
    for left in reversed(range(ATTEMPTS)):
        try:
            return Path(
                snapshot_download(
                    repository, revision=revision, allow_patterns=patterns, force_download=again
                )
            )
        except Exception as error:
            # the hub's client raises a dozen kinds; each means that the base cannot be had now
            if full_disk(str(error)):
                raise OSError(errno.ENOSPC, "No space left on device") from error
            wait = _wait_seconds(error)
            if not left or wait is None:
                raise _unavailable(repository, error) from error
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def _wait_seconds(error: Exception) -> float | None:
    """How long a server that is down for a moment (500 to 599) asks to wait, None for any other error."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    if response is None or response.status_code < 500:
        return None
    asked = str(response.headers.get("Retry-After", ""))
    return min(float(asked), LONGEST_WAIT) if asked.isdigit() else 1.0


def _unavailable(repository: str, error: Exception) -> BaseUnavailable:
    """What the client said, or what it was told itself, and what to do about it."""
    fix = FIXES.get(type(error).__name__, "connect to the hub or a mirror (HF_ENDPOINT)")
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    said = f"{type(error).__name__}: {str(cause).partition(chr(10))[0][:120]}"
    return BaseUnavailable(
        f"{repository} cannot be fetched from the hub ({said})",
        f"{fix}, or use a base that is here: basewise bases list",
    )


def _quiet() -> None:
    """The client's own bars are for terminals; elsewhere an error stays one line."""
    from huggingface_hub.utils import disable_progress_bars, logging

    if not sys.stderr.isatty():
        disable_progress_bars()
        logging.set_verbosity_error()


def card_of(name: str) -> Card:
    """A card for "owner/model" or "owner/model@revision", from its configuration; the commit is pinned."""
    repository, _, revision = name.partition("@")
    snapshot = _snapshot(repository, revision or None, ["config.json", "adapter_config.json"])
    config = part("sources", "folder").read_config(snapshot, repository)
    layers, width = size_of(config)
    info = _info(repository, snapshot.name)
    decoder = any(a.endswith(part("sources", "folder").DECODERS) for a in config.get("architectures") or [])
    return Card(
        key=f"{repository}@{revision}" if revision else repository,
        source="hub",
        family="decoder" if decoder else "encoder",
        licence=info.get("licence") or "not stated",
        parameters=int(info.get("parameters") or 0),
        layers=layers,
        width=width,
        download_bytes=int(info.get("bytes") or 0),
        context=positions_of(config, UNSTATED_CONTEXT if decoder else 512),
        provides=part("sources", "folder").provided(config),
        weights_sha256=info.get("sha256"),
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
    files = [s for s in siblings if s.rfilename == WEIGHTS or fnmatch(s.rfilename, SHARDS)] or [
        s for s in siblings if fnmatch(s.rfilename, PICKLES)
    ]
    card = info.card_data.to_dict() if info.card_data else {}
    licence = card.get("license")
    return {
        "licence": ", ".join(map(str, licence)) if isinstance(licence, list) else str(licence or ""),
        "parameters": info.safetensors.total if info.safetensors else 0,
        "bytes": sum(s.size or 0 for s in files),
        "sha256": getattr(files[0].lfs, "sha256", None) if len(files) == 1 else None,
    }


def load(card: Card, store: Store, progress: Progress = silent) -> Base:
    """The snapshot at its commit, copied into the store; several weight files become one."""

    def build(temporary: Path) -> Path:
        progress(0, 0, f"downloading {card.key}")
        made = temporary / "base"
        snapshot = _snapshot(card.locator["repository"], card.locator.get("revision"), PATTERNS)
        try:
            _copy(snapshot, made, card)
        except UnsafeWeights as damaged:  # the client never looks at what lies in its cache again
            shutil.rmtree(made, ignore_errors=True)
            try:
                _copy(_snapshot(card.locator["repository"], snapshot.name, PATTERNS, True), made, card)
            except BaseUnavailable:
                raise damaged from None
        if not (made / WEIGHTS).exists():
            _convert(made, card, progress)
        part("sources", "folder").card_of(made, card.key)  # refuses remote code and missing files
        return made

    return store.fetch(card, build)


def _copy(snapshot: Path, made: Path, card: Card) -> None:
    """The files of a snapshot, its weights checked and in one file; without weights where it has no safetensors."""
    shards = [] if (snapshot / WEIGHTS).exists() else shards_of(snapshot)
    shutil.copytree(snapshot, made, symlinks=False, ignore=shutil.ignore_patterns("*.bin", SHARDS))
    if shards:
        join(shards, made / WEIGHTS)
    if (made / WEIGHTS).exists():
        if not shards:
            check_safetensors(snapshot / WEIGHTS)
        verify(made / WEIGHTS, card.weights_sha256, f"{card.key}'s weights")


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
