"""basewise prompt: one prompt, a file of prompts, or a chat in the terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from basewise.core.errors import BasewiseError, InputError


def prompt(
    base: Annotated[
        str,
        typer.Argument(help="Base to ask: key, hub id, folder or GGUF file; BASE:int8 names a precision."),
    ],
    text: Annotated[str | None, typer.Argument(help="The prompt; a chat starts when there is none.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="File of prompts: JSON lines, or one a line of text.")
    ] = None,
    choices: Annotated[
        str | None, typer.Option(help="Answers to choose from, separated by commas; each is scored.")
    ] = None,
    shots: Annotated[
        str | None, typer.Option(help="Labelled rows to show first, as a table for choose.")
    ] = None,
    most_tokens: Annotated[
        int | None,
        typer.Option(help="The most tokens of an answer; else 256, or what a prompt leaves of the context."),
    ] = None,
    temperature: Annotated[
        str, typer.Option(help="0 takes the likeliest token; 0.8 draws, 0.8:7 draws with seed 7.")
    ] = "0",
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines with every number.")] = False,
) -> None:
    """Ask a base: a prompt, a file of prompts, or a chat; free text, or one of given choices with their probabilities."""
    if text is not None and file is not None:
        raise InputError("a prompt and a file of prompts came", "give one of them")
    from basewise.cli.terminal import progress_bars
    from basewise.steps import prompt as steps

    _readable(text)
    options = _options(most_tokens, choices, temperature)
    prompts = steps.read_prompts(file) if file else [text] if text is not None else []
    shown = steps.read_shots(shots) if shots else []
    with progress_bars(_errors()) as progress:
        causal = steps.open_base(base, progress=progress, prompts=steps.with_shots(prompts, shown))
    if causal.why:
        typer.echo(causal.why, err=True)
    if not prompts and (shots or choices or as_json):
        raise InputError("no prompt came", "give one, or a file of prompts with --file")
    fit = most_tokens is None
    try:
        if not prompts:
            _chat(steps.Chat(causal, options, fit=fit))
        elif len(prompts) == 1 and not (options.choices or shown or as_json):
            _stream(causal, prompts[0], steps.fitted(causal, prompts, options) if fit else options)
        else:
            way = steps.answer_file if file else steps.answer
            with progress_bars(_errors()) as progress:
                replies = way(causal, prompts, options=options, shots=shown, fit=fit, progress=progress)
                _answer(replies, as_json, len(prompts) > 1, "scored" if options.choices else "generated")
    except KeyboardInterrupt:
        typer.echo("\nstopped; what was answered stands above", err=True)
        raise typer.Exit(130) from None


def _answer(replies: Any, as_json: bool, many: bool, done: str) -> None:
    """Every answer as its job ends, then the speed on standard error."""
    tokens = seconds = 0.0
    for reply in replies:
        tokens, seconds = tokens + reply.tokens, seconds + reply.seconds
        _show(reply, as_json, many)
    _speed(tokens, seconds, done)


def _options(most_tokens: int | None, choices: str | None, temperature: str) -> Any:
    """The `Sampling` that was asked for."""
    from basewise.engine.constraints import checked_choices
    from basewise.engine.generate import Sampling

    _readable(choices)
    heat, seed = _drawing(temperature)
    if choices is not None and heat:
        raise InputError("choices and a temperature came", "leave the temperature out: choices are scored")
    return Sampling(
        most_tokens=256 if most_tokens is None else most_tokens,
        temperature=heat,
        seed=seed,
        choices=checked_choices(choices.split(",")) if choices is not None else (),
    )


def _readable(text: str | None) -> None:
    """InputError for bytes that are no letters; Python hands them on as lone surrogates."""
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{text!a} is not UTF-8", "set the terminal to UTF-8, or give the prompt in a file"
        ) from None


def _drawing(text: str) -> tuple[float, int]:
    """(temperature, seed) of "0.8" or "0.8:7"."""
    heat, _, seed = text.partition(":")
    try:
        return float(heat), int(seed or 0)
    except ValueError:
        raise InputError(
            f"cannot read the temperature {text!r}", "write it like 0.8, or 0.8:7 with a seed"
        ) from None


def _errors() -> Any:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def _show(reply: Any, as_json: bool, many: bool) -> None:
    """One answer on standard output."""
    if as_json:
        typer.echo(json.dumps(reply.to_dict(), ensure_ascii=False))
        return
    if many:
        typer.echo(f"> {reply.prompt}")
    typer.echo(reply.text)
    for choice, share in sorted(reply.probabilities.items(), key=lambda pair: -pair[1]):
        typer.echo(f"  {share:6.1%}  {choice}")


def _stream(causal: Any, text: str, options: Any) -> None:
    """One answer as it comes, then the speed on standard error."""
    import time

    began, said = time.perf_counter(), ""
    for piece in causal.stream(text, options):
        said += piece
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    _speed(len(causal.encode(said, special=False)), time.perf_counter() - began, "generated")


def _speed(tokens: float, seconds: float, what: str) -> None:
    typer.echo(f"{tokens:.0f} tokens {what}, {tokens / max(seconds, 1e-9):.1f} a second", err=True)


def _chat(chat: Any) -> None:
    """A line in, an answer out, until the end of the input; an empty line ends it too."""
    # a base without a template is refused before anyone types
    chat.causal.chat([{"role": "user", "content": ""}])
    if hasattr(sys.stdin, "reconfigure"):
        # refused a line, not the whole chat
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    typer.echo("An empty line ends the chat.", err=True)
    while True:
        sys.stderr.write("> ")
        sys.stderr.flush()
        line = sys.stdin.readline().strip()
        if not line:
            return
        try:
            _readable(line)
            for piece in chat.say(line):
                sys.stdout.write(piece)
                sys.stdout.flush()
        except BasewiseError as error:
            typer.echo(f"error: {error}", err=True)
            continue
        sys.stdout.write("\n")
        _speed(chat.tokens, chat.seconds, "generated")
