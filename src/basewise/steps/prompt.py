"""prompt: ask a base. One prompt, a file of prompts, or a conversation; generated freely, or one of given choices.

With choices each is scored after the prompt and the likeliest is the answer, with all probabilities; without, text is generated.
Shots are labelled rows shown before the prompt; what all prompts share is computed once.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import SCORE, Base
from basewise.core.errors import BasewiseError, InputError, RunError
from basewise.core.files import Progress, home, silent
from basewise.core.hashing import digest_json
from basewise.core.registry import keys, part
from basewise.core.rundir import RunDir
from basewise.engine.generate import Sampling
from basewise.steps import bases as base_steps

PROMPT_KEYS = ("prompt", "text", "question")
ANSWER_KEYS = ("answer", "label", "target")
JOB_PROMPTS = 128
"""Prompts answered together; what was answered before a stop is given out."""
KEPT_PROMPTS = 64
"""Prompts of a file that are answered together and kept; at most so many are asked again after a kill."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The answer to one prompt. `probabilities` and `log_probabilities` (nats, of all tokens): of each choice, where choices were
    given; `tokens` generated or scored, `seconds` spent on the job that it was part of, shared out over its prompts."""

    prompt: str
    text: str
    tokens: int = 0
    seconds: float = 0.0
    ended: str = ""
    probabilities: dict[str, float] = field(default_factory=dict)
    log_probabilities: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For JSON lines."""
        record: dict[str, Any] = {"prompt": self.prompt, "answer": self.text}
        for name in ("probabilities", "log_probabilities"):
            if found := getattr(self, name):
                record[name] = {choice: round(value, 6) for choice, value in found.items()}
        record |= {"tokens": self.tokens, "seconds": round(self.seconds, 4)}
        return {**record, "ended": self.ended} if self.ended else record


def open_base(
    name: str | Base,
    precision: str = "auto",
    progress: Progress = silent,
    prompts: Sequence[str] = (),
) -> Any:
    """The opened decoder of a base; for one that cannot score, InputError with the methods that fit it.

    A name may end in the precision, as in smollm2-135m:int8. `prompts`: what int8 is verified on.
    """
    from basewise.engine.causal import opened

    if isinstance(name, str):
        name, precision = split_precision(name, precision)
    base = name if isinstance(name, Base) else base_steps.pull(name, progress)
    if SCORE not in base.provides:
        fitting = [m for m in keys("methods") if (r := part("methods", m).REQUIRES) and r <= base.provides]
        raise InputError(
            f"{base.key} is no causal language model and cannot be asked",
            f"use a decoder such as smollm2-135m, or adapt {base.key} with {', '.join(fitting)}",
        )
    return opened(base, precision, prompts)


def split_precision(name: str, usual: str = "auto") -> tuple[str, str]:
    """(base, precision) of "base:precision"; of a name without one, the usual precision."""
    from basewise.engine.fidelity import PRECISIONS

    before, _, after = name.rpartition(":")
    return (before, after) if before and after in PRECISIONS else (name, usual)


def read_prompts(path: Path) -> list[str]:
    """Prompts of a file: JSON lines (texts, or objects with prompt, text or question), else a line each; empty lines are none."""
    try:
        # a text may hold other ends of lines
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the prompts in {path}: {error}", "give a text or JSON lines file"
        ) from error
    if path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        found = [_from_json(line, number, path) for number, line in enumerate(lines, 1) if line.strip()]
    else:
        found = [line for line in lines if line.strip()]
    if not found:
        raise InputError(f"{path} holds no prompt", "write one a line")
    return found


def _from_json(line: str, number: int, path: Path) -> str:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {number}: broken JSON, {error.msg}", "mend or delete that line"
        ) from error
    if isinstance(value, dict):
        value = next((value[key] for key in PROMPT_KEYS if key in value), None)
    if not isinstance(value, str):
        raise InputError(
            f"{path}, line {number}: no prompt in it",
            'write lines like {"prompt": "Where is the post office?"}',
        )
    return value


def read_shots(source: str | Path) -> list[tuple[str, str]]:
    """(text, answer) of each row of a table: columns by their usual names, else the two that it has, the answer last."""
    from basewise.core.table import read_table

    table = read_table(source)
    names = list(table.columns)
    answers = [n for n in names if n.lower() in ANSWER_KEYS]
    texts = [n for n in names if n.lower() in PROMPT_KEYS]
    if not (answers and texts):
        if len(names) != 2:
            raise InputError(
                f"{source} has the columns {', '.join(names)}: which is the text, which the answer?",
                "name them text and label, or give those two alone",
            )
        texts, answers = names[:1], names[1:]
    rows = zip(table.column(texts[0]), table.column(answers[0]), strict=True)
    shots = [((text or "").strip(), (label or "").strip()) for text, label in rows]
    if not (whole := [(text, label) for text, label in shots if text and label]):
        raise InputError(f"{source} has no row with a text and an answer", "fill in both")
    return whole


def with_shots(prompts: Sequence[str], shots: Sequence[tuple[str, str]]) -> list[str]:
    """Each prompt after the shots, as a further one whose answer is missing."""
    if not shots:
        return list(prompts)
    before = "".join(f"{text.strip()}\nAnswer: {answer}\n\n" for text, answer in shots)
    return [f"{before}{prompt.strip()}\nAnswer:" for prompt in prompts]


def answer(
    causal: Any,
    prompts: Sequence[str],
    *,
    options: Sampling | None = None,
    shots: Sequence[tuple[str, str]] = (),
    fit: bool = False,
    progress: Progress = silent,
) -> Iterator[Reply]:
    """A Reply for each prompt, in order, as jobs of JOB_PROMPTS end. Choices in `options` are scored, not generated.

    `fit`: an answer takes what its prompt leaves of the context where that is less than the most tokens.
    """
    options = options or Sampling()
    asked = with_shots(prompts, shots)
    _check_room(causal, asked, shots, fitted(causal, asked, options) if fit else options)
    for start in range(0, len(prompts), JOB_PROMPTS):
        part_ = slice(start, start + JOB_PROMPTS)
        began = time.perf_counter()
        if options.choices:
            replies = _choose(causal, prompts[part_], asked[part_], options.choices, progress)
        else:
            stop = options.stop or (("\n\n",) if shots else ())
            own = replace(options, stop=stop)
            each = [fitted(causal, [one], own) if fit else own for one in asked[part_]]
            found = causal.answers(asked[part_], each, progress)
            replies = [
                Reply(prompt=p, text=a.text.strip() if shots else a.text, tokens=a.tokens, ended=a.ended)
                for p, a in zip(prompts[part_], found, strict=True)
            ]
        seconds = (time.perf_counter() - began) / len(replies)
        for reply in replies:
            yield replace(reply, seconds=seconds)


def answer_file(
    causal: Any,
    prompts: Sequence[str],
    *,
    options: Sampling,
    shots: Sequence[tuple[str, str]] = (),
    fit: bool = False,
    progress: Progress = silent,
) -> Iterator[Reply]:
    """As `answer`, for many prompts: answers are kept in the user's cache until all are there, so the same job goes on after a kill.

    What is answered together depends on the job alone, so the answers are those of one go.
    """
    asked = with_shots(prompts, shots)
    _check_room(causal, asked, shots, fitted(causal, asked, options) if fit else options)
    job = [causal.digest, causal.precision, list(prompts), asdict(options), [list(s) for s in shots], fit]
    identity = digest_json(job)
    folder = home() / "prompts" / identity[:24]
    with contextlib.ExitStack() as stack:
        run: RunDir | None = None
        # a cache that cannot be written or is in use: nothing is kept
        with contextlib.suppress(RunError):
            run = stack.enter_context(RunDir.open(folder, identity))
        for start in range(0, len(prompts), KEPT_PROMPTS):
            part_ = prompts[start : start + KEPT_PROMPTS]
            if run is not None and (saved := run.saved(str(start))) is not None:
                yield from (Reply(**record) for record in saved[1]["replies"])
                continue
            replies: list[Reply] = []
            for reply in answer(causal, part_, options=options, shots=shots, fit=fit, progress=progress):
                replies.append(reply)
                # at once: what is stopped in the middle has been shown
                yield reply
            if run is not None:
                run.keep(str(start), {}, {"replies": [asdict(reply) for reply in replies]})
    if run is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _choose(
    causal: Any, prompts: Sequence[str], asked: Sequence[str], choices: Sequence[str], progress: Progress
) -> list[Reply]:
    """The likeliest choice of each prompt: per letter, so that long choices are not at a loss; shares of all of them."""
    from basewise.engine.constraints import checked_choices
    from basewise.engine.heads import softmax

    choices = checked_choices(choices)
    spaces = ["" if prompt[-1:].isspace() or not prompt else " " for prompt in asked]
    requests = [(p, space + choice) for p, space in zip(asked, spaces, strict=True) for choice in choices]
    scores = causal.pick(requests, [len(choices)] * len(asked), progress)
    sums = scores.log_probability.reshape(len(asked), len(choices))
    letters = np.array([len(choice) for choice in choices], float)
    logits = sums * letters.mean() / letters
    return [
        Reply(
            prompt=prompt,
            text=choices[int(row.argmax())],
            tokens=int(count),
            probabilities=dict(zip(choices, map(float, row), strict=True)),
            log_probabilities=dict(zip(choices, map(float, logs), strict=True)),
        )
        for prompt, row, logs, count in zip(
            prompts, softmax(logits), sums, scores.tokens.reshape(len(asked), -1).sum(1), strict=True
        )
    ]


def _check_room(
    causal: Any, asked: Sequence[str], shots: Sequence[tuple[str, str]], options: Sampling
) -> None:
    """InputError where a prompt does not fit: by how much, and how many shots would."""
    lengths = [len(tokens) for tokens in causal.encode_all(asked)]
    tokens = max(lengths, default=0)
    wanted = max((len(causal.encode(c)) for c in options.choices), default=options.most_tokens)
    over = tokens + wanted - causal.context
    if over <= 0:
        return
    which = "the prompt" if len(asked) == 1 else f"prompt {lengths.index(tokens) + 1} of {len(asked)}"
    fix = "shorten it, or generate fewer tokens"
    if shots:
        each = [len(causal.encode(f"{text}\nAnswer: {label}\n\n")) for text, label in shots]
        dropped = int(np.searchsorted(np.cumsum(each), over)) + 1
        kept = max(0, len(shots) - dropped)
        fix = f"give at most {kept} shots instead of {len(shots)}" if kept else f"leave the shots out; {fix}"
    raise InputError(
        f"{which} has {tokens:,} tokens; with {wanted:,} for the answer that is {over:,} more than"
        f" {causal.base.key} reads ({causal.context:,})",
        fix,
    )


def fitted(causal: Any, prompts: Sequence[str], options: Sampling) -> Sampling:
    """The options with as many tokens as the longest prompt leaves of the context, at most what they say and at least 1."""
    longest = max((len(tokens) for tokens in causal.encode_all(prompts)), default=0)
    return replace(options, most_tokens=max(1, min(options.most_tokens, causal.context - longest)))


@dataclass
class Chat:
    """A conversation with a base that has a chat template; each turn stays in it. The oldest turns go when it gets too long.

    `fit`: an answer takes what is left of the context where that is less than the most tokens, down to half a context.
    """

    causal: Any
    options: Sampling
    fit: bool = False
    messages: list[dict[str, str]] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0

    def say(self, text: str) -> Iterator[str]:
        """The reply in pieces as they come; afterwards `tokens` and `seconds` are those of this turn."""
        before = list(self.messages)
        self.messages.append({"role": "user", "content": text})
        prompt = self.causal.chat(self.messages)
        while len(self.messages) > 1 and self._too_long(prompt):
            del self.messages[:2]
            prompt = self.causal.chat(self.messages)
        options = fitted(self.causal, [prompt], self.options) if self.fit else self.options
        began, said = time.perf_counter(), ""
        try:
            for piece in self.causal.stream(prompt, options, special=False):
                said += piece
                yield piece
        except BasewiseError:
            # such as a line that is too long: the conversation is what it was
            self.messages = before
            raise
        self.seconds = time.perf_counter() - began
        self.tokens = len(self.causal.encode(said, special=False))
        self.messages.append({"role": "assistant", "content": said})

    def _too_long(self, prompt: str) -> bool:
        most = self.options.most_tokens
        wanted = min(most, self.causal.context // 2) if self.fit else most
        return len(self.causal.encode(prompt, special=False)) + wanted > self.causal.context
