"""Service: what a running `basewise serve` answers and how fast, drift, and releases changed while requests run."""

from __future__ import annotations

import contextlib
import datetime as dt
from html import escape
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from basewise.core.errors import BasewiseError, InputError, RunError, UnknownName
from basewise.web import plots
from basewise.web.plots import Axis
from basewise.web.sections import cut, how, percent, span, table
from basewise.web.ui import released
from basewise.web.ui.forms import Form, Root
from basewise.web.ui.pages import serving
from basewise.web.ui.service_client import ADDRESS, Service, latency, samples
from basewise.web.ui.shell import action, alert, href, page, select, status_of, text_field

router = APIRouter()
STEPS = (1, 5, 25, 100)
CHANGES = ("replace", "shadow", "canary")
STARTING = '<p data-say>The service is starting.</p><progress aria-label="starting"></progress>'


def connected(request: Request) -> Service | None:
    """The service that this app was given, if any; forgotten when the app ends."""
    return getattr(request.app.state, "service", None)


def _connect_form(service: Service | None) -> str:
    return (
        '<form method="post" action="/service" class="filters" data-busy="Asking…">'
        + text_field("address", "Address", service.address if service else ADDRESS, attributes="required")
        + text_field("key", "Admin key", attributes='type="password" autocomplete="off"')
        + '<button class="main">Connect</button></form>'
        '<p class="small">The key is kept in the memory of this app only. Whoever started the service makes one for you.</p>'
    )


@router.get("/service")
def show(request: Request, root: Root) -> HTMLResponse:
    """All tasks of the service, or the forms that connect to one and start one."""
    serving.settle(root)
    service, asked = connected(request), request.query_params.get("folder", "")
    job = serving.job_of(root, service) if service else None
    if job and (state := serving.state_of(job)) in ("ended", "stopping"):
        if state == "ended":
            return _unconnected(root, serving.ended(job), asked=asked)
        serving.forget(request, job)
        service = None
    if service is None:
        return _unconnected(root, asked=asked)
    stop = (
        action("/serving/stop", "Stop the service", kind="danger", fields={"job": job.name}, busy="Stopping…")
        if job
        else ""
    )
    if job and state == "starting":
        return page("Service", _live(STARTING, up=False) + stop, here="/service")
    try:
        body = _live(overview(service), up=True) + serving.add_form(root, asked)
    except BasewiseError as error:
        # it has said that it serves a moment before it listens
        if job and isinstance(error, RunError):
            return page("Service", _live(STARTING, up=False) + stop, here="/service")
        return _unconnected(root, error, service, asked)
    others = serving.living(root, but=service.job)
    other = f"<details><summary>Another service</summary>{_connect_form(service)}{others}</details>"
    return page("Service", body + stop + other, here="/service")


def _unconnected(
    root: Path, error: BasewiseError | None = None, service: Service | None = None, asked: str = ""
) -> HTMLResponse:
    """The services that were started from here, the form that starts one (`asked`: on what) and the one that connects to another."""
    said = alert(error) if error else ""
    start = serving.start_form(root, asked)
    if not start:
        said += '<p>A run has to be finished before it can be served.</p><p><a class="button" href="/new">New run</a></p>'
    opened = " open" if service else ""
    other = f"<details{opened}><summary>Connect to one that runs already</summary>{_connect_form(service)}</details>"
    body = said + _list(root) + start + other
    return page("Service", body, here="/service", status=status_of(error) if error else 200)


def _list(root: Path) -> str:
    """The services that were started from here, followed while there are any."""
    known = serving.living(root)
    return f'<div data-live="/serving.part" data-every="2000">{known}</div>' if known else ""


def _live(content: str, *, up: bool) -> str:
    """The moving part of the page."""
    return f'<div data-live="/service.part?up={int(up)}" data-every="{3000 if up else 1500}">{content}</div>'


@router.get("/serving.part")
def services(root: Root) -> HTMLResponse:
    """The list of services alone; x-over when the last one has ended."""
    known = serving.living(root)
    return HTMLResponse(known, headers={} if known else {"x-over": "1"})


@router.get("/service.part")
def part(request: Request, root: Root, up: bool = True) -> HTMLResponse:
    """The overview alone; x-over when a service that was starting (`up` is false) has come up, or when it has ended."""
    over = HTMLResponse("", headers={"x-over": "1"})
    service = connected(request)
    if service is None:
        return over
    job = serving.job_of(root, service)
    state = serving.state_of(job) if job else "serving"
    if state == "starting":
        return HTMLResponse(STARTING)
    if state != "serving":
        return over
    try:
        made = overview(service)
    except BasewiseError:
        return HTMLResponse(STARTING) if job and not up else over
    return HTMLResponse(made) if up else over


@router.post("/service")
def connect(root: Root, request: Request, sent: Form) -> Response:
    """Keep address and key, when the service answers to them."""
    try:
        service = Service(address=sent.one("address").rstrip("/"), key=sent.one("key"))
        service.lanes()
    except BasewiseError as error:
        return _unconnected(root, error)
    request.app.state.service = service
    return RedirectResponse("/service", status_code=303)


def ours(route: str) -> bool:
    """Whether a route is one that watchers ask, such as this page: they are no traffic."""
    return route.startswith(("/metrics", "/v1/admin/", "/health", "/ready", "/watch")) or route.endswith(
        "/watch"
    )


def called(version: str, lane: dict[str, Any]) -> str:
    """A version by the name of its folder, where the service tells it, and the beginning of its digest."""
    folder = lane.get("folders", {}).get(version)
    name = f"{cut(Path(folder).name, 80)} " if folder else ""
    return f'{name}<code class="small">{escape(version[:12])}</code>'


def overview(service: Service) -> str:
    """Tasks with their releases, traffic and latency."""
    lanes = service.lanes()
    found = [one for one in samples(service.text("GET", "/metrics")) if not ours(one[1].get("route", ""))]
    answered: dict[str, float] = {}
    for name, labels, value in found:
        if name == "rows_total":
            answered[labels["task"]] = answered.get(labels["task"], 0) + value
    rows = [
        [
            f'<a href="{href("service", lane["name"])}">{escape(lane["name"])}</a>',
            called(lane["live"], lane),
            f"{lane['percent']} % to {called(lane['canary'], lane)}" if lane["canary"] else "–",
            called(lane["shadow"], lane) if lane["shadow"] else "–",
            f"{int(answered.get(lane['name'], 0)):,}",
        ]
        for lane in lanes["tasks"]
    ]
    refused = sum(v for name, labels, v in found if name == "requests_total" and labels["status"][:1] in "45")
    asked = sum(v for name, _, v in found if name == "requests_total")
    waiting = sum(v for name, _, v in found if name == "waiting_rows")
    cells = (
        ("requests", f"{int(asked):,}", f"{int(refused):,} refused"),
        ("rows waiting", f"{int(waiting):,}", "on their way"),
        ("worker restarts", f"{lanes['worker_restarts']:,}", "since it started"),
    )
    items = "".join(f"<div><dt>{a}</dt><dd>{b}<small>{c}</small></dd></div>" for a, b, c in cells)
    tasks = (
        table(("task", "live", "canary", "shadow", "rows answered"), rows, 4)
        if rows
        else "<p>It serves no task.</p>"
    )
    return f'<p class="small">{escape(service.address)}</p><dl class="strip">{items}</dl><h2>Tasks</h2>{tasks}{_latency(found)}'


def _latency(found: list[Any]) -> str:
    rows = [
        [escape(x["route"]), f"{x['requests']:,}", _within(x["median"]), _within(x["p99"])]
        for x in latency(found)
    ]
    if not rows:
        return ""
    text = "From the service's histogram: half of the requests, and 99 of 100, were answered within so long."
    return (
        "<h2>Latency</h2>" + how(text) + table(("route", "requests", "half within", "99 % within"), rows, 1)
    )


def _within(seconds: float | None) -> str:
    return (
        "over 10 s" if seconds is None else f"{1000 * seconds:,.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
    )


@router.get("/service/{name}")
def one(name: str, request: Request, root: Root) -> Response:
    """One task: versions, drift and what happened, followed; and the forms that ask and change it."""
    try:
        service = serving.needed(request, root)
    except BasewiseError:
        return RedirectResponse("/service", status_code=303)  # which says why, and starts or connects to one
    state, lane = _state(root, service, name)
    following = (
        f'<div data-live="{href("service", name, "live")}" data-every="3000">{watched(state, lane)}</div>'
    )
    ask = serving.ask_form(name) + serving.by_program(name, service, serving.job_of(root, service))
    body = following + ask + _change(name, lane, root)
    return page(name, f'<p><a href="/service">All tasks</a></p>{body}', here="/service", kicker="service")


@router.get("/service/{name}/live")
def live(name: str, request: Request, root: Root) -> HTMLResponse:
    """The part of a task's page that moves; x-over where the service is gone."""
    try:
        return HTMLResponse(watched(*_state(root, serving.needed(request, root), name)))
    except BasewiseError:
        return HTMLResponse("", headers={"x-over": "1"})


def _state(root: Path, service: Service, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the watch of a task says, and its lane with the folders of its versions; those it has let go of are sought among the releases."""
    state = service.ask("GET", service.task(name, "/watch"))
    lanes = (lane for lane in service.lanes()["tasks"] if lane["name"] == name)
    lane = next(lanes, state["lane"])
    known = dict(lane.get("folders", {}))
    if {*state["versions"], *(str(e.get("version", "")) for e in state["events"])} - set(known):
        for release in released.names(root):
            with contextlib.suppress(BasewiseError):
                version = released.record_of(root, release)["id"][: len(lane["live"])]
                known.setdefault(version, str(released.place(root) / release))
    return state, {**lane, "folders": known}


def watched(state: dict[str, Any], lane: dict[str, Any]) -> str:
    """What came of a task so far."""
    return versions(state, lane) + _drift(state) + _events(state, lane)


def versions(state: dict[str, Any], lane: dict[str, Any]) -> str:
    """What each version of a task has answered."""
    parts = {lane["live"]: "live", lane["canary"]: f"canary, {lane['percent']} %", lane["shadow"]: "shadow"}
    known = {v: line for v, line in state["versions"].items() if isinstance(line, dict)}
    # one that was just put there has answered nothing yet, and is to be seen all the same
    none = {"rows": 0, "abstention": None, "accuracy": None}
    lines = {v: known.get(v, none) for v in parts if v} | known
    rows = [
        [
            called(v, lane),
            escape(parts.get(v, "before")),
            f"{line['rows']:,}",
            span(line["abstention"]),
            span(line["accuracy"]),
            f"{line['accuracy']['n']:,}" if line["accuracy"] else "–",
        ]
        for v, line in lines.items()
    ]
    text = "Accuracy is known where labels came later."
    head = ("version", "", "rows", "% abstained [95 %]", "% right [95 %]", "labels")
    return (
        "<h2>Versions</h2>"
        + how(text)
        + (table(head, rows, 2) if rows else "<p>No row has been answered yet.</p>")
    )


def _drift(state: dict[str, Any]) -> str:
    """The alarm's level window by window, and the accuracy estimated without labels."""
    windows = sorted(state["windows"], key=lambda w: w["number"])
    if not windows:
        return "<h2>Drift</h2><p>No window of rows is full yet.</p>"
    top = max([w["threshold"] for w in windows] + [w["level"] for w in windows] + [1e-9])
    x = Axis(low=0.0, high=max(1.0, float(windows[-1]["number"])), label="window")
    y = Axis(low=0.0, high=1.05 * top, label="alarm level")
    # the level of a window with an alarm is kept as it was begun anew: before, it was the threshold or more
    levels = [
        (float(w["number"]), max(w["level"], w["threshold"]) if w.get("alarm") else w["level"])
        for w in windows
    ]
    marks = [
        plots.line(x, y, levels, 0, "level"),
        plots.line(x, y, [(float(w["number"]), w["threshold"]) for w in windows], 1, "alarm at"),
        *(
            plots.whisker(x, y, at, (level,) * 3, True)
            for (at, level), w in zip(levels, windows, strict=True)
            if w.get("alarm")
        ),
    ]
    rows = [
        [
            str(w["number"]),
            f"{w['rows']:,}",
            percent(w["abstained"]),
            "reference" if w["p_values"].get("joint") is None else f"{w['p_values']['joint']:.3g}",
            "✕ alarm" if w.get("alarm") else "–",
            span(w.get("estimated_accuracy")),
        ]
        for w in reversed(windows[-20:])
    ]
    text = "Each window of rows is held against the first; the level rises while windows look unlike it, and an alarm (■) starts it anew."
    head = (
        "window",
        "rows",
        "% abstained",
        "p against the first",
        "",
        "% right, estimated without labels [95 %]",
    )
    return (
        "<h2>Drift</h2>"
        + how(text)
        + plots.frame(x, y, "Alarm level by window", marks)
        + table(head, rows, 1)
    )


def _change(name: str, lane: dict[str, Any], root: Path) -> str:
    """Slider and buttons; the folder of the canary is chosen, so that only its share need be moved."""
    known, at = dict(serving.folders(root)), lane.get("folders", {})
    for version in filter(None, (lane["canary"], lane["shadow"])):
        if at.get(version):  # one from elsewhere
            known.setdefault(at[version], at[version])
    other = [(folder, words) for folder, words in known.items() if folder != at.get(lane["live"])]
    step = STEPS.index(lane["percent"]) if lane["percent"] in STEPS else 0
    chosen = at.get(lane["canary"] or lane["shadow"], "")
    canary = (
        f'<form method="post" action="{href("service", name, "canary")}" class="fields" data-busy="Opening the release…">'
        + select("folder", "Release or run", other, chosen)
        + f'<label class="field"><span>Share of the rows: <output id="share">{STEPS[step]} %</output></span>'
        f'<input type="range" name="step" min="0" max="3" value="{step}" data-shows="share" data-steps="1 %,5 %,25 %,100 %" '
        '></label><div class="row"><button class="main">Give it this share</button>'
        f'<button formaction="{href("service", name, "shadow")}">Let it answer unseen</button>'
        f'<button formaction="{href("service", name, "replace")}" class="danger">Put it in place at once</button></div></form>'
    )
    if not other:
        canary = "<p>There is nothing else to put beside it yet: finish another run, or release one.</p>"
    back = action(href("service", name, "rollback"), "Roll back", kind="danger", busy="Rolling back…")
    text = "Rolling back takes away the canary, else the shadow, else the live release. A canary that labels prove worse is rolled back by itself."
    return f"<h2>Change</h2>{how(text)}{back}{canary}"


def _events(state: dict[str, Any], lane: dict[str, Any]) -> str:
    rows = [
        [
            dt.datetime.fromtimestamp(e.get("at", 0)).strftime("%Y-%m-%d %H:%M"),
            escape(e["event"]) + (f", {e['percent']} %" if e.get("percent") else ""),
            called(str(e["version"]), lane) if e.get("version") else "–",
            cut(str(e.get("why", "")), 200),
        ]
        for e in reversed(state["events"])
    ]
    return "<h2>What happened</h2>" + table(("when", "", "version", "why"), rows) if rows else ""


@router.post("/service/{name}/{change}")
def change(name: str, change: str, root: Root, request: Request, sent: Form) -> Response:
    """Replace, shadow, canary or roll back."""
    service = serving.needed(request, root)
    if change == "rollback":
        service.ask("POST", service.admin(name, "/rollback"))
    elif change in CHANGES:
        body: dict[str, Any] = {"folder": sent.one("folder")}
        if not body["folder"]:
            raise InputError("no folder came", "give that of a release or run")
        if change == "canary":
            if sent.one("step") not in ("0", "1", "2", "3"):
                raise InputError(
                    f"the step {sent.one('step')!r} is none of the slider's", "move it and send it again"
                )
            body["percent"] = STEPS[int(sent.one("step"))]
        service.ask("POST", service.admin(name, f"/{change}"), body)
    else:
        raise UnknownName.of("change", change, (*CHANGES, "rollback"))
    return RedirectResponse(href("service", name), status_code=303)
