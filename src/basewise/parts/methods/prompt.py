"""Asks the base: labels as words after an instruction and a few shown rows, calibrated; no weight is changed.

The same instruction and demonstrations stand before every text, so they are computed once. How many rows of each class
are shown (0, 1, 2, 4, 8, within time and context) and how the answers are calibrated is decided by held-out log-loss
(`engine/shots.py`, `engine/recalibrate.py`). Showing each text the rows nearest to it (`engine/nearest.py`) costs several times
as much: it is tried where the budget has seconds to spare, and taken where its held-out gain is beyond its standard error.
The saved predictor holds the shown rows, or those it picks from, as token ids.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import EMBED, SCORE, Base, Card
from basewise.core.budget import Cost
from basewise.core.method import Context, Machine
from basewise.core.task import Examples
from basewise.engine.costs import block_parameters, network_memory, peak
from basewise.engine.frozen import spoken

REQUIRES: frozenset[str] = frozenset({SCORE})
RUNGS = "rows"
"""Asked anew for every row, it costs as much as training: it runs where the cheap arms have left time."""

SHOTS = (0, 1, 2, 4, 8)
"""Shown rows of each class."""
BLOCK_REQUESTS = 20_000
SCORE_SHARE, OPEN_SECONDS = 0.45, 1.0
"""Of the measured peak, what the scorer reaches on short texts; and opening the base, once for the folds of a race."""
HEAD_SHARE = 0.6
"""Of the fp32 peak, in which the output matrix is applied whatever the blocks run in."""
LETTERS_PER_TOKEN, ROW_TOKENS = 4.5, 5.0
"""English in a decoder's vocabulary, and the tokens of the template around a text."""
FLOOR = 1e-9


@dataclass(frozen=True)
class Near:
    """Demonstrations picked for each text: the pool, the instruction before them, and where features come from."""

    pool: Any
    prompt: Any
    base: Base
    store: Any
    precision: str

    def scores(self, causal: Any, texts: Sequence[str]) -> np.ndarray:
        """(n, C) scores of the labels, each text behind the rows nearest to it."""
        from basewise.engine.nearest import near_scores

        found = self.store.features(self.base, texts, layers=self.pool.layer, precision=self.precision)
        near = self.pool.near(found.matrix(self.pool.layer))
        return near_scores(causal, self.prompt, self.pool, texts, near)


@dataclass(frozen=True)
class Prompted:
    """A prompt on a base, and the calibration of what it answers. `near`: demonstrations for each text, or None."""

    classes: tuple[str, ...]
    prompt: Any
    calibration: Any
    causal: Any
    near: Near | None = None
    choices: dict[str, Any] = field(default_factory=dict)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(n, C), in blocks so that memory stays flat."""
        texts = list(texts)
        if self.near is not None and texts:
            block = max(1, BLOCK_REQUESTS // len(self.prompt.labels))
            parts = [self.near.scores(self.causal, texts[i : i + block]) for i in range(0, len(texts), block)]
            scores = np.concatenate(parts)
        else:
            scores = scored(self.causal, self.prompt, texts)
        values = np.maximum(self.calibration.probabilities(scores), FLOOR)
        return values / values.sum(1, keepdims=True)

    def shown(self) -> tuple[str, ...]:
        """What stands before a text, and the rows it may be picked from: the release carries them."""
        pool = self.near.pool.shown if self.near is not None else ()
        return tuple(self.causal.decode(list(ids)) for ids in (self.prompt.prefix, *pool) if len(ids))

    def write(self, beginnings: Sequence[str], tokens: int) -> list[str]:
        """How the base goes on from the beginnings of texts behind what is shown to it (greedy), for the release gate."""
        from basewise.engine.generate import Sampling

        behind = [self._before(text) + text for text in beginnings]
        return list(self.causal.generate(behind, Sampling(most_tokens=tokens, cut_left=True)))

    def likely(self, beginning: str, texts: Sequence[str]) -> np.ndarray:
        """(n,) log-probabilities of the texts after a beginning, behind what is shown."""
        before = self._before(beginning) + beginning
        return np.asarray(self.causal.score([(before, text) for text in texts]).log_probability)

    def _before(self, text: str) -> str:
        """Instruction, shown rows and head, as they stand before a text that is asked about."""
        ids = list(self.prompt.prefix)
        if self.near is not None:
            near = self.near
            found = near.store.features(near.base, [text], layers=near.pool.layer, precision=near.precision)
            for i in near.pool.near(found.matrix(near.pool.layer))[0]:
                ids += near.pool.shown[i]
        return str(self.causal.decode(ids)) + str(self.prompt.head)

    def save(self, folder: Path) -> None:
        """prompt.json and prompt.safetensors."""
        from basewise.engine.prompt_files import ragged, save_prompt

        record: dict[str, Any] = {"classes": list(self.classes), "precision": self.causal.precision}
        record |= {"base": self.causal.digest, "choices": self.choices}
        arrays = {}
        if self.near is not None:
            pool = self.near.pool
            shown, lengths = ragged(pool.shown)
            arrays = {"pool": shown, "pool_lengths": lengths, "pool_labels": pool.labels}
            arrays |= {"pool_rows": pool.rows, "pool_centre": pool.centre}
            record["near"] = {"layer": pool.layer, "places": pool.places, "precision": self.near.precision}
        save_prompt(folder, self.prompt, self.calibration, record, arrays)


def scored(causal: Any, prompt: Any, texts: Sequence[str]) -> np.ndarray:
    """(n, C) summed log-probabilities of the labels."""
    from basewise.engine.prompting import label_scores

    block = max(1, BLOCK_REQUESTS // len(prompt.labels))
    parts = [label_scores(causal, prompt, texts[i : i + block]) for i in range(0, len(texts), block)]
    return np.concatenate(parts) if parts else np.zeros((0, len(prompt.labels)))


def inner_tokens(classes: Sequence[str]) -> float:
    """Tokens that scoring all labels feeds behind a text: of each label all but the last, shared beginnings once."""
    fed: dict[tuple[str, ...], float] = {}
    for name in classes:
        words = spoken(name).split()
        for i, word in enumerate(words):
            last = i == len(words) - 1
            fed[(*words[: i + 1], *(("",) if last else ()))] = max(
                len(word) / 6.0 - last, 0.0 if last else 1.0
            )
    return sum(fed.values())


def estimate(examples: Examples, card: Card | None, machine: Machine) -> Cost:
    """Tokens of the judged rows for each number of shots, of the demonstrations once, and the output matrix at the labels.

    Numbers of shots that would not fit into the context are not tried, so not counted. Of fixed demonstrations: nearest ones are
    tried only with seconds beyond this (`Context.spare`).
    """
    from basewise.engine.prompting import PREFIX_SHARE, PREFIX_TOKENS
    from basewise.engine.shots import JUDGED_ROWS

    assert card is not None
    rows, classes = max(len(examples), 1), len(examples.classes)
    letters = float(np.mean([len(t) for t in examples.texts])) if len(examples) else 0.0
    text = min(letters / LETTERS_PER_TOKEN + ROW_TOKENS, 384.0)
    inner = inner_tokens(examples.classes)
    room = min(PREFIX_SHARE * card.context, PREFIX_TOKENS)
    prefixes = {k: k * classes * min(text, 100.0) for k in SHOTS if k <= max(1, rows // classes // 2)}
    prefixes = {k: tokens for k, tokens in prefixes.items() if tokens <= room}
    block = 2.0 * block_parameters(card)
    head = 2.0 * max(card.parameters - block_parameters(card), 0.0)
    speed, head_speed = SCORE_SHARE * peak(machine), HEAD_SHARE * machine.fp32_peak
    each = (text + inner) * block / speed + (1.0 + inner) * head / head_speed
    judged = min(max(rows / 2.0, 1.0), JUDGED_ROWS)
    flop = (
        len(prefixes) * judged * ((text + inner) * block + (1.0 + inner) * head)
        + sum(prefixes.values()) * block
    )
    return Cost(
        seconds=OPEN_SECONDS + len(prefixes) * judged * each + sum(prefixes.values()) * block / speed,
        memory_bytes=network_memory(card) + 600e6,
        flop=flop,
        predict_seconds_per_row=each + 1e-4,
    )


def fit(examples: Examples, base: Base | None, context: Context) -> Prompted:
    """Shots and calibration on held-out rows, as many as the time allows; without labels, the mean answer is taken off."""
    from basewise.engine.causal import opened
    from basewise.engine.fidelity import PRECISIONS
    from basewise.engine.shots import settle_prompt

    assert base is not None
    causal = opened(base, context.precision if context.precision in PRECISIONS else "auto")

    def score(prompt: Any, texts: Sequence[str]) -> np.ndarray:
        return scored(causal, prompt, texts)

    settled = settle_prompt(causal, score, examples, context, SHOTS)
    fixed = Prompted(
        examples.classes,
        settled.prompt,
        settled.calibration,
        causal,
        choices={**settled.choices, "demonstrations": "fixed", "precision": causal.precision},
    )
    if not len(settled.losses):
        return fixed
    if EMBED not in base.provides:
        return _said(fixed, f"not tried: {base.key} does not embed")
    return _weigh(fixed, settled, base, context)


def _said(fitted: Prompted, why: str) -> Prompted:
    return replace(fitted, choices={**fitted.choices, "nearest": why})


def _weigh(fixed: Prompted, settled: Any, base: Base, context: Context) -> Prompted:
    """Nearest demonstrations beside the fixed ones: tried if their seconds fit, taken if their gain is beyond chance."""
    from basewise.engine import nearest
    from basewise.engine.frozen import store_of
    from basewise.engine.prompting import build_prompt
    from basewise.engine.recalibrate import choose_calibration
    from basewise.engine.shots import lengths_of

    causal, known, judged = fixed.causal, settled.known, settled.judged
    texts = [known.texts[i] for i in judged]
    bare = build_prompt(causal, settled.template, settled.words, [])
    mean = float(np.mean([len(t) for t in known.texts])) / LETTERS_PER_TOKEN + ROW_TOKENS
    # before any feature is computed: rows shown are about as long as a text
    inner = sum(len(label) - 1 for label in bare.labels)
    rough = (mean * (2 + nearest.SHOWN) + inner) / (mean + inner)
    answers = len(judged) + context.answers
    extra = answers * settled.seconds_a_row * max(rough - 1.0, 0.0)
    if extra > context.spare:
        said = f"not tried: about {rough:.1f} x the time a row, {extra:.1f} s more for {answers} rows"
        return _said(fixed, f"{said}, where {max(context.spare, 0.0):.1f} s are to spare")
    began = time.monotonic()
    store, layer = store_of(context), nearest.middle_layer(base)
    found = store.features(base, known.texts, layers=layer, precision=context.precision)
    matrix = found.matrix(layer)
    pool, keep = nearest.pool_of(causal, settled.template, settled.words, known, matrix, layer)
    banned = known.groups[judged][:, None] == known.groups[keep][None, :]
    near = pool.near(matrix[judged], banned)
    scores = nearest.near_scores(causal, bare, pool, texts, near)
    seconds = (time.monotonic() - began) / len(judged)
    rng = np.random.default_rng(context.seed)
    calibration, record = choose_calibration(scores, known.labels[judged], lengths_of(bare), rng)
    gain = settled.losses - record["losses"]
    error = float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else float("inf")
    better = float(gain.mean()) > error
    few, many = nearest.tokens_a_row(causal, settled.prompt, pool, texts)
    said = (
        f"{'taken' if better else 'not taken'}: log-loss {record['losses'].mean():.3f} against {settled.losses.mean():.3f}"
        f" (gain {gain.mean():+.3f} [{gain.mean() - 1.96 * error:+.3f}, {gain.mean() + 1.96 * error:+.3f}], n = {len(gain)}),"
        f" {many / few:.1f} x the tokens a row, {1e3 * seconds:.0f} ms where fixed ones take {1e3 * settled.seconds_a_row:.0f}"
    )
    if not better:
        return _said(fixed, said)
    choices = {
        **fixed.choices,
        "demonstrations": "nearest",
        "shots_a_class": min(pool.places, nearest.SHOWN),
        "prefix_tokens": len(bare.prefix),
        "calibration": calibration.kind,
        "label_score": calibration.norm,
        "out_of_fold_log_loss": record["out_of_fold_log_loss"],
        "nearest": said,
    }
    beside = Near(pool, bare, base, store, found.precision)
    return replace(fixed, prompt=bare, calibration=calibration, near=beside, choices=choices)


def load(folder: Path, base: Base | None, context: Context) -> Prompted:
    """The inverse of `save`."""
    from basewise.engine.causal import opened
    from basewise.engine.frozen import store_of
    from basewise.engine.nearest import Pool
    from basewise.engine.prompt_files import load_prompt, rows_of

    assert base is not None
    prompt, calibration, record, arrays = load_prompt(folder)
    beside = None
    if said := record.get("near"):
        shown = tuple(rows_of(arrays["pool"], arrays["pool_lengths"]))
        rows, centre = arrays["pool_rows"], arrays["pool_centre"]
        pool = Pool(shown, arrays["pool_labels"], rows, centre, said["layer"], said["places"])
        beside = Near(pool, prompt, base, store_of(context), said["precision"])
    causal = opened(base, record["precision"])
    return Prompted(tuple(record["classes"]), prompt, calibration, causal, beside, record["choices"])
