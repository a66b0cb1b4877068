"""The registry is the folder: a part is a file under parts/<kind>/, its key is the file name.

Nothing is imported until it is asked for; help texts are read from the first line of the docstring without running
the file. Other packages add parts through entry points named `basewise.<kind>`.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.metadata
from pathlib import Path
from types import ModuleType

from basewise.core.errors import UnknownName

PARTS_FOLDER = Path(__file__).parent.parent / "parts"


def _built_in(kind: str) -> dict[str, Path]:
    folder = PARTS_FOLDER / kind
    return {path.stem: path for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")}


@functools.cache
def _third_party(kind: str) -> dict[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group=f"basewise.{kind}")}


def keys(kind: str) -> list[str]:
    """The keys of all parts of a kind ("methods", "sources", ...), built in and installed."""
    return sorted({*_built_in(kind), *_third_party(kind)})


def part(kind: str, key: str) -> ModuleType:
    """The module of one part; an unknown key raises UnknownName with the nearest ones."""
    if key in _built_in(kind):
        return importlib.import_module(f"basewise.parts.{kind}.{key}")
    if key in _third_party(kind):
        return _third_party(kind)[key].load()
    raise UnknownName.of(kind.rstrip("s"), key, keys(kind))


def parts(kind: str) -> dict[str, ModuleType]:
    """All parts of a kind by key."""
    return {key: part(kind, key) for key in keys(kind)}


def summary(kind: str, key: str) -> str:
    """The first line of a part's docstring, read without importing it."""
    if path := _built_in(kind).get(key):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    else:
        text = part(kind, key).__doc__ or ""
    return text.strip().splitlines()[0] if text.strip() else ""
