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
from basewise.core.hashing import digest_json, sha256_file
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
        name = re.sub(r"[^A-Za-z0-9._-]+", "--", card.key)
        if re.search(
            r"[^A-Za-z0-9._/@-]", card.key
        ):  # another script, spaces: several keys may be left with one name
            name += f"-{digest_json(card.key)[:16]}"
        return self.root / "index" / f"{name}.json"

    def cards(self) -> dict[str, Card]:
        """{key: card} of the bases that were put here; those of sources that only a network can ask are known by nothing else."""
        found = {}
        for path in sorted((self.root / "index").glob("*.json")):
            with contextlib.suppress(
                RunError, TypeError, AttributeError
            ):  # a damaged entry is told when it is asked for
                if value := read_json(path).get("card"):
                    card = Card.from_dict(value)
                    found[card.key] = card
        return found

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
                entry |= {"card": card.to_dict(), "files": _beside(place)}
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
            digest = verify(base.folder / WEIGHTS, base.digest, str(base.folder / WEIGHTS))
            if base.folder.parent == self.root and self._entry(base.card).exists():
                self._check_beside(base)
            return digest
        except UnsafeWeights:
            if base.folder.parent == self.root:
                self._entry(base.card).unlink(missing_ok=True)
            raise

    def _check_beside(self, base: Base) -> None:
        """UnsafeWeights where tokenizer or configuration are not those that were put here; their folder is then given up."""
        then, now = read_json(self._entry(base.card)).get("files"), _beside(base.folder)
        if then is None or then == now:  # an entry of before they were noted down has none
            return
        name = next(n for n in sorted(then.keys() | now.keys()) if then.get(n) != now.get(n))
        with lock(self.root / "locks" / "places.lock"), self.building(base.card) as temporary:
            base.folder.rename(temporary / "damaged")
        raise UnsafeWeights(
            f"{base.folder / name} is not as it was put here",
            f"fetch it again: basewise bases pull {base.key}",
        )


def _beside(folder: Path) -> dict[str, str]:
    """{file: sha256} of what lies beside the weights."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != WEIGHTS)
    return {str(path.relative_to(folder)): sha256_file(path) for path in files}
