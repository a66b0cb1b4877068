"""Compare: finished runs side by side, and row by row where they were made of the same rows."""

from __future__ import annotations

from html import escape
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from basewise.core.budget import duration
from basewise.core.decision import Decision
from basewise.core.errors import InputError
from basewise.web import plots
from basewise.web.sections import cut, how, number, span, table
from basewise.web.ui import runs
from basewise.web.ui.forms import Root
from basewise.web.ui.pages.rows import trial_rows
from basewise.web.ui.shell import alert, href, page, ticks

router = APIRouter()
MOST = 6


@router.get("/compare")
def show(request: Request, root: Root) -> HTMLResponse:
    """The runs to tick, and the comparison of those that are."""
    found = [
        r
        for r in runs.every(root)
        if r.kind == "choose" and r.state in ("finished", "stopped") and (r.folder / "decision.json").exists()
    ]
    if len(found) < 2:
        return page(
            "Compare", "<p>Two finished runs are needed, and there are not so many yet.</p>", here="/compare"
        )
    names = [r.name for r in found]
    asked = [n for n in request.query_params.getlist("run") if runs.folder_of(root, n)]
    form = (
        '<form method="get" action="/compare" class="fields">'
        + ticks("run", "Runs", [(n, n) for n in names], asked)
        + '<button class="main">Compare</button></form>'
    )
    if len(asked) < 2:
        return page("Compare", form, here="/compare")
    if len(asked) > MOST:
        error = InputError(
            f"{len(asked)} runs were ticked, at most {MOST} are compared at once", "tick fewer"
        )
        return page("Compare", alert(error) + form, here="/compare", status=400)
    chosen = {name: runs.decision_of(runs.folder_of(root, name)) for name in dict.fromkeys(asked)}
    return page("Compare", form + side_by_side(chosen) + pairs(root, chosen), here="/compare")


def side_by_side(chosen: dict[str, Decision]) -> str:
    """One line a run."""
    scores = {name: _score(d) for name, d in chosen.items()}
    known = [s for s in scores.values() if s]
    low, high = min((s["low"] for s in known), default=0), max((s["high"] for s in known), default=1)
    rows = []
    for name, d in chosen.items():
        s, line = scores[name], next((e for e in d.leaderboard if e["name"] == d.chosen), {})
        each = line.get("milliseconds_per_row")
        rows.append(
            [
                f'<a href="{href("runs", name)}">{escape(name)}</a><br><span class="small">{escape(d.verdict)}</span>',
                cut(d.chosen, 80),
                plots.interval_bar(low, high, (s["estimate"], s["low"], s["high"]), False) if s else "–",
                span(s),
                f"{s['n']:,}" if s else "–",
                d.accuracy[1] + (", corrected" if d.accuracy[0] is d.winner and d.winner else ""),
                f"{d.provenance.get('train', 0):,}",
                number(each, 2),
                duration(d.budget.get("used_seconds") or 0),
                cut(line.get("licence", "–"), 60),
            ]
        )
    head = (
        "run",
        "chosen",
        "",
        "% right [95 %]",
        "n",
        "measured on",
        "train rows",
        "ms a row",
        "took",
        "licence",
    )
    return "<h2>Side by side</h2>" + table(head, rows, 99)


def _score(d: Decision) -> dict[str, Any] | None:
    return d.accuracy[0] or None


def pairs(root: Path, chosen: dict[str, Decision]) -> str:
    """Paired differences of what each pair chose, on the held-out train rows that both were scored on."""
    from basewise.stats.paired import holm
    from basewise.steps.measures import difference

    rows: list[list[str]] = []
    found: list[tuple[str, str, dict[str, Any]]] = []
    for a, b in combinations(chosen, 2):
        if chosen[a].provenance.get("rows_digest") != chosen[b].provenance.get("rows_digest"):
            rows.append([escape(a), escape(b), "not the same rows or labels: no paired comparison", "–", "–"])
            continue
        ours, theirs = trial_rows(root / a, chosen[a].chosen), trial_rows(root / b, chosen[b].chosen)
        shared, at, to = np.intersect1d(ours["row_id"], theirs["row_id"], return_indices=True)
        if len(shared):
            found.append((a, b, difference(ours["right"][at], theirs["right"][to], ours["group"][at])))
        else:
            rows.append([escape(a), escape(b), "no row was scored by both", "–", "–"])
    adjusted = holm(np.array([gap["p"] for _, _, gap in found])) if found else np.zeros(0)
    rows += [
        [escape(a), escape(b), span(gap), f"{p:.3g}", f"{gap['n']:,}"]
        for (a, b, gap), p in zip(found, adjusted, strict=True)
    ]
    text = "What the first chose minus what the second chose, in points, on the held-out train rows that both were scored on; p by McNemar, adjusted for all pairs (Holm)."
    return (
        "<h2>Row by row</h2>" + how(text) + table(("run", "against", "better by [95 %]", "p", "n"), rows, 99)
    )
