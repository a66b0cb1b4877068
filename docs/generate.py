"""Write what documents must not say by hand; --check fails when it is not up to date.

docs/commands.md comes from the command line and the registry; the table of results in README.md from benchmarks/results.

Run: python docs/generate.py [--check]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import typer

from basewise.cli.main import app
from basewise.core.registry import keys, summary

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TARGET, README = HERE / "commands.md", ROOT / "README.md"
BEGIN, END = "<!-- results: written by docs/generate.py -->", "<!-- end of results -->"
HEAD = """# Commands

<!-- Written by docs/generate.py from the command line itself; a test compares them. Edit the docstrings instead. -->

Errors that you can mend are one line on standard error and exit code 2. Ctrl-C is exit code 130.
"""
KINDS = {
    "methods": "Methods, for `--method`",
    "sources": "Where bases come from",
    "readers": "What `corpus build` reads",
    "filters": "What `corpus build` leaves out",
    "objectives": "How a base is pretrained",
    "rankers": "What ranks a base before it is tried",
    "executors": "Where jobs run",
    "suites": "Benchmark suites, for `bench --suite`",
    "checks": "What a release must pass",
    "documents": "What a release says about itself",
    "exporters": "What a release becomes, for `export --to`",
}


def cell(text: str) -> str:
    """One line that a Markdown table takes."""
    return " ".join(text.split()).replace("|", "\\|")


def command_text(command: Any, name: str) -> list[str]:
    """Markdown lines of one command: usage, help, arguments and options."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    places = [(p.name or "").upper() if p.required else f"[{(p.name or '').upper()}]" for p in arguments]
    lines = [
        f"## {name}",
        "",
        "    " + " ".join([name, *places, "[options]"]),
        "",
        cell(command.help or ""),
        "",
    ]
    rows = []
    for parameter in command.params:
        if parameter.param_type_name == "option":
            if parameter.name == "help":
                continue
            names = ", ".join(f"`{n}`" for n in (*parameter.opts, *parameter.secondary_opts))
            default = (
                ""
                if parameter.default in (None, False, ()) or callable(parameter.default)
                else f"`{parameter.default}`"
            )
            rows.append(f"| {names} | {cell(parameter.help or '')} | {default} |")
        else:
            text = getattr(parameter, "help", None) or ""
            default = "" if parameter.required or parameter.default is None else f"`{parameter.default}`"
            rows.append(f"| `{(parameter.name or '').upper()}` | {cell(text)} | {default} |")
    if rows:
        lines += ["| | | default |", "|---|---|---|", *rows, ""]
    return lines


def walk(command: Any, name: str) -> list[str]:
    """A command, or all commands of a group, in their own order."""
    inner = getattr(command, "commands", None)
    if not inner:
        return command_text(command, name)
    return [line for key, child in inner.items() for line in walk(child, f"{name} {key}")]


def text() -> str:
    """The whole page."""
    lines = [HEAD, *walk(typer.main.get_command(app), "basewise")]
    for kind, title in KINDS.items():
        lines += [f"## {title}", "", "| key | |", "|---|---|"]
        lines += [f"| `{key}` | {cell(summary(kind, key))} |" for key in keys(kind)] + [""]
    return "\n".join(lines).rstrip() + "\n"


def results() -> str:
    """The table of results: one line a committed result file, with the aims that were met and those that were missed."""
    lines = ["| benchmark | measured | aims met | aims missed |", "|---|---|---|---|"]
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        met = record.get("met") or {}
        words = [
            "; ".join(name for name, value in met.items() if value is wanted) for wanted in (True, False)
        ]
        name = f"[{path.stem}](benchmarks/{path.stem}.py)"
        told = cell(record.get("headline") or record.get("claim") or "")
        lines.append(f"| {name} | {told} | {cell(words[0])} | {cell(words[1])} |")
    return "\n".join(lines) if len(lines) > 2 else "No result file is committed yet."


def readme() -> str:
    """README.md with its table of results written afresh."""
    before, rest = README.read_text(encoding="utf-8").split(BEGIN, 1)
    return f"{before}{BEGIN}\n{results()}\n{END}{rest.split(END, 1)[1]}"


def main() -> None:
    """Write the pages, or compare them."""
    stale = []
    for path, fresh in ((TARGET, text()), (README, readme())):
        if path.exists() and path.read_text(encoding="utf-8") == fresh:
            continue
        if "--check" in sys.argv[1:]:
            stale.append(str(path.relative_to(ROOT)))
        else:
            path.write_text(fresh, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    if stale:
        raise SystemExit(f"not up to date: {', '.join(stale)}; run: make docs")


if __name__ == "__main__":
    main()
