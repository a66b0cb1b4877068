"""Files that are either whole or not there: atomic writes, locks between processes, the user's cache folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from basewise.core.errors import InputError, RunError

Progress = Callable[[int, int, str], None]
"""`progress(done, total, what)`; total 0 means unknown. Called often; must be cheap."""


def silent(done: int, total: int, what: str) -> None:
    """The progress of those who do not look."""


def home() -> Path:
    """The user's basewise folder: `$BASEWISE_HOME`, else `$XDG_CACHE_HOME/basewise`, else `~/.cache/basewise`."""
    if root := os.environ.get("BASEWISE_HOME"):
        return Path(root).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "basewise"


def explain_os_error(error: OSError, path: Path) -> RunError:
    """A full disk or a read-only folder, in one line with the fix."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError(
            f"the disk is full: could not write {path}", "free some space and run the same command again"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        inside = path.is_relative_to(home())
        fix = (
            "name a folder that can be written in BASEWISE_HOME"
            if inside
            else "choose another folder with --to"
        )
        return RunError(f"cannot write to {path}: {error.strerror}", fix)
    return RunError(f"cannot write {path}: {error.strerror}", "check the folder and try again")


@contextlib.contextmanager
def atomic_path(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes its place with `mode`, on any failure nothing is left.

    What a link points to is written, not the link; a device or a pipe is written into, since a file must not take its place.
    """
    path = Path(path)
    # seen before the work is done, not after it
    if path.is_dir():
        raise RunError(f"cannot write {path}: it is a folder", "name a file to write")
    temporary: Path | None = None
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            yield path
            return
        path = path.resolve() if path.is_symlink() else path
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        os.chmod(temporary, mode)
        # or a power cut may leave the name without the bytes
        sync(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise explain_os_error(error, path) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_apart(rows: Any, to: Path) -> None:
    """InputError where rows are read from the very file that is to be written, also by a link or another path."""
    if not isinstance(rows, (str, Path)) or str(rows) == "-":
        return
    read, to = Path(rows).expanduser(), Path(to)
    if read.exists() and to.exists() and read.samefile(to):
        raise InputError(f"{to} came as the rows and as the file to write", "name another file to write")


def sync(path: Path) -> None:
    """Bring a file or a folder's names to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a whole file or nothing."""
    with atomic_path(path, mode) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str, mode: int = 0o644) -> None:
    """Write a whole UTF-8 text file or nothing."""
    write_bytes(path, content.encode(), mode)


def write_json(path: Path, value: Any) -> None:
    """Write JSON, indented for people, whole or not at all."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """A value as JSON, indented for people."""
    return json.dumps(value, indent=1, ensure_ascii=False, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    """numpy scalars and arrays, tuples and paths as plain JSON."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


def read_json(path: Path) -> Any:
    """Read JSON; a damaged file is an error with the fix."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunError(f"cannot read {path}: {error}", "delete it or give another folder") from error


@contextlib.contextmanager
def lock(path: Path, wait: bool = True, what: str = "the run folder", option: str = "--to") -> Iterator[None]:
    """An advisory lock that dies with its process. With `wait=False`, a lock in use raises RunError about `what`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise explain_os_error(error, path) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise RunError(
                f"{what} {path.parent} is in use by another process", f"wait for it or give another {option}"
            ) from None
        yield
    finally:
        os.close(handle)
