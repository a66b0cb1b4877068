"""basewise bases: list, show, pull, add, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="The bases: what there is, what is here, at what size and under which licence.", no_args_is_help=True
)
Name = Annotated[str, typer.Argument(help="Key, hub id, folder, or GGUF file.")]


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False)


@app.command("list")
def list_bases() -> None:
    """All known bases, with size, licence and whether they are on this machine."""
    from basewise.cli.terminal import show_bases
    from basewise.steps import bases

    cards = bases.listing()
    show_bases(cards, {card.key for card in cards if bases.here(card)}, _console())


@app.command()
def show(name: Name) -> None:
    """Everything known about one base."""
    from basewise.steps import bases

    out = _console()
    for key, value in bases.describe(bases.find(name)).items():
        out.print(f"{key:>16}  {value}", markup=False)


@app.command()
def pull(
    name: Name,
    accept_terms: Annotated[
        bool, typer.Option(help="You have read and accept the terms of this base.")
    ] = False,
) -> None:
    """Fetch a base into the store; size and licence are shown first, digests are checked."""
    from basewise.cli.terminal import progress_bars
    from basewise.steps import bases

    out = _console()
    with progress_bars(out) as progress:
        base = bases.pull(name, progress, accept_terms, out.print)
    out.print(f"{base.key} is here: sha256 {base.digest}", markup=False)


@app.command()
def add(
    card: Annotated[
        Path,
        typer.Argument(
            help="JSON file with the card of a base of your own, or a folder that pretrain saved."
        ),
    ],
) -> None:
    """Add a base of your own to the catalogue."""
    from basewise.core.base import Card
    from basewise.core.errors import InputError
    from basewise.core.files import read_json
    from basewise.steps import bases

    card = card / "card.json" if card.is_dir() else card
    try:
        value = Card.from_dict(read_json(card))
    except (TypeError, AttributeError) as error:
        raise InputError(f"{card} is not a card: {error}", "see docs/bases.md for its fields") from error
    bases.add(value)
    _console().print(f"{value.key} was added", markup=False)


@app.command()
def check(name: Name) -> None:
    """Read every byte of a base again and compare its digest."""
    from basewise.steps import bases

    _console().print(str(bases.check(name)), markup=False)
