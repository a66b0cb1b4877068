"""How a command ends: what a user can mend as one line and exit code 2; a closed pipe quietly; told to end, with nothing half-written."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from basewise.core.errors import BasewiseError
from basewise.core.files import explain_os_error


@contextlib.contextmanager
def in_order() -> Iterator[None]:
    """Told to end (SIGTERM, or SIGHUP of a terminal that closes), a command puts away what it has begun to write, as after Ctrl-C."""

    def end(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        # one that is ignored, as under nohup, stays so
        told = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
        before = {number: signal.signal(number, end) for number in told}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_to_its_end(command: Callable[[], Any]) -> None:
    """Run the command and leave with its exit code."""
    usage: Any = typer.BadParameter.__base__  # click's UsageError; typer may bring a click of its own
    try:
        code = command()
        sys.stdout.flush()
        sys.exit(code)
    except BasewiseError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except usage as error:
        if said := " ".join(error.format_message().split()):  # none: the help was printed instead
            typer.echo(f"error: {said.rstrip('.')}; see {_help_of(error)}", err=True)
        sys.exit(2)
    except MemoryError:
        typer.echo("error: memory ran out; give fewer rows or a smaller base", err=True)
        sys.exit(2)
    except BrokenPipeError:
        _read_enough()
    except OSError as error:
        typer.echo(f"error: {_explain(error)}", err=True)
        sys.exit(2)
    except SystemExit as end:
        # typer and rich make exit code 1 of it
        if isinstance(end.__context__, BrokenPipeError):
            _read_enough()
        raise


def _read_enough() -> None:
    """The reader of the output has closed it, as `head` does: what is left to flush goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


def _explain(error: OSError) -> str:
    """An error of the system that no step has put into words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return str(explain_os_error(error, Path(error.filename or ".")))
    return f"{error.strerror or error}: {error.filename or 'a file'}; check that it is there and may be used"


def _help_of(error: Any) -> str:
    """The command that explains what was used wrongly."""
    return f"{error.ctx.command_path if error.ctx else 'basewise'} --help"
