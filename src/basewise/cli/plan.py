"""basewise plan: what a pretraining run needs, takes and costs, before it runs; and what a ladder of small runs foretells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from basewise.core.budget import duration
from basewise.core.errors import InputError

GB = 1e9


def plan(
    recipe: Annotated[
        list[str] | None, typer.Argument(help="TOML recipe; with --ladder, the folders of finished runs.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Without a recipe: parameters of a decoder, such as 350M or 7B.")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(help="Tokens to learn from, such as 20B; 20 a parameter when left out.")
    ] = None,
    hardware: Annotated[
        str,
        typer.Option(help="Kind and number of ranks: here:2, a100:8, h100:64, h200:8, or FILE.toml:NAME:8."),
    ] = "here:1",
    base_flop: Annotated[
        str | None,
        typer.Option(help="FLOP of the base that the run goes on from: a third of it makes a provider."),
    ] = None,
    emit: Annotated[
        str | None, typer.Option(help="Also write slurm, skypilot or torchrun files for the recipe.")
    ] = None,
    ladder: Annotated[
        str | None, typer.Option(help="Fit a scaling law to the runs and predict this many FLOP, such as 3e15.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Folder for plan.json and what --emit writes; . for the latter.")
    ] = None,
) -> None:  # fmt: skip
    """Plan a pretraining run: memory, time, money, energy, FLOP, layout, checkpoints; or fit a scaling law to small runs."""
    from rich.console import Console

    out = Console(highlight=False)
    if ladder is not None:
        from basewise.steps.plan_ladder import read_ladder

        fitted = read_ladder(recipe or [], _flop(ladder))
        show_ladder(fitted, out)
        _write(fitted, to)
        return
    from basewise.steps import plan as steps
    from basewise.steps.plan_hardware import read_hardware

    if bool(recipe) == bool(size):
        came = "both a recipe and --size" if recipe else "neither a recipe nor --size"
        raise InputError(f"{came} came", "give one: basewise plan recipe.toml, or basewise plan --size 7B")
    if recipe:
        if len(recipe) > 1:
            raise InputError(f"{len(recipe)} recipes came, one was expected", "give one, or --ladder FLOP")
        wanted = steps.with_tokens(steps.from_recipe(recipe[0]), tokens)
    else:
        wanted = steps.from_size(size or "", tokens, read_hardware(hardware)[1])
    found = steps.plan(wanted, hardware, _flop(base_flop) if base_flop else None)
    written = None
    if emit:
        from basewise.steps.plan_emit import emit as write

        written = write(found, emit, to or Path())
    show_plan(found, out)
    _write(found.to_dict(), to, written)


def _flop(text: str) -> float:
    """3e15 as a number."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e40:
        raise InputError(f"cannot read the FLOP {text!r}", "write them like 3e15")
    return value


def _write(value: Any, to: Path | None, written: Path | None = None) -> None:
    if written is not None:
        typer.echo(f"written: {written}")
    if to is not None:
        from basewise.core.files import write_json

        write_json(to / "plan.json", value)
        typer.echo(f"written: {to / 'plan.json'}")


def _lines(console: Any) -> Callable[[str], None]:
    """Prints lines as they are, neither wrapped nor read as markup."""
    return lambda text: console.print(text, markup=False, soft_wrap=True)


def show_plan(p: Any, console: Any) -> None:
    """The plan as a page of text."""
    from basewise.core.shapes import parameters, parameters_by_part

    say, s, step = _lines(console), p.wanted.shape, p.chosen.step
    parts = ", ".join(f"{k} {big(v)}" for k, v in parameters_by_part(s).items() if v)
    say(
        f"{p.wanted.name}: {big(parameters(s))} parameters ({parts}); {s.kind}, {s.layers} layers of {s.width}"
    )
    say(
        f"{big(p.wanted.tokens)} tokens in {p.steps:,} steps of {p.wanted.rows} x {s.context}; {p.flop:.3g} FLOP"
    )
    say(f"on {p.ranks} x {p.machine.name} ({p.source})")
    memory = ", ".join(f"{k} {v / GB:.2f}" for k, v in p.memory.items() if v >= 5e6)
    say(
        f"memory a rank: {sum(p.memory.values()) / GB:.2f} GB at its peak ({p.moment}: {memory}),"
        f" about {p.chosen.memory / GB:.2f} of {p.machine.memory_bytes / GB:.0f} GB with all that is around it"
    )
    from basewise.steps.plan import share_of_peak

    say(
        f"a step: {duration(step.total)} (compute {duration(step.compute)}, traffic {duration(step.traffic + step.tensor)},"
        f" optimiser {duration(step.optimiser)}); {big(p.wanted.rows * s.context / step.total)} tokens a second,"
        f" {share_of_peak(p):.0%} of the peak"
    )
    money = f", ${p.money:,.0f}" if p.machine.price_per_hour else ""
    say(f"in all: {duration(p.seconds)}{money}, {p.energy:,.3g} kWh (planned, not measured)")
    for one in p.front:
        say(f"  layout {layout(one.layout)}: {duration(one.step.total)} a step, {one.memory / GB:.1f} GB")
    between, cost = p.checkpoint
    say(f"a checkpoint every {duration(between)} ({duration(cost)} each; Young and Daly)")
    for passed in p.thresholds or ("no regulatory threshold is passed (1e23, 1e25 FLOP)",):
        say(passed)
    if p.error:
        say(
            f"this planner's error here: median {p.error[0]:.0%}, worst {p.error[1]:.0%} of {p.error[2]} measured runs"
        )
    else:
        say("this planner's error here: not known, no measured run of this hardware is in the journal")
    for note in p.notes:
        say(f"note: {note}")


def layout(one: Any) -> str:
    """8 data x 2 tensor, 4 x 2 rows, recomputed."""
    kinds = (
        ("data", one.data),
        ("tensor", one.tensor),
        ("pipeline", one.pipeline),
        ("sequence", one.sequence),
    )
    text = " x ".join(f"{n} {name}" for name, n in kinds if n > 1) or "1 rank"
    return f"{text}, {one.micro_batches} x {one.rows} rows" + (", recomputed" if one.recompute else "")


def show_ladder(found: dict[str, Any], console: Any) -> None:
    """The law, what it foretells, and how well it did on the largest runs."""
    say = _lines(console)
    law = found["law"]
    say(
        f"{found['runs']} runs: L = {law['floor']:.3f} + {law['size_scale']:.3g} N^-{law['size_power']:.3f}"
        f" + {law['data_scale']:.3g} D^-{law['data_power']:.3f} {found['unit']}"
    )
    for key in ("size_power", "data_power", "floor"):
        low, high = found["bands"][key]
        say(f"  {key.replace('_', ' ')}: {law[key]:.3f} [{low:.3f}, {high:.3f}]")
    for one in found["backtest"]:
        say(
            f"  held out: {one['flop']:.2g} FLOP, {one['times']:.1f} x the rest: {one['predicted']:.3f} predicted,"
            f" {one['loss']:.3f} measured ({one['error']:+.1%})"
        )
    if not found["backtest"]:
        say("  held out: too few runs are left without the largest: no backtest")
    best = found["best"]
    low, high = (big(end) if end is not None else "no bound" for end in best["parameters_band"])
    say(
        f"{found['flop']:.3g} FLOP ({found['times']:.1f} x the largest run): best {big(best['parameters'])} parameters"
        f" [{low}, {high}] on {big(best['tokens'])} tokens,"
        f" loss {best['loss']:.3f} [{best['loss_band'][0]:.3f}, {best['loss_band'][1]:.3f}]"
    )
    if lost := found["draws_without_size"]:
        say(f"  {lost} of {found['draws']} resamplings of the runs tell no best size")
    say(found["labels"])


def big(value: float) -> str:
    """1.3 B, 45.2 M, 940 k."""
    for size, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:.3g}"
