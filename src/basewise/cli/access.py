"""basewise access: keys of a service: who may ask, for which tasks, how long, how often."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer

from basewise.cli.serve import State

app = typer.Typer(help="Keys of a service: make, list and take back.", no_args_is_help=True)


def _keys(state: Path | None) -> Any:
    from basewise.steps.serve import ServeOptions

    folder = ServeOptions().state if state is None else state
    return importlib.import_module("basewise.web.keys").Keys(folder / "keys.json")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    task: Annotated[
        list[str] | None, typer.Option(help="Task or base that it opens (again for more); all when left out.")
    ] = None,
    admin: Annotated[bool, typer.Option(help="It may also change releases.")] = False,
    expires: Annotated[str | None, typer.Option(help="Time until it expires, such as 30d or 12h.")] = None,
    rate: Annotated[int, typer.Option(help="Requests a minute; 0 for no limit.")] = 0,
    state: State = None,
) -> None:
    """Make a key and print it: it is not kept and cannot be shown again."""
    seconds = _seconds(expires) if expires else None
    typer.echo(
        _keys(state).add(name, tasks=tuple(task) if task else ("*",), admin=admin, seconds=seconds, rate=rate)
    )


@app.command("list")
def list_keys(state: State = None) -> None:
    """The keys without their secrets."""
    import datetime as dt

    for key in _keys(state).all():
        until = (
            dt.datetime.fromtimestamp(key.expires, dt.UTC).isoformat("T", "minutes")
            if key.expires
            else "never"
        )
        what = " admin" if key.admin else ""
        typer.echo(
            f"{key.id}  {key.name}  tasks {', '.join(key.tasks)}{what}  expires {until}  rate {key.rate or 'none'}"
        )


@app.command()
def remove(
    id: Annotated[str, typer.Argument(help="Id of the key, from the list.")], state: State = None
) -> None:
    """Take a key back; a running service refuses it from then on."""
    key = _keys(state).remove(id)
    typer.echo(f"removed {key.id} ({key.name})")


def _seconds(text: str) -> float:
    """Seconds of 30d, 12h, 10m or 90s."""
    from basewise.core.budget import parse_seconds
    from basewise.core.errors import InputError

    if text.endswith("d"):
        try:
            return 86_400 * float(text[:-1])
        except ValueError:
            raise InputError(f"cannot read the time {text!r}", "write it like 30d or 12h") from None
    return parse_seconds(text)
