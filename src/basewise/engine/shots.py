"""How many labelled rows are shown and how the answers are calibrated: decided by held-out log-loss, as far as the time goes.

The same for every base that is asked, decoder or masked: `reader` is what encodes (engine/causal, engine/masked), `score` gives
the (n, C) scores of the labels after a prompt. Fewer rows shown win a tie, for they cost less.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from basewise.core.errors import InputError
from basewise.core.files import Progress
from basewise.core.hashing import generator
from basewise.core.method import Context
from basewise.core.task import Examples
from basewise.engine import prompting
from basewise.engine.prompting import Prompt, Template
from basewise.engine.recalibrate import LEAST_ROWS, Calibration, choose_calibration

JUDGED_ROWS = 128
LEAST_JUDGED = 16
Score = Callable[[Prompt, Sequence[str]], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A prompt and its calibration, and what decided them. `judged` (J,) positions among the labelled rows `known`;
    `losses` (J,) their held-out log-loss; `seconds_a_row` measured."""

    prompt: Prompt
    calibration: Calibration
    choices: dict[str, Any]
    template: Template
    words: tuple[str, ...]
    known: Examples
    judged: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    losses: np.ndarray = field(default_factory=lambda: np.zeros(0))
    seconds_a_row: float = 0.0


def settle_prompt(
    reader: Any, score: Score, examples: Examples, context: Context, numbers: Sequence[int], after: str = ""
) -> Settled:
    """Shots out of `numbers` (rows shown of each class, 0 among them) and calibration, for these rows.

    `after`: what stands behind a label where it is shown.
    Without rows enough to judge by nothing is compared: the mean answer is taken off where there are texts enough to know it.
    """
    until = time.monotonic() + context.seconds
    words = prompting.verbalise(examples.classes, context.wording)
    asked = context.wording.template
    described = [context.wording.described(name) for name in examples.classes]
    template = Template.of(asked) if asked else prompting.default_template(words, described)
    rng = generator("prompt", context.seed)
    known = examples.take(examples.labels >= 0)
    rounds = prompting.demonstrations(known, max(numbers), rng)
    prompts = _prompts(reader, template, words, known, rounds, numbers, after)
    shown = np.concatenate([*rounds[: max(prompts)], np.zeros(0, np.int64)])
    free = np.setdiff1d(np.arange(len(known)), shown)
    judged = in_turn(known.labels, rng.permutation(free))[:JUDGED_ROWS]
    about: dict[str, Any] = {"template": template, "words": words, "known": known}
    bare = int((examples.labels < 0).sum())
    if not len(judged) or (len(judged) < LEAST_ROWS and bare >= 4 * len(words)):
        # nothing can be compared: as much as may be is shown, and texts without labels tell the mean answer
        shots = max(k for k in prompts if k <= 1)
        rows = examples.take(examples.labels < 0) if len(known) else examples
        scores = score(prompts[shots], rows.texts[:JUDGED_ROWS])
        unknown = np.full(len(scores), -1)
        found, _ = choose_calibration(scores, unknown, lengths_of(prompts[shots]), generator("prompt"))
        choices = chosen(prompts[shots], found, shots, {}, 0)
        return Settled(prompt=prompts[shots], calibration=found, choices=choices, **about)
    return _best(prompts, score, judged, about, until, context.progress, rng)


def lengths_of(prompt: Prompt) -> np.ndarray:
    """(C,) tokens of each label."""
    return np.array([len(label) for label in prompt.labels], float)


def in_turn(labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The positions `order` (n,) so that classes take turns; within a class as they came."""
    turn = np.zeros(len(order))
    for c in np.unique(labels[order]):
        own = labels[order] == c
        turn[own] = np.arange(own.sum())
    return order[np.argsort(turn, kind="stable")]


def _prompts(
    reader: Any,
    template: Template,
    words: Sequence[str],
    known: Examples,
    rounds: Sequence[np.ndarray],
    numbers: Sequence[int],
    after: str,
) -> dict[int, Prompt]:
    """Prompts by shots, those that fit into the context; none at all is one of them."""
    made: dict[int, Prompt] = {}
    counts = known.counts[known.counts > 0]
    most = max(1, int(np.median(counts)) // 2) if len(counts) else 0
    for shots in (k for k in numbers if k <= most):
        rows = [int(r) for one in rounds[:shots] for r in one]
        shown = [(known.texts[r], words[known.labels[r]] + after) for r in rows]
        try:
            prompt = prompting.build_prompt(reader, template, words, shown)
        except InputError:
            if not shots:
                raise
            break
        if shots and not prompting.fits(reader, prompt):
            break
        made[shots] = prompt
    return made


def _best(
    prompts: dict[int, Prompt],
    score: Score,
    judged: np.ndarray,
    about: dict[str, Any],
    until: float,
    progress: Progress,
    rng: np.random.Generator,
) -> Settled:
    """The shots with the least held-out log-loss; a number of shots is tried while the time lasts. `about`: what the result names."""
    known = about["known"]
    tried: dict[int, tuple[float, Calibration, dict[str, Any], float]] = {}
    rows, slowest = len(judged), 0.0
    for number, (shots, prompt) in enumerate(prompts.items()):
        left = until - time.monotonic()
        if tried and slowest * rows > 0.8 * left:
            break
        began = time.monotonic()
        first = min(LEAST_JUDGED, rows)
        texts = [known.texts[i] for i in judged]
        scores = score(prompt, texts[:first])
        each = (time.monotonic() - began) / first
        if not tried and np.isfinite(left):
            rows = int(np.clip(0.5 * left / max(each, 1e-9) / len(prompts), first, rows))
        scores = np.concatenate([scores, score(prompt, texts[first:rows])])
        each = (time.monotonic() - began) / rows
        slowest = max(slowest, each)
        found, record = choose_calibration(scores, known.labels[judged[:rows]], lengths_of(prompt), rng)
        loss = record["out_of_fold_log_loss"]
        tried[shots] = (np.inf if loss is None else loss, found, record, each)
        progress(number + 1, len(prompts), "prompt: choosing shots")
    if all(np.isinf(found[0]) for found in tried.values()):
        # too few rows to compare by: what is known is shown
        shots = max(k for k in tried if k <= 1)
    else:
        shots = min(tried, key=lambda k: (tried[k][0], k))
    _, found, record, each = tried[shots]
    losses = record.pop("losses", np.zeros(0))
    record = {**record, "losses_by_shots": {str(k): v[0] for k, v in tried.items() if np.isfinite(v[0])}}
    return Settled(
        prompt=prompts[shots],
        calibration=found,
        choices=chosen(prompts[shots], found, shots, record, rows),
        judged=judged[:rows],
        losses=losses,
        seconds_a_row=each,
        **about,
    )


def chosen(
    prompt: Prompt, calibration: Calibration, shots: int, record: dict[str, Any], rows: int
) -> dict[str, Any]:
    """What was decided, for the record and the report."""
    return {
        "shots_a_class": shots,
        "prefix_tokens": len(prompt.prefix),
        "calibration": calibration.kind,
        "label_score": calibration.norm,
        "judged_rows": rows,
        "out_of_fold_log_loss": record.get("out_of_fold_log_loss"),
        "losses_by_shots": record.get("losses_by_shots", {}),
    }
