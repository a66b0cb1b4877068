"""Serving from the pages: start a service on finished runs, ask a task that it serves, give it one task more.

The admin key goes to an address only while the job that was started for it lives and has said that it serves there: until then
anybody may listen on the port. When the job has ended the key is taken back.
"""

from __future__ import annotations

import contextlib
from html import escape
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from basewise.core.errors import InputError, RunError, UnknownName
from basewise.steps.serve import ServeOptions, hold
from basewise.web import plots
from basewise.web.keys import Keys
from basewise.web.sections import cut, percent, table
from basewise.web.traffic import Traffic
from basewise.web.ui import jobs
from basewise.web.ui.forms import Form, Root
from basewise.web.ui.pages.playground import MOST_CHARACTERS, usable
from basewise.web.ui.released import names as released
from basewise.web.ui.released import place
from basewise.web.ui.service_client import Service
from basewise.web.ui.shell import action, href, page, select, text_field, ticks

router = APIRouter()
HOST, PORT = "127.0.0.1", 8000
KEY_SECONDS = 30 * 86_400.0
STATES = {
    "starting": "▶ starting",
    "serving": "▶ serving",
    "stopping": "▶ stopping: what was asked before is answered first",
}


def job_of(root: Path, service: Service) -> jobs.Job | None:
    """The job that runs a service, when it was started from here."""
    return jobs.named(root, service.job, "serve") if service.job else None


def address_of(job: jobs.Job) -> str:
    """Where a job was told to serve."""
    return f"http://{HOST}:{job.name.removeprefix('serve.')}"


def state_of(job: jobs.Job) -> str:
    """ "starting" | "serving" | "stopping" | "ended": it is talked to only when it serves."""
    if not job.alive:
        return "ended"
    if job.about.get("stopping"):
        return "stopping"
    return "serving" if job.has_said(f"serving on {address_of(job)},") else "starting"


def state_folder(job: jobs.Job) -> Path:
    """Keys, traffic and watch of a job's service."""
    words = job.words
    return Path(words[words.index("--state") + 1]) if "--state" in words else ServeOptions().state


def take_back(job: jobs.Job) -> None:
    """Remove the keys that were made for a job."""
    keys = Keys(state_folder(job) / "keys.json")
    known = {key.id for key in keys.all()}
    # "key": as it was kept before
    for key in (*job.about.get("keys", ()), job.about.get("key")):
        if key in known:
            # somebody took it back before
            with contextlib.suppress(UnknownName):
                keys.remove(key)


def settle(root: Path) -> None:
    """Take back the keys of all services that have ended, however they did."""
    for job in jobs.every(root):
        if job.kind == "serve" and not job.alive:
            take_back(job)


def ended(job: jobs.Job) -> RunError:
    """What a service that was started from here ended with."""
    if job.exit_code is None:
        return RunError(
            f"the service at {address_of(job)} was killed", "start it again: what was changed in it is kept"
        )
    return RunError(
        job.error or f"the service at {address_of(job)} has ended", "" if job.error else "start it again"
    )


def living(root: Path, but: str = "") -> str:
    """The services that were started from here, by whichever app, and still run, `but` one; nothing where there is none."""
    rows = []
    for job in jobs.every(root):
        if job.kind != "serve" or job.name == but or (state := state_of(job)) == "ended":
            continue
        told = {"job": job.name}
        connect = (
            action("/serving/connect", "Connect", fields=told, busy="Asking…") if state == "serving" else ""
        )
        stop = action("/serving/stop", "Stop the service", kind="danger", fields=told, busy="Stopping…")
        served = ", ".join(Path(word).name for word in job.words[1 : job.words.index("--port")])
        rows.append(
            [
                f"<code>{escape(address_of(job))}</code>",
                cut(served, 200),
                STATES[state],
                f'<div class="row">{connect}{stop}</div>',
            ]
        )
    return "<h2>Started from here</h2>" + table(("address", "serves", "state", ""), rows) if rows else ""


def folders(root: Path) -> list[tuple[str, str]]:
    """(folder, words) of everything that can be served: releases first, then runs."""
    found = [(str(place(root) / name), f"{name} (release)") for name in released(root)]
    return found + [(str(root / name), name) for name in usable(root)]


def start_form(root: Path, asked: str = "") -> str:
    """The form that starts a service, the folder that was asked for ticked; nothing where no run has finished."""
    if not (known := folders(root)):
        return ""
    return (
        '<h2>Start one here</h2><form method="post" action="/serving/start" class="fields" data-busy="Making a key…">'
        + ticks("folder", "What it serves", known, (asked or known[0][0],), "One task each.")
        + text_field("port", "Port", str(PORT), attributes='inputmode="numeric" size="6" required')
        + '<button class="main">Start the service</button></form>'
    )


def add_form(root: Path, asked: str = "") -> str:
    """The form that gives a running service one task more, the folder that was asked for chosen."""
    if not (known := folders(root)):
        return ""
    return (
        '<h2>One task more</h2><form method="post" action="/serving/add" class="filters" data-busy="Opening it…">'
        f"{select('folder', 'Release or run', known, asked)}<button>Serve it</button></form>"
    )


@router.post("/serving/start")
def start(root: Root, request: Request, sent: Form) -> Response:
    """Make an admin key and start `basewise serve` in a process of its own; it is connected to when it says that it serves."""
    known, asked, port = [v for v, _ in folders(root)], sent.get("folder", []), sent.one("port")
    if not asked:
        raise InputError("nothing was ticked", "tick at least one run or release")
    if unknown := [f for f in asked if f not in known]:
        raise UnknownName.of("run or release", unknown[0], known)
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise InputError(f"{port!r} is no port", "give a number such as 8000")
    name = f"serve.{int(port)}"
    if (job := jobs.named(root, name, "serve")) and job.alive:
        raise RunError(f"a service runs on port {port} already", "stop it, or give another port")
    # the record of the job before goes, and with it which keys were its own
    settle(root)
    # a stranger there would get the key
    hold(HOST, int(port)).close()
    # of its own: two services cannot share one
    state = root / jobs.FOLDER / name / "state"
    _serve_only(asked, state)
    key = _new_key(state)
    words = ["serve", *asked, "--port", str(int(port)), "--state", str(state), "--quiet"]
    try:
        job = jobs.start(root, name, words, {"keys": [_id_of(key)]})
    except BaseException:
        Keys(state / "keys.json").remove(_id_of(key))
        raise
    request.app.state.service = Service(address=address_of(job), key=key, job=name)
    return RedirectResponse("/service", status_code=303)


def _serve_only(asked: list[str], state: Path) -> None:
    """Take out of a service's state the tasks that are not asked for; one that is asked for again keeps what was changed in it."""
    traffic = Traffic(state / "traffic.json")
    for task, lane in list(traffic.lanes.items()):
        if not {traffic.folders.get(version) for version in lane.versions} & set(asked):
            traffic.remove(task)


def _new_key(state: Path) -> str:
    """An admin key; the whole of it is kept in memory only."""
    return Keys(state / "keys.json").add("ui", admin=True, seconds=KEY_SECONDS)


def _id_of(key: str) -> str:
    """By which a key is taken back."""
    return key.split("-")[1]


def _asked(root: Path, name: str) -> jobs.Job:
    """The job of a service that was started from here; RunError where there is none of that name."""
    job = jobs.named(root, name, "serve") if jobs.NAME.fullmatch(name) else None
    if job is None:
        raise RunError("no such service was started from here", "stop it where it was started")
    return job


@router.post("/serving/connect")
def connect(root: Root, request: Request, sent: Form) -> Response:
    """Connect to a service that was started from here before this app began, with a new key: the old one is gone with its app."""
    job = _asked(root, sent.one("job"))
    if (state := state_of(job)) != "serving":
        raise RunError(f"the service at {address_of(job)} is {state}", "go back and look again in a moment")
    key = _new_key(state_folder(job))
    jobs.note(job, {"keys": [*job.about.get("keys", ()), _id_of(key)]})
    request.app.state.service = Service(address=address_of(job), key=key, job=job.name)
    return RedirectResponse("/service", status_code=303)


@router.post("/serving/stop")
def stop(root: Root, request: Request, sent: Form) -> Response:
    """Stop a service that was started from here, and take back the keys that were made for it, also where it has ended already."""
    job = _asked(root, sent.one("job"))
    take_back(job)
    forget(request, job)
    if job.alive:
        jobs.note(job, {"stopping": True})
        # it ended by itself a moment ago
        with contextlib.suppress(RunError):
            jobs.stop(job)
    return RedirectResponse("/service", status_code=303)


def forget(request: Request, job: jobs.Job) -> None:
    """Be connected to a job's service no longer."""
    service: Service | None = getattr(request.app.state, "service", None)
    if service is not None and service.job == job.name:
        request.app.state.service = None


@router.post("/serving/add")
def add(root: Root, request: Request, sent: Form) -> Response:
    """Serve one folder more."""
    folder = sent.one("folder")
    if folder not in [v for v, _ in folders(root)]:
        raise UnknownName.of("run or release", folder, [v for v, _ in folders(root)])
    needed(request, root).ask("POST", "/v1/admin/tasks", {"folder": folder})
    return RedirectResponse("/service", status_code=303)


def needed(request: Request, root: Path) -> Service:
    """The connected service; InputError when there is none, RunError when it was started from here and does not serve now."""
    service: Service | None = getattr(request.app.state, "service", None)
    if service is None:
        raise InputError("no service is connected", "open Service and give its address")
    if job := job_of(root, service):
        if (state := state_of(job)) == "ended":
            take_back(job)
            raise ended(job)  # in every window that is open, so it is not forgotten
        if state != "serving":
            raise RunError(f"the service at {service.address} is {state}", "wait a moment")
    return service


def ask_form(name: str, text: str = "") -> str:
    """A text for a served task."""
    return (
        f'<h2>Ask it</h2><form method="post" action="{href("service", name, "ask")}" class="fields" data-busy="Asking…">'
        '<label class="field" style="width:100%"><span>Text</span>'
        f'<textarea name="text" required maxlength="{MOST_CHARACTERS}">{escape(text)}</textarea></label><button>Ask the service</button></form>'
    )


def by_program(name: str, service: Service, job: jobs.Job | None) -> str:
    """How another program asks a task: a key for it, and a request with that key."""
    made = (
        action(href("service", name, "key"), "Make a key for a program", busy="Making a key…")
        if job
        else "<p>Whoever started the service makes a key for it.</p>"
    )
    return (
        f"<details><summary>How a program asks it</summary><pre tabindex='0'>{_request(name, service, 'KEY')}</pre>{made}"
        f'<p>All routes: <a href="{escape(service.address)}/docs">{escape(service.address)}/docs</a></p></details>'
    )


def _request(name: str, service: Service, key: str) -> str:
    """A request as a shell sends it, as HTML."""
    body = '{"rows": ["a text"]}'
    asked = f"curl -s {service.address}{service.task(name, '/predict')} -H 'Authorization: Bearer {key}' -d '{body}'"
    return escape(asked)


@router.post("/service/{name}/key")
def new_key(name: str, root: Root, request: Request) -> HTMLResponse:
    """A key for one task of a service that was started from here, shown this once."""
    service = needed(request, root)
    if (job := job_of(root, service)) is None:
        raise RunError("this service was not started from here", "have a key made where it was started")
    if name not in [lane["name"] for lane in service.lanes()["tasks"]]:
        raise UnknownName(f"no task {name!r} is served", "go back to Service")
    key = Keys(state_folder(job) / "keys.json").add("a program", tasks=(name,))
    body = (
        f'<p><a href="{href("service", name)}">Back to {escape(name)}</a></p><p>It opens {escape(name)} alone, and is shown this once: keep it '
        f"where no one else reads it.</p><pre tabindex='0'>{escape(key)}</pre><p>A request with it:</p><pre tabindex='0'>{_request(name, service, key)}</pre>"
    )
    return page("A key for a program", body, here="/service", kicker=name)


@router.post("/service/{name}/ask")
def ask(name: str, root: Root, request: Request, sent: Form) -> HTMLResponse:
    """The served answer to one text, as any client gets it."""
    service, text = needed(request, root), sent.one("text")
    if not text or len(text) > MOST_CHARACTERS:
        raise InputError("no text came, or a very long one", f"type up to {MOST_CHARACTERS:,} characters")
    found = service.ask("POST", service.task(name, "/predict"), {"rows": [text], "top": 8})
    classes = service.ask("GET", service.task(name, "/watch"))["classes"]
    back = f'<p><a href="{href("service", name)}">Back to {escape(name)}</a></p>'
    body = back + _answer(found) + _label_form(name, found["answers"][0], classes) + ask_form(name, text)
    return page(name, body, here="/service", kicker="served answer")


def _label_form(name: str, answer: dict[str, Any], classes: list[str]) -> str:
    """What the answer should have been: the watch learns from it how often the release is right."""
    return (
        f'<form method="post" action="{href("service", name, "label")}" class="filters" data-busy="Sending…">'
        f'<input type="hidden" name="id" value="{escape(answer["id"])}">'
        f"{select('label', 'The right label', [(c, c) for c in classes], answer['label'])}<button>Tell the service</button></form>"
    )


@router.post("/service/{name}/label")
def label(name: str, root: Root, request: Request, sent: Form) -> Response:
    """Post the right label of an answer; the page of the task then counts it."""
    service = needed(request, root)
    told = {"id": sent.one("id"), "label": sent.one("label")}
    service.ask("POST", service.task(name, "/labels"), {"labels": [told]})
    return RedirectResponse(href("service", name), status_code=303)


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
