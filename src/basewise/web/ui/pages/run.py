"""A run: while it runs the moving leaderboard, rungs, time left and a way to stop; afterwards the decision with all its sections."""

from __future__ import annotations

import shlex
import time
from html import escape
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from basewise.core.budget import duration
from basewise.core.decision import Decision
from basewise.core.errors import RunError
from basewise.steps.measures import heading, name_of
from basewise.web import plots, report
from basewise.web.sections import cut, how, number, span, table
from basewise.web.ui import jobs, runs
from basewise.web.ui.forms import Form, Root
from basewise.web.ui.pages.home import badge
from basewise.web.ui.runs import Run
from basewise.web.ui.shell import action, alert, bar, href, page
from basewise.web.ui.wording import for_pages

router = APIRouter()
EVERY_MS = "1000"


@router.get("/runs/{name}")
def show(name: str, root: Root) -> Response:
    """The page of a run, whatever its state."""
    run = runs.find(root, name)
    if run.kind in ("bench", "pretrain"):
        return RedirectResponse(
            href("bench" if run.kind == "bench" else "pretraining", name), status_code=303
        )
    if run.state in ("waiting", "running"):
        live = f'<div data-live="{href("runs", name, "live")}" data-every="{EVERY_MS}">{standing(run)}</div>'
        # its state stands in the moving part
        return page(name, live + stop_form(run) + command_of(run), here="/", kicker="run")
    if not (run.folder / "decision.json").exists():
        return _ended(run)
    decision = runs.decision_of(run.folder)
    said = alert(run.sentence) if run.state == "failed" else ""
    body = said + finished(run, decision)
    return page(decision.sentence, body, here="/", kicker=f"{name} · {decision.verdict}")


def stop_form(run: Run, words: str = "Stop and keep the best so far") -> str:
    """The button that stops a run; after it was pressed, the one that does not wait for what it writes at its end."""
    if run.job is None:
        return ""
    path = href("runs", run.name, "stop")
    if not stopping(run):
        return action(path, words, kind="danger", busy="Stopping…")
    return action(
        path, "Do not wait, stop at once", kind="danger", fields={"at_once": "yes"}, busy="Stopping…"
    )


def stopping(run: Run) -> bool:
    """Whether a running run was asked to end with the best so far."""
    return run.job is not None and bool(run.job.about.get("stopping"))


def _ended(run: Run) -> HTMLResponse:
    """A run that ended without a decision: why, what it had, and how to go on."""
    body = alert(run.sentence) if run.state == "failed" else f"<p>{escape(run.sentence)}</p>"
    if run.job:
        body += f'<div class="row">{resume_form(run)}'
        if table_key := run.job.about.get("table"):
            kept = "&".join(filter(None, (run.job.about.get(part, "") for part in ("address", "settings"))))
            body += (
                f'<a class="button" href="{href("new", table_key)}?{escape(kept)}">Change its settings</a>'
            )
        body += "</div>"
    standings = runs.standings_of(run.folder)
    if standings.get("arms"):
        body += f"<h2>What it had</h2>{arms(standings)}"
    return page(run.name, body + command_of(run), here="/", kicker=f"run · {run.state}")


def resume_form(run: Run) -> str:
    """The button that goes on with a run that was started from here and has not finished."""
    if run.job is None or run.state not in ("stopped", "failed"):
        return ""
    return action(href("runs", run.name, "resume"), "Go on from here", kind="main", busy="Starting…")


def command_of(run: Run) -> str:
    """What runs, and what it said."""
    if run.job is None:
        return ""
    said = run.job.text("err.txt", 4000)
    words = shlex.join(["basewise", *run.job.words])
    return f"<details><summary>The command and what it says</summary><pre tabindex='0'>$ {cut(words, 2000)}\n{cut(said, 4000)}</pre></details>"


@router.get("/runs/{name}/live")
def live(name: str, root: Root) -> HTMLResponse:
    """The moving part; the header x-over says that the page must be loaded again."""
    run = runs.find(root, name)
    over = run.state not in ("waiting", "running")
    return HTMLResponse(standing(run), headers={"x-over": "1"} if over else {})


def standing(run: Run) -> str:
    """The numbers and the leaderboard of a race that goes on."""
    now = runs.standings_of(run.folder)
    doing = runs.doing(run.job)
    if stopping(run):
        doing = f"Stopping: the best so far is judged and written. {doing}"
    said = run.job.progress if run.job else {}
    if not now:
        waiting = bar(said.get("done", 0), said.get("total", 0), "progress")
        return f'{badge(run.state)}<p data-say>{escape(doing)}</p>{waiting}<p class="how">The table is looked over and the bases are opened first.</p>'
    used = min(now["seconds"], now["used"] + max(0.0, time.time() - now["written"]))
    done = sum(a["rungs"] for a in now["arms"])
    cells = (
        ("time left", duration(now["seconds"] - used), f"of {duration(now['seconds'])}"),
        (
            "arms scored",
            str(sum(1 for a in now["arms"] if a["score"])),
            f"of {len(now['arms'])} entered so far",
        ),
        ("rungs run", str(done), f"{now['rungs']} an arm"),
        ("train rows", f"{now['rows']:,}", "in the race"),
    )
    items = "".join(
        f"<div><dt>{a}</dt><dd>{escape(b)}<small>{escape(c)}</small></dd></div>" for a, b, c in cells
    )
    inner = _shown(said["done"], said["total"], "this step") if said.get("total") else ""
    return (
        f"{badge(run.state)}<p data-say>{escape(doing)}</p>{_shown(used, now['seconds'], 'time used')}{inner}"
        f'<dl class="strip">{items}</dl>{arms(now)}'
    )


def _shown(done: float, total: float, label: str) -> str:
    """A progress bar with its words above it, where there are two of them."""
    return f'<span class="small">{escape(label)}</span>{bar(done, total, label)}'


def arms(now: dict[str, Any]) -> str:
    """Arms as they stand, on one axis."""
    scores = [a["score"] for a in now["arms"] if a["score"] and a["method"] != "majority"]
    low, high = min((s["low"] for s in scores), default=0.0), max((s["high"] for s in scores), default=1.0)
    rows = []
    for place, a in enumerate(now["arms"]):
        s, running = a["score"], bool(now["now"]) and now["now"]["name"] == a["name"]
        mark = (
            plots.interval_bar(low, high, (s["estimate"], s["low"], s["high"]), place == 0)
            if s and s["low"] >= low
            else "◂ below"
            if s
            else ""
        )
        state = f"▶ rung {now['now']['rung']} of {now['rungs']}" if running else a["status"]
        why = f'<br><span class="small">{cut(a["why"], 200)}</span>' if a["why"] else ""
        rows.append(
            [
                escape(a["name"]) + why,
                escape(state),
                mark,
                span(s),
                f"{s['n']:,}" if s else "–",
                f"{a['rungs']} of {now['rungs']}",
                number(a["predicted_seconds"]),
                number(a["seconds"]),
            ]
        )
    metric = now.get("metric", "accuracy")
    share = "Share right" if metric == "accuracy" else name_of(metric)
    text = f"{share} so far, with its 95 % interval; arms that saw fewer rungs were scored on fewer rows. Predicted and measured seconds are those of one fit."
    head = ("arm", "", "", f"{heading(metric)} [95 %]", "n", "rungs", "s predicted", "s measured")
    return how(text) + table(head, rows, 3)


def finished(run: Run, d: Decision) -> str:
    """The decision: the report's sections, and what can be done next."""
    made = [(title, body) for title, body in report.parts(d) if body]
    links = "".join(f'<a href="#s{i}">{escape(title)}</a>' for i, (title, _) in enumerate(made))
    sections = "".join(
        f'<section id="s{i}"><h2>{escape(title)}</h2>{body}</section>' for i, (title, body) in enumerate(made)
    )
    name, asked = run.name, f"?{urlencode({'run': run.name})}"
    next_steps = [
        (href("runs", name, "rows"), "Read the rows"),
        (href("playground") + asked, "Try it in the playground"),
        (href("compare") + asked, "Compare"),
        (href("runs", name, "report.html"), "The report as one file"),
    ]
    if (run.folder / "predictor" / "predictor.json").is_file():
        next_steps.append((f"{href('releases')}{asked}#make", "Release it"))
    if d.suspects:
        next_steps.insert(1, (href("runs", name, "relabel"), "Check labels and run again"))
    buttons = "".join(
        f'<a class="button" href="{escape(path)}">{escape(label)}</a>' for path, label in next_steps
    )
    again = resume_form(run) if run.state == "stopped" else ""
    return (
        f'{report.strip(d)}{report.notes([for_pages(line) for line in d.notes])}<div class="row">{again}{buttons}</div>'
        f'<nav aria-label="Sections" class="sections">{links}</nav>{sections}{command_of(run)}'
    )


@router.get("/runs/{name}/report.html")
def report_file(name: str, root: Root) -> Response:
    """The report that the run wrote, to keep or to send."""
    path = runs.folder_of(root, name) / "report.html"
    if not path.exists():
        raise RunError(f"{name} has no report yet", "wait until the run has finished")
    return FileResponse(path, filename=f"{name}.html", media_type="text/html")


@router.post("/runs/{name}/stop")
def stop(name: str, root: Root, sent: Form) -> Response:
    """Stop a run as Ctrl-C does. A second Ctrl-C would throw the best so far away: it is only sent where it is asked for."""
    run = runs.find(root, name)
    if run.job is None:
        raise RunError(f"{name} was not started from here", "stop it with Ctrl-C where it was started")
    if not stopping(run) or sent.one("at_once") == "yes":
        jobs.note(run.job, {"stopping": True})
        jobs.stop(run.job)
    return RedirectResponse(href("runs", name), status_code=303)


@router.post("/runs/{name}/resume")
def resume(name: str, root: Root) -> Response:
    """The same command again; it goes on from the journal."""
    run = runs.find(root, name)
    if run.job is None:
        raise RunError(
            f"{name} was not started from here", "give the same command again where it was started"
        )
    if run.state == "finished":
        raise RunError(f"{name} has finished", "start a new run from its table")
    about = {key: value for key, value in run.job.about.items() if key != "stopping"}
    jobs.start(root, name, run.job.words, about)
    return RedirectResponse(href("runs", name), status_code=303)
