"""basewise serve: runs and releases behind one address."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

State = Annotated[
    Path | None, typer.Option(help="Folder of keys, traffic and watch; in the user's cache when left out.")
]


def serve(
    folders: Annotated[
        list[str] | None,
        typer.Argument(help="Run, predictor or release folders, each served as its own task."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address; others than this machine's need a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    base: Annotated[
        list[str] | None, typer.Option(help="Base to serve for embeddings and generation (again for more).")
    ] = None,
    state: State = None,
    upstream: Annotated[
        str,
        typer.Option(
            help="Address of an OpenAI-compatible server, or vllm:MODEL, for the generating routes."
        ),
    ] = "",
    config: Annotated[
        Path | None, typer.Option(help="TOML file with limits: body_bytes, rows, tokens …")
    ] = None,
    quiet: Annotated[bool, typer.Option(help="No line a request on standard error.")] = False,
) -> None:
    """Serve any number of tasks on shared bases: predictions, embeddings, generation, watch, change without loss."""
    from basewise.steps import serve as step

    given = {} if state is None else {"state": state}
    options = step.ServeOptions(
        host=host,
        port=port,
        bases=tuple(base or ()),
        upstream=upstream,
        limits=step.read_limits(config),
        quiet=quiet,
        announce=lambda line: typer.echo(line, err=True),
        **given,
    )
    step.serve(tuple(folders or ()), options)
