"""Serving from the pages: start a service on finished runs, ask a task that it serves, give it one task more."""

from __future__ import annotations

import contextlib
from html import escape
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from basewise.core.errors import InputError, RunError, UnknownName
from basewise.steps.serve import ServeOptions
from basewise.web import plots
from basewise.web.keys import Keys
from basewise.web.sections import cut, percent, table
from basewise.web.ui import jobs
from basewise.web.ui.forms import Form, Root
from basewise.web.ui.pages.playground import MOST_CHARACTERS, usable
from basewise.web.ui.pages.releases import names as released
from basewise.web.ui.pages.releases import place
from basewise.web.ui.service_client import Service
from basewise.web.ui.shell import href, page, text_field, ticks

router = APIRouter()
PORT = 8000
KEY_SECONDS = 30 * 86_400.0


def job_of(root: Path, address: str) -> jobs.Job | None:
    """The job that runs the service at an address, when it was started from here."""
    return jobs.named(root, f"serve.{address.rpartition(':')[2]}", "serve")


def folders(root: Path) -> list[tuple[str, str]]:
    """(folder, words) of everything that can be served: releases first, then runs."""
    found = [(str(place(root) / name), f"{name} (release)") for name in released(root)]
    return found + [(str(root / name), name) for name in usable(root)]


def start_form(root: Path) -> str:
    """The form that starts a service; nothing where no run has finished."""
    if not (known := folders(root)):
        return ""
    return (
        '<h2>Start one here</h2><form method="post" action="/serving/start" class="fields" data-busy="Making a key…">'
        + ticks("folder", "What it serves", known, (known[0][0],), "One task each.")
        + text_field("port", "Port", str(PORT), attributes='inputmode="numeric" size="6" required')
        + '<button class="main">Start the service</button></form>'
    )


def add_form(root: Path) -> str:
    """The form that gives a running service one task more."""
    if not (known := folders(root)):
        return ""
    options = "".join(f'<option value="{escape(v)}">{escape(t)}</option>' for v, t in known)
    return (
        '<h2>One task more</h2><form method="post" action="/serving/add" class="filters" data-busy="Opening it…">'
        f'<label class="field"><span>Release or run</span><select name="folder">{options}</select></label><button>Serve it</button></form>'
    )


@router.post("/serving/start")
def start(root: Root, request: Request, sent: Form) -> Response:
    """Make an admin key, start `basewise serve` in a process of its own, and connect to it."""
    known, asked, port = [v for v, _ in folders(root)], sent.get("folder", []), sent.one("port")
    if not asked:
        raise InputError("nothing was ticked", "tick at least one run or release")
    if unknown := [f for f in asked if f not in known]:
        raise UnknownName.of("run or release", unknown[0], known)
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise InputError(f"{port!r} is no port", "give a number such as 8000")
    address = f"http://127.0.0.1:{int(port)}"
    if (job := job_of(root, address)) and job.alive:
        raise RunError(f"a service runs on port {port} already", "stop it, or give another port")
    key = _keys().add("ui", admin=True, seconds=KEY_SECONDS)
    about = {"key": key.split("-")[1]}  # its id, to take it back by; the whole of it is kept in memory only
    jobs.start(root, f"serve.{int(port)}", ["serve", *asked, "--port", str(int(port)), "--quiet"], about)
    request.app.state.service = Service(address=address, key=key)
    return RedirectResponse("/service", status_code=303)


def _keys() -> Keys:
    """The keys of the services of this user, where `basewise serve` looks for them."""
    return Keys(ServeOptions().state / "keys.json")


@router.post("/serving/stop")
def stop(root: Root, request: Request) -> Response:
    """Stop the service that was started from here, and take back the key that was made for it."""
    service = getattr(request.app.state, "service", None)
    job = job_of(root, service.address) if service else None
    if job is None:
        raise RunError("no service was started from here", "stop it where it was started")
    jobs.stop(job)
    with contextlib.suppress(UnknownName):  # somebody took it back before
        _keys().remove(job.about.get("key", ""))
    request.app.state.service = None
    return RedirectResponse("/service", status_code=303)


@router.post("/serving/add")
def add(root: Root, request: Request, sent: Form) -> Response:
    """Serve one folder more."""
    folder = sent.one("folder")
    if folder not in [v for v, _ in folders(root)]:
        raise UnknownName.of("run or release", folder, [v for v, _ in folders(root)])
    needed(request).ask("POST", "/v1/admin/tasks", {"folder": folder})
    return RedirectResponse("/service", status_code=303)


def needed(request: Request) -> Service:
    """The connected service; InputError when there is none."""
    service: Service | None = getattr(request.app.state, "service", None)
    if service is None:
        raise InputError("no service is connected", "open Service and give its address")
    return service


def ask_form(name: str, text: str = "") -> str:
    """A text for a served task."""
    return (
        f'<h2>Ask it</h2><form method="post" action="{href("service", name, "ask")}" class="fields" data-busy="Asking…">'
        '<label class="field" style="width:100%"><span>Text</span>'
        f'<textarea name="text" required maxlength="{MOST_CHARACTERS}">{escape(text)}</textarea></label><button>Ask the service</button></form>'
    )


@router.post("/service/{name}/ask")
def ask(name: str, request: Request, sent: Form) -> HTMLResponse:
    """The served answer to one text, as any client gets it."""
    service, text = needed(request), sent.one("text")
    if not text or len(text) > MOST_CHARACTERS:
        raise InputError("no text came, or a very long one", f"type up to {MOST_CHARACTERS:,} characters")
    found = service.ask("POST", service.task(name, "/predict"), {"rows": [text], "top": 8})
    back = f'<p><a href="{href("service", name)}">Back to {escape(name)}</a></p>'
    return page(name, back + _answer(found) + ask_form(name, text), here="/service", kicker="served answer")


def _answer(found: dict[str, Any]) -> str:
    one = found["answers"][0]
    rows = [
        [cut(label, 80), plots.interval_bar(0, 1, (p, 0, p), label == one["label"]), percent(p)]
        for label, p in one["probabilities"].items()
    ]
    kept = ", ".join(map(str, one["set"])) if one.get("set") else "not known"
    unsure = '<p class="badge warn">It abstains.</p>' if one["abstained"] else ""
    return (
        f'<section class="answer"><p class="big">{escape(one["label"])} <span class="small">{percent(one["probability"])} %</span></p>{unsure}'
        f"{table(('class', '', '%'), rows, 2)}<p>Conformal set: {cut(kept)}.</p>"
        f'<p class="small">Version <code>{escape(found["version"][:16])}</code>, answer <code>{escape(one["id"])}</code>.</p></section>'
    )
