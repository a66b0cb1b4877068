"""Benchmarks: the tables that `basewise bench` left in the folder of runs."""

from __future__ import annotations

from html import escape

from fastapi import APIRouter
from starlette.responses import HTMLResponse

from basewise.core.errors import UnknownName
from basewise.web import bench as rendered
from basewise.web.report import notes
from basewise.web.ui import runs
from basewise.web.ui.forms import Root
from basewise.web.ui.pages.home import listing
from basewise.web.ui.shell import page

router = APIRouter()


@router.get("/bench")
def show(root: Root) -> HTMLResponse:
    """All benchmarks here."""
    found = [run for run in runs.every(root) if run.kind == "bench"]
    if not found:
        body = (
            "<p>No benchmark has been run into this folder yet. In a terminal, for example:</p>"
            f"<pre tabindex='0'>basewise bench minilm-l6 --suite classify --limit 100 --to {escape(str(root / 'bench'))}</pre>"
        )
        return page("Benchmarks", body, here="/bench")
    return page("Benchmarks", listing(found), here="/bench")


@router.get("/bench/{name}")
def one(name: str, root: Root) -> HTMLResponse:
    """One benchmark with all its tables."""
    folder = runs.folder_of(root, name)
    if runs.kind_of(folder) != "bench":
        raise UnknownName(f"{name} is no benchmark", "its own page is under Runs")
    result = runs.benchmark_of(folder)
    made = [(title, body) for title, body in rendered.parts(result) if body]
    links = "".join(f'<a href="#s{i}">{escape(title)}</a>' for i, (title, _) in enumerate(made))
    sections = "".join(
        f'<section id="s{i}"><h2>{escape(t)}</h2>{b}</section>' for i, (t, b) in enumerate(made)
    )
    body = f'{rendered.strip(result)}{notes(result.notes)}<nav aria-label="Sections" class="sections">{links}</nav>{sections}'
    return page(result.sentence, body, here="/bench", kicker=f"{name} · benchmark · {result.status}")
