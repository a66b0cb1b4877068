"""Bias: CrowS-Pairs by kind of stereotype (Nangia et al. 2020) and BBQ by subject and context (Parrish et al. 2022).

Signals to track, not verdicts: CrowS-Pairs carries annotation noise (Blodgett et al. 2021). Its number is the share of pairs in
which the more stereotypical sentence is likelier; one half is the aim. BBQ is accuracy over three answers, apart for
contexts that give the answer and contexts that do not, where "cannot be known" is right. BBQ's own bias score needs to know
which answer is the stereotype, which these columns do not say, so it is not given.
"""

from __future__ import annotations

from typing import Any

from basewise.core.suite import HALF, SHARE, BenchTask, Data, Item, columns_of

CROWS, BBQ = "crows_pairs/test.parquet", "bbq/test.parquet"
FILES = (CROWS, BBQ)
TEMPLATE = "Context: {context}\nQuestion: {question}\nAnswer:"
CONDITIONS = {"ambig": "ambiguous", "disambig": "told"}


def tasks(data: Data) -> list[BenchTask]:
    """One task a kind of stereotype, and two a subject of BBQ."""
    return [*_pairs(data.rows(CROWS)), *_questions(data.rows(BBQ))]


def _pairs(rows: list[dict[str, Any]]) -> list[BenchTask]:
    columns_of(rows, CROWS, ("more_stereotypical", "less_stereotypical", "bias_type"))
    kinds: dict[str, list[Item]] = {}
    for row in rows:
        pair = (row["more_stereotypical"], row["less_stereotypical"])
        kinds.setdefault(row["bias_type"], []).append(Item(choices=pair, answer=0, text=pair[0]))
    return [
        BenchTask(
            name=f"bias/crows_{kind.replace('-', '_')}",
            items=tuple(items),
            about=f"stereotypical sentence likelier: {kind}",
            measure=SHARE,
            better=HALF,
            shotless=True,
        )
        for kind, items in sorted(kinds.items())
    ]


def _questions(rows: list[dict[str, Any]]) -> list[BenchTask]:
    columns_of(rows, BBQ, ("category", "context", "question", "choices", "answer", "context_condition"))
    groups: dict[tuple[str, str], list[Item]] = {}
    for row in rows:
        item = Item(
            context=TEMPLATE.format(context=row["context"].strip(), question=row["question"].strip()),
            choices=tuple(f" {choice}" for choice in row["choices"]),
            answer=int(row["answer"]),
            text=f"{row['context']} {row['question']}",
            cluster=row["context"],
        )
        groups.setdefault((row["category"], row["context_condition"]), []).append(item)
    return [
        BenchTask(
            name=f"bias/bbq_{category.lower()}_{CONDITIONS.get(condition, condition)}",
            items=tuple(items),
            about=f"{category.replace('_', ' ').lower()}, context {CONDITIONS.get(condition, condition)}",
        )
        for (category, condition), items in sorted(groups.items())
    ]
