"""The manifest of a release: path, size and sha256 of every file, and nothing that is not listed.

Verified before anything else in the folder is opened. Links and special files are refused: what they point at is not what
was released.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path, PurePosixPath

from basewise.core.errors import ReleaseChanged
from basewise.core.files import write_json
from basewise.core.hashing import sha256_file

MANIFEST, SIGNATURE = "manifest.json", "release.sig"
OUTSIDE = (MANIFEST, SIGNATURE)
FORMAT = 1
MOST_BYTES = 16 * 2**20
"""Of the manifest itself: it is parsed before anything is known about it."""
AGAIN = "copy the release again from where it was made"


def files_of(folder: Path) -> list[str]:
    """Relative posix paths of all files, sorted; ReleaseChanged for links, special files and empty folders."""
    found: list[str] = []
    for place, folders, names in os.walk(folder):
        here = Path(place)
        if here != folder and not folders and not names:
            raise ReleaseChanged(f"{here} is an empty folder, which no release holds", AGAIN)
        for name in (*folders, *names):
            mode = (here / name).lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise ReleaseChanged(f"{here / name} is a link or a special file", AGAIN)
        found += [(here / name).relative_to(folder).as_posix() for name in names]
    return sorted(found)


def write_manifest(folder: Path) -> None:
    """manifest.json over everything that is in the folder now."""
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)}
        for name in files_of(folder)
        if name not in OUTSIDE
    }
    write_json(folder / MANIFEST, {"format": FORMAT, "files": files})


def read_manifest(folder: Path) -> dict[str, dict[str, object]]:
    """{path: {"bytes", "sha256"}}; ReleaseChanged when it is missing, damaged or names a place outside the folder."""
    path = folder / MANIFEST
    if not path.is_file() or path.is_symlink():
        raise ReleaseChanged(f"{folder} has no {MANIFEST}: the release is not whole", AGAIN)
    if path.stat().st_size > MOST_BYTES:
        raise ReleaseChanged(f"{path} is larger than any manifest", AGAIN)
    try:
        value = json.loads(path.read_bytes().decode("utf-8"), object_pairs_hook=_once)
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise ValueError(
                f"format {value.get('format') if isinstance(value, dict) else None}, {FORMAT} was expected"
            )
        files = value["files"]
        for name, entry in files.items():
            _check_entry(name, entry)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ReleaseChanged(f"{path} is damaged: {error}", AGAIN) from error
    return files


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a name occurs twice")
    return dict(pairs)


def _check_entry(name: str, entry: dict[str, object]) -> None:
    place = PurePosixPath(name)
    if place.is_absolute() or ".." in place.parts or str(place) != name or "\\" in name or "\0" in name:
        raise ValueError(f"{name!r} is no path inside the release")
    if (
        set(entry) != {"bytes", "sha256"}
        or type(entry["bytes"]) is not int
        or len(str(entry["sha256"])) != 64
    ):
        raise ValueError(f"the entry of {name!r} is no size and sha256")


def check_manifest(folder: Path) -> int:
    """How many files there are, each of them listed, whole and unchanged; ReleaseChanged with the first that is not."""
    listed = read_manifest(folder)
    present = {name for name in files_of(folder) if name not in OUTSIDE}
    if missing := sorted(set(listed) - present):
        raise ReleaseChanged(
            f"{folder / missing[0]} is missing ({len(missing)} of {len(listed)} files)", AGAIN
        )
    if added := sorted(present - set(listed)):
        raise ReleaseChanged(f"{folder / added[0]} was not part of the release", f"take it away, or {AGAIN}")
    for name in sorted(listed):
        path = folder / name
        size = path.stat().st_size
        if size != listed[name]["bytes"]:
            raise ReleaseChanged(f"{path} has {size} bytes, {listed[name]['bytes']} were released", AGAIN)
        if sha256_file(path) != listed[name]["sha256"]:
            raise ReleaseChanged(f"{path} was changed since it was released", AGAIN)
    return len(listed)
