"""bench.html: a benchmark as one page that opens without a network; it reads bench.json and computes only positions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from basewise.core.benchmark import Benchmark, Json
from basewise.core.files import write_text
from basewise.web import plots
from basewise.web.account import in_words
from basewise.web.document import document
from basewise.web.document import sections as in_sections
from basewise.web.plots import Axis
from basewise.web.report import notes
from basewise.web.sections import cut, how, table

BITS = "bits per byte"
ALPHA = 0.05
MEASURES = {
    "accuracy": "% right",
    "accuracy per byte": "% right, choices compared a byte",
    "accuracy calibrated": "% right, batch-calibrated",
    "share": "% of pairs in which the stereotype is likelier; 50 is the aim",
    "auroc": "area under the curve in %, in scope against out of scope",
    BITS: "bits per byte; less is better",
}


def write_page(result: Benchmark, path: Path) -> None:
    """Write the page, whole or not at all."""
    write_text(Path(path), render(result))


def render(result: Benchmark) -> str:
    """The whole page as a string."""
    return document(
        f"basewise: benchmark of {', '.join(line['name'] for line in result.bases)}",
        f'<p class="brand">basewise · benchmark · {escape(result.status)}</p><h1>{escape(result.sentence)}</h1>'
        f"{strip(result)}{notes(result.notes)}{in_sections(parts(result))}",
    )


def parts(result: Benchmark) -> Iterable[tuple[str, str]]:
    """Sections in reading order; an empty one is left out."""
    yield "Suites", suites(result)
    yield "Which base is better", differences(result)
    yield "Demonstrations", curves(result)
    yield "Prompting and scale", scale(result)
    yield "Contamination", contamination(result)
    yield "Every task", tasks(result)
    yield "Not asked", skipped(result)
    yield "Bases and provenance", provenance(result)


def figures(value: Json | None, measure: str, sign: str = "") -> str:
    """51.0 [41.3, 60.6] in per cent or bits; ? where an end is not known, a dash where there is nothing."""
    if not value:
        return "–"
    unit, form = (1.0, ".3f") if measure == BITS else (100.0, ".1f")
    low, high = ("?" if value[k] is None else format(_plus(unit * value[k]), form) for k in ("low", "high"))
    return f"{format(_plus(unit * value['estimate']), sign + form)} [{low}, {high}]"


def _plus(value: float) -> float:
    """Rounded, and never a negative zero."""
    return round(value, 3) + 0.0 if abs(value) >= 0.0005 else 0.0


def one(value: float | None, measure: str) -> str:
    """A single number in the measure's unit, or a dash."""
    if value is None:
        return "–"
    return f"{value:.3f}" if measure == BITS else f"{100 * value:.1f}"


def strip(result: Benchmark) -> str:
    """The handful of numbers that matter: the mean of each suite for a single base, else the bases' sizes."""
    cells = []
    if len(result.bases) == 1:
        for line in result.suites[:6]:
            score = figures(line["score"], line["measure"]).partition(" ")
            name = (
                line["suite"]
                if line["measure"].startswith("accuracy")
                else f"{line['suite']}, {line['measure']}"
            )
            cells.append((name, score[0], f"{score[2]}, n = {line['score']['n']:,}"))
    else:
        cells = [
            (line["name"], f"{line['parameters'] / 1e6:.0f} M", f"{line['family']}, {line['seconds']:.0f} s")
            for line in result.bases
        ]
    items = "".join(
        f"<div><dt>{escape(a)}</dt><dd>{escape(b)}<small>{escape(c)}</small></dd></div>" for a, b, c in cells
    )
    return f'<dl class="strip">{items}</dl>' if items else ""


def _bar(values: Sequence[Json], value: Json, bits: bool) -> str:
    """A dot and its interval: shares on an axis from 0 to 100 %, bits on the one that the values share."""
    ends = [(v["estimate"] if v[k] is None else v[k]) for v in [*values, value] for k in ("low", "high")]
    least, most = (min(ends), max(ends)) if bits else (0.0, 1.0)
    low, high = (value["estimate"] if value[k] is None else value[k] for k in ("low", "high"))
    return plots.interval_bar(least, most, (value["estimate"], low, high), False)


def asked(line: Json) -> str:
    """The base, and how it answered where that was not in context."""
    return escape(line["base"]) + (" <span class='small'>by probe</span>" if line["way"] == "probe" else "")


def suites(result: Benchmark) -> str:
    """Means over the tasks of each suite, base by base on one axis."""
    rows = []
    order = list(dict.fromkeys((x["suite"], x["measure"]) for x in result.suites))
    for line in sorted(result.suites, key=lambda x: order.index((x["suite"], x["measure"]))):
        same = [
            x["score"]
            for x in result.suites
            if (x["suite"], x["measure"]) == (line["suite"], line["measure"])
        ]
        above = "–" if line["above_chance"] is None else f"{line['above_chance']} of {line['tasks']}"
        shots = ", ".join(map(str, line["shots"])) + (" a class" if line["way"] == "probe" else "")
        rows.append(
            [
                escape(line["suite"]),
                asked(line),
                escape(line["measure"]),
                _bar(same, line["score"], line["measure"] == BITS),
                figures(line["score"], line["measure"]),
                f"{line['score']['n']:,}",
                shots,
                above,
                one(line["smallest_gap"], line["measure"]),
            ]
        )
    text = (
        "Mean over the tasks of a suite with its 95 % interval; items that share a passage count as a cluster. “Above chance” counts tasks "
        "whose score is above guessing after Holm's correction over the suite. “Sees” is the smallest gap to another base that these items would "
        "show in four of five cases, if both differed on a fifth of them, or on as many as the gap; a dash where they show none so often."
    )
    head = ("suite", "base", "measure", "", "mean [95 %]", "n", "shots", "above chance", "sees")
    return how(text) + table(head, rows, 4) if rows else ""


def differences(result: Benchmark) -> str:
    """Paired gaps between bases: suites, and the tasks in a fold."""
    if not result.differences:
        return ""
    better = {(t["suite"], t["measure"]): t["better"] for t in result.tasks}
    whole = [d for d in result.differences if d["task"] is None]
    single = [d for d in result.differences if d["task"]]
    text = (
        "First less second base on the same items, so the interval is of the difference itself; p is adjusted for all comparisons of the table "
        "(Holm). ■ marks the differences that hold. “Sees” is the smallest difference that so many items show in four of five cases."
    )
    sure = [d for d in single if d["p_holm"] <= ALPHA]
    shown = f"<p>{len(sure)} of {len(single)} differences on single tasks hold.</p>"
    fold = f"<details><summary>all {len(single)} tasks</summary>{_gaps(single, better)}</details>"
    return how(text) + _gaps(whole, better) + shown + fold


def _gaps(lines: Sequence[Json], better: dict[tuple[str, str], str]) -> str:
    rows = []
    for gap in lines:
        holds = gap["p_holm"] <= ALPHA
        aim = better.get((gap["suite"], gap["measure"]), "high")
        first = gap["estimate"] > 0 if aim == "high" else gap["estimate"] < 0
        winner = (gap["a"] if first else gap["b"]) if holds and aim != "half" else ""
        rows.append(
            [
                "■" if holds else "",
                escape(gap["task"] or gap["suite"]),
                escape(gap["measure"]),
                escape(f"{gap['a']} − {gap['b']}"),
                figures(gap, gap["measure"], "+"),
                f"{gap['p_holm']:.3g}",
                f"{gap['n']:,}",
                one(gap["smallest_gap"], gap["measure"]),
                escape(winner),
            ]
        )
    head = ("", "what", "measure", "difference", "[95 %]", "p", "n", "sees", "better")
    return table(head, rows, 4)


def curves(result: Benchmark) -> str:
    """Score over the number of demonstrations, one picture a suite."""
    out = []
    for suite, measure in dict.fromkeys((c["suite"], c["measure"]) for c in result.curves):
        lines = [c for c in result.curves if (c["suite"], c["measure"]) == (suite, measure)]
        points = [p for line in lines for p in line["points"]]
        most = max(p["shots"] for p in points)
        values = [v for p in points for v in (p["low"], p["estimate"], p["high"]) if v is not None]
        unit = measure != BITS
        x = Axis(low=0, high=max(1, most), label="demonstrations")
        y = Axis(low=min(values), high=max(values), label=MEASURES[measure], percent=unit)
        marks = []
        for kind, line in enumerate(lines):
            ends = [(p["shots"], p["low"], p["high"]) for p in line["points"] if p["low"] is not None]
            marks += [plots.band(x, y, ends, kind)] if ends else []
            marks.append(
                plots.line(x, y, [(p["shots"], p["estimate"]) for p in line["points"]], kind, line["base"])
            )
        out.append(f"<h3>{escape(suite)}</h3>" + plots.frame(x, y, f"{suite} by demonstrations", marks))
        for line in lines:
            least, last = line["points"][0]["shots"], line["points"][-1]["shots"]
            holds = "holds" if line["gain"]["p_holm"] <= ALPHA else "cannot be told from none"
            out.append(
                f"<p>{escape(line['base'])}: {last} demonstration{'' if last == 1 else 's'} against {least}: {figures(line['gain'], measure, '+')}"
                f" over {line['tasks']} task{'' if line['tasks'] == 1 else 's'}; p = {line['gain']['p_holm']:.3g}, the gain {holds}.</p>"
            )
    text = "The items are the same at every number of demonstrations, and the demonstrations nested; the band is the 95 % interval of a point."
    return how(text) + "".join(out) if out else ""


def scale(result: Benchmark) -> str:
    """Whether prompting improves with the size of the base."""
    if not result.scale:
        return ""
    text = "Slope of the score over the logarithm of the parameters, from the same items for every base; the interval is over items, and speaks of these bases only."
    rows = [
        [
            escape(line["suite"]),
            escape(line["measure"]),
            escape(str(line["shots"])),
            figures(line, line["measure"], "+"),
            f"{line['p_holm']:.3g}",
            cut(line["sentence"]),
        ]
        for line in result.scale
    ]
    head = ("suite", "measure", "shots", "a tenfold [95 %]", "p", "in words")
    return how(text) + table(head, rows)


def contamination(result: Benchmark) -> str:
    """Items found in the corpus, and the scores with and without them."""
    found = result.contamination
    if not found:
        return ""
    text = (
        f"An item matches when {found['n']} of its words in a row stand in {found['corpus']}; shorter items cannot match. "
        "The gap is the score on matching less that on clean items."
    )
    tasks = [
        [escape(t["task"]), f"{t['items']:,}", f"{t['matched']:,}", f"{t['longest']}", f"{t['short']:,}"]
        for t in found["tasks"]
        if t["matched"]
    ]
    measures = {t["name"]: t["measure"] for t in result.tasks}
    cells = [
        [
            escape(c["task"]),
            escape(c["base"]),
            str(c["shots"]),
            figures(c["all"], measures[c["task"]]),
            figures(c["without"], measures[c["task"]]),
            figures(c["gap"], measures[c["task"]], "+"),
        ]
        for c in found["cells"]
    ]
    total = sum(t["items"] for t in found["tasks"])
    matched = sum(t["matched"] for t in found["tasks"])
    out = how(text) + f"<p>{matched:,} of {total:,} items match.</p>"
    if tasks:
        out += table(("task", "items", "matching", "longest, words", "too short to say"), tasks, 1)
    if cells:
        out += table(("task", "base", "shots", "all items", "without matches", "gap"), cells, 2)
    return out


def tasks(result: Benchmark) -> str:
    """Every cell, a fold a suite."""
    by_name = {task["name"]: task for task in result.tasks}
    out = []
    for suite in dict.fromkeys(task["suite"] for task in result.tasks):
        cells = [c for c in result.cells if by_name[c["task"]]["suite"] == suite]
        rows = [_task_row(cell, by_name[cell["task"]]) for cell in cells]
        head = (
            "task",
            "base",
            "shots",
            "score [95 %]",
            "n",
            "clusters",
            "chance",
            "majority",
            "over chance",
            "p",
            "by other measures",
        )
        count = len({c["task"] for c in cells})
        words = f"{suite}: {count} task{'s' if count > 1 else ''}"
        out.append(f"<details><summary>{escape(words)}</summary>{table(head, rows, 2)}</details>")
    text = "■ above guessing after Holm's correction over the scores of a base on the suite. Chance and majority are what guessing and the commonest answer score on these items."
    return how(text) + "".join(out) if out else ""


def _task_row(cell: Json, task: Json) -> list[str]:
    gap, measure = cell["over_chance"], task["measure"]
    mark = " ■" if gap and gap["estimate"] > 0 and gap["p_holm"] <= ALPHA else ""
    also = "; ".join(
        f"{name.removeprefix('accuracy ')} {figures(v, name)}" for name, v in cell["also"].items()
    )
    note = f'<br><span class="small">{cut(cell["note"])}</span>' if cell["note"] else ""
    return [
        f'{escape(task["name"])}{mark}<br><span class="small">{escape(task["about"])}</span>{note}',
        asked(cell),
        str(cell["shots"]) + (" a class" if cell["way"] == "probe" else ""),
        figures(cell["score"], measure),
        f"{cell['score']['n']:,}",
        f"{task['clusters']:,}",
        one(task["chance"], measure),
        one(task["majority"], measure),
        figures(gap, measure, "+"),
        f"{gap['p_holm']:.3g}" if gap else "–",
        escape(also) or "–",
    ]


def skipped(result: Benchmark) -> str:
    """What a base was not asked, and why."""
    whys: dict[tuple[str, str], list[str]] = {}
    for line in result.skipped:
        why = line["why"].replace(line["task"], "the task")
        whys.setdefault((line["base"], why), []).append(line["task"])
    rows = [
        [escape(base), cut(why), f"{len(names):,}", cut(", ".join(names))]
        for (base, why), names in whys.items()
    ]
    return table(("base", "why", "tasks", "which"), rows) if rows else ""


def provenance(result: Benchmark) -> str:
    """Bases by digest, times, tokens, versions."""
    rows = [
        [
            escape(b["name"]),
            f"{b['parameters'] / 1e6:.1f} M",
            escape(b["licence"]),
            escape(", ".join(b["way"])),
            escape(b["precision"] or "–"),
            f"{b['seconds']:.0f} s",
            f"{b['computed']:,}" if b["computed"] else "–",
            f"{b['redundancy']:.3f}" if b["redundancy"] else "–",
            f"<code>{escape(b['digest'][:16])}</code>",
        ]
        for b in result.bases
    ]
    head = (
        "base",
        "weights",
        "licence",
        "answered",
        "precision",
        "time",
        "tokens",
        "computed / unique",
        "sha256",
    )
    facts = [[escape(str(k)), cut(in_words(v))] for k, v in result.provenance.items()]
    return table(head, rows) + table(("", ""), facts)
