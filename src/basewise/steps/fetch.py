"""Which bases `choose` works with: those that were named, or those that are here and what the budget lets it fetch.

Where none is here and none can be fetched, one that came with the package is taken, so that `choose` works without a network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from basewise.core.base import EMBED, Base, Card
from basewise.core.budget import Budget
from basewise.core.errors import BasewiseError, BudgetError, SourceSilent
from basewise.core.method import Machine
from basewise.core.task import Task
from basewise.engine.device import machine
from basewise.steps import bases as base_steps

STARTERS = ("wordllama-256", "minilm-l6", "smollm2-135m", "mpnet-base")
"""Bases tried when none is named: those that are here, and then these in turn while the download budget lasts."""
FORWARD_SHARE = 1 / 3
"""Of the budget, what a forward pass over the train rows of a base that is not here yet may take."""
NAMED_BY_PATH = ("folder", "gguf")
"""Sources whose keys are the names of a folder or a file."""
DOWNLOAD_RATE, DOWNLOAD_SHARE = 10e6, 0.1
"""A base that nobody asked for is fetched when at 10 MB/s it takes at most this share of the time budget."""


def get_bases(
    names: tuple[str, ...] | list[str] | None, budget: Budget, options: Any, task: Task
) -> tuple[list[Base], list[str]]:
    """Bases on this machine, fetched where the budget allows; and a note for each that was left out.

    options: ChooseOptions, of which `progress`, `announce` and `accept_terms` are read.
    """
    if names is not None:
        return distinct(_named(names, budget, options))
    cards = [c for c in base_steps.listing() if EMBED in c.provides and base_steps.here(c) and not c.terms]
    spare, cards = ([c for c in cards if c.fallback == x] for x in (True, False))
    cards += [c for c in map(base_steps.find, STARTERS) if c.key not in {known.key for known in cards}]
    found, notes = _fetched(cards, budget, options, task)
    if not found and spare and spare[0].licence in (budget.licences or [spare[0].licence]):
        found = [base_steps.pull(spare[0])]
        notes.append(
            f"No other base could be fetched, so {spare[0].key} was taken: it comes with the package, and the controls"
            " run beside it."
        )
        # at once: who waits for better weights need not wait for the end of the run
        if options.announce:
            options.announce(notes[-1])
    return found, notes


def _named(names: tuple[str, ...] | list[str], budget: Budget, options: Any) -> list[Base]:
    cards = [base_steps.find(name) for name in names]
    for card in cards:
        if budget.licences and card.licence not in budget.licences:
            raise BudgetError(
                f"{card.key} has the licence {card.licence}, allowed are {', '.join(budget.licences)}",
                "name another base, or allow its licence",
            )
    return [base_steps.pull(card, options.progress, options.accept_terms, options.announce) for card in cards]


def distinct(bases: list[Base]) -> tuple[list[Base], list[str]]:
    """Each base once, under a key of its own; and a note for each that was a repeat of another.

    Files and folders go by their names, which two of them may share: those get the beginning of their digest. Other keys stay,
    since the store finds a base by its key.
    """
    kept: dict[str, Base] = {}
    notes = [
        f"{base.key} was named again: it holds the same weights as {same.key}."
        for base in bases
        if (same := kept.setdefault(base.digest, base)) is not base
    ]
    counts = Counter(base.key for base in kept.values())
    found = [
        replace(base, card=replace(base.card, key=f"{base.key}-{base.digest[:8]}"))
        if counts[base.key] > 1 and base.card.source in NAMED_BY_PATH
        else base
        for base in kept.values()
    ]
    return found, notes


def _fetched(cards: list[Card], budget: Budget, options: Any, task: Task) -> tuple[list[Base], list[str]]:
    """Those of the cards that can be had within the budget. A source that does not answer is asked once: pip tries for
    eight seconds before it gives up, and each base would pay them out of the budget again."""
    left = budget.download_bytes if budget.download_bytes is not None else float("inf")
    found: list[Base] = []
    notes: list[str] = []
    silent: dict[str, list[str]] = {}
    for card in cards:
        away = not base_steps.here(card)
        if why := _not_worth_it(card, budget, left if away else float("inf"), task, bool(found) and away):
            notes.append(f"{card.key} was left out: {why}.")
            continue
        if away and card.source in silent:
            silent[card.source].append(card.key)
            continue
        left -= card.download_bytes if away else 0
        try:
            found.append(base_steps.pull(card, options.progress, options.accept_terms, options.announce))
        except BasewiseError as error:
            notes.append(f"{card.key} was left out: {error}")
            if isinstance(error, SourceSilent):
                silent[card.source] = []
    notes += [
        f"{', '.join(skipped)} {'was' if len(skipped) == 1 else 'were'} not asked for: {source} did not answer."
        for source, skipped in silent.items()
        if skipped
    ]
    return found, notes


def _not_worth_it(card: Card, budget: Budget, left: float, task: Task, weigh: bool) -> str:
    """Why a base is not tried, or nothing; with `weigh`, downloads that would eat the time are among the reasons."""
    megabytes = card.download_bytes / 1e6
    if budget.licences and card.licence not in budget.licences:
        return f"its licence {card.licence} is not among {', '.join(budget.licences)}"
    if card.download_bytes > left:
        return f"a download of {megabytes:.0f} MB is above what is left of the budget"
    if weigh and card.download_bytes / DOWNLOAD_RATE > budget.seconds * DOWNLOAD_SHARE:
        return f"a download of {megabytes:.0f} MB is too long for a budget of {budget.seconds:.0f} s"
    if weigh and forward_seconds(task.train.texts, card, machine()) > budget.seconds * FORWARD_SHARE:
        return f"its forward pass does not fit into {budget.seconds:.0f} s, so it was not fetched"
    return ""


def forward_seconds(texts: Sequence[str], card: Card, on: Machine) -> float:
    """Seconds that one forward pass over the texts is expected to take."""
    from basewise.engine.costs import encode_seconds

    return 0.0 if card.family == "static" else encode_seconds(texts, card, on)[0]
