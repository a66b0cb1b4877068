"""A GGUF file on this machine, opened as plain weights once and kept in the store."""

from __future__ import annotations

from pathlib import Path

from basewise.core.base import Base, Card
from basewise.core.errors import BaseUnavailable, MissingExtra
from basewise.core.files import Progress, silent
from basewise.core.hashing import sha256_file
from basewise.engine.store import Store, verify

LOCATOR = ("path",)


def cards() -> list[Card]:
    """None: files are named when they are used."""
    return []


def card_of(path: Path) -> Card:
    """A card read from the file's own header."""
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise MissingExtra.of("gguf", "gguf") from error
    try:
        reader = GGUFReader(str(path))
        fields = reader.fields
        kind = str(fields["general.architecture"].contents())
        number = {
            k: int(fields[f"{kind}.{k}"].contents())
            for k in ("block_count", "embedding_length", "context_length")
        }
        parameters = sum(int(tensor.n_elements) for tensor in reader.tensors)
    except (ValueError, KeyError, OSError, IndexError, OverflowError, TypeError, AttributeError) as error:
        raise BaseUnavailable(
            f"{path} is not a GGUF file that can be read: {error}", "fetch it again"
        ) from error
    licence = fields["general.license"].contents() if "general.license" in fields else "not stated"
    return Card(
        key=path.stem,
        source="gguf",
        family="decoder",
        licence=str(licence),
        parameters=parameters,
        layers=number["block_count"],
        width=number["embedding_length"],
        download_bytes=0,
        context=number["context_length"],
        provides=frozenset({"embed", "train", "score", "generate"}),
        weights_sha256=sha256_file(path),
        locator={"path": str(path.resolve())},
    )


def load(card: Card, store: Store, progress: Progress = silent) -> Base:
    """Dequantised once; later loads read the store."""

    def build(temporary: Path) -> Path:
        from basewise.engine.gguf_convert import convert

        source = Path(card.locator["path"])
        if not source.is_file():
            raise BaseUnavailable(f"the file {source} of {card.key} is gone", "name it where it is now")
        verify(source, card.weights_sha256, str(source))
        progress(0, 0, f"opening {source.name}")
        made = temporary / "base"
        made.mkdir()
        convert(source, made)
        return made

    return store.fetch(card, build)
