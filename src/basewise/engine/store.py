"""The store of bases: folders named by the sha256 of their weights, under the user's cache.

A base is built in a temporary folder beside its place, checked, and then renamed into it: a broken download, a full disk
or a kill leaves nothing half-written. One lock a key keeps two processes from fetching the same base twice.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from basewise.core.base import Base, Card
from basewise.core.errors import UnsafeWeights
from basewise.core.files import explain_os_error, home, lock, read_json, write_json
from basewise.core.hashing import sha256_file
from basewise.engine.safetensor_checks import check_safetensors

WEIGHTS = "model.safetensors"


def verify(path: Path, expected: str | None, what: str) -> str:
    """The sha256 of a file; UnsafeWeights where another one was promised."""
    digest = sha256_file(path)
    if expected is not None and digest != expected:
        raise UnsafeWeights(
            f"{what} has the sha256 {digest[:16]}…, {expected[:16]}… was expected",
            "do not use it; fetch it again",
        )
    return digest


@dataclass(frozen=True)
class Store:
    """Bases on this machine under `root`."""

    root: Path

    @classmethod
    def default(cls) -> Store:
        return cls(home() / "weights")

    def _entry(self, card: Card) -> Path:
        return self.root / "index" / f"{re.sub(r'[^A-Za-z0-9._-]+', '--', card.key)}.json"

    def find(self, card: Card) -> Base | None:
        """The base of a card when it is here and unchanged in size since it was checked."""
        entry = self._entry(card)
        if not entry.exists():
            return None
        value = read_json(entry)
        folder = self.root / value["digest"]
        weights = folder / WEIGHTS
        if not weights.exists() or weights.stat().st_size != value["bytes"]:
            return None
        if card.weights_sha256 and value.get("published") not in (None, card.weights_sha256):
            return None
        return Base(card=card, folder=folder, digest=value["digest"])

    @contextlib.contextmanager
    def building(self, card: Card) -> Iterator[Path]:
        """A temporary folder on the store's own disk; always removed."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=self.root, prefix=".building-"))
        except OSError as error:
            raise explain_os_error(error, self.root) from error
        try:
            yield folder
        except OSError as error:
            raise explain_os_error(error, folder) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def fetch(self, card: Card, build: Callable[[Path], Path]) -> Base:
        """The base of a card; `build(temporary) -> folder with model.safetensors` runs when it is not here yet."""
        with lock(self.root / "locks" / f"{self._entry(card).stem}.lock"):
            if found := self.find(card):
                return found
            with self.building(card) as temporary:
                made = build(temporary)
                check_safetensors(made / WEIGHTS)
                digest = sha256_file(made / WEIGHTS)
                place = self.root / digest
                if place.exists():
                    shutil.rmtree(place)
                made.rename(place)
                size = (place / WEIGHTS).stat().st_size
                write_json(
                    self._entry(card), {"digest": digest, "bytes": size, "published": card.weights_sha256}
                )
        return Base(card=card, folder=place, digest=digest)

    def check(self, base: Base) -> str:
        """Read every byte again; the digest, or UnsafeWeights."""
        check_safetensors(base.folder / WEIGHTS)
        return verify(base.folder / WEIGHTS, base.digest, str(base.folder / WEIGHTS))
