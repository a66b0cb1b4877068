"""basewise ui: the pages, on loopback."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def ui(
    runs: Annotated[Path, typer.Option(help="Folder with the run folders.")] = Path("runs"),
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 8765,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = False,
) -> None:
    """See everything in a browser: bases, new runs, runs while they run, rows, benchmarks, a playground. On this machine only."""
    import importlib

    from basewise.core.errors import MissingExtra

    for library in ("fastapi", "uvicorn", "python_multipart"):
        try:
            importlib.import_module(library)
        except ImportError:
            raise MissingExtra.of(library.replace("_", "-"), "ui") from None

    def announce(address: str) -> None:
        typer.echo(f"basewise ui: {address}")
        typer.echo("Ctrl-C ends the pages; runs that were started go on", err=True)
        if browser:
            typer.launch(address)

    # The pages live beside the command line, not below it, so they are found by name.
    importlib.import_module("basewise.web.ui.app").serve(runs, port, announce)
