"""The report's first table: arms that were scored, with intervals on one axis; and why the others were not."""

from __future__ import annotations

from html import escape
from typing import Any

from basewise.core.decision import Decision
from basewise.steps.measures import heading, name_of
from basewise.web import by_metric, plots
from basewise.web.sections import (
    NAME_SHOWN,
    cut,
    focus,
    how,
    percent,
    probability,
    span,
    table,
)

NOTE = (
    "Dot and line: {} in cross-validation, 95 % interval; the square is the chosen arm. "
    "“Chosen better by” is the paired difference in points, p is adjusted for all comparisons (Holm)."
)


def leaderboard(d: Decision) -> str:
    """Both tables; an empty string where nothing was scored."""
    scored = [e for e in d.leaderboard if e.get("score")]
    if not scored:
        return ""
    measure = "share right" if d.metric == "accuracy" else name_of(d.metric)
    left_out = [e for e in d.leaderboard if not e.get("score")]
    return how(NOTE.format(measure)) + _scored(d, scored) + by_metric.arms(d, scored) + _left_out(left_out)


def _scored(d: Decision, entries: list[dict[str, Any]]) -> str:
    low, high = focus(entries)
    several = any(e.get("seed_spread") is not None for e in entries)
    rows = []
    for e in entries:
        chosen, s = e["name"] == d.chosen, e["score"]
        mark = "■ chosen" if chosen else "= tied" if e["name"] in d.tied else ""
        mark = mark or ("" if e["status"] == "finished" else e["status"])
        name = f"<b>{escape(e['name'])}</b>" if chosen else escape(e["name"])
        why = f'<br><span class="small">{cut(e["why"])}</span>' if e["why"] else ""
        bar = plots.interval_bar(low, high, (s["estimate"], s["low"], s["high"]), chosen)
        gap = e.get("difference")
        rows.append(
            [
                f'<span class="whole">{name}</span> <span class="small whole">{escape(mark)}</span>{why}',
                f'<span class="whole">{span(s)}</span>',
                bar if s["low"] >= low else "◂ below",
                f"{s['n']:,}",
                *([_spread(e)] if several else []),
                span(gap) if gap else "–",
                probability(gap["p_holm"]) if gap else "–",
                f"{e['probability_best']:.2f}" if e.get("probability_best") is not None else "–",
                cut(e.get("licence", "–"), NAME_SHOWN),
            ]
        )
    head = ["arm", f"{heading(d.metric)} [95 %]", f"{percent(low)} to {percent(high)} %", "n"]
    head += [*(["spread (draws)"] if several else []), "chosen better by", "p", "P(best)", "licence"]
    return table(head, rows, 3)


def _spread(e: dict[str, Any]) -> str:
    return f"±{percent(e['seed_spread'])} ({e['seeds']})" if e.get("seed_spread") is not None else "–"


def _left_out(entries: list[dict[str, Any]]) -> str:
    """Arms that were never scored, with the reason."""
    rows = [
        [
            f'<span class="whole">{escape(e["name"])}</span>',
            f"{escape(e['status'])}: {cut(e['why'])}" if e["why"] else escape(e["status"]),
            cut(e.get("licence", "–"), NAME_SHOWN),
        ]
        for e in entries
    ]
    return "<h3>Not scored</h3>" + table(["arm", "why", "licence"], rows) if rows else ""
