"""Asks a masked base: which label's words stand best at the mask after the text; calibrated, no weight is changed.

The same template, words, shown rows and calibration as `prompt`, for bases such as BERT with their output matrix (PET, Schick &
Schütze 2021; shown rows in the text as LM-BFF has them, Gao et al. 2021). Every text is read with all that is shown before it,
so few rows are: 0, 1 or 2 a class. Label words of k tokens are asked at k masks (`engine/masked.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import FILL, Base, Card
from basewise.core.budget import Cost
from basewise.core.method import Context, Machine
from basewise.core.task import Examples
from basewise.engine.costs import LETTERS_PER_TOKEN, block_parameters, network_memory, reached

REQUIRES: frozenset[str] = frozenset({FILL})
RUNGS = "rows"

SHOTS = (0, 1, 2)
"""Shown rows of each class; nothing of them is shared between texts."""
FILL_SHARE, OPEN_SECONDS = 0.3, 1.0
"""Of the fp32 peak, at the width of MiniLM; and opening the base."""
INSTRUCTION_TOKENS = 20.0
FLOOR = 1e-9


@dataclass(frozen=True)
class Filled:
    """A prompt on a masked base, and the calibration of what it answers."""

    classes: tuple[str, ...]
    prompt: Any
    calibration: Any
    masked: Any
    choices: dict[str, Any] = field(default_factory=dict)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(n, C) from the scores at the mask."""
        scores = self.masked.label_scores(self.prompt, list(texts))
        values = np.maximum(self.calibration.probabilities(scores), FLOOR)
        return values / values.sum(1, keepdims=True)

    def save(self, folder: Path) -> None:
        """prompt.json and prompt.safetensors."""
        from basewise.engine.prompt_files import save_prompt

        record = {"classes": list(self.classes), "base": self.masked.digest, "choices": self.choices}
        save_prompt(folder, self.prompt, self.calibration, record)


def estimate(examples: Examples, card: Card | None, machine: Machine) -> Cost:
    """A pass over each judged row, what is shown before it included, for each number of shots and each length of a label."""
    from basewise.engine.shots import JUDGED_ROWS

    assert card is not None
    rows, classes = max(len(examples), 1), len(examples.classes)
    letters = float(np.mean([len(t) for t in examples.texts])) if len(examples) else 0.0
    text = min(letters / LETTERS_PER_TOKEN + 8.0, float(card.context))
    passes = float(min(len({len(c.split("_")) for c in examples.classes}), 3))
    shots = [k for k in SHOTS if k <= max(1, rows // classes // 2)]
    shown = [min(INSTRUCTION_TOKENS + k * classes * text, 0.5 * card.context) for k in shots]
    judged = min(max(rows / 2.0, 1.0), JUDGED_ROWS)
    block = 2.0 * block_parameters(card)
    flop = passes * judged * sum((text + s) * block for s in shown)
    speed = reached(FILL_SHARE, card, replace(machine, bf16_peak=machine.fp32_peak))
    return Cost(
        seconds=OPEN_SECONDS + flop / speed,
        memory_bytes=network_memory(card) + 200e6,
        flop=flop,
        predict_seconds_per_row=passes * (text + max(shown)) * block / speed + 1e-4,
    )


def fit(examples: Examples, base: Base | None, context: Context) -> Filled:
    """Shots and calibration on held-out rows; without labels, the mean answer is taken off."""
    from basewise.engine.masked import END, opened
    from basewise.engine.shots import settle_prompt

    assert base is not None
    masked = opened(base)
    settled = settle_prompt(masked, masked.label_scores, examples, context, SHOTS, END)
    choices = {**settled.choices, "precision": masked.precision}
    return Filled(examples.classes, settled.prompt, settled.calibration, masked, choices)


def load(folder: Path, base: Base | None, context: Context) -> Filled:
    """The inverse of `save`."""
    from basewise.engine.masked import opened
    from basewise.engine.prompt_files import load_prompt

    assert base is not None
    prompt, calibration, record, _ = load_prompt(folder)
    return Filled(tuple(record["classes"]), prompt, calibration, opened(base), record["choices"])
