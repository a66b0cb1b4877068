"""serve: any number of run and release folders behind one address, on shared bases.

Here are the settings and the checks before anything is opened; the service itself (`basewise.web.service`) lives a layer
above and is found by name. A service that others can reach needs a key.
"""

from __future__ import annotations

import importlib
import importlib.util
import ipaddress
import socket
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from basewise.core.errors import BasewiseError, InputError, MissingExtra, UnknownName
from basewise.core.files import home
from basewise.core.release import RECORD, is_release

MOST_SECONDS = 86_400.0
"""A day: the longest time that a limit may give a request."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may ask for, all checked before any compute.

    bytes of the body, rows, tokens after the cut at the base's context, depth of the JSON, `seconds` until an answer
    (the deadline, also for reading the body), tokens to generate; `waiting_rows`: rows on their way before new ones are sent away.
    """

    body_bytes: int = 1 << 20
    rows: int = 1_024
    tokens: int = 131_072
    depth: int = 16
    seconds: float = 30.0
    new_tokens: int = 1_024
    waiting_rows: int = 8_192


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Where to listen, what to keep where. `state`: keys, traffic and watch of this service; `bases`: served by themselves;
    `upstream`: address of an OpenAI-compatible server, such as vllm's, in front of which the generating routes stand."""

    host: str = "127.0.0.1"
    port: int = 8000
    state: Path = field(default_factory=lambda: home() / "serve")
    bases: tuple[str, ...] = ()
    upstream: str = ""
    limits: Limits = field(default_factory=Limits)
    quiet: bool = False
    announce: Callable[[str], None] | None = None


def read_limits(path: Path | None) -> Limits:
    """Limits of a TOML file; an unknown key is an error that names the nearest one."""
    if path is None:
        return Limits()
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read the limits in {path}: {error}", "give a TOML file") from error
    usual = Limits()
    known: dict[str, Any] = {one.name: getattr(usual, one.name) for one in fields(Limits)}
    for key, value in values.items():
        if key not in known:
            raise UnknownName.of("limit", key, known)
        whole = isinstance(known[key], int)
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            right = False
        else:
            right = value >= 1 if whole else 0 < value <= MOST_SECONDS
        if not right:
            fix = "a whole number from 1 on" if whole else f"seconds above 0, at most {MOST_SECONDS:g}"
            raise InputError(f"{key} in {path} is {value!r}", f"give {fix}")
    return Limits(**{k: type(known[k])(v) for k, v in values.items()})


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def authority(host: str, port: int) -> str:
    """Host and port as they stand in an address: what holds colons itself is put in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def hold(host: str, port: int) -> socket.socket:
    """A socket with this address, which nobody else can take until it is closed; InputError where it cannot be had."""
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((host, port))
    except (OSError, OverflowError) as error:
        held.close()
        said = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"cannot listen on {authority(host, port)}: {said}",
            "stop what listens there, or give another --port",
        ) from error
    return held


def require() -> None:
    """MissingExtra where the libraries of the service are not installed."""
    for library in ("fastapi", "uvicorn", "prometheus_client"):
        if importlib.util.find_spec(library) is None:
            raise MissingExtra.of(library.replace("_", "-"), "serve")


def serve(folders: str | Path | Sequence[str | Path], options: ServeOptions | None = None) -> None:
    """Serve until stopped. `folders`: runs, predictors, releases, or folders of these; none takes what the state folder says.

    Raises InputError for a port in use, BasewiseError for an address that others can reach without a key.
    """
    options = options or ServeOptions()
    require()
    keys = importlib.import_module("basewise.web.keys").Keys(options.state / "keys.json")
    if not is_loopback(options.host) and not keys.any:
        raise BasewiseError(
            f"{options.host} can be reached by others and no key is set",
            "make one with: basewise access add NAME, or serve on 127.0.0.1",
        )
    # from here on, since opening takes seconds
    with hold(options.host, options.port) as held:
        if options.announce is not None:
            options.announce("opening what is to be served")
        given = [folders] if isinstance(folders, (str, Path)) else folders
        found = tuple(str(one) for folder in given for one in inside(Path(folder)))
        importlib.import_module("basewise.web.service").run(found, options, held)


def inside(folder: Path) -> list[Path]:
    """The folder itself where it can be served, else the folders in it that can; itself again where there is none, to be refused."""
    if is_release(folder) or _holds(folder) or not folder.is_dir():
        return [folder]
    # hidden ones may be in the making, and other things than releases have a manifest too
    there = (one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
    return sorted(filter(_holds, there)) or [folder]


def _holds(folder: Path) -> bool:
    """Whether a folder holds a release or a predictor."""
    return any((folder / name).is_file() for name in (RECORD, "predictor.json", "predictor/predictor.json"))
