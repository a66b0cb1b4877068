"""basewise release, verify, policy, keys: hand a decision over, and check what was handed over."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from basewise.core.errors import InputError

MARKS = {"pass": "[green]pass[/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]", "off": "off"}
Folder = Annotated[str, typer.Argument(help="Release folder.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (release, verify, policy, diff, export, push):
        app.command()(command)
    app.add_typer(keys, name="keys")


def release(
    run: Annotated[str, typer.Argument(help="Run folder written by choose or adapt.")],
    to: Annotated[Path, typer.Option(help="Release folder to write; it must not exist.")],
    policy: Annotated[
        Path | None, typer.Option(help="TOML file of thresholds; see `basewise policy`.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="Private key that signs it; see `basewise keys new`.")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(help='"CHECK=reason" lets a failed check through, visibly (again for more).'),
    ] = None,
    by: Annotated[str, typer.Option(help="Who answers for overrides and for a licence of the rows.")] = "",
    data_licence: Annotated[str, typer.Option(help="Licence of the training rows: an SPDX id, or own.")] = "",
    weights: Annotated[
        str, typer.Option(help="alone: head or adapter; whole: the base too, runs without a network.")
    ] = "alone",
) -> None:
    """Release a decision into a folder that carries its proof, or refuse and say why."""
    from basewise.cli.main import console
    from basewise.steps.release import ReleaseOptions
    from basewise.steps.release import release as run_release

    out = console(stderr=True)
    options = ReleaseOptions(
        override=dict(_reason(line) for line in override or ()),
        by=by,
        data_licence=data_licence,
        weights=weights,
        told=lambda result: _tell(result, out),
    )
    made = run_release(run, to=to, policy=policy, key=key, options=options)
    for entry in made.overrides:
        out.print(
            f"overridden: {entry['check']} by {entry['by']}: {entry['reason']}", markup=False, soft_wrap=True
        )
    typer.echo(f"released {made.name} {made.id[:12]} into {to}, {'signed' if key else 'unsigned'}")


def _reason(line: str) -> tuple[str, str]:
    check, sign, reason = line.partition("=")
    if not sign:
        raise InputError(f"an override {line!r} came", 'write it as --override "CHECK=reason"')
    return check.strip(), reason


def _tell(result: Any, out: Any) -> None:
    from rich.markup import escape

    out.print(
        f"{MARKS[result.verdict]:<4} [bold]{result.check}[/]: {escape(result.sentence)}", soft_wrap=True
    )


def verify(
    folder: Folder,
    key: Annotated[
        Path | None, typer.Option(help="Public key it must be signed by; else those trusted here.")
    ] = None,
) -> None:
    """Check that a release is what was released: every byte, its signature, its golden answers."""
    from basewise.cli.main import console
    from basewise.steps.release import verify_release

    found = verify_release(folder, key)
    record, out = found["release"], console()
    out.print(
        f"{record.name} {record.id[:12]}: {found['seal'].files} files as released, {found['seal']}; golden answers hold",
        markup=False,
        soft_wrap=True,
    )
    out.print(record.sentence, markup=False, soft_wrap=True)
    for line in (*found["failed"], *found["warnings"]):
        out.print(f"{line['verdict']}: {line['check']}: {line['sentence']}", markup=False, soft_wrap=True)
    for entry in record.overrides:
        out.print(
            f"overridden: {entry['check']} by {entry['by']} on {entry['when'][:10]}: {entry['reason']}",
            markup=False,
            soft_wrap=True,
        )


def policy(
    file: Annotated[
        Path | None, typer.Argument(help="Policy file to check; the defaults when left out.")
    ] = None,
) -> None:
    """Print every check of the gate with its thresholds, as a policy file to keep under version control."""
    from basewise.core.policy import policy_text
    from basewise.steps.gate import policy_of, thresholds

    typer.echo(policy_text(policy_of(file), thresholds()), nl=False)


def diff(
    one: Annotated[str, typer.Argument(help="Release folder.")],
    other: Annotated[str, typer.Argument(help="Release folder that came after it.")],
) -> None:
    """What changed from one release to another; the score paired where both predicted the same rows."""
    from basewise.cli.main import console
    from basewise.steps.compare import diff as run_diff

    found, out = run_diff(one, other), console()
    for line in found["changed"]:
        out.print(f"{line['what']}: {line['from']} -> {line['to']}", markup=False, soft_wrap=True)
    if not found["changed"]:
        out.print("nothing but names and dates")
    if gap := found["score"]:
        out.print(
            f"paired on {gap['n']} rows: {gap['estimate']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}], p = {gap['p']:.3g}",
            markup=False,
        )
    else:
        out.print(f"not paired: {found['why']}", markup=False)


def export(
    folder: Folder,
    into: Annotated[Path, typer.Argument(help="Folder to write; it must not exist.")],
    to: Annotated[str, typer.Option(help="Exporter: onnx, folder, container ….")] = "onnx",
) -> None:
    """Write a release in another form; it is let out only when it gives the golden answers in its own runtime."""
    from basewise.steps.export import export as run_export

    moved = run_export(folder, to, into)
    typer.echo(f"exported {folder} to {into} as {to}; golden answers moved by at most {moved:.2g}")


def push(
    folder: Folder,
    repo: Annotated[str, typer.Argument(help="Repository of the hub: owner/name.")],
    public: Annotated[bool, typer.Option("--public", help="Anyone may see it.")] = False,
) -> None:
    """Upload a release to the Hugging Face hub, after verifying it."""
    from basewise.steps.push import push as run_push

    typer.echo(run_push(folder, repo, public=public))


keys = typer.Typer(help="Keys that sign releases.", no_args_is_help=True)


@keys.command("new")
def new_key(
    path: Annotated[Path, typer.Argument(help="Private key file to write; PATH.pub.pem beside it.")] = Path(
        "key.pem"
    ),
    days: Annotated[int, typer.Option(help="Days until it expires.")] = 730,
) -> None:
    """Make a key for signing releases; it is trusted on this machine. BASEWISE_KEY_PASSWORD locks it."""
    from basewise.engine.signing import new_key as make
    from basewise.engine.signing import trust

    private, public, name = make(path, days)
    trust(public)
    typer.echo(
        f"key {name}: sign with {private} (keep it to yourself), hand out {public}; trusted here for {days} days"
    )


@keys.command("trust")
def trust_key(path: Annotated[Path, typer.Argument(help="Public key file.")]) -> None:
    """Trust releases that are signed by a key."""
    from basewise.engine.signing import trust

    typer.echo(f"key {trust(path)} is trusted here")


@keys.command("list")
def list_keys() -> None:
    """The keys trusted on this machine."""
    from basewise.engine.signing import last_day, trusted

    for path in trusted():
        typer.echo(f"{path.stem}  until {last_day(path) or 'no end'}")


@keys.command("forget")
def forget_key(name: Annotated[str, typer.Argument(help="Fingerprint, as `keys list` shows it.")]) -> None:
    """Trust a key no longer."""
    from basewise.core.errors import UnknownName
    from basewise.engine.signing import distrust, trusted

    known = [path.stem for path in trusted()]
    if name not in known:
        raise UnknownName.of("key", name, known)
    distrust(name)
    typer.echo(f"key {name} is trusted no longer")
