"""pretrain: from a corpus and a recipe to a base that every other verb can use.

The run folder holds recipe.json, metrics.jsonl, checkpoints/, the live page pretrain.html, base/ (a plain Hugging Face folder with
card.json; for the mixed objective also encoder/, the same weights without the causal mask) and pretrain.json, the result. The same
command goes on where a stopped run was; a finished one is read. `assemble` is the seam for many processes: it gives model,
optimiser, feed and plan, of which the model may be wrapped before `engine.loop.train` takes them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from basewise.core.errors import InputError, RunError
from basewise.core.files import Progress, read_json, silent, write_json
from basewise.core.recipe import Recipe, read_recipe, stored_recipe
from basewise.core.registry import part
from basewise.core.rundir import IDENTITY, RunDir
from basewise.steps.pretrain_data import Corpus, open_corpus
from basewise.steps.pretrain_start import with_sizes_of_start

RECIPE, RESULT = "recipe.json", "pretrain.json"
COOLDOWN_SHARE = 0.2
"""Steps of a cooldown branch as a share of those before it."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What does not change the result: progress, announcements, the command as typed."""

    progress: Progress = silent
    announce: Callable[[str], None] = lambda line: None
    command: str = ""


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """Everything the loop takes, made from a recipe; `recipe` has the sizes of the base that it starts from."""

    recipe: Recipe
    model: Any
    optimiser: Any
    feed: Any
    plan: Any
    flop_per_token: float
    steps: int


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A finished run: what it cost, how good it is on held-out documents, where the bases are, what they are worth."""

    folder: str
    name: str
    steps: int
    tokens: int
    parameters: int
    seconds: float
    flop: float
    loss: float
    scores: dict[str, Any]
    bases: dict[str, str]
    worth: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def pretrain(
    recipe: Recipe | str | Path,
    *,
    to: Path | None = None,
    cooldown_from: int | None = None,
    options: Options | None = None,
) -> Pretrained:
    """Run a recipe to its end, from its last checkpoint if there is one.

    `recipe`: a value, a TOML file, or a run folder; `cooldown_from` (with a run folder) branches a short cooldown from the
    checkpoint of that step. Raises InputError for a recipe that cannot run, RunError for a folder of another run.
    """
    options = options or Options()
    branch: tuple[Path, int] | None = None
    if isinstance(recipe, Recipe):
        made = recipe
    elif (Path(recipe) / RECIPE).is_file():
        made = stored_recipe(read_json(Path(recipe) / RECIPE)["recipe"])
        to = to or Path(recipe)
        if cooldown_from is not None:
            if made.schedule == "cosine":
                raise InputError(
                    "a cooldown branches from steady rates, and schedule cosine has none",
                    'give a run with schedule = "wsd"',
                )
            branch = (Path(recipe), cooldown_from)
            to = Path(recipe) / f"cooldown-{cooldown_from:08d}" if to == Path(recipe) else to
    else:
        made = read_recipe(recipe)
    if cooldown_from is not None and branch is None:
        raise InputError(
            "a cooldown branches from a run",
            "give the run folder: basewise pretrain RUN --cooldown-from STEP",
        )
    folder = to or Path("runs") / made.name
    check_recipe(made)
    end = f"-cooldown-{branch[1]}" if branch else ""
    identity = _begun_as(folder, made, end) or made.digest() + end
    first = is_first()
    with RunDir.open(folder, identity) if first else contextlib.nullcontext():
        if (folder / RESULT).exists():
            return Pretrained(**read_json(folder / RESULT))
        check_sets(made)
        return _run(made, folder, branch, options if first else Options())


def _begun_as(folder: Path, recipe: Recipe, end: str) -> str:
    """The identity of a folder that was begun with this recipe, whatever keys counted then; empty where there is none.

    `end`: what the identity of a cooldown ends with, empty for a run of its own.
    """
    if not (folder / RECIPE).is_file() or not (folder / IDENTITY).is_file():
        return ""
    same = stored_recipe(read_json(folder / RECIPE)["recipe"]).digest() == recipe.digest()
    begun = str(read_json(folder / IDENTITY)["identity"])
    return begun if same and begun.partition("-cooldown-")[2] == end.removeprefix("-cooldown-") else ""


def check_sets(recipe: Recipe) -> None:
    """Raise InputError for a downstream set that is not there: before the training, not after it."""
    from basewise.steps.pretrain_worth import set_path

    for name in recipe.downstream:
        set_path(name)


def check_recipe(recipe: Recipe) -> None:
    """Raise InputError where objective and network do not go together, UnknownName for an objective that is not there."""
    objective = part("objectives", recipe.objective)
    networks = objective.NETWORKS
    if recipe.network not in networks:
        raise InputError(
            f"objective {recipe.objective} cannot train network {recipe.network}",
            f"use network = {' or '.join(repr(n) for n in sorted(networks))}",
        )


def _same_corpus(folder: Path, recipe: Recipe, corpus: Corpus) -> None:
    """The corpus is the one that the run was begun with."""
    path = folder / RECIPE
    if path.exists():
        begun = read_json(path)["corpus"]
        if begun != corpus.digest:
            raise RunError(
                f"the corpus {recipe.corpus} has changed since this run began (digest {corpus.digest[:12]}, was {begun[:12]})",
                "put the old corpus back, or give another --to",
            )
        return
    write_json(path, {"recipe": recipe.to_dict(), "corpus": corpus.digest})


def assemble(recipe: Recipe, corpus: Corpus, share: tuple[int, int] = (0, 1)) -> Assembled:
    """Model, optimiser, feed and plan of a recipe; `share`: (rank, ranks) of this process.

    `_sharded` puts a sharded copy of `model` in its place where there are many ranks.
    """
    from basewise.engine.device import device, machine
    from basewise.engine.feed import Feed, Setting, check_enough
    from basewise.engine.loop import Plan, prefers_bf16
    from basewise.engine.networks import flop_per_token
    from basewise.engine.optim import for_pretraining

    check_enough(corpus.rows, recipe.rows, recipe.context)
    objective = part("objectives", recipe.objective)
    if (objective.DATA == "images") != bool(corpus.shape):
        raise InputError(
            f"objective {recipe.objective} learns from {objective.DATA}, and {recipe.corpus} holds something else",
            "give it a corpus of the right kind",
        )
    recipe = with_sizes_of_start(recipe, corpus.tokenizer)
    steps = recipe.steps_for(len(corpus.rows))
    model = objective.build(recipe, corpus).to(device())
    setting = Setting(
        vocabulary=corpus.vocabulary,
        mask=corpus.special.get("mask", -1),
        special=tuple(sorted(i for i in corpus.special.values() if i >= 0)),
        mask_first=recipe.mask_first, mask_last=recipe.mask_last, causal_share=recipe.causal_share,
    )  # fmt: skip
    plan = Plan(
        steps=steps,
        seconds=recipe.seconds_limit,
        clip=recipe.clip,
        tokens=0 if objective.WHOLE else recipe.tokens_at_once // share[1] or 1,
        bf16=recipe.precision == "bf16" or (recipe.precision == "auto" and prefers_bf16(machine())),
        seed=recipe.seed,
        schedule=_schedule(recipe),
        spike=recipe.spike,
    )
    feed = Feed(
        rows=corpus.rows,
        per_step=recipe.rows,
        seed=recipe.seed,
        objective=objective,
        setting=setting,
        model=model,
        done=lambda drawn: drawn / steps,
        share=share,
    )
    return Assembled(
        recipe=recipe,
        model=model,
        optimiser=for_pretraining(model, recipe),
        feed=feed,
        plan=plan,
        flop_per_token=getattr(objective, "flop_per_token", flop_per_token)(model, recipe),
        steps=steps,
    )


def _schedule(recipe: Recipe) -> Callable[[int, int], float]:
    """`schedule(step, steps)`: the factor of the rates."""
    from basewise.engine.optim import cosine, warm_stable_decay

    def factor(step: int, total: int) -> float:
        if recipe.schedule == "cosine":
            return cosine(step, total, recipe.warmup_steps)
        return warm_stable_decay(step, total, recipe.warmup_steps, recipe.cooldown)

    return factor


def is_first() -> bool:
    """Whether this process writes for all: the only one, or torchrun's rank 0. Reads variables, imports nothing."""
    return os.environ.get("RANK", "0") == "0"


def _run(recipe: Recipe, folder: Path, branch: tuple[Path, int] | None, options: Options) -> Pretrained:
    """Train, on all ranks that torchrun started, then save, score and say what the base is worth, on the first."""
    from basewise.engine.device import device
    from basewise.engine.distributed import joined

    with joined(device()) as ranks:
        if ranks.first:
            corpus = open_corpus(recipe, folder)
            _same_corpus(folder, recipe, corpus)
        ranks.wait()
        if not ranks.first:
            corpus = open_corpus(recipe, folder)
        made, outcome, watch = _train(recipe, corpus, folder, branch, options, ranks)
        scores = watch.evaluate(whole=True)
        if ranks.first and (seconds := _seconds_a_step(folder, recipe, watch.began_at)):
            from basewise.steps.plan import look_back

            look_back(made.recipe, corpus.vocabulary, ranks.world, seconds)
    return _finish(recipe, corpus, folder, made, outcome, options, watch, scores)


def _seconds_a_step(folder: Path, recipe: Recipe, began_at: int) -> float:
    """The median over the steps of this session that were written down; 0 where they are too few to tell."""
    import json
    import statistics

    from basewise.steps.pretrain_watch import METRICS

    lines = [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]
    warm = [line for line in lines if line["step"] > began_at + 2]
    rates = [line["tokens_per_second"] for line in warm if line.get("tokens_per_second")]
    return recipe.rows * recipe.context / statistics.median(rates) if len(rates) >= 3 else 0.0


def _train(
    recipe: Recipe, corpus: Corpus, folder: Path, branch: Any, options: Options, ranks: Any
) -> tuple[Assembled, Any, Any]:
    """What was trained (the plain network, filled with the weights of the last step), the outcome and the watch."""
    import numpy as np

    from basewise.engine.device import machine
    from basewise.engine.loop import train
    from basewise.steps.pretrain_sinks import sinks_of
    from basewise.steps.pretrain_watch import PretrainWatch

    made = assemble(recipe, corpus, (ranks.rank, ranks.world))
    plain = made.model
    made = _sharded(made, ranks)
    plan = made.plan if branch is None else _cooldown(made.plan, *branch)
    here = machine()
    watch = PretrainWatch(
        recipe=recipe,
        corpus=corpus,
        folder=folder,
        network=plain,
        sharded=made.model if ranks.many else None,
        ranks=ranks,
        flop_per_token=made.flop_per_token,
        peak=ranks.world * (max(here.bf16_peak, here.fp32_peak) if plan.bf16 else here.fp32_peak),
        announce=options.announce,
        bf16=plan.bf16,
        tokens_at_once=plan.tokens,
        total=plan.steps,
        schedule=plan.schedule,
        branch=branch,
        begun=lambda state: setattr(made.feed, "drawn", state.drawn),
        sinks=sinks_of(recipe.log, folder) if ranks.first else [],
    )
    made.feed.done = lambda drawn: drawn / watch.total
    lengths = np.full(recipe.rows // ranks.world, recipe.context)
    with watch:
        outcome = train(
            made.model,
            made.optimiser,
            iter(made.feed),
            made.feed.loss,
            lengths,
            plan,
            options.progress,
            watch,
        )
        watch.writer.close()
    return replace(made, model=plain), outcome, watch


def _sharded(made: Assembled, ranks: Any) -> Assembled:
    """Shards instead of the whole network where there are many ranks; its plain twin keeps its weights for evaluation."""
    import copy

    from basewise.engine.distributed import blocks_of, shard
    from basewise.engine.optim import for_pretraining

    plan = replace(made.plan, ranks=ranks)
    if not ranks.many:
        return replace(made, plan=plan)
    model = copy.deepcopy(made.model)
    shard(model, blocks_of(model), ranks, bf16=plan.bf16 and ranks.device != "cpu")
    made.feed.model = model
    return replace(made, model=model, optimiser=for_pretraining(model, made.recipe), plan=plan)


def _cooldown(plan: Any, run: Path, step: int) -> Any:
    """The plan of a branch: from `step` linearly to zero over a fifth of the steps before it."""
    from basewise.engine.checkpoint import at_step, steps_there
    from basewise.steps.pretrain_watch import CHECKPOINTS

    _, facts = at_step(run / CHECKPOINTS, step)
    if facts.get("factor", 1.0) < 1.0:
        stable = [
            s
            for s in steps_there(run / CHECKPOINTS)
            if at_step(run / CHECKPOINTS, s)[1].get("factor", 1.0) >= 1.0
        ]
        known = ", ".join(map(str, stable)) or "none"
        raise InputError(f"the rates were already falling at step {step}", f"stable checkpoints: {known}")
    steps = step + max(1, round(COOLDOWN_SHARE * step))
    return replace(plan, steps=steps, schedule=lambda done, total: (total - done) / max(total - step, 1))


def _finish(
    recipe: Recipe,
    corpus: Corpus,
    folder: Path,
    made: Assembled,
    outcome: Any,
    options: Options,
    watch: Any,
    scores: dict[str, Any],
) -> Pretrained:
    """Bases, cards and worth of a network that has been trained; the result is written last, by the first rank alone."""
    from basewise.steps.pretrain_base import check_finite, last_losses, save_bases
    from basewise.steps.pretrain_watch import METRICS
    from basewise.steps.pretrain_worth import worth_of

    tokens = outcome.steps * recipe.rows * recipe.context
    result = Pretrained(
        folder=str(folder),
        name=recipe.name,
        steps=outcome.steps,
        tokens=tokens,
        parameters=sum(p.numel() for p in made.model.parameters()),
        seconds=outcome.seconds,
        flop=made.flop_per_token * tokens,
        loss=outcome.loss,
        scores=scores,
        bases={},
    )
    if not watch.ranks.first:
        return result
    # the outcome is of this session alone
    result = replace(result, loss=last_losses(folder / METRICS, outcome.loss))
    check_finite(result, made.model, watch.verdict, folder)
    bases = save_bases(result, recipe, corpus, made.model, folder)
    result = replace(result, bases={name: str(path) for name, path in bases.items()})
    if recipe.downstream:
        result = replace(result, worth=worth_of(recipe, bases, folder, options))
    write_json(folder / RESULT, result.to_dict())
    watch.page(last=True)
    return result
