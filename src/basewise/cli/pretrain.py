"""basewise pretrain: a recipe to a base; goes on where it was stopped."""

from __future__ import annotations

import importlib
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
    from basewise.engine.distributed import leave
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
    leave()


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
        if "sentence" in one:
            console.print(f"{one['set']}: {one['sentence']}", markup=False)
        for saved in one["labels_saved"].values():
            console.print(f"{one['set']}: {saved['sentence']}", markup=False)
    for path in result.bases.values():
        console.print(f"base: {path} (register it: basewise bases add {path})", markup=False)


def figure(value: dict[str, Any]) -> str:
    """1.234 [1.200, 1.268], n documents."""
    if value["low"] is None:
        return f"{value['estimate']:.3f} (n = {value['n']})"
    return f"{value['estimate']:.3f} [{value['low']:.3f}, {value['high']:.3f}] (n = {value['n']})"


def is_pretraining(run: Path) -> bool:
    """Whether a folder is that of a pretraining run."""
    return (run / "recipe.json").is_file() and (run / "metrics.jsonl").is_file()


def show_run(run: Path, live: bool, as_json: bool, console: Any) -> None:
    """A finished run as `pretrain` printed it or as JSON, one that goes on by its last step; with `live` the page, until Ctrl-C."""
    from types import SimpleNamespace

    from basewise.core.errors import InputError, RunError
    from basewise.core.files import json_text, read_json

    page_of = importlib.import_module("basewise.web.pretrain")

    if not is_pretraining(run):
        raise RunError(
            f"{run} is not the folder of a pretraining run", "give one that `basewise pretrain` writes"
        )
    if live and as_json:
        raise InputError("--live and --json came together", "leave one of them out")
    lines = page_of.read_metrics(run / "metrics.jsonl")
    finished = (run / "pretrain.json").is_file()
    if as_json:
        known = read_json(run / "pretrain.json") if finished else lines[-1] if lines else {}
        typer.echo(json_text(known), nl=False)
        return
    if finished:
        show_pretrained(SimpleNamespace(**read_json(run / "pretrain.json")), console)
    elif lines:
        last = lines[-1]
        loss = "not finite" if last["loss"] is None else f"{last['loss']:.3f}"
        console.print(
            f"step {last['step']:,} of {last['total']:,}, {last['tokens']:,} tokens, loss {loss},"
            f" {last['tokens_per_second']:,.0f} tokens a second",
            markup=False,
        )
    else:
        console.print("no step has been finished yet", markup=False)
    if live:
        with page_of.server(run) as page:
            typer.echo(f"http://127.0.0.1:{page.server_address[1]}/ (Ctrl-C ends it)", err=True)
            page.serve_forever()
    else:
        typer.echo(f"page: {run / 'pretrain.html'}")
