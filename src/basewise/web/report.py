"""report.html: a decision as one page that opens without a network, on a phone, in print and without colour.

The page is a reader of decision.json: it computes nothing but positions on axes. Every text of the user's is escaped, and
the page forbids itself scripts and connections (Content-Security-Policy).
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from basewise.core.decision import Decision
from basewise.core.files import write_text
from basewise.steps.measures import said
from basewise.steps.worth import ends
from basewise.web import account, by_metric, sections
from basewise.web.document import document
from basewise.web.document import sections as in_sections
from basewise.web.leaderboard import leaderboard


def write_report(decision: Decision, path: Path) -> None:
    """Write the page, whole or not at all."""
    write_text(Path(path), render(decision))


def render(decision: Decision) -> str:
    """The whole page as a string."""
    name = str(decision.provenance.get("task", "run"))
    return document(
        f"basewise: {name}",
        f'<p class="brand">basewise · {escape(name)} · {escape(decision.verdict)}</p><h1>{escape(decision.sentence)}</h1>'
        f"{reading(decision)}{strip(decision)}{notes(decision.notes)}{in_sections(parts(decision))}",
    )


def parts(decision: Decision) -> Iterable[tuple[str, str]]:
    """Sections in reading order; an empty one is left out."""
    yield "Leaderboard", leaderboard(decision)
    yield "Quality against cost", sections.pareto(decision)
    yield "The locked test rows", sections.test(decision) + by_metric.tested(decision)
    yield "Labels saved", sections.curves(decision)
    yield "What the bases promised", sections.ranks(decision)
    yield "Each class", by_metric.classes(decision)
    yield "Confusion", sections.confusion(decision)
    yield "Calibration", sections.calibration(decision)
    yield "Answering only when sure", sections.coverage(decision)
    yield "Slices", sections.slices(decision)
    yield "Length", sections.lengths(decision)
    yield "Mistakes to read", sections.wrong(decision)
    yield "Labels to check", sections.suspects(decision)
    yield "Audit", sections.audit(decision)
    yield "Predicted and measured cost", account.costs(decision)
    yield "Provenance", account.provenance(decision)


def reading(decision: Decision) -> str:
    """What is read, predicted and split by, in a line; runs of older versions do not say it."""
    said = decision.provenance.get("reading")
    return f'<p class="how">{escape(said)}</p>' if said else ""


def notes(lines: list[str]) -> str:
    """What the reader must not miss."""
    return f'<ul class="notes">{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>' if lines else ""


def strip(decision: Decision) -> str:
    """The handful of numbers that matter, each with its interval and n."""
    cells: list[tuple[str, str, str]] = []
    measure = said(decision.metric)
    if decision.test:
        score = decision.test["scores"][0]
        cells.append((f"{measure} on test rows", *_score(score)))
    if decision.winner:
        whose = "" if decision.corrected else f" of {decision.winner['name']}, the best"
        cells.append((f"{measure} in validation{whose}, corrected", *_score(decision.winner)))
    for gap in decision.test.get("differences", [])[:2]:
        text = f"[{100 * gap['low']:.1f}, {100 * gap['high']:.1f}] points"
        cells.append((f"better than {gap['name']}", f"{100 * gap['estimate']:+.1f}", text))
    for control, saved in decision.labels_saved.items():
        more = "≥ " if saved["censored"] else ""
        cells.append(
            (
                f"labels saved against {control}",
                f"{more}{saved['factor']:.1f} ×" if saved.get("told", True) else "cannot tell",
                ends(saved["low"], saved["high"]),
            )
        )
    line = next((e for e in decision.leaderboard if e["name"] == decision.chosen), None)
    if line and line.get("milliseconds_per_row") is not None:
        cells.append(
            ("time a row", f"{line['milliseconds_per_row']:.1f} ms", f"{line['seconds']:.1f} s a fit")
        )
    looks: Any = decision.test.get("looks")
    if looks:
        cells.append(("looks at the test rows", str(looks), f"n = {decision.test['n']:,}"))
    items = "".join(
        f"<div><dt>{escape(a)}</dt><dd>{escape(b)}<small>{escape(c)}</small></dd></div>" for a, b, c in cells
    )
    return f'<dl class="strip">{items}</dl>' if items else ""


def _score(value: dict[str, Any]) -> tuple[str, str]:
    return (
        f"{100 * value['estimate']:.1f} %",
        f"[{100 * value['low']:.1f}, {100 * value['high']:.1f}], n = {value['n']:,}",
    )
