"""plan: what a pretraining run will need and cost before it runs, and how to lay it over ranks.

From a recipe, or from a size and a number of tokens: parameters by part, memory of a rank, seconds a step, days, money, energy, FLOP
with the thresholds that it passes, the layouts worth having, and how often to write checkpoints. Nothing is allocated
and torch is only asked about this machine. The plan states how far its predictions for past runs were off.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from basewise.core.errors import InputError
from basewise.core.recipe import NETWORK_KINDS, OUTPUT_SHARES, Recipe, read_recipe
from basewise.core.shapes import Shape, flop_per_token, parameters, parameters_by_part
from basewise.stats.plan_memory import Layout, peak
from basewise.stats.plan_time import (
    Candidate,
    Machine,
    Seen,
    checkpoint_interval,
    compute_bound_tokens,
    fits,
    past_error,
    search,
    smallest,
    step_time,
    work,
)
from basewise.stats.regime import thresholds_passed
from basewise.steps.plan_hardware import HERE, read_hardware, read_journal, remember
from basewise.steps.pretrain_start import with_sizes_of_start

SCALES = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12, "": 1.0}
ASPECT, HEAD = 128, 128
BATCH_TOKENS, BATCH_AT, BATCH_POWER = 16384.0, 2e7, 0.383
"""Batch of a run of BATCH_AT tokens, and how it grows with the tokens (arXiv 2505.13738)."""
UNKNOWN_VOCABULARY = 8192
MOST_SHOWN = 6
LAYERS = range(2, 161)
NEAR_ENOUGH = 0.1
"""A planned size may differ by this share from the one asked for without a word."""
MOST_QUANTITY = 1e18
MOST_DOUBLINGS = 12
"""Of the ranks asked for, in the search for a number that is enough."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be trained: a shape, tokens in all, rows of `shape.context` tokens a step, the optimiser."""

    name: str
    shape: Shape
    tokens: float
    rows: int
    optimiser: str = "muon"
    recipe: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A plan. Bytes, seconds, dollars, kilowatt-hours, FLOP; `front`: layouts worth having, the fastest first."""

    wanted: Wanted
    machine: Machine
    ranks: int
    source: str
    chosen: Candidate
    front: tuple[Candidate, ...]
    moment: str
    memory: dict[str, float]
    seconds: float
    steps: int
    flop: float
    thresholds: tuple[str, ...]
    checkpoint: tuple[float, float]
    error: tuple[float, float, int] | None
    notes: tuple[str, ...]

    @property
    def money(self) -> float:
        """Dollars at the listed price of a rank."""
        return self.ranks * self.seconds / 3600.0 * self.machine.price_per_hour

    @property
    def energy(self) -> float:
        """Kilowatt-hours of the ranks at their rated power, cooling and hosts not counted."""
        return self.ranks * self.seconds / 3.6e6 * self.machine.watts

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON."""
        return {
            **asdict(self),
            "parameters": parameters(self.wanted.shape),
            "parameters_by_part": parameters_by_part(self.wanted.shape),
            "tokens_per_second": self.wanted.rows * self.wanted.shape.context / self.chosen.step.total,
            "share_of_peak": share_of_peak(self),
            "money": self.money,
            "energy_kwh": self.energy,
        }


def plan(wanted: Wanted, hardware: str = "here:1", base_flop: float | None = None) -> Planned:
    """The plan of a run on so many ranks ("h100:64"). InputError where nothing divides or nothing fits, with what would."""
    machine, ranks, source = read_hardware(hardware)
    shape = wanted.shape
    front = search(shape, ranks, wanted.rows, machine, wanted.optimiser)
    if not front:
        raise InputError(*_why_not(wanted, machine, ranks))
    ours = [one for one in front if _runs_here(one.layout)]
    chosen = ours[0] if ours else front[0]
    moment, memory = peak(shape, chosen.layout, wanted.optimiser)
    steps = max(1, math.ceil(wanted.tokens / (wanted.rows * shape.context)))
    flop = flop_per_token(shape) * wanted.tokens
    notes = list(wanted.notes)
    if not ours:
        notes.append(
            "no layout of data-parallel shards alone fits; basewise pretrain lays out no tensors or pipelines"
        )
    per_rank = wanted.rows * shape.context / ranks
    if machine.device == "cuda" and ranks > 1 and per_rank < (need := compute_bound_tokens(machine, ranks)):
        notes.append(
            f"{per_rank:,.0f} tokens a rank and step are fewer than the {need:,.0f} from which traffic hides behind compute"
        )
    return Planned(
        wanted=wanted,
        machine=machine,
        ranks=ranks,
        source=source,
        chosen=chosen,
        front=tuple(front[:MOST_SHOWN]),
        moment=moment,
        memory=memory,
        seconds=steps * chosen.step.total,
        steps=steps,
        flop=flop,
        thresholds=tuple(thresholds_passed(flop, base_flop)),
        checkpoint=checkpoint_interval(shape, ranks, machine),
        error=past_error([s for s in read_journal() if s.predicted > 0]) if machine.name == HERE else None,
        notes=tuple(notes),
    )


def share_of_peak(p: Planned) -> float:
    """FLOP that count (no recomputing) over what the ranks could do in the time of a step."""
    counted = flop_per_token(p.wanted.shape) * p.wanted.rows * p.wanted.shape.context
    return counted / (p.chosen.step.total * p.ranks * p.machine.peak_flop)


def _runs_here(layout: Layout) -> bool:
    """Whether `basewise pretrain` can train it: shards and micro-batches, nothing else."""
    return layout.tensor == layout.pipeline == layout.sequence == 1 and not layout.recompute


def _why_not(wanted: Wanted, machine: Machine, ranks: int) -> tuple[str, str]:
    """(what came, the fix) where no layout is feasible."""
    least = smallest(wanted.shape, ranks, wanted.rows, machine, wanted.optimiser)
    if least is None:
        rows = max(ranks, round(wanted.rows / ranks) * ranks)
        return (
            f"a batch of {wanted.rows} rows cannot be divided among {ranks} ranks",
            f"use a batch of {rows * wanted.shape.context} tokens, or other ranks",
        )
    need, more = least.memory / 1e9, _enough_ranks(wanted, machine, ranks)
    return (
        f"{parameters(wanted.shape) / 1e9:.2f} B parameters need at least {need:.1f} GB a rank on {ranks} ranks of {machine.memory_bytes / 1e9:.0f} GB",
        f"use {more} ranks, or a smaller size"
        if more
        else "use a smaller size, or hardware with more memory",
    )


def _enough_ranks(wanted: Wanted, machine: Machine, ranks: int) -> int:
    """Ranks, doubled until a layout fits; 0 where none does. More ranks on this machine would share the same memory."""
    for more in () if machine.name == HERE else (ranks << k for k in range(1, MOST_DOUBLINGS + 1)):
        rows = math.ceil(wanted.rows / more) * more
        found = smallest(wanted.shape, more, rows, machine, wanted.optimiser)
        if found and fits(found.memory, machine):
            return more
    return 0


# ---------------------------------------------------------------- what is wanted


def from_recipe(path: Path | str) -> Wanted:
    """What a recipe trains. Its corpus is opened where it is there; without one, tokens or steps must say how long."""
    recipe = read_recipe(path)
    vocabulary, steps, notes = _corpus_of(recipe)
    if recipe.start and not Path(recipe.start).exists():
        notes = (*notes, f"the base {recipe.start} is not here: sizes are those of the recipe")
    else:
        recipe = with_sizes_of_start(recipe, None)
    shape = shape_of(recipe, vocabulary)
    return Wanted(
        name=recipe.name,
        shape=shape,
        tokens=float(steps * recipe.rows * recipe.context),
        rows=recipe.rows,
        optimiser=recipe.optimiser,
        recipe=str(path),
        notes=notes,
    )


def shape_of(recipe: Recipe, vocabulary: int) -> Shape:
    """The shape of a recipe's network and how its objective runs it; InputError for one that no formula here describes."""
    if recipe.network not in NETWORK_KINDS:
        raise InputError(
            f"network {recipe.network} does not read text, which is all that is planned for",
            f"use one of {', '.join(NETWORK_KINDS)}",
        )
    if recipe.objective not in OUTPUT_SHARES:
        raise InputError(
            f"objective {recipe.objective} is not planned for: its steps cost something else",
            f"use one of {', '.join(OUTPUT_SHARES)}",
        )
    kind, d = NETWORK_KINDS[recipe.network], recipe.hidden
    # as engine/networks.py has it
    gated = -(-8 * d // 3 // 64) * 64
    return Shape(
        kind=kind,
        layers=recipe.depth,
        width=d,
        heads=recipe.head_count,
        kv_heads=recipe.head_count,
        inner=gated if kind in ("qwen3", "modernbert") else 4 * d,
        vocabulary=-(-vocabulary // 64) * 64,
        context=recipe.context,
        tied=recipe.tied,
        causal=recipe.causal,
        output_share=recipe.output_share,
    )


def _corpus_of(recipe: Recipe) -> tuple[int, int, tuple[str, ...]]:
    """(vocabulary, steps, notes) of a recipe's corpus, or of a guess where it is not here."""
    import tempfile

    from basewise.steps.pretrain_data import open_corpus

    if Path(recipe.corpus).expanduser().exists():
        with tempfile.TemporaryDirectory() as folder:
            corpus = open_corpus(recipe, Path(folder))
            return corpus.vocabulary, recipe.steps_for(len(corpus.rows)), ()
    if recipe.epochs:
        raise InputError(
            f"the corpus {recipe.corpus} is not here and the recipe counts epochs",
            "build the corpus, or write tokens or steps",
        )
    note = f"the corpus {recipe.corpus} is not here: a vocabulary of {UNKNOWN_VOCABULARY} is assumed"
    return UNKNOWN_VOCABULARY, recipe.steps_for(0), (note,)


def from_size(size: str, tokens: str | None, ranks: int) -> Wanted:
    """A gated decoder of about so many parameters ("1.3B"), on 20 tokens a parameter unless `tokens` says otherwise."""
    wanted_parameters = quantity(size, "size")
    shape = decoder_of(wanted_parameters)
    has = parameters(shape)
    off = has / wanted_parameters - 1.0
    told = (f"the nearest size planned has {has / 1e6:,.1f} M parameters, {off:+.0%} of what was asked",)
    total = quantity(tokens, "tokens") if tokens else 20.0 * has
    batch_tokens = BATCH_TOKENS * max(1.0, total / BATCH_AT) ** BATCH_POWER
    rows = max(1, round(batch_tokens / shape.context / ranks)) * ranks
    notes = told if abs(off) > NEAR_ENOUGH else ()
    return _enough(Wanted(name=size.lower(), shape=shape, tokens=total, rows=rows, notes=notes))


def _enough(wanted: Wanted) -> Wanted:
    """The wish, if its tokens fill one batch."""
    batch = wanted.rows * wanted.shape.context
    if wanted.tokens < batch:
        raise InputError(
            f"{wanted.tokens:.3g} tokens are fewer than one batch of {batch:,}",
            "raise --tokens or lower the ranks",
        )
    return wanted


def quantity(text: str, what: str) -> float:
    """A number with k, M, B or T behind it, at most MOST_QUANTITY."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*([kKmMbBgGtT]?)\s*", text)
    value = float(found.group(1)) * SCALES[found.group(2).lower()] if found else 0.0
    if not value:
        raise InputError(f"cannot read the {what} {text!r}", "write it like 350M, 1.3B or 2e9")
    if value > MOST_QUANTITY:
        raise InputError(f"the {what} {text!r} is above {MOST_QUANTITY:.0e}", "write a smaller number")
    return value


def decoder_of(wanted_parameters: float) -> Shape:
    """The decoder (Qwen 3 class, width 128 a layer) whose parameters are nearest on a log scale.

    InputError beyond a tenth below the smallest and above the largest one.
    """
    least, most = parameters(_decoder(LAYERS[0], 0.0)), parameters(_decoder(LAYERS[-1], math.inf))
    if not (1 - NEAR_ENOUGH) * least <= wanted_parameters <= (1 + NEAR_ENOUGH) * most:
        raise InputError(
            f"a size of {wanted_parameters:.3g} parameters is not planned for",
            f"give one from {least / 1e6:.1f}M to {most / 1e9:.0f}B, or a recipe with depth and width",
        )
    shapes = [_decoder(layers, wanted_parameters) for layers in LAYERS]
    return min(shapes, key=lambda shape: abs(math.log(parameters(shape) / wanted_parameters)))


def _decoder(layers: int, wanted_parameters: float) -> Shape:
    """The decoder of so many layers, with the vocabulary and context that suit the parameters wanted."""
    large = wanted_parameters >= 1e9
    vocabulary, context = (
        (131072 if wanted_parameters >= 5e9 else 32768, 4096)
        if large
        else (8192 if wanted_parameters < 5e7 else 32768, 1024)
    )
    width = ASPECT * layers if not large else min(ASPECT * layers, 16384)
    heads = max(1, width // HEAD)
    return Shape(
        kind="qwen3",
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=8 if large and heads % 8 == 0 else heads,
        inner=-(-8 * width // 3 // 256) * 256,
        vocabulary=vocabulary,
        context=context,
        tied=not large,
    )


# ---------------------------------------------------------------- looking back


def look_back(recipe: Recipe, vocabulary: int, ranks: int, seconds_a_step: float) -> None:
    """Put a run that was measured on this machine into the journal, beside what would have been predicted before it."""
    from basewise.steps.plan_hardware import here

    if recipe.network not in NETWORK_KINDS or recipe.objective not in OUTPUT_SHARES or seconds_a_step <= 0:
        return
    shape = shape_of(recipe, vocabulary)
    rows = max(1, recipe.tokens_at_once // ranks // recipe.context)
    micro = max(1, math.ceil(recipe.rows / ranks / rows))
    layout = Layout(data=ranks, rows=rows, micro_batches=micro)
    machine = here(ranks)
    flop, fetched, _ = work(shape, layout, machine)
    remember(
        Seen(
            ranks=ranks,
            flop=flop,
            fetched=fetched,
            micro_batches=micro,
            predicted=step_time(shape, layout, machine).total,
            measured=seconds_a_step,
        )
    )


def with_tokens(wanted: Wanted, tokens: str | None) -> Wanted:
    """A recipe's wish with other tokens, where the command line gives them."""
    return _enough(replace(wanted, tokens=quantity(tokens, "tokens"))) if tokens else wanted
