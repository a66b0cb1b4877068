"""Asks the base: labels as words after an instruction and a few shown rows, calibrated; no weight is changed.

The same instruction and demonstrations stand before every text, so they are computed once. How many rows of each class
are shown (0, 1, 2, 4, 8, within time and context) and how the answers are calibrated is decided by held-out log-loss
(`engine/prompting.py`, `engine/recalibrate.py`). The saved predictor holds the shown rows, as token ids.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import SCORE, Base, Card
from basewise.core.budget import Cost
from basewise.core.errors import InputError
from basewise.core.files import read_json, write_bytes, write_json
from basewise.core.hashing import generator
from basewise.core.method import Context, Machine
from basewise.core.task import Examples
from basewise.engine.costs import block_parameters, network_memory, peak

REQUIRES: frozenset[str] = frozenset({SCORE})
RUNGS = "rows"
"""Asked anew for every row, it costs as much as training: it runs where the cheap arms have left time."""

SHOTS = (0, 1, 2, 4, 8)
"""Shown rows of each class."""
JUDGED_ROWS = 128
LEAST_JUDGED = 16
BLOCK_REQUESTS = 20_000
SCORE_SHARE, OPEN_SECONDS = 0.25, 3.0
"""Of the measured peak, what the scorer reaches on short texts; and opening the base, once a process."""
FLOOR = 1e-9


@dataclass(frozen=True)
class Prompted:
    """A prompt on a base, and the calibration of what it answers."""

    classes: tuple[str, ...]
    prompt: Any
    calibration: Any
    causal: Any
    choices: dict[str, Any] = field(default_factory=dict)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(n, C), in blocks so that memory stays flat."""
        scores = scored(self.causal, self.prompt, texts)
        values = np.maximum(self.calibration.probabilities(scores), FLOOR)
        return values / values.sum(1, keepdims=True)

    def save(self, folder: Path) -> None:
        """prompt.json and prompt.safetensors."""
        from safetensors.numpy import save

        record = {
            "classes": list(self.classes),
            "head": self.prompt.head,
            "room": self.prompt.room,
            "kind": self.calibration.kind,
            "norm": self.calibration.norm,
            "precision": self.causal.precision,
            "base": self.causal.digest,
            "choices": self.choices,
        }
        labels = self.prompt.labels
        tensors = {
            "prefix": np.array(self.prompt.prefix, np.int64),
            "between": np.array(self.prompt.between, np.int64),
            "labels": np.array([t for label in labels for t in label], np.int64),
            "lengths": np.array([len(label) for label in labels], np.int64),
            "weight": self.calibration.weight,
            "scale": self.calibration.scale,
            "shift": self.calibration.shift,
        }
        write_json(folder / "prompt.json", record)
        write_bytes(folder / "prompt.safetensors", save(tensors))


def scored(causal: Any, prompt: Any, texts: Sequence[str]) -> np.ndarray:
    """(n, C) summed log-probabilities of the labels."""
    from basewise.engine.prompting import label_scores

    block = max(1, BLOCK_REQUESTS // len(prompt.labels))
    parts = [label_scores(causal, prompt, texts[i : i + block]) for i in range(0, len(texts), block)]
    return np.concatenate(parts) if parts else np.zeros((0, len(prompt.labels)))


def estimate(examples: Examples, card: Card | None, machine: Machine) -> Cost:
    """Tokens of the judged rows for each number of shots, of the demonstrations once, and the output matrix at the labels."""
    assert card is not None
    rows, classes = max(len(examples), 1), len(examples.classes)
    letters = float(np.mean([len(t) for t in examples.texts])) if len(examples) else 0.0
    text = min(letters / 4.2 + 8.0, 384.0)
    inner = sum(max(len(c) / 5.0 - 1.0, 0.0) for c in examples.classes)
    shots = [k for k in SHOTS if k <= max(1, rows // classes // 2)]
    block = 2.0 * block_parameters(card)
    head = 2.0 * max(card.parameters - block_parameters(card), 0.0)
    each = (text + inner) * block * 1.3 + (1.0 + inner) * head
    judged = min(max(rows / 2.0, 1.0), JUDGED_ROWS)
    shown = min(max(shots) * classes * min(text + 4.0, 100.0), 1536.0)
    flop = len(shots) * judged * each + 2.0 * shown * block
    speed = SCORE_SHARE * peak(machine)
    return Cost(
        seconds=OPEN_SECONDS + flop / speed,
        memory_bytes=network_memory(card) + 600e6,
        flop=flop,
        predict_seconds_per_row=each / speed + 1e-4,
        disk_bytes=20e3,
    )


def fit(examples: Examples, base: Base | None, context: Context) -> Prompted:
    """Shots and calibration on held-out rows, as many as the time allows; without labels, the mean answer is taken off."""
    from basewise.engine import prompting
    from basewise.engine.causal import opened
    from basewise.engine.fidelity import PRECISIONS

    assert base is not None
    until = time.monotonic() + context.seconds
    causal = opened(base, context.precision if context.precision in PRECISIONS else "auto")
    words = prompting.verbalise(examples.classes, context.wording)
    asked = context.wording.template
    template = prompting.Template.of(asked) if asked else prompting.default_template(words)
    rng = generator("prompt", context.seed)
    known = examples.take(examples.labels >= 0)
    rounds = prompting.demonstrations(known, SHOTS[-1], rng)
    prompts = _prompts(causal, template, words, known, rounds)
    shown = np.concatenate([*rounds[: max(prompts)], np.zeros(0, np.int64)])
    judged = _judged(known, np.setdiff1d(np.arange(len(known)), shown), rng)
    if not len(judged):  # every row is shown: nothing can be judged, so as much as may be is shown
        shots = max(k for k in prompts if k <= 1)
        rows = examples.take(examples.labels < 0) if len(known) else examples
        return _unjudged(causal, prompts[shots], rows, examples.classes, shots)
    return _best(causal, prompts, judged, (examples.classes, until, context.progress, rng))


def _prompts(
    causal: Any, template: Any, words: Sequence[str], known: Examples, rounds: list[np.ndarray]
) -> dict[int, Any]:
    """Prompts by shots, those that fit into the context; none at all is one of them."""
    from basewise.engine import prompting

    made: dict[int, Any] = {}
    counts = known.counts[known.counts > 0]
    most = max(1, int(np.median(counts)) // 2) if len(counts) else 0
    for shots in (k for k in SHOTS if k <= most):
        rows = [int(r) for one in rounds[:shots] for r in one]
        shown = [(known.texts[r], words[known.labels[r]]) for r in rows]
        try:
            prompt = prompting.build_prompt(causal, template, words, shown)
        except InputError:
            if not shots:
                raise
            break
        if shots and not prompting.fits(causal, prompt):
            break
        made[shots] = prompt
    return made


def _judged(known: Examples, free: np.ndarray, rng: np.random.Generator) -> Examples:
    """Up to JUDGED_ROWS of the rows that are not shown, classes in turn."""
    order = rng.permutation(free)
    turn = np.zeros(len(order))
    for c in range(len(known.classes)):
        own = known.labels[order] == c
        turn[own] = np.arange(own.sum())
    return known.take(order[np.argsort(turn, kind="stable")][:JUDGED_ROWS])


def _unjudged(causal: Any, prompt: Any, rows: Examples, classes: tuple[str, ...], shots: int) -> Prompted:
    """Without rows to judge by: the mean answer over unlabelled texts is taken off where there are enough."""
    from basewise.engine.recalibrate import choose_calibration

    scores = scored(causal, prompt, rows.texts[:JUDGED_ROWS])
    lengths = np.array([len(label) for label in prompt.labels], float)
    calibration, _ = choose_calibration(scores, np.full(len(scores), -1), lengths, generator("prompt"))
    return Prompted(classes, prompt, calibration, causal, _choices(prompt, calibration, shots, {}, 0))


def _best(causal: Any, prompts: dict[int, Any], judged: Examples, about: tuple[Any, ...]) -> Prompted:
    """The shots and the calibration with the least held-out log-loss; a number of shots is tried while the time lasts."""
    from basewise.engine.recalibrate import choose_calibration

    classes, until, progress, rng = about
    tried: dict[int, tuple[float, Any, dict[str, Any]]] = {}
    rows, slowest = len(judged), 0.0
    for number, (shots, prompt) in enumerate(prompts.items()):
        left = until - time.monotonic()
        if tried and slowest * rows > 0.8 * left:
            break
        began = time.monotonic()
        lengths = np.array([len(label) for label in prompt.labels], float)
        first = min(LEAST_JUDGED, rows)
        scores = scored(causal, prompt, judged.texts[:first])
        each = (time.monotonic() - began) / first
        if not tried and np.isfinite(left):
            rows = int(np.clip(0.5 * left / max(each, 1e-9) / len(prompts), first, rows))
        scores = np.concatenate([scores, scored(causal, prompt, judged.texts[first:rows])])
        slowest = max(slowest, (time.monotonic() - began) / rows)
        calibration, record = choose_calibration(scores, judged.labels[:rows], lengths, rng)
        loss = record["out_of_fold_log_loss"]
        tried[shots] = (np.inf if loss is None else loss, calibration, record)
        progress(number + 1, len(prompts), "prompt: choosing shots")
    shots = min(tried, key=lambda k: (tried[k][0], -k))
    _, calibration, record = tried[shots]
    record = {**record, "losses_by_shots": {str(k): v[0] for k, v in tried.items() if np.isfinite(v[0])}}
    choices = _choices(prompts[shots], calibration, shots, record, rows)
    return Prompted(classes, prompts[shots], calibration, causal, choices | {"precision": causal.precision})


def _choices(prompt: Any, calibration: Any, shots: int, record: dict[str, Any], rows: int) -> dict[str, Any]:
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


def load(folder: Path, base: Base | None, context: Context) -> Prompted:
    """The inverse of `save`."""
    from safetensors.numpy import load_file

    from basewise.engine.causal import opened
    from basewise.engine.prompting import Prompt
    from basewise.engine.recalibrate import Calibration

    assert base is not None
    record, tensors = read_json(folder / "prompt.json"), load_file(folder / "prompt.safetensors")
    ends = np.cumsum(tensors["lengths"])
    labels = [tuple(part.tolist()) for part in np.split(tensors["labels"], ends[:-1])]
    prompt = Prompt(
        tuple(tensors["prefix"].tolist()),
        record["head"],
        tuple(tensors["between"].tolist()),
        tuple(labels),
        record["room"],
    )
    calibration = Calibration(
        record["kind"], record["norm"], tensors["weight"], tensors["scale"], tensors["shift"]
    )
    return Prompted(
        tuple(record["classes"]), prompt, calibration, opened(base, record["precision"]), record["choices"]
    )
