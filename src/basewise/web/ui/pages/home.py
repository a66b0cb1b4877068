"""The first page: all runs with their state and what came out."""

from __future__ import annotations

import datetime as dt
from html import escape

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from basewise.web.sections import cut, table
from basewise.web.ui import runs
from basewise.web.ui.forms import Root
from basewise.web.ui.runs import Run
from basewise.web.ui.shell import href, page
from basewise.web.ui.wording import for_pages

router = APIRouter()
MARKS = {
    "waiting": "◌ starting",
    "running": "▶ running",
    "finished": "■ finished",
    "stopped": "□ stopped",
    "failed": "✕ failed",
    "unreadable": "? unreadable",
}
MANY = 12
"""Runs from which on a list is searched."""
PLACE = {"choose": "runs", "bench": "bench", "pretrain": "pretraining"}


def link(run: Run) -> str:
    """The page of a run."""
    return href(PLACE[run.kind or "choose"], run.name)


def badge(state: str) -> str:
    """A state with its sign, so that colour is not needed."""
    return f'<span class="badge {escape(state)}">{escape(MARKS[state])}</span>'


@router.get("/")
def home(root: Root) -> HTMLResponse:
    """All runs."""
    if not (found := runs.every(root)):
        body = (
            '<p class="lead">Nothing has been run yet. Drop a table of labelled rows and basewise finds out which pretrained base '
            'helps, adapted how, and how good it will really be.</p><p><a class="button main" href="/new">New run</a></p>'
        )
        return page("Runs", body, here="/")
    busy = any(run.state in ("waiting", "running") for run in found)
    live = ' data-live="/runs.part" data-every="2000"' if busy else ""
    search = (
        '<div class="filters"><label class="field"><span>Search</span><input type="search" data-search="runs" placeholder="a name, finished …"></label></div>'
        if len(found) > MANY
        else ""
    )
    body = f'<p><a class="button main" href="/new">New run</a></p>{search}<div id="runs"{live}>{listing(found)}</div>'
    return page("Runs", body, here="/")


@router.get("/runs.part")
def part(root: Root, request: Request) -> Response:
    """The list alone, for a page that follows it."""
    found = runs.every(root)
    busy = any(run.state in ("waiting", "running") for run in found)
    return HTMLResponse(listing(found), headers={} if busy else {"x-over": "1"})


def listing(found: list[Run]) -> str:
    """The table of runs."""
    rows = []
    for run in found:
        when = dt.datetime.fromtimestamp(run.changed).strftime("%Y-%m-%d %H:%M") if run.changed else "–"
        verb = {"choose": "choice", "bench": "benchmark", "pretrain": "pretraining"}.get(run.kind, run.kind)
        name = f'<a href="{link(run)}">{escape(run.name)}</a><br><span class="small">{verb}, {when}</span>'
        rows.append([name, badge(run.state), cut(for_pages(run.sentence), 300)])
    return table(("run", "state", "what came out"), rows)
