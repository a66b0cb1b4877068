"""The watch of a task: labels that come later, what the windows showed as JSON, and a plain page."""

from __future__ import annotations

import asyncio
import html
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse

from basewise.core.cells import cell
from basewise.stats.intervals import wilson
from basewise.web import answers, contract
from basewise.web.admin_routes import lane_line
from basewise.web.documents import body, gives
from basewise.web.limits import Refusal
from basewise.web.service import Service
from basewise.web.style import CSS


def add_routes(app: FastAPI, service: Service) -> None:
    """Add these routes."""

    def checked(name: str, request: Request) -> None:
        service.admit(request, name)
        if name not in service.traffic.lanes:
            raise Refusal(404, "no_task", "no such task is served; see /v1/tasks")

    @app.post(
        "/v1/tasks/{name}/labels",
        responses=gives(answers.Kept),
        openapi_extra=body(contract.Labels),
        tags=["watch"],
    )
    async def labels(name: str, request: Request) -> dict[str, Any]:
        """Truths of answered rows, by the id of the answer; a canary or shadow that they prove worse is rolled back.

        `kept`, `repeated` (the row has a label: the first one counts), `no_class` (no served release has such a class; post the
        right one) and `unknown` (no such answer) say what came of each label.
        """
        checked(name, request)
        asked = contract.read(contract.Labels, await service.body(request))
        given = [(one.id, cell(one.label) or "") for one in asked.labels]
        lane = service.traffic.lane(name)
        served = [version for version in (lane.live, lane.shadow, lane.canary) if version is not None]
        truths = await asyncio.to_thread(service.watch.truths, name, given, lane.shadow, served)
        rolled_back = service.outcomes(name, truths.found)
        came = {what: n for what, n in truths._asdict().items() if what != "found"}
        return {**came, "rolled_back": rolled_back}

    @app.get("/v1/tasks/{name}/watch", responses=gives(answers.Watched), tags=["watch"])
    async def watch(name: str, request: Request) -> dict[str, Any]:
        """Rows, abstentions, accuracy where labels came, and the latest windows of the live version."""
        checked(name, request)
        return await _state(service, name)

    @app.get("/watch/{name}", response_class=HTMLResponse, responses=gives("text/html"), tags=["watch"])
    async def page(name: str, request: Request) -> str:
        """The same as a plain page."""
        checked(name, request)
        return _page(name, await _state(service, name))


async def _state(service: Service, name: str) -> dict[str, Any]:
    """All that is known of a task's traffic; shares as intervals with their n."""
    lane = service.traffic.lane(name)
    totals = await asyncio.to_thread(service.watch.totals, name)
    for line in totals.values():
        if isinstance(line, dict):
            line["abstention"] = _share(line["abstained"], line["rows"])
            line["accuracy"] = _share(line["right"], line["labelled"])
    windows = await asyncio.to_thread(service.watch.windows, name, lane.live)
    events = [e for e in service.traffic.events if e["task"] == name][-50:]
    return {
        "task": name,
        "live": lane.live,
        "classes": service.watch.classes(lane.live),
        "lane": lane_line(service, name),
        "versions": totals,
        "windows": windows,
        "events": events,
    }


def _share(part: int, whole: int) -> dict[str, float] | None:
    """A share with its Wilson interval and n; None of nothing."""
    if not whole:
        return None
    found = wilson(int(part), int(whole))
    return {"estimate": found.estimate, "low": found.low, "high": found.high, "n": int(whole)}


def _page(name: str, state: dict[str, Any]) -> str:
    """A plain page: versions, windows, events."""
    versions = "".join(
        f"<tr><td><code>{html.escape(v)}</code></td><td>{line['rows']:,}</td>"
        f"<td>{_words(line['abstention'])}</td><td>{_words(line['accuracy'])}</td></tr>"
        for v, line in state["versions"].items()
        if isinstance(line, dict)
    )
    windows = "".join(
        f"<tr><td>{w['number']}</td><td>{w['rows']}</td><td>{w['abstained']:.3f}</td>"
        f"<td>{_number(w['p_values'].get('joint'))}</td><td>{w['level']:.2f} of {w['threshold']:.2f}</td>"
        f"<td>{_words(w.get('estimated_accuracy'))}</td></tr>"
        for w in reversed(state["windows"])
    )
    events = "".join(
        f"<li>{html.escape(e['event'])} {html.escape(str(e.get('version', '')))} {html.escape(str(e.get('why', '')))}</li>"
        for e in reversed(state["events"])
    )
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    return (
        f"{head}<title>{html.escape(name)}</title><style>{CSS}</style><main><h1>{html.escape(name)}</h1>"
        f"<p>Live version <code>{html.escape(state['live'])}</code>.</p>"
        "<h2>Versions</h2><div class=scroll><table><thead><tr><th>version</th><th>rows</th><th>abstained</th>"
        f"<th>accuracy where labels came</th></tr></thead><tbody>{versions}</tbody></table></div>"
        "<h2>Windows of 500 rows</h2><div class=scroll><table><thead><tr><th>window</th><th>rows</th><th>abstained</th>"
        "<th>p against the first window</th><th>alarm level</th><th>estimated accuracy</th></tr></thead>"
        f"<tbody>{windows}</tbody></table></div><h2>What happened</h2><ul>{events}</ul></main></html>"
    )


def _words(share: dict[str, Any] | None) -> str:
    if share is None:
        return "none yet"
    n = share.get("n", share.get("rows"))
    return f"{share['estimate']:.3f} [{share['low']:.3f}, {share['high']:.3f}], n = {n:,}"


def _number(value: float | None) -> str:
    return "reference" if value is None else f"{value:.3f}"
