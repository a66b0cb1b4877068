"""The report's tables of every metric and of every class, each number with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from basewise.core import registry
from basewise.core.decision import Decision
from basewise.steps.measures import is_share, name_of
from basewise.web.sections import NAME_SHOWN, ROWS_SHOWN, cut, how, number, span, table


def arms(d: Decision, entries: list[dict[str, Any]]) -> str:
    """The scored arms by every metric."""
    return _table([(e["name"], e.get("metrics", {})) for e in entries], d.chosen)


def tested(d: Decision) -> str:
    """The arms that saw the test rows by every metric."""
    return _table([(s["name"], s.get("metrics", {})) for s in d.test.get("scores", [])], d.chosen)


def _table(lines: Sequence[tuple[str, dict[str, Any]]], chosen: str) -> str:
    keys = [key for key in registry.keys("metrics") if lines and lines[0][1].get(key)]
    if not keys:
        return ""
    rows = []
    for name, metrics in lines:
        shown = f"<b>{escape(name)}</b>" if name == chosen else cut(name, NAME_SHOWN)
        rows.append(
            [
                f'<span class="whole">{v}</span>'
                for v in (shown, *(_span(key, metrics.get(key)) for key in keys))
            ]
        )
    head = ["arm", *(f"{name_of(key)}{', %' * is_share(key)} [95 %]" for key in keys)]
    return "<h3>By every metric</h3>" + table(head, rows, 1)


def _span(metric: str, value: dict[str, Any] | None) -> str:
    """A metric with its interval: a share in per cent, another one as it is."""
    if not value or is_share(metric):
        return span(value)
    low, high = (number(value[end], 3) for end in ("low", "high"))
    return f"{value['estimate']:.3f} [{low}, {high}]"


def classes(d: Decision) -> str:
    """Recall, precision and F1 of each class, the worst first."""
    if not d.by_class:
        return ""
    rows = [
        [
            cut(line["class"], NAME_SHOWN),
            f"{line['n']:,}",
            f"{line['given']:,}",
            span(line["recall"]),
            span(line["precision"]),
            span(line["f1"]),
        ]
        for line in d.by_class[:ROWS_SHOWN]
    ]
    text = "The class that is answered worst stands first. Recall: how many of its rows were found; precision: how many of the rows given to it are its own; on held-out train rows."
    if len(d.by_class) > ROWS_SHOWN:
        text += f" {ROWS_SHOWN} of {len(d.by_class)} classes; decision.json has all."
    head = ("class", "rows", "given", "recall, % [95 %]", "precision, % [95 %]", "F1, % [95 %]")
    return how(text) + table(head, rows, 1)
