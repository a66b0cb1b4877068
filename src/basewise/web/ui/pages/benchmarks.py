"""Benchmarks: standard tasks for bases, started and followed here, and the tables that `basewise bench` left in the folder of runs."""

from __future__ import annotations

from html import escape
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from basewise.core.errors import BasewiseError, InputError, UnknownName
from basewise.core.registry import keys, part, summary
from basewise.core.suite import Data
from basewise.web import bench as rendered
from basewise.web.report import notes
from basewise.web.ui import jobs, runs
from basewise.web.ui.forms import Form, Root, Sent
from basewise.web.ui.pages.home import badge, listing
from basewise.web.ui.pages.run import command_of, resume_form, stop_form
from basewise.web.ui.runs import Run
from basewise.web.ui.shell import alert, bar, href, page, status_of, text_field, ticks

router = APIRouter()
LIMIT = "100"


@router.get("/bench")
def show(request: Request, root: Root) -> HTMLResponse:
    """All benchmarks here, and the form that starts one."""
    return _page(root, Sent.of(request.query_params.multi_items()))


def _page(root: Path, sent: Sent, error: BasewiseError | None = None) -> HTMLResponse:
    found = [run for run in runs.every(root) if run.kind == "bench"]
    body = (alert(error) if error else "") + (listing(found) if found else "") + _form(root, sent)
    return page("Benchmarks", body, here="/bench", status=status_of(error) if error else 200)


def _suites() -> list[tuple[str, str]]:
    """(key, words) of the suites that are asked as a whole."""
    return [
        (key, f"{key}: {summary('suites', key).partition(':')[0]}")
        for key in keys("suites")
        if not getattr(part("suites", key), "BY_NAME", False)
    ]


def _form(root: Path, sent: Sent) -> str:
    """Bases, suites and how much of them; what was sent before stands in its fields again."""
    from basewise.steps import bases

    known = [(c.key, f"{c.key} ({c.parameters / 1e6:.0f} M)") for c in bases.listing() if bases.here(c)]
    name = sent.one("name") or runs.free_name(root, "bench")
    limit = text_field("limit", "Items a task", sent.one("limit", LIMIT), attributes='inputmode="numeric" size="6"')  # fmt: skip
    shots = text_field(
        "shots", "Demonstrations", sent.one("shots"), hint="Such as 5, or 0,1,2,4 for a curve. Left out: each task's usual number."
    )  # fmt: skip
    folder = text_field(
        "data", "Folder of the sets", sent.one("data", str(Data.of().folder)), attributes='required size="40"'
    )
    return (
        '<h2>Start one</h2><form method="post" action="/bench" class="fields" data-busy="Starting…">'
        + ticks(
            "base",
            "Bases that are here",
            known,
            sent.get("base", ()),
            "Two or more are compared item by item.",
        )
        + ticks("suite", "Suites", _suites(), sent.get("suite", ()))
        + text_field("name", "Name of the run", name, attributes='required maxlength="100"')
        + f'{limit}<details><summary>More</summary>{shots}{folder}</details><button class="main">Start the benchmark</button></form>'
    )


@router.post("/bench")
def start(root: Root, sent: Form) -> Response:
    """Start `basewise bench` and go to its page."""
    try:
        name = _begin(root, sent)
    except BasewiseError as error:
        return _page(root, sent, error)
    return RedirectResponse(href("bench", name), status_code=303)


def _begin(root: Path, sent: Sent) -> str:
    from basewise.steps import bases

    name, limit = sent.one("name"), sent.one("limit")
    asked, suites = sent.get("base", []), sent.get("suite", [])
    runs.check_new(root, name)
    if not asked or not suites:
        raise InputError("no base or no suite was ticked", "tick at least one of each")
    for base in asked:
        bases.find(base)
    if unknown := set(suites) - set(dict(_suites())):
        raise UnknownName.of("suite", min(unknown), list(dict(_suites())))
    if limit and not (limit.isascii() and limit.isdigit() and int(limit)):
        raise InputError(
            f"{limit!r} is no number of items", "give one such as 100, or leave it empty for all"
        )
    words = ["bench", *asked, *(w for suite in suites for w in ("--suite", suite)), "--to", str(root / name)]
    given = (("limit", limit), ("shots", sent.one("shots")), ("data", sent.one("data")))
    jobs.start(root, name, words + [f"--{option}={value}" for option, value in given if value], {})
    return name


def _run(root: Path, name: str) -> Run:
    # a folder of another kind may be one that cannot be read
    other = runs.kind_of(runs.folder_of(root, name)) not in ("", "bench")
    if other or (run := runs.find(root, name)).kind != "bench":
        raise UnknownName(f"{name} is no benchmark", "its own page is under Runs")
    return run


@router.get("/bench/{name}/live")
def live(name: str, root: Root) -> HTMLResponse:
    """How far a benchmark is; x-over when it has ended."""
    run = _run(root, name)
    return HTMLResponse(_standing(run), headers={} if run.state == "running" else {"x-over": "1"})


def _standing(run: Run) -> str:
    said = run.job.progress if run.job else {}
    progress = bar(said.get("done", 0), said.get("total", 0), "progress")
    return f"{badge(run.state)}<p data-say>{escape(runs.doing(run.job))}</p>{progress}"


@router.get("/bench/{name}")
def one(name: str, root: Root) -> HTMLResponse:
    """One benchmark with all its tables; how far it is while it runs."""
    run = _run(root, name)
    if run.state == "running":
        following = f'<div data-live="{href("bench", name, "live")}" data-every="1000">{_standing(run)}</div>'
        body = following + stop_form(run, "Stop and keep what is answered") + command_of(run)
        return page(name, body, here="/bench", kicker="benchmark")
    said = alert(run.sentence) if run.state == "failed" else ""
    again = resume_form(run)
    if not (run.folder / "bench.json").exists():
        said = said or f"<p>{escape(run.sentence)}</p>"
        kicker = f"benchmark · {run.state}"
        return page(name, said + again + command_of(run), here="/bench", kicker=kicker)
    result = runs.benchmark_of(run.folder)
    made = [(title, body) for title, body in rendered.parts(result) if body]
    links = "".join(f'<a href="#s{i}">{escape(title)}</a>' for i, (title, _) in enumerate(made))
    sections = "".join(
        f'<section id="s{i}"><h2>{escape(t)}</h2>{b}</section>' for i, (t, b) in enumerate(made)
    )
    body = (
        f"{said}{rendered.strip(result)}{notes(result.notes)}{again}"
        f'<nav aria-label="Sections" class="sections">{links}</nav>{sections}{command_of(run)}'
    )
    return page(result.sentence, body, here="/bench", kicker=f"{name} · benchmark · {result.status}")
