"""The sections of the report, each a function from a decision to HTML; an empty string leaves the section out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from basewise.core import registry
from basewise.core.decision import Decision
from basewise.steps.measures import heading, said
from basewise.web import plots
from basewise.web.plots import Axis

MANY_CLASSES, MANY_COLUMNS = 20, 3
DEEPEST = 50
"""Per cent of the accent in a full cell: its number stays readable (contrast 5.0) in the dark too."""
ROWS_SHOWN = 60
AUDIT_SHOWN = 200
TEXT_SHOWN, NAME_SHOWN = 600, 120


def cut(text: Any, most: int = TEXT_SHOWN) -> str:
    """A text of the user's as HTML, its end left out where it is very long: the page stays small whatever the rows hold."""
    text = str(text)
    return escape(text if len(text) <= most else f"{text[: most - 1]}…")


def how(text: str) -> str:
    """One sentence on how to read a section."""
    return f'<p class="how">{escape(text)}</p>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numeric: int = 99, caption: str = "") -> str:
    """A table; cells are HTML already. Columns from `numeric` on are set right; where there are many, a phone shows each row as a block."""
    side = [' class="n"' if i >= numeric else "" for i in range(len(head))]
    many = len(head) > MANY_COLUMNS
    of = [f' data-of="{escape(h)}"' if many and h else "" for h in head]
    top = "".join(f"<th{c}>{escape(h)}</th>" if h else "<td></td>" for c, h in zip(side, head, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{c}{o}>{v}</td>" for c, o, v in zip(side, of, r, strict=True)) + "</tr>"
        for r in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    kind = ' class="stack"' if many else ""
    return f'<div class="scroll" tabindex="0"><table{kind}>{title}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def percent(value: float | None, digits: int = 1) -> str:
    """A share in per cent, or a dash."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.{digits}f}"


def probability(p: float) -> str:
    """A p-value with two digits, or that it is below a thousandth."""
    return "&lt;0.001" if p < 0.001 else f"{p:.2g}"


def span(value: dict[str, Any] | None) -> str:
    """91.2 [89.7, 92.6]"""
    if not value:
        return "–"
    return f"{percent(value['estimate'])} [{percent(value['low'])}, {percent(value['high'])}]"


def number(value: float | None, digits: int = 1) -> str:
    """A number with thousands marked, or a dash."""
    return "–" if value is None else f"{value:,.{digits}f}"


def focus(entries: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Lowest and highest end of the intervals; without majority, which would press all others into a corner."""
    shown = [e["score"] for e in entries if e["method"] != "majority"] or [e["score"] for e in entries]
    return min(s["low"] for s in shown), max(s["high"] for s in shown)


def pareto(d: Decision) -> str:
    """Score against milliseconds a row."""
    points = [e for e in d.leaderboard if e.get("score") and e.get("milliseconds_per_row")]
    if len(points) < 2:
        return ""
    costs = [max(e["milliseconds_per_row"], 1e-3) for e in points]
    x = Axis(low=min(costs) / 2, high=max(costs) * 2, label="milliseconds a row (log scale)", log=True)
    low, high = focus(points)
    # room for the best one's name
    above = high + 0.1 * (high - low)
    y = Axis(low=low, high=above, label=said(d.metric), percent=True)
    best, front = -1.0, []
    for cost, e in sorted(zip(costs, points, strict=True), key=lambda item: item[0]):
        if e["score"]["estimate"] > best:
            best = e["score"]["estimate"]
            front.append((cost, best))
    named = {f[1] for f in front}
    marks = [plots.line(x, y, front, 1)]
    labels: list[plots.Point] = []
    others: list[plots.Point] = []
    for cost, e in zip(costs, points, strict=True):
        s = e["score"]
        value = s["estimate"], s["low"], s["high"]
        marks.append(plots.whisker(x, y, cost, value, e["name"] == d.chosen))
        below = f" ({percent(s['estimate'], 0)} %, below)" if s["estimate"] < low else ""
        kept = labels if e["name"] == d.chosen or s["estimate"] in named else others
        kept.append((cost, s["estimate"], e["name"] + below))
    marks.append(plots.names(x, y, labels, others, [front]))
    text = "Up is better, left is cheaper; the dashed line joins the arms that none beats at their cost."
    return how(text) + plots.frame(x, y, "Quality against cost", marks)


def test(d: Decision) -> str:
    """The one look at the test rows."""
    if not d.test:
        return ""
    t = d.test
    gaps = {g["name"]: g for g in t["differences"]}
    rows = []
    for s in t["scores"]:
        gap = gaps.get(s["name"])
        p = probability(gap["p_holm"]) if gap else "–"
        rows.append([cut(s["name"], NAME_SHOWN), span(s), f"{s['n']:,}", span(gap) if gap else "–", p])
    looks = "once" if t["looks"] == 1 else f"{t['looks']} times"
    looks += f" ({t['looks_elsewhere']} of them by other runs)" if t.get("looks_elsewhere") else ""
    text = f"These rows were locked before anything was tried and have been looked at {looks}. "
    text += _shown(t)
    if t.get("groups", t["n"]) < t["n"]:
        text += f" They come in {t['groups']:,} groups of rows that belong together and count here as {t['worth']:,.0f} rows."
    head = ("arm", f"{heading(d.metric)} [95 %]", "n", "chosen better by", "p (Holm)")
    return how(text) + table(head, rows, 1)


def _shown(t: dict[str, Any]) -> str:
    """How small a difference the test rows show, and what that takes for given."""
    to, gap, apart = "", t["smallest_gap"], t.get("discordance", 0.1)
    taken = "two arms taken to differ on one row in ten"
    if "against" in t:
        to = f" to {cut(t['against'], NAME_SHOWN)}"
        taken = "from the spread of the rows' differences"
    if "discordance" in t:
        taken = f"{percent(apart)} % of the rows are right with one of the two and wrong with the other"
    if gap is None:
        return f"With so few rows no true difference{to} is shown in four tests of five."
    if ("discordance" in t or "against" not in t) and gap > apart:
        taken = "the two taken to differ on no other rows"
    return (
        f"With so many rows a true difference{to} of {percent(gap)} points is shown in four tests of five"
        f" ({taken}), so in the fifth even that stays unproven."
    )


def curves(d: Decision) -> str:
    """Learning curves, and the labels saved in words."""
    if not d.curves:
        return ""
    sizes = [s for c in d.curves.values() for s in c["sizes"]]
    means = {
        n: [(s, *_spread(e)) for s, e in zip(c["sizes"], c["errors"], strict=True)]
        for n, c in d.curves.items()
    }
    top = min(1.0, 1.05 * max(p[3] for c in means.values() for p in c))
    x = Axis(low=min(sizes), high=max(sizes), label="labelled rows (log scale)", log=True)
    y = Axis(low=0.0, high=top, label="wrong", percent=True)
    marks: list[plots.Mark] = []
    lines = [[(s, m) for s, m, _, _ in points] for points in means.values()]
    for kind, points in enumerate(means.values()):
        marks.append(plots.band(x, y, [(s, low, high) for s, _, low, high in points], kind))
        marks.append(plots.line(x, y, lines[kind], kind))
    ends = [(p[-1][0], p[-1][1], name) for name, p in means.items()]
    marks.append(plots.names(x, y, ends, paths=lines))
    read = "".join(f"<p>{escape(s['sentence'])}</p>" for s in d.labels_saved.values())
    text = "Lower is better. Each line is fitted on growing, nested subsets of the same rows; the band spans the draws."
    return how(text) + plots.frame(x, y, "Learning curves", marks) + read


def _spread(errors: Sequence[float]) -> tuple[float, float, float]:
    return sum(errors) / len(errors), min(errors), max(errors)


def ranks(d: Decision) -> str:
    """Cheap ranks of the bases beside what came out."""
    if not d.ranks:
        return ""
    keys = [key for key in registry.keys("rankers") if key in d.ranks[0]]
    rows = []
    for r in d.ranks:
        values = [f"{r[k]:.3f}" for k in keys]
        rows.append(
            [
                cut(r["base"], NAME_SHOWN),
                str(r["rank"]),
                *values,
                escape(str(r["layer"] or "–")),
                percent(r["came_out"]),
            ]
        )
    text = "Before anything was trained, from one forward pass; the last column is the best score reached with the base."
    return how(text) + table(("base", "rank", *keys, "layer", "came out, %"), rows, 1)


def confusion(d: Decision) -> str:
    """A heat table, or the most frequent confusions when there are many classes."""
    if not d.confusion:
        return ""
    names, counts = d.confusion["classes"], d.confusion["counts"]
    if len(names) > MANY_CLASSES:
        pairs = [
            (counts[i][j], i, j)
            for i in range(len(names))
            for j in range(len(names))
            if i != j and counts[i][j]
        ]
        rows = [
            [cut(names[i], NAME_SHOWN), cut(names[j], NAME_SHOWN), f"{n:,}", f"{sum(counts[i]):,}"]
            for n, i, j in sorted(pairs, reverse=True)[:30]
        ]
        text = f"The most frequent confusions among {len(names)} classes, on held-out train rows."
        return how(text) + table(("true class", "taken for", "rows", "of"), rows, 2)
    head = "".join(f"<th>{cut(n, NAME_SHOWN)}</th>" for n in names)
    body = ""
    for name, row in zip(names, counts, strict=True):
        total = sum(row) or 1
        cells = "".join(
            f'<td style="background:color-mix(in srgb,var(--accent) {DEEPEST * v / total:.0f}%,transparent)">{v or ""}</td>'
            for v in row
        )
        body += f'<tr><th scope="row">{cut(name, NAME_SHOWN)}</th>{cells}</tr>'
    grid = f'<div class="scroll" tabindex="0"><table class="heat"><thead><tr><th>true ↓ given →</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    return (
        how(
            "Rows are the true classes, columns what was given, on held-out train rows; the diagonal is right."
        )
        + grid
    )


def calibration(d: Decision) -> str:
    """Reliability with intervals."""
    c = d.calibration
    if not c or not c["bins"]:
        return ""
    x = Axis(low=0.0, high=1.0, label="probability given", percent=True)
    y = Axis(low=0.0, high=1.0, label="right", percent=True)
    marks = [plots.line(x, y, [(0, 0), (1, 1)], 2)]
    marks += [plots.whisker(x, y, b["confidence"], (b["accuracy"], b["low"], b["high"])) for b in c["bins"]]
    error = span(c["error"]) if "error" in c else percent(c["ece"])  # a run of before it had an interval
    numbers = f"Debiased calibration error {error} points."
    text = "On the line, a row given 80 % is right in 80 of 100 cases; each dot holds a tenth of the rows. "
    return how(text + numbers) + plots.frame(x, y, "Calibration", marks)


def coverage(d: Decision) -> str:
    """Risk against coverage."""
    c = d.coverage
    if not c or not c["coverage"]:
        return ""
    x = Axis(low=0.0, high=1.0, label="rows answered", percent=True)
    y = Axis(low=0.0, high=max(0.05, *c["risk"]), label="wrong among them", percent=True)
    marks = [plots.line(x, y, list(zip(c["coverage"], c["risk"], strict=True)), 0)]
    if c["threshold"] is None:
        promise = f"No threshold can promise at most {percent(c['promised_risk'], 0)} % wrong on so few rows."
    else:
        promise = f"Answering at a probability of {c['threshold']:.2f} or above covers {percent(c['covered'])} % of the rows and errs"
        promise += f" at most {percent(c['promised_risk'], 0)} % of the time, 95 % sure; below it the predictor abstains."
    return how(promise) + plots.frame(x, y, "Risk against coverage", marks)


def slices(d: Decision) -> str:
    """Slices, confirmed or only suspected."""
    if not d.slices:
        return ""
    rows = []
    for s in d.slices:
        value = {"estimate": s["error"], "low": s["low"], "high": s["high"]}
        badge = "confirmed" if s["confirmed"] else "only suspected"
        rows.append([cut(s["name"], NAME_SHOWN), badge, span(value), percent(s["rest_error"]), f"{s['n']:,}"])
    text = "Found on one half of the rows, judged on the other; the numbers are those of the judging half."
    return how(text) + table(("rows where", "", "% wrong [95 %]", "elsewhere", "n"), rows, 2)


def lengths(d: Decision) -> str:
    """Score by length, and rows that were cut."""
    if not d.lengths:
        return ""
    rows = []
    for item in d.lengths:
        value = {"estimate": item["accuracy"], "low": item["low"], "high": item["high"]}
        rows.append(
            [
                f"{item['tokens_from']} to {item['tokens_to']}",
                span(value),
                f"{item['n']:,}",
                f"{item['cut']:,}",
            ]
        )
    shorter = sum(item["cut"] for item in d.lengths)
    which = "1 row was" if shorter == 1 else f"{shorter:,} rows were"
    text = (
        f"{which} longer than the method reads in full and cut at the end." if shorter else "No row was cut."
    )
    return how(text) + table(("tokens", "% right [95 %]", "n", "cut"), rows, 1)


def wrong(d: Decision) -> str:
    """Confident mistakes."""
    rows = [
        [
            str(r["row_id"]),
            cut(r["text"]),
            cut(r["label"], NAME_SHOWN),
            cut(r["predicted"], NAME_SHOWN),
            percent(r["probability"], 0),
        ]
        for r in d.wrong[:ROWS_SHOWN]
    ]
    text = f"The most confident mistakes first, {len(rows)} of {len(d.wrong)} kept; reading them is the fastest way to know more."
    return how(text) + _texts(("row", "text", "label", "given", "%"), rows) if rows else ""


def suspects(d: Decision) -> str:
    """Labels that may be wrong."""
    rows = [
        [
            str(r["row_id"]),
            cut(r["text"]),
            cut(r["label"], NAME_SHOWN),
            cut(r["suggested"], NAME_SHOWN),
            f"{r['margin']:.2f}",
        ]
        for r in d.suspects[:ROWS_SHOWN]
    ]
    text = "Rows whose label the other rows speak against (confident learning), the most doubtful first."
    return how(text) + _texts(("row", "text", "label", "suggested", "margin"), rows) if rows else ""


def _texts(head: Sequence[str], rows: list[list[str]]) -> str:
    """Rows to read, the second column the text; on a phone it has the whole width, below the rest of its row."""
    shown = table(head, rows[:12])
    if len(rows) > 12:
        shown += f"<details><summary>{len(rows) - 12} more</summary>{table(head, rows[12:])}</details>"
    return f'<div class="texts">{shown}</div>'


def audit(d: Decision) -> str:
    """What the audit found."""
    rows = [
        [
            f'<span class="badge">{cut(f["severity"], NAME_SHOWN)}</span>',
            cut(f["check"], NAME_SHOWN),
            cut(f["message"]),
            cut(f["advice"]),
        ]
        for f in d.audit[:AUDIT_SHOWN]
    ]
    text = "“fail” makes a score untrue, “warn” makes it weaker or needs a person, “info” is for knowing."
    return how(text) + table(("", "check", "found", "advice"), rows) if rows else ""
