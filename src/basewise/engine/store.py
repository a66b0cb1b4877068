"""The store of bases: folders named by the sha256 of their weights, under the user's cache.

A base is built in a temporary folder beside its place, checked, and then renamed into it: a broken download, a full disk
or a kill leaves nothing half-written. One lock a key keeps two processes from fetching the same base twice.
"""

from __future__ import annotations

import contextlib
import errno
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from basewise.core.base import Base, Card
from basewise.core.errors import RunError, UnsafeWeights
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


def full_disk(words: str) -> bool:
    """Whether a library or a child process failed for want of space, by its words; not all raise OSError."""
    return any(sign in words for sign in ("No space left", "Disk quota exceeded", "StorageFull", "code: 28"))


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
        revision = card.locator.get("revision")
        if revision and value.get("revision") not in (None, revision):
            return None
        if card.weights_sha256 and value.get("published") not in (None, card.weights_sha256):
            return None
        return Base(card=card, folder=folder, digest=value["digest"])

    @contextlib.contextmanager
    def building(self, card: Card, prefix: str = ".building-") -> Iterator[Path]:
        """A temporary folder on the store's own disk; always removed."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=self.root, prefix=prefix))
        except OSError as error:
            raise self._explain(error) from error
        try:
            yield folder
        except OSError as error:
            raise self._explain(error) from error
        except Exception as error:
            # safetensors has an error of its own for it
            if full_disk(str(error)):
                raise self._explain(OSError(errno.ENOSPC, "No space left on device")) from error
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _explain(self, error: OSError) -> RunError:
        """A full disk or a folder that cannot be written, in one line; the store moves with BASEWISE_HOME."""
        shown = explain_os_error(error, self.root)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return shown
        return RunError(shown.message, "name a folder that can be written in BASEWISE_HOME")

    def fetch(self, card: Card, build: Callable[[Path], Path]) -> Base:
        """The base of a card; `build(temporary) -> folder with model.safetensors` runs when it is not here yet."""
        with lock(self.root / "locks" / f"{self._entry(card).stem}.lock"):
            if found := self.find(card):
                return found
            prefix = f".fetching-{self._entry(card).stem}-"
            # of a killed process: the lock is ours
            for left in self.root.glob(f"{prefix}????????"):
                shutil.rmtree(left, ignore_errors=True)
            with self.building(card, prefix) as temporary:
                made = build(temporary)
                check_safetensors(made / WEIGHTS)
                digest = sha256_file(made / WEIGHTS)
                place = self._settle(made, temporary, digest)
                entry = {"digest": digest, "bytes": (place / WEIGHTS).stat().st_size}
                entry |= {"published": card.weights_sha256, "revision": card.locator.get("revision")}
                write_json(self._entry(card), entry)
        return Base(card=card, folder=place, digest=digest)

    def _settle(self, made: Path, temporary: Path, digest: str) -> Path:
        """The finished folder in its place; one that is there and whole stays, another process may be reading it.

        One lock for all places: two cards may bring the same weights at the same time.
        """
        place = self.root / digest
        with lock(self.root / "locks" / "places.lock"):
            if place.exists():
                weights = place / WEIGHTS
                if weights.is_file() and sha256_file(weights) == digest:
                    return place
                place.rename(temporary / "damaged")
            made.rename(place)
        return place

    def check(self, base: Base) -> str:
        """Read every byte again; the digest, or UnsafeWeights. A damaged base of the store is forgotten: the next
        `fetch` brings it anew."""
        try:
            check_safetensors(base.folder / WEIGHTS)
            return verify(base.folder / WEIGHTS, base.digest, str(base.folder / WEIGHTS))
        except UnsafeWeights:
            if base.folder.parent == self.root:
                self._entry(base.card).unlink(missing_ok=True)
            raise
