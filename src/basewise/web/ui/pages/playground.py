"""Playground: a text typed in, every ticked run's answer, its neighbours among the train rows, and what would change it.

The text is sent in the body of the request, is written nowhere, and only ever meets predictors on this machine.
"""

from __future__ import annotations

import functools
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from basewise.core.errors import BasewiseError, InputError
from basewise.web import plots
from basewise.web.sections import cut, percent, table
from basewise.web.ui import runs
from basewise.web.ui.forms import Form, Root
from basewise.web.ui.shell import alert, href, page, ticks

if TYPE_CHECKING:
    from basewise.core.task import Task
    from basewise.steps.predict import Predictor

router = APIRouter()
MOST_CHARACTERS = 20_000
MOST_RUNS, CLASSES_SHOWN, NEIGHBOURS = 8, 8, 5


def usable(root: Path) -> list[str]:
    """Names of runs that hold a predictor, the latest first."""
    found = [name for name in runs.names(root) if (root / name / "predictor" / "predictor.json").is_file()]
    return sorted(found, key=lambda name: -(root / name / "predictor" / "predictor.json").stat().st_mtime)


def predictor_of(folder: Path) -> Predictor:
    """The predictor of a run, opened once while it does not change on disk."""
    return _opened(folder, (folder / "predictor" / "predictor.json").stat().st_mtime_ns)


@functools.lru_cache(maxsize=MOST_RUNS)
def _opened(folder: Path, _changed: int) -> Predictor:
    from basewise.steps.predict import load

    return load(folder)


@functools.lru_cache(maxsize=4)
def _task(folder: Path, _changed: int) -> Task:
    from basewise.core.taskfile import load_task

    return load_task(folder)


def task_of(folder: Path) -> Task:
    """The task of a run, read once while it does not change on disk."""
    path = folder / "task.json"
    return _task(folder, path.stat().st_mtime_ns if path.exists() else 0)


@router.get("/playground")
def show(request: Request, root: Root) -> HTMLResponse:
    """The empty form."""
    names = usable(root)
    if not names:
        body = '<p>No run has finished yet, so there is nothing to ask.</p><p><a class="button main" href="/new">New run</a></p>'
        return page("Playground", body, here="/playground")
    asked = [n for n in request.query_params.getlist("run") if n in names]
    return page("Playground", _form(names, asked or names[:1], ""), here="/playground")


def _form(names: list[str], chosen: list[str], text: str) -> str:
    boxes = ticks("run", "Whose answer", [(n, n) for n in names], chosen, f"At most {MOST_RUNS} at once.")
    return (
        '<form method="post" action="/playground" class="fields" data-busy="Asking…">'
        '<label class="field" style="width:100%"><span>Text</span>'
        f'<textarea name="text" required maxlength="{MOST_CHARACTERS}">{escape(text)}</textarea></label>'
        f'{boxes}<button class="main">Answer</button></form>'
    )


@router.post("/playground")
def answer(root: Root, sent: Form) -> HTMLResponse:
    """Answers of the ticked runs."""
    names, chosen, text = usable(root), sent.get("run", []), sent.one("text")
    try:
        folders = [runs.folder_of(root, name) for name in chosen]
        _check(text, chosen)
    except BasewiseError as error:
        from basewise.web.ui.shell import status_of

        return page(
            "Playground",
            alert(error) + _form(names, chosen, text),
            here="/playground",
            status=status_of(error),
        )
    answers = "".join(_answer(folder, text) for folder in folders)
    return page("Playground", _form(names, chosen, text) + answers, here="/playground")


def _check(text: str, chosen: list[str]) -> None:
    if not text:
        raise InputError("no text came", "type one")
    if len(text) > MOST_CHARACTERS:
        raise InputError(
            f"the text has {len(text):,} characters, at most {MOST_CHARACTERS:,} are asked at once",
            "use `basewise predict`",
        )
    if not chosen:
        raise InputError("no run was ticked", "tick at least one")
    if len(chosen) > MOST_RUNS:
        raise InputError(f"{len(chosen)} runs were ticked, at most {MOST_RUNS} answer at once", "tick fewer")


def _answer(folder: Path, text: str) -> str:
    """One run's answer, or the line that says why there is none."""
    from basewise.steps import explain

    head = f'<h2><a href="{href("runs", folder.name)}">{escape(folder.name)}</a></h2>'
    try:
        predictor = predictor_of(folder)
        words = explain.carrying(predictor, text)
        probabilities = predictor.probabilities([text])[0]
        near = explain.neighbours(predictor, task_of(folder), text, NEIGHBOURS)
    except BasewiseError as error:
        return f'<section class="answer">{head}{alert(error)}</section>'
    sure = predictor.threshold is None or words.probability >= predictor.threshold
    record = predictor.record
    how = f"{record['base']['key']} + {record['method']}" if record["base"] else record["method"]
    unsure = (
        ""
        if sure
        else f'<p class="badge warn">It would abstain: below its threshold of {percent(predictor.threshold)} %.</p>'
    )
    reads = ""
    if len(predictor.inputs) > 1:
        fields = ", ".join(f"“{name}: …”" for name in predictor.inputs)
        reads = f'<p class="small">This task reads lines of the form {escape(fields)}.</p>'
    return (
        f'<section class="answer">{head}<p class="big">{escape(words.label)} <span class="small">{percent(words.probability)} % · '
        f"{escape(how)}</span></p>{unsure}{reads}{_classes(predictor, probabilities)}"
        f"<h3>What carries it</h3>{_words(words)}<h3>Nearest train rows</h3>{_near(near)}</section>"
    )


def _classes(predictor: Predictor, probabilities: Any) -> str:
    order = sorted(range(len(predictor.classes)), key=lambda i: -probabilities[i])[:CLASSES_SHOWN]
    rows = []
    for i in order:
        p = float(probabilities[i])
        rows.append(
            [cut(predictor.classes[i], 80), plots.interval_bar(0, 1, (p, 0, p), i == order[0]), percent(p)]
        )
    more = len(predictor.classes) - len(order)
    return table(("class", "", "%"), rows, 2) + (f'<p class="small">and {more} more</p>' if more > 0 else "")


def _words(words: Any) -> str:
    """The text with the pieces that speak for the answer marked, and what would turn it."""
    largest = max((abs(change) for _, change, _ in words.pieces), default=0.0)
    shown = []
    for i, (piece, change, _) in enumerate(words.pieces):
        kind = "" if change < 0 else ' class="against"'
        strong = largest > 0.005 and abs(change) >= 0.25 * largest
        title = f"{-100 * change:+.1f} points"
        inner = f'<mark{kind} title="{title}">{escape(piece.rstrip())}</mark> ' if strong else escape(piece)
        shown.append(f"<b>{inner}</b>" if i in words.turning else inner)
    listed = [(p.strip(), c, t) for p, c, t in words.pieces if largest > 0.005 and abs(c) >= 0.25 * largest]
    listed.sort(key=lambda item: item[1])
    rows = [[cut(p, 120), f"{100 * c:+.1f}", cut(t, 80)] for p, c, t in listed[:10]]
    if words.turning:
        gone = " · ".join(escape(words.pieces[i][0].strip()) for i in words.turning)
        turn = f"<p>Without <b>{gone}</b> the answer is <b>{escape(words.turned)}</b>.</p>"
    else:
        turn = "<p>Leaving words out, in the order of what they carry, never changed the answer.</p>"
    note = "Marked words carry the answer: it changes by so many points when one is left out; dotted ones speak against it."
    changes = table(("left out", "points", "answer then"), rows, 1) if rows else ""
    return f'<p class="how">{note}</p><p class="said">{"".join(shown)}</p>{turn}{changes}'


def _near(near: list[dict[str, Any]]) -> str:
    rows = [[str(r["row_id"]), cut(r["text"]), cut(r["label"], 80), f"{r['likeness']:.2f}"] for r in near]
    return f'<div class="texts">{table(("row", "text", "label", "cosine"), rows, 3)}</div>'
