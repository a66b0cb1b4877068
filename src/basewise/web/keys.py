"""Keys of a service: hashed on disk, for some tasks or all, expiring, compared in constant time.

A key is `bw-<id>-<secret>` with 256 random bits, so one sha256 is enough to keep it; the secret is shown once, when it is made.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from basewise.core.errors import InputError, RunError, UnknownName
from basewise.core.files import lock, read_json, write_json

EVERY = "*"
MOST_SECONDS = 100 * 365 * 86_400.0


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key without its secret. `tasks`: names, or "*"; `admin`: may change releases; `expires`: seconds since 1970 or None;
    `rate`: requests a minute, 0 for no limit."""

    id: str
    name: str
    sha256: str
    tasks: tuple[str, ...] = (EVERY,)
    admin: bool = False
    expires: float | None = None
    rate: int = 0

    def may(self, task: str) -> bool:
        """Whether it opens a task (or a base, by its name)."""
        return EVERY in self.tasks or task in self.tasks

    @property
    def expired(self) -> bool:
        return self.expires is not None and time.time() >= self.expires


class Keys:
    """The keys in one file; read again when the file changes, so a key can be taken back while the service runs."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._stamp: tuple[int, int] | None = None
        self._keys: dict[str, Key] = {}
        self.needed = False
        """Whether requests need a key: from the first key on, for good. Taking the last one back must not open the service."""
        self._read()

    def _read(self) -> None:
        try:
            found = self.path.stat()
        except OSError:
            self._keys, self._stamp = {}, None
            return
        self.needed = True
        stamp = (found.st_mtime_ns, found.st_size)
        if stamp == self._stamp:
            return
        try:
            self._keys = {k["id"]: Key(**{**k, "tasks": tuple(k["tasks"])}) for k in read_json(self.path)}
        except (TypeError, KeyError) as error:
            raise RunError(
                f"cannot read the keys in {self.path}", "delete the file and make new keys"
            ) from error
        self._stamp = stamp

    @property
    def any(self) -> bool:
        """Whether any key is set."""
        self._read()
        return bool(self._keys)

    def all(self) -> list[Key]:
        self._read()
        return list(self._keys.values())

    def find(self, given: str) -> Key | None:
        """The key that a request brings; None where it is none of ours. Takes as long for a wrong secret as for a right one."""
        self._read()
        id_, _, _secret = given.removeprefix("bw-").partition("-")
        known = self._keys.get(id_)
        digest = hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()
        same = hmac.compare_digest(digest, known.sha256 if known else "0" * 64)
        return known if known is not None and same else None

    def add(
        self,
        name: str,
        *,
        tasks: Sequence[str] = (EVERY,),
        admin: bool = False,
        seconds: float | None = None,
        rate: int = 0,
    ) -> str:
        """Make a key; the whole of it, which is shown only here. `seconds` until it expires. InputError for a blank name, a negative
        rate or a time that is none."""
        if not name.strip():
            raise InputError(
                f"the key's name is {name!r}", "say whose key it is, so that it can be taken back"
            )
        if rate < 0 or (seconds is not None and not 0 < seconds <= MOST_SECONDS):
            raise InputError(
                "a key's rate is negative, or its time is not between 0 and 100 years",
                "give numbers above 0; without a time it never expires",
            )
        id_ = secrets.token_hex(4)
        whole = f"bw-{id_}-{secrets.token_urlsafe(32)}"
        expires = None if seconds is None else time.time() + seconds
        digest = hashlib.sha256(whole.encode()).hexdigest()
        key = Key(
            id=id_, name=name, sha256=digest, tasks=tuple(tasks), admin=admin, expires=expires, rate=rate
        )
        with lock(self.path.with_suffix(".lock")):
            self._read()
            self._write({**self._keys, id_: key})
        return whole

    def remove(self, id_: str) -> Key:
        """Take a key back."""
        with lock(self.path.with_suffix(".lock")):
            self._read()
            if id_ not in self._keys:
                raise UnknownName.of("key", id_, self._keys)
            self._write({k: v for k, v in self._keys.items() if k != id_})
        return self._keys.pop(id_)

    def _write(self, keys: dict[str, Key]) -> None:
        records: list[dict[str, Any]] = [asdict(k) for k in keys.values()]
        write_json(self.path, records)
        self.path.chmod(0o600)
        self._stamp = None
