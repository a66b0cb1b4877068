"""basewise bench: standard tasks by the dozen; and the terminal's view of a benchmark."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from basewise.core.errors import InputError

POINTS = 100.0
ROWS = 40


def bench(
    bases: Annotated[list[str], typer.Argument(help="Bases to ask; with --compare, two run folders.")],
    suite: Annotated[
        list[str] | None,
        typer.Option(help="A suite, a task such as bbh/navigate, or all (again, or by commas, for more)."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many items a task, the same ones each time.")] = None,
    shots: Annotated[
        str | None,
        typer.Option(help="Demonstrations, such as 5, or 0,1,2,4,8,16,32 for a curve; each task's usual number when left out."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the sets; $BASEWISE_DATA or ../shared/data when left out.")
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="Texts (file or folder) in which to look for the items: contamination.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Put two finished runs side by side, item by item.")
    ] = False,
    to: Annotated[Path | None, typer.Option(help="Run folder to write; runs/bench-<suite> when left out.")] = None,
) -> None:  # fmt: skip
    """Ask bases standard tasks in context, every number with an interval, every gap on the same items."""
    from rich.console import Console

    from basewise.cli.terminal import progress_bars

    out, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    if compare:
        _compare(bases, to, out)
        return
    from basewise.steps.bench import BenchOptions
    from basewise.steps.bench import bench as run

    with progress_bars(errors) as progress:
        options = BenchOptions(
            data=data,
            corpus=corpus,
            progress=progress,
            announce=lambda line: typer.echo(line, err=True),
            command=" ".join(["basewise", *sys.argv[1:]]),
        )
        result = run(bases, suite or ["all"], shots=numbers(shots), limit=limit, to=to, options=options)
    show_benchmark(result, out)
    typer.echo(f"report: {Path(result.folder) / 'bench.html'}")
    if result.status == "unfinished":
        typer.echo("stopped; the same command goes on from here", err=True)
        raise typer.Exit(130)


def _compare(runs: list[str], to: Path | None, out: Any) -> None:
    if len(runs) != 2:
        raise InputError(f"{len(runs)} runs were named, two were expected", "bench --compare RUN RUN")
    from basewise.core.files import write_json
    from basewise.steps.bench_compare import compare_runs

    found = compare_runs(*runs)
    show_comparison(found, out)
    if to:
        write_json(to, found)
        typer.echo(f"written: {to}")


def numbers(text: str | None) -> list[int] | None:
    """0,1,2 as numbers; InputError for anything else."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"cannot read the demonstrations {text!r}: whole numbers were expected",
            "write them like 5 or 0,1,2,4,8",
        ) from None


def figure(value: dict[str, Any] | None, measure: str, sign: str = "") -> str:
    """51.0 [41.3, 60.6], in per cent or bits; ? where an end is not known."""
    if not value:
        return ""
    bits = measure == "bits per byte"
    unit, form = (1.0, ".3f") if bits else (POINTS, ".1f")
    low, high = ("?" if value[k] is None else format(_plus(unit * value[k]), form) for k in ("low", "high"))
    return f"{format(_plus(unit * value['estimate']), sign + form)} [{low}, {high}]"


def _plus(value: float) -> float:
    """Rounded, and never a negative zero."""
    return round(value, 3) + 0.0 if abs(value) >= 0.0005 else 0.0


def gap_text(value: float | None, measure: str) -> str:
    """The smallest gap in the measure's unit."""
    if value is None:
        return ""
    return f"{value:.3f}" if measure == "bits per byte" else f"{POINTS * value:.1f}"


def show_benchmark(result: Any, console: Any) -> None:
    """The sentence, the notes, suites by base, tasks where they are few, gaps, curves and scale."""
    from rich.markup import escape

    console.print(f"\n[bold]{escape(result.sentence)}[/]\n")
    for note in result.notes:
        console.print(f"- {escape(note)}")
    console.print(suite_lines(result))
    if len(result.cells) <= ROWS:
        console.print(task_lines(result))
    elif result.cells:
        console.print(f"{len(result.tasks)} tasks: see the report.", markup=False)
    if any(d["task"] is None for d in result.differences):
        console.print(gap_lines([d for d in result.differences if d["task"] is None]))
    for line in result.curves:
        points = ", ".join(f"{p['shots']}: {figure(p, line['measure'])}" for p in line["points"])
        console.print(f"{line['base']} on {line['suite']} by shots: {points}", markup=False)
    most = max((line["shots"] for line in result.scale if line["shots"] != "gain"), default=0)
    for line in result.scale:
        if line["shots"] in ("gain", most):
            console.print(line["sentence"], markup=False)
    if result.contamination:
        found = result.contamination["tasks"]
        matched, items = sum(t["matched"] for t in found), sum(t["items"] for t in found)
        console.print(
            f"Contamination: {matched} of {items:,} items share {result.contamination['n']} words in a row with {result.contamination['corpus']}.",
            markup=False,
        )
    for line in result.bases:
        speed = f", {line['computed']:,} tokens" if line["computed"] else ""
        console.print(f"{line['name']}: {line['seconds']:.0f} s{speed}, {line['precision'] or 'by probe'}.", markup=False)  # fmt: skip


def _table(*columns: tuple[str, str]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, side in columns:
        table.add_column(name, justify=side, overflow="fold", no_wrap=side == "right")  # type: ignore[arg-type]
    return table


def label(line: dict[str, Any]) -> str:
    """A task, or a suite with its measure where that is not the usual one."""
    usual = line["measure"] in ("accuracy", "accuracy per byte")
    return str(line.get("task") or (line["suite"] if usual else f"{line['suite']} ({line['measure']})"))


def suite_lines(result: Any) -> Any:
    """One line a suite, measure and base."""
    from rich.markup import escape

    table = _table(("suite", "left"), ("base", "left"), ("mean [95 %]", "right"), ("n", "right"), ("tasks", "right"), (">chance", "right"), ("sees", "right"))  # fmt: skip
    order = list(dict.fromkeys((x["suite"], x["measure"]) for x in result.suites))
    for line in sorted(result.suites, key=lambda x: order.index((x["suite"], x["measure"]))):
        above = "" if line["above_chance"] is None else f"{line['above_chance']}"
        base = line["base"] + (" (probe)" if line["way"] == "probe" else "")
        table.add_row(
            escape(label(line)),
            escape(base),
            escape(figure(line["score"], line["measure"])),
            f"{line['score']['n']:,}",
            str(line["tasks"]),
            above,
            gap_text(line["smallest_gap"], line["measure"]),
        )
    return table


def task_lines(result: Any) -> Any:
    """One line a cell; * marks scores that are above guessing."""
    from rich.markup import escape

    by_name = {task["name"]: task for task in result.tasks}
    several = len(result.bases) > 1
    named = [("base", "left")] if several else []
    table = _table(("", "left"), ("task", "left"), *named, ("shots", "right"), ("score [95 %]", "right"), ("n", "right"), ("chance", "right"), ("majority", "right"))  # fmt: skip
    for cell in result.cells:
        task, gap = by_name[cell["task"]], cell["over_chance"]
        mark = "*" if gap and gap["estimate"] > 0 and gap["p_holm"] <= 0.05 else ""
        shares = ("" if task[k] is None else f"{POINTS * task[k]:.1f}" for k in ("chance", "majority"))
        base = cell["base"] + (" (probe)" if cell["way"] == "probe" else "")
        score = escape(figure(cell["score"], task["measure"]))
        table.add_row(mark, escape(cell["task"]), *([escape(base)] if several else []), str(cell["shots"]), score, f"{cell['score']['n']:,}", *shares)  # fmt: skip
    return table


def gap_lines(gaps: list[dict[str, Any]]) -> Any:
    """Paired differences, one line each; * marks those that hold after Holm's correction."""
    from rich.markup import escape

    table = _table(("", "left"), ("suite or task", "left"), ("difference", "left"), ("[95 %]", "right"), ("p (Holm)", "right"), ("n", "right"), ("sees", "right"))  # fmt: skip
    names = [(label(gap), gap["a"], gap["b"]) for gap in gaps]
    for gap, name in zip(gaps, names, strict=True):
        at = f", {gap['shots'][0]} shots" if names.count(name) > 1 else ""
        table.add_row(
            "*" if gap["p_holm"] <= 0.05 else "",
            escape(name[0] + at),
            escape(f"{gap['a']} - {gap['b']}"),
            escape(figure(gap, gap["measure"], "+")),
            f"{gap['p_holm']:.3g}",
            f"{gap['n']:,}",
            gap_text(gap["smallest_gap"], gap["measure"]),
        )
    return table


def show_comparison(found: dict[str, Any], console: Any) -> None:
    """Two runs side by side: suites first, then the tasks where they are few or differ."""
    console.print(found["sentence"], markup=False, style="bold")
    for note in found["notes"]:
        console.print(f"- {note}", markup=False)
    whole = [d for d in found["differences"] if d["task"] is None]
    single = [d for d in found["differences"] if d["task"]]
    console.print(gap_lines(whole))
    shown = single if len(single) <= ROWS else [d for d in single if d["p_holm"] <= 0.05]
    if shown:
        console.print(gap_lines(shown))


def show_shift(
    run: str,
    rows: str,
    mapping: str,
    target: str | None,
    base: str | None,
    group: str | None,
    to: Path | None,
) -> None:
    """`evaluate --shift`: the adapted predictor, the words and the prompted base on rows of another origin."""
    from rich.console import Console

    from basewise.cli.terminal import progress_bars
    from basewise.steps.bases import pull
    from basewise.steps.shift import read_mapping, shift

    out = Console(highlight=False)
    with progress_bars(Console(stderr=True, highlight=False)) as progress:
        asked = pull(base, progress) if base else None
        found = shift(
            run, rows, read_mapping(mapping), target=target, base=asked, group=group, to=to, progress=progress
        )
    for arm in found["arms"]:
        console_line = f"{arm['name']}: {figure(arm['score'], 'accuracy')} % of {found['n']:,} rows"
        out.print(console_line, markup=False)
    for gap in found["differences"]:
        said = f"adapted less {gap['name']}: {figure(gap, 'accuracy', '+')} points, p = {gap['p_holm']:.3g} (Holm)"
        out.print(said, markup=False)
    if found["drop"]:
        lost = figure(found["drop"], "accuracy", "+")
        out.print(
            f"against its own test rows ({POINTS * found['drop']['before']:.1f} %): {lost} points",
            markup=False,
        )
    for note in found["notes"]:
        out.print(f"- {note}", markup=False)
    if found["left_out"]:
        out.print(f"{found['left_out']} rows carry other labels and were left out", markup=False)
