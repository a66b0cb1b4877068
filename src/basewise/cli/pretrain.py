"""basewise pretrain: a recipe to a base; goes on where it was stopped."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def pretrain(
    recipe: Annotated[str, typer.Argument(help="TOML recipe, or the folder of a run to go on with.")],
    to: Annotated[Path | None, typer.Option(help="Run folder to write; runs/<name> when left out.")] = None,
    cooldown_from: Annotated[
        int | None,
        typer.Option(help="With a run folder: branch a short cooldown from the checkpoint of this step."),
    ] = None,
) -> None:
    """Pretrain a base from a corpus: checkpoints, a live page, exact resume, and what the base is worth at the end."""
    from rich.console import Console

    from basewise.cli.terminal import progress_bars
    from basewise.steps.pretrain import Options, is_first
    from basewise.steps.pretrain import pretrain as run

    out, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    with progress_bars(errors) as progress:
        options = Options(
            progress=progress,
            announce=lambda line: typer.echo(line, err=True),
            command=" ".join(["basewise", *sys.argv[1:]]),
        )
        result = run(recipe, to=to, cooldown_from=cooldown_from, options=options)
    if is_first():
        show_pretrained(result, out)


def show_pretrained(result: Any, console: Any) -> None:
    """Size, cost, scores with their intervals, what the base is worth, where it is."""
    console.print(
        f"{result.name}: {result.parameters / 1e6:.2f} M weights, {result.steps:,} steps, {result.tokens:,} tokens in"
        f" {result.seconds:.0f} s, {result.flop:.3g} FLOP, loss {result.loss:.3f}",
        markup=False,
    )
    for key, title in (
        ("bits_per_byte", "bits per byte"),
        ("nats_per_token", "nats a token"),
        ("masked_nats", "nats a hidden token"),
    ):
        for source, value in result.scores.get(key, {}).items():
            if value["estimate"] is not None:
                console.print(f"  {title}, {source}: {figure(value)}", markup=False)
    for text in result.scores.get("samples", []):
        console.print(f"  > {' '.join(text.split())}", markup=False)
    for one in result.worth:
        for saved in one["labels_saved"].values():
            console.print(f"{one['set']}: {saved['sentence']}", markup=False)
    for path in result.bases.values():
        console.print(f"base: {path} (register it: basewise bases add {path})", markup=False)


def figure(value: dict[str, Any]) -> str:
    """1.234 [1.200, 1.268], n documents."""
    if value["low"] is None:
        return f"{value['estimate']:.3f} (n = {value['n']})"
    return f"{value['estimate']:.3f} [{value['low']:.3f}, {value['high']:.3f}] (n = {value['n']})"
