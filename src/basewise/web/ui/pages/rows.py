"""Rows of a finished run: every held-out train row with its label and the answer, filtered. The locked test rows are not shown."""

from __future__ import annotations

import functools
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from basewise.core.errors import RunError, UnknownName
from basewise.web.sections import cut, how, percent, table
from basewise.web.ui import runs
from basewise.web.ui.forms import Root
from basewise.web.ui.pages.playground import task_of
from basewise.web.ui.shell import href, page, select

router = APIRouter()
PAGE_ROWS = 50
SHOW = (("", "all rows"), ("wrong", "wrong only"), ("right", "right only"))
SORT = (("", "as in the table"), ("sure", "most certain first"), ("unsure", "least certain first"))


def evidence_of(folder: Path) -> Any:
    """The evidence of a run as a pyarrow Table."""
    path = folder / "evidence.parquet"
    if not path.exists():
        raise RunError(f"{folder.name} holds no evidence", "wait until the run has finished")
    return _evidence(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _evidence(path: Path, _changed: int) -> Any:
    from basewise.core.evidence import read_evidence

    return read_evidence(path)


def trial_rows(folder: Path, trial: str) -> dict[str, np.ndarray]:
    """row_id, group, label, predicted, probability, right (n,) of one trial, a row once (its first seed)."""
    import pyarrow.compute as pc

    data = evidence_of(folder)
    data = data.filter(pc.equal(data["trial"].cast("string"), trial))
    found = {name: data[name].to_numpy() for name in ("row_id", "group", "label", "predicted", "right")}
    classes = [name for name in data.column_names if name.startswith("p_")]
    given = (
        np.stack([data[name].to_numpy() for name in classes], axis=1)
        if len(data)
        else np.zeros((0, len(classes)))
    )
    found["probability"] = np.nanmax(given, axis=1) if len(data) else np.zeros(0)
    _, first = np.unique(found["row_id"], return_index=True)
    return {name: values[first] for name, values in found.items()}


@router.get("/runs/{name}/rows")
def show(name: str, request: Request, root: Root) -> HTMLResponse:
    """The filtered rows, a page of them."""
    folder = runs.folder_of(root, name)
    decision, task = runs.decision_of(folder), task_of(folder)
    asked = {
        key: request.query_params.get(key, "").strip()
        for key in ("trial", "show", "label", "given", "words", "sort", "page")
    }
    trials = [e["name"] for e in decision.leaderboard if e.get("score")]
    trial = asked["trial"] or decision.chosen
    if trial not in trials:
        raise UnknownName.of("trial", trial, trials)
    found = trial_rows(folder, trial)
    keep = matching(found, task, asked)
    place = (
        int(asked["page"])
        if asked["page"].isascii() and asked["page"].isdigit() and len(asked["page"]) < 9
        else 1
    )
    last = max(1, -(-len(keep) // PAGE_ROWS))
    place = min(max(1, place), last)
    text_at = {int(r): i for i, r in enumerate(task.rows.row_ids)}
    rows = []
    for i in keep[(place - 1) * PAGE_ROWS : place * PAGE_ROWS]:
        row, right = int(found["row_id"][i]), bool(found["right"][i])
        given = cut(task.classes[found["predicted"][i]], 80)
        rows.append(
            [
                str(row),
                cut(task.rows.texts[text_at[row]]),
                cut(task.classes[found["label"][i]], 80),
                given if right else f"<b>✕ {given}</b>",
                percent(float(found["probability"][i]), 0),
            ]
        )
    listed = table(("row", "text", "label", "given", "%"), rows, 4)
    shown = f'<div class="texts">{listed}</div>' if rows else "<p>No row fits.</p>"
    wrong = int((~found["right"][keep].astype(bool)).sum())
    text = f"{len(keep):,} of {len(found['row_id']):,} held-out train rows, {wrong:,} of them wrong; each was answered by a fit that had not seen it."
    body = (
        f'<p><a href="{href("runs", name)}">Back to {escape(name)}</a></p>{_filters(name, asked, trial, trials, list(task.classes))}'
        f"{how(text)}{shown}{_pages(name, asked, place, last)}"
    )
    return page(f"Rows of {name}", body, here="/", kicker=trial)


def matching(found: dict[str, np.ndarray], task: Any, asked: dict[str, str]) -> np.ndarray:
    """Indices of the rows that fit the filters, in the order asked for."""
    keep = np.ones(len(found["row_id"]), bool)
    if asked["show"] in ("wrong", "right"):
        keep &= found["right"].astype(bool) == (asked["show"] == "right")
    for field, column in (("label", "label"), ("given", "predicted")):
        if asked[field]:
            if asked[field] not in task.classes:
                raise UnknownName.of("class", asked[field], task.classes)
            keep &= found[column] == task.classes.index(asked[field])
    if words := asked["words"].casefold().split():
        text_at = {int(r): i for i, r in enumerate(task.rows.row_ids)}
        for i in np.flatnonzero(keep):
            text = task.rows.texts[text_at[int(found["row_id"][i])]].casefold()
            keep[i] = all(word in text for word in words)
    at = np.flatnonzero(keep)
    if asked["sort"] in ("sure", "unsure"):
        sign = -1 if asked["sort"] == "sure" else 1
        at = at[np.argsort(sign * found["probability"][at], kind="stable")]
    return np.asarray(at)


def _filters(name: str, asked: dict[str, str], trial: str, trials: list[str], classes: list[str]) -> str:
    any_class = [("", "any"), *((c, c) for c in classes)]
    return (
        f'<form method="get" action="{href("runs", name, "rows")}" class="filters">'
        + select("trial", "Arm", [(t, t) for t in trials], trial)
        + select("show", "Show", SHOW, asked["show"])
        + select("label", "Label", any_class, asked["label"])
        + select("given", "Given", any_class, asked["given"])
        + select("sort", "Order", SORT, asked["sort"])
        + f'<label class="field"><span>Words</span><input type="search" name="words" value="{escape(asked["words"])}"></label>'
        + "<button>Filter</button></form>"
    )


def _pages(name: str, asked: dict[str, str], place: int, last: int) -> str:
    if last == 1:
        return ""

    def to(number: int, words: str) -> str:
        query = urlencode({k: v for k, v in {**asked, "page": str(number)}.items() if v})
        return f'<a class="button" href="{escape(href("runs", name, "rows"))}?{escape(query)}">{words}</a>'

    before = to(place - 1, "Before") if place > 1 else ""
    after = to(place + 1, "After") if place < last else ""
    return (
        f'<nav class="pages" aria-label="Pages of rows">{before}<span>{place} of {last}</span>{after}</nav>'
    )
