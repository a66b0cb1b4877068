r"""Settings: what `choose` reads from a TOML file, so that the command itself keeps few options.

inputs = ["subject", "body"]  split = "time:date"        query = "select * from tickets"      seed = 0
memory = "8GB"   download = "500MB"   latency = "20ms"   licences = ["Apache-2.0", "MIT"]
executor = "processes"   workers = 2   curves = true   accept_terms = false   metric = "macro_f1"
template = "Which team answers?\n\nMessage: {text}\nTeam: {label}"   labels = { tech = "technical help" }
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from basewise.core.errors import InputError, UnknownName


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The keys of the file, with their defaults."""

    # a list where a name holds a comma
    inputs: str | tuple[str, ...] | None = None
    split: str | None = None
    query: str | None = None
    seed: int = 0
    memory: str | None = None
    download: str | None = "500MB"
    latency: str | None = None
    licences: tuple[str, ...] = ()
    executor: str = "here"
    workers: int = 2
    curves: bool = True
    metric: str = "accuracy"
    accept_terms: bool = False
    template: str | None = None
    labels: dict[str, str] = field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        """The fields of ChooseOptions that these settings decide."""
        from basewise.core.budget import Budget, parse_bytes, parse_seconds
        from basewise.core.method import Wording
        from basewise.core.registry import part

        part("executors", self.executor)
        budget = Budget(
            memory_bytes=parse_bytes(self.memory) if self.memory else None,
            download_bytes=parse_bytes(self.download) if self.download else None,
            latency_seconds=parse_seconds(self.latency) if self.latency else None,
            licences=tuple(self.licences),
        )
        names = ("executor", "workers", "curves", "accept_terms", "metric")
        wording = Wording(template=self.template or "", words=tuple(sorted(self.labels.items())))
        return {"budget": budget, "wording": wording, **{name: getattr(self, name) for name in names}}


def read_settings(path: Path | None) -> Settings:
    """Settings of a TOML file; an unknown key is an error that names the nearest one."""
    if path is None:
        return Settings()
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read the settings in {path}: {error}", "give a TOML file") from error
    known = [field.name for field in fields(Settings)]
    for key in values:
        if key not in known:
            raise UnknownName.of("setting", key, known)
    for one in fields(Settings):
        if one.name in values:
            _check_kind(one.name, values[one.name], {} if one.name == "labels" else one.default, path)
    return Settings(**values)


def _check_kind(key: str, value: Any, default: Any, path: Path) -> None:
    """The value of a key is of the kind of its default; texts where the default is a text or nothing."""
    if key == "inputs" and isinstance(value, list):
        fits = bool(value) and all(isinstance(one, str) for one in value)
    elif isinstance(default, dict):
        fits = isinstance(value, dict) and all(isinstance(one, str) for one in value.values())
    elif isinstance(default, tuple):
        fits = isinstance(value, list) and all(isinstance(one, str) for one in value)
    else:
        fits = type(value) is type(default) or (default is None and isinstance(value, str))
    if not fits:
        wanted = {
            bool: "true or false",
            int: "a whole number",
            tuple: "a list of texts",
            dict: "a table of texts",
        }
        raise InputError(
            f"{key} in {path} is {value!r}, {wanted.get(type(default), 'a text')} was expected",
            "change it in the file",
        )
