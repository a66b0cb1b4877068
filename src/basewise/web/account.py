"""The report's account: what was predicted and measured, and what is needed to do it again."""

from __future__ import annotations

from html import escape
from typing import Any

from basewise.core.decision import Decision
from basewise.web.sections import NAME_SHOWN, cut, how, number, table


def costs(d: Decision) -> str:
    """Predicted beside measured, with the relative error."""
    rows = []
    for e in d.leaderboard:
        if e.get("seconds") is None:
            continue
        pairs = [
            (e["predicted_seconds"], e["seconds"], 1.0),
            (e["predicted_memory_bytes"], e["memory_bytes"], 1e6),
        ]
        cells = [cut(e["name"], NAME_SHOWN)]
        for predicted, measured, unit in pairs:
            off = f"{100 * (predicted / measured - 1):+.0f} %" if measured else "–"
            cells += [number(predicted / unit), number(measured / unit), off]
        rows.append(cells)
    for line in d.ranks:
        predicted, measured = line.get("predicted_forward_seconds"), line.get("forward_seconds")
        if measured:
            off = f"{100 * (predicted / measured - 1):+.0f} %"
            name = cut(f"features of {line['base']}, all rows", NAME_SHOWN)
            rows.append([name, number(predicted), number(measured), off, "", "", ""])
    if not rows:
        return ""
    used, allowed = d.budget.get("used_seconds"), d.budget.get("seconds")
    text = (
        f"{number(used, 0)} s of the {number(allowed, 0)} s allowed were used. One fit and its held-out rows:"
    )
    head = ("arm", "s predicted", "s measured", "off", "MB predicted", "MB measured", "off")
    return how(text) + table(head, rows, 1)


def provenance(d: Decision) -> str:
    """What is needed to do it again."""
    rows = [
        [escape(key), f"<code>{cut(in_words(value))}</code>"]
        for key, value in d.provenance.items()
        if value not in ("", None)
    ]
    return table(("what", "value"), rows) if rows else ""


def in_words(value: Any) -> str:
    """A value of a record as text: names with their values, or how many there are and the first of them."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    if isinstance(value, list):
        return f"{len(value)}: {', '.join(str(v)[:NAME_SHOWN] for v in value[:12])}"
    return str(value)
