"""basewise on the command line. Heavy imports happen inside the commands, so that --help answers at once."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from basewise.cli.access import app as access_app
from basewise.cli.bases import app as bases_app
from basewise.cli.bench import bench as bench_command
from basewise.cli.corpus import app as corpus_app
from basewise.cli.plan import plan as plan_command
from basewise.cli.pretrain import pretrain as pretrain_command
from basewise.cli.prompt import prompt as prompt_command
from basewise.cli.release import register as register_release
from basewise.cli.serve import serve as serve_command
from basewise.cli.ui import ui as ui_command
from basewise.core.errors import BasewiseError
from basewise.core.files import explain_os_error


class Verbs(typer.core.TyperGroup):
    """The commands; Ctrl-C in one of them is a line and exit code 130, not a silent end."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("stopped; the same command goes on from here", err=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    name="basewise",
    cls=Verbs,
    help="From a table of labelled rows to a proven, saved predictor on the right pretrained base.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(bases_app, name="bases")
app.add_typer(corpus_app, name="corpus")
app.add_typer(access_app, name="access")

Source = Annotated[
    str,
    typer.Argument(
        help="CSV, TSV, JSON lines, Parquet, Arrow or database file, '-' for standard input, or 'sample'."
    ),
]
Run = Annotated[str, typer.Argument(help="Run folder written by choose or adapt.")]
Target = Annotated[str | None, typer.Option(help="Column to predict; guessed when left out.")]
Inputs = Annotated[str | None, typer.Option(help="Text columns, separated by commas; guessed when left out.")]
Split = Annotated[
    str | None,
    typer.Option(
        help="chance, none, group:COLUMN, time:COLUMN, or a column that says train or test; +group:COLUMN behind one says whose rows belong together."
    ),
]
Query = Annotated[str | None, typer.Option(help="SQL to run on a DuckDB or SQLite file.")]
To = Annotated[Path | None, typer.Option(help="Run folder to write; runs/<name> when left out.")]
WORST_SHOWN = 3
"""Classes that `evaluate` prints, the ones answered worst."""


def _version(asked: bool) -> None:
    """Print the versions that a report of a fault needs, and stop."""
    if asked:
        import importlib.metadata
        import platform

        from basewise import __version__

        torch = importlib.metadata.version("torch")
        typer.echo(f"basewise {__version__} (Python {platform.python_version()}, torch {torch})")
        raise typer.Exit


@app.callback()
def _about(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Options of the command itself."""


def _options_of(inputs: str | Sequence[str] | None, split: str | None, query: str | None, **more: Any) -> Any:
    """ChooseOptions from what the commands share."""
    from basewise.core.split import asked_split
    from basewise.steps.choose import ChooseOptions

    how, group, when = asked_split(split)
    columns = [name.strip() for name in inputs.split(",")] if isinstance(inputs, str) else inputs
    return ChooseOptions(
        inputs=tuple(columns) if inputs and columns else None,
        group=group,
        when=when,
        split=how,
        query=query,
        announce=lambda line: typer.echo(line, err=True),
        command=" ".join(["basewise", *sys.argv[1:]]),
        **more,
    )


def console(stderr: bool = False) -> Any:
    """A rich console that leaves numbers uncoloured."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


@app.command()
def audit(
    source: Source, target: Target = None, inputs: Inputs = None, split: Split = None, query: Query = None
) -> None:
    """Look a table over before anything is trained: roles, split, duplicates, leaks, label noise, personal data."""
    from rich.markup import escape

    from basewise.cli.terminal import show_findings, show_roles
    from basewise.steps.choose import task_of

    task = task_of(source, target, _options_of(inputs, split, query))
    out = console()
    tests = int((task.split == "test").sum())
    out.print(
        f"[bold]{escape(task.name)}[/]: {len(task.rows):,} rows, {len(task.classes)} classes of {escape(repr(task.target))}"
        f" from {escape(', '.join(map(repr, task.inputs)))}"
    )
    show_roles(task.roles, out)
    out.print(
        f"split: {escape(task.split_said)}; {len(task.rows) - tests:,} train, {tests:,} test (locked, {task.test_digest()[:12]})"
    )
    show_findings(task.findings, out)


@app.command()
def choose(
    source: Source,
    target: Target = None,
    budget: Annotated[str, typer.Option(help="Wall time, such as 90s, 10m or 1h.")] = "10m",
    base: Annotated[
        list[str] | None, typer.Option(help="Base to try (again for more); all that fit when left out.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Method to try (again for more); all when left out.")
    ] = None,
    to: To = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with inputs, split, query, seed, limits and executor.")
    ] = None,
    split: Split = None,
) -> None:
    """Choose base and adaptation for your rows under your budget, prove the choice, save the predictor."""
    from basewise.cli.settings import read_settings
    from basewise.cli.terminal import progress_bars
    from basewise.steps.choose import choose as run

    settings = read_settings(config)
    errors = console(stderr=True)
    with progress_bars(errors) as progress:
        options = _options_of(
            settings.inputs, split or settings.split, settings.query, progress=progress, **settings.options()
        )
        decision = run(
            source,
            target=target,
            budget=budget,
            bases=base,
            methods=method,
            to=to,
            seed=settings.seed,
            options=options,
        )
    _show(decision)


def _show(decision: Any) -> None:
    """Print a decision; of a run that was stopped the exit code says so."""
    from basewise.cli.terminal import show_decision

    show_decision(decision, console())
    typer.echo(f"report: {Path(decision.folder) / 'report.html'}")
    if decision.verdict == "unfinished":
        raise typer.Exit(130)


@app.command()
def adapt(
    source: Source,
    base: Annotated[str, typer.Option(help="The base to adapt.")] = "minilm-l6",
    method: Annotated[str, typer.Option(help="The method that adapts it.")] = "probe",
    target: Target = None,
    inputs: Inputs = None,
    split: Split = None,
    to: To = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file as for choose: seed, template, labels, limits.")
    ] = None,
) -> None:
    """Adapt one base with one method, without a race; the controls run beside it."""
    from basewise.cli.settings import read_settings
    from basewise.cli.terminal import progress_bars
    from basewise.steps.adapt import adapt as run

    more = read_settings(config)
    with progress_bars(console(stderr=True)) as progress:
        options = _options_of(
            inputs or more.inputs, split or more.split, more.query, progress=progress, **more.options()
        )
        decision = run(
            source, method=method, base=base, target=target, to=to, seed=more.seed, options=options
        )
    _show(decision)


@app.command()
def evaluate(
    run: Run,
    rows: Annotated[str, typer.Argument(help="Labelled rows, as for choose.")],
    target: Target = None,
    against: Annotated[str | None, typer.Option(help="Another run, compared on the same rows.")] = None,
    group: Annotated[
        str | None,
        typer.Option(
            help="Column whose rows belong together, as one customer's; they count as many as they are worth."
        ),
    ] = None,
    shift: Annotated[
        str | None,
        typer.Option(
            help="Rows of another origin: their labels as classes, joy=positive,anger=negative; against words and prompting."
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="With --shift: base to prompt; the predictor's own when left out.")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="JSON file to write the result to.")] = None,
) -> None:
    """Score a saved predictor on new labelled rows, with intervals, and against another one row by row."""
    if shift is not None:
        from basewise.cli.bench import show_shift

        if against is not None:
            from basewise.core.errors import InputError

            raise InputError("--against and --shift came together", "compare on one kind of rows at a time")
        show_shift(run, rows, shift, target, base, group, to)
        return
    from basewise.cli.terminal import by_metric, class_line, own_lines, span
    from basewise.steps.evaluate import evaluate as run_evaluate

    result = run_evaluate(run, rows, target=target, against=against, group=group, to=to)
    out, score = console(), result["score"]
    together = f" in {result['groups']:,} groups" if result["groups"] < result["n"] else ""
    out.print(
        f"{run}: right on {span(score)} of {result['n']:,} rows{together};"
        f" calibration error {span(result['calibration']['error'])}"
    )
    rest = {key: value for key, value in result["metrics"].items() if key != "accuracy"}
    out.print(f"by every metric: {by_metric(rest)}", markup=False, soft_wrap=True)
    for line in result["classes"][:WORST_SHOWN]:
        out.print(f"answered worst: {class_line(line)}", markup=False, soft_wrap=True)
    if result["unlabelled"]:
        out.print(f"left out without a label: {result['unlabelled']:,} of the rows")
    if result["unknown_labels"]:
        out.print(
            f"left out with labels that this predictor does not know: {result['unknown_labels']:,} of the rows"
        )
    for line in own_lines(result):
        out.print(line, markup=False, soft_wrap=True)
    if result["against"]:
        other, gap = result["against"], result["against"]["difference"]
        out.print(
            f"{other['run']}: {span(other['score'])};"
            f" difference {gap['estimate']:+.3f} \\[{gap['low']:+.3f}, {gap['high']:+.3f}], p = {gap['p']:.3g} (McNemar mid-p)"
        )


@app.command()
def predict(
    run: Run,
    rows: Annotated[str, typer.Argument(help="Rows to answer, any number; '-' for standard input.")] = "-",
    to: Annotated[Path | None, typer.Option(help="File to write; standard output when left out.")] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="csv, jsonl or parquet; by the ending of --to when left out."),
    ] = None,
) -> None:
    """Answer new rows: label, probability, whether it abstains, and all probabilities; streams tables of any size."""
    from basewise.cli.answers import format_of, write_answers

    form = format_of(form, to)
    from basewise.steps.predict import load

    if to is None:
        write_answers(load(run), rows, to, form)
        return
    from basewise.cli.terminal import progress_bars

    with progress_bars(console(stderr=True)) as progress:
        write_answers(load(run), rows, to, form, progress)


app.command("prompt")(prompt_command)
app.command("bench")(bench_command)
app.command("plan")(plan_command)
app.command("pretrain")(pretrain_command)
register_release(app)
app.command("serve")(serve_command)
app.command("ui")(ui_command)


@app.command()
def show(
    run: Run,
    live: Annotated[
        bool, typer.Option("--live", help="Serve the page of a pretraining run on this machine.")
    ] = False,
) -> None:
    """Print the decision of a finished run again, or how a pretraining run stands."""
    from basewise.cli.pretrain import is_pretraining, show_run

    if live or is_pretraining(Path(run)):
        show_run(Path(run), live, console())
        return
    from basewise.cli.terminal import show_decision
    from basewise.core.decision import Decision
    from basewise.core.errors import RunError

    path = Path(run) / "decision.json"
    if not path.exists():
        raise RunError(f"{run} holds no decision", "give a run folder that `basewise choose` has finished")
    show_decision(Decision.load(path), console())
    typer.echo(f"report: {Path(run) / 'report.html'}")


def main() -> None:
    """Entry point: what a user can mend becomes one line and exit code 2, Ctrl-C a line and exit code 130."""
    # click's UsageError; typer may bring a click of its own
    usage: Any = typer.BadParameter.__base__
    try:
        sys.exit(app(standalone_mode=False))
    except BasewiseError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except usage as error:
        # none: the help was printed instead
        if said := " ".join(error.format_message().split()):
            typer.echo(f"error: {said.rstrip('.')}; see {_help_of(error)}", err=True)
        sys.exit(2)
    except MemoryError:
        typer.echo("error: memory ran out; give fewer rows or a smaller base", err=True)
        sys.exit(2)
    except BrokenPipeError:
        # what is left to flush goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        typer.echo(f"error: {_explain(error)}", err=True)
        sys.exit(2)


def _explain(error: OSError) -> str:
    """An error of the system that no step has put into words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return str(explain_os_error(error, Path(error.filename or ".")))
    return f"{error.strerror or error}: {error.filename or 'a file'}; check that it is there and may be used"


def _help_of(error: Any) -> str:
    """The command that explains what was used wrongly."""
    return f"{error.ctx.command_path if error.ctx else 'basewise'} --help"


if __name__ == "__main__":
    main()
