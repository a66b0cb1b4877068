"""Recipe of a corpus: everything that decides its tokens, as one frozen value and one TOML file.

vocabulary = 0                    # 0: chosen by bits per byte among `vocabularies`
validation = 0.01                 # share of each source's documents held apart
languages = ["en"]                # texts surely in another language go; [] keeps all
decontaminate = ["../eval/*.parquet"]
filters = { words = [20, 100000], short_lines = false }

[[sources]]
name = "books"
paths = ["books/*.parquet"]
held_out = ["books_validation.parquet"]   # instead of a share
licence = "CC0-1.0"               # where rows do not say it themselves
weight = 2.0                      # passes over the source in one epoch
"""

from __future__ import annotations

import glob
import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from basewise.core.documents import STREAM
from basewise.core.errors import InputError, UnknownName


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where documents come from: files, folders (read recursively) and streams, under one name, licence and weight."""

    name: str
    paths: tuple[str, ...]
    held_out: tuple[str, ...] = ()
    licence: str = ""
    text: str = "text"
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class CorpusRecipe:
    """See the head of this file. `near`: Jaccard similarity of word 5-grams from which a document repeats another; 1 switches it off."""

    sources: tuple[Source, ...] = ()
    vocabulary: int = 0
    vocabularies: tuple[int, ...] = (2048, 4096, 8192, 16384, 32768)
    width: int = 256
    """Width of the network that the vocabulary is chosen for: each token costs so many weights."""
    validation: float = 0.01
    languages: tuple[str, ...] = ()
    near: float = 0.75
    personal: bool = True
    decontaminate: tuple[str, ...] = ()
    filters: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_corpus_recipe(path: Path) -> CorpusRecipe:
    """The recipe of a TOML file; its paths are taken from its own folder. Unknown keys raise with the nearest name."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            f"cannot read the recipe {path}: {getattr(error, 'strerror', None) or error}", "give a TOML file"
        ) from error
    made = _checked(CorpusRecipe, values, str(path))
    if not isinstance(made.get("sources", []), list):
        raise InputError(f"sources in {path} is no list of tables", "write each source under [[sources]]")
    sources = []
    for entry in made.get("sources", []):
        if not isinstance(entry, dict):
            raise InputError(f"a source in {path} is {entry!r}", "write each source under [[sources]]")
        one = _checked(Source, entry, f"a source in {path}")
        for key in ("name", "paths"):
            if not one.get(key):
                raise InputError(f"a source in {path} has no {key}", f"write {key} under [[sources]]")
        places = {key: _from(path.parent, one.get(key, ())) for key in ("paths", "held_out")}
        sources.append(Source(**{**one, **places}))
    against = _from(path.parent, made.get("decontaminate", ()))
    return checked(CorpusRecipe(**{**made, "sources": tuple(sources), "decontaminate": against}))


def _from(folder: Path, places: Sequence[str]) -> tuple[str, ...]:
    """Places as seen from a folder; streams stay as they are."""
    return tuple(place if ":" in place else str(folder / place) for place in places)


def _checked(kind: Any, values: dict[str, Any], where: str) -> dict[str, Any]:
    """The values of one table, each of the kind its key asks for."""
    known = {one.name: str(one.type) for one in fields(kind)}
    out = {}
    for key, value in values.items():
        if key not in known:
            raise UnknownName.of(f"key of {where}", key, known)
        wanted = known[key]
        if wanted == "float" and type(value) is int:
            value = float(value)
        if wanted.startswith("tuple") and isinstance(value, list):
            inner = int if "int" in wanted else str
            fits = key == "sources" or all(type(one) is inner for one in value)
            value = value if key == "sources" else tuple(value)
        else:
            fits = wanted.startswith(type(value).__name__)
        if not fits:
            raise InputError(
                f"{key} in {where} is {value!r}, {wanted} was expected", "change it in the recipe"
            )
        out[key] = value
    return out


def checked(recipe: CorpusRecipe) -> CorpusRecipe:
    """The recipe, if its numbers make sense and its sources have different names; InputError in one line else."""
    _check_filters(recipe.filters)
    if not 0 <= recipe.validation < 1:
        raise InputError(f"validation is {recipe.validation}", "give a share from 0 to below 1, such as 0.01")
    if not 0 < recipe.near <= 1:
        raise InputError(
            f"near is {recipe.near}", "give a similarity above 0, such as 0.75; 1 switches it off"
        )
    if not recipe.vocabulary and not recipe.vocabularies:
        raise InputError("vocabularies is empty", "name sizes to choose from, or give one with vocabulary")
    _check_sources(recipe.sources)
    return recipe


def _check_filters(filters: dict[str, Any]) -> None:
    from basewise.core.registry import keys

    for key in filters:
        if key not in keys("filters"):
            raise UnknownName.of("filter", key, keys("filters"))
    for key, limits in filters.items():
        pair = isinstance(limits, (list, tuple)) and len(limits) == 2
        if limits is not False and not (pair and all(type(x) in (int, float) for x in limits)):
            raise InputError(
                f"the filter {key} is {limits!r}", "give [least, most], or false to switch it off"
            )


def _check_sources(sources: Sequence[Source]) -> None:
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two sources are named {name!r}", "give each its own name")
        if not re.fullmatch(r"[\w.-]+", name):
            raise InputError(f"a source is named {name!r}", "use letters, digits, dots and dashes")
    for source in sources:
        if not 0 < source.weight < math.inf:
            raise InputError(f"the weight of {source.name} is {source.weight}", "give a number above 0")


def named_sources(places: Sequence[str]) -> tuple[Source, ...]:
    """Sources for places given on the command line, each named after its file or, for files named train or data, its folder."""
    out: list[Source] = []
    for place in places:
        path = Path(place.partition(":")[2] if place.startswith(STREAM) else place)
        stem = path.name.split(".")[0]
        if stem in ("train", "data", "part", "") and path.resolve().parent.name:
            stem = path.resolve().parent.name
        name = re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "source"
        taken = {source.name for source in out}
        number = next(n for n in range(1, 10_000) if (name if n == 1 else f"{name}-{n}") not in taken)
        out.append(Source(name=name if number == 1 else f"{name}-{number}", paths=(place,)))
    return tuple(out)


def files_of(places: Sequence[str], takes: Any) -> list[str]:
    """The files behind places, in order: folders recursively by name, patterns spread, streams as they are.

    `takes(place)`: whether a reader knows the file. Raises InputError for a place that is not there or holds nothing to read.
    """
    out: list[str] = []
    for place in places:
        if ":" in place and takes(place):
            out.append(place)
            continue
        path = Path(place).expanduser()
        if path.is_dir():
            found = [file for file in _seen(path) if takes(file)]
        else:
            found = [str(path)] if path.is_file() else sorted(glob.glob(str(path), recursive=True))
        if not found:
            what = "holds no file that a reader knows" if path.is_dir() else "is not there"
            raise InputError(
                f"the source {place} {what}", "give Parquet, JSON lines or text files, or a folder of them"
            )
        for file in found:
            if not takes(file):
                raise InputError(f"no reader knows {file}", "give Parquet, JSON lines or text files")
        out += found
    return out


def passed_over(places: Sequence[str], takes: Any) -> dict[str, int]:
    """{ending: files} of what lies in the folders among `places` and no reader knows; hidden files are not counted."""
    folders = [path for place in places if (path := Path(place).expanduser()).is_dir()]
    left = [Path(file).suffix or "none" for folder in folders for file in _seen(folder) if not takes(file)]
    return {ending: left.count(ending) for ending in sorted(set(left))}


def _seen(folder: Path) -> list[str]:
    """The files of a folder and of those in it by name, but hidden ones."""
    return sorted(
        str(p)
        for p in folder.rglob("*")
        if p.is_file() and not any(x.startswith(".") for x in p.relative_to(folder).parts)
    )
