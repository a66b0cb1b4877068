"""Releases: read the record and card of one, verify it, put two side by side. Folders beside the runs, in releases/.

A page of one reads only its record and its card; every byte is checked by `basewise verify`, a process of its own, whose answer is
shown as long as the folder is the one that was checked.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from basewise.core.errors import RunError
from basewise.core.manifest import MANIFEST, read_manifest
from basewise.steps import compare
from basewise.web.sections import cut, how, number, span, table
from basewise.web.ui import jobs
from basewise.web.ui.forms import Root, Sent
from basewise.web.ui.pages import gate
from basewise.web.ui.released import job_of, names, place, record_of
from basewise.web.ui.shell import action, alert, bar, href, page, select

router = APIRouter()
CARD = "README.md"


@router.get("/releases")
def show(request: Request, root: Root) -> HTMLResponse:
    """All releases, those that are being made or were refused, and the form that makes one (`run`: of which run)."""
    rows = []
    for name in names(root):
        try:
            rows.append(_line(name, record_of(root, name)))
        except RunError as error:
            rows.append([escape(name), "? unreadable", cut(str(error)), "–", "–"])
    made = {job.about["release"]: job for job in jobs.every(root) if job.kind == "release"}
    for name, job in made.items():
        if name not in names(root):
            state = "▶ at the gate" if job.alive else "– deleted" if job.exit_code == 0 else "✕ refused"
            rows.append(
                [
                    f'<a href="{href("releases", name)}">{escape(name)}</a>',
                    state,
                    cut(job.error, 200),
                    "–",
                    "–",
                ]
            )
    body = (
        table(("release", "gate", "what it does", "% right [95 %]", "signed by"), rows)
        if rows
        else "<p>Nothing has been released yet.</p>"
    )
    if len(names(root)) > 1:
        both = [(n, n) for n in names(root)]
        body += (
            f'<form method="get" action="/diff" class="filters" data-busy="Checking every byte…">{select("a", "Compare", both, both[1][0])}'
            f"{select('b', 'with', both, both[0][0])}<button>Show the difference</button></form>"
        )
    body += f"<h2 id='make'>Release a run</h2>{gate.form(root, Sent.of(request.query_params.multi_items()))}"
    return page("Releases", body, here="/releases")


def _line(name: str, r: dict[str, Any]) -> list[str]:
    counts = {v: sum(g["verdict"] == v for g in r["gate"]) for v in ("pass", "warn", "fail")}
    verdicts = ", ".join(f"{n} {v}" for v, n in counts.items() if n)
    overridden = f", {len(r['overrides'])} overridden" if r["overrides"] else ""
    return [
        f'<a href="{href("releases", name)}">{escape(name)}</a><br><span class="small">{escape(r["id"][:12])}</span>',
        escape(verdicts + overridden),
        cut(r["sentence"], 240),
        span(r["score"] if r["score"].get("n") else None),
        f"<code>{escape(r['signed_by'][:16])}</code>" if r["signed_by"] else "unsigned",
    ]


@router.get("/diff")
def diff(request: Request, root: Root) -> HTMLResponse:
    """What `basewise diff` says of two releases, and their files that differ; both are verified first."""
    a, b = request.query_params.get("a", ""), request.query_params.get("b", "")
    for name in (a, b):
        record_of(root, name)
    folders = [place(root) / name for name in (a, b)]
    found = compare.diff(*folders)
    rows = [["id", *(f"<code>{escape(found[side][:12])}</code>" for side in ("from", "to"))]]
    rows += [[escape(c["what"]), _value(c["from"]), _value(c["to"])] for c in found["changed"]]
    files = [read_manifest(folder) for folder in folders]
    changed = [[name, *(_file(side.get(name)) for side in files)] for name in sorted({*files[0], *files[1]})]
    changed = [[cut(name, 200), was, now] for name, was, now in changed if was != now]
    gap = found["score"]
    paired = (
        f"Paired on {gap['n']:,} rows: {100 * gap['estimate']:+.1f} [{100 * gap['low']:+.1f}, {100 * gap['high']:+.1f}] points, p = {gap['p']:.3g}."
        if gap
        else f"Not paired: {found['why']}."
    )
    body = (
        '<p><a href="/releases">All releases</a></p>'
        + how("What changed from the first to the second, every byte of both checked.")
        + table(("", a, b), rows)
        + f"<p>{escape(paired)}</p><h2>Files that differ</h2>"
        + (table(("file", a, b), changed) if changed else "<p>None.</p>")
    )
    return page(f"{a} and {b}", body, here="/releases", kicker="releases")


def _file(entry: dict[str, Any] | None) -> str:
    """Size and digest of a file in a manifest."""
    if entry is None:
        return "–"
    return f"{entry['bytes']:,} bytes <code>{escape(str(entry['sha256'])[:8])}</code>"


def _value(value: Any) -> str:
    return cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 300)


@router.get("/releases/{name}/live")
def live(name: str, root: Root) -> HTMLResponse:
    """What the gate or the check says so far."""
    job = next((j for k in ("verify", "release") if (j := job_of(root, k, name)) and j.alive), None)
    return HTMLResponse(_said(job) if job else "", headers={} if job else {"x-over": "1"})


def _said(job: jobs.Job) -> str:
    doing = "Checking every byte." if job.kind == "verify" else "At the gate."
    return f"<p data-say>{doing}</p>{bar(0, 0, 'progress')}<pre tabindex='0'>{cut(job.text('err.txt'), 6000)}</pre>"


@router.get("/releases/{name}")
def one(name: str, root: Root) -> HTMLResponse:
    """The record of a release; or how far the gate is, or why it said no."""
    made, verified = job_of(root, "release", name), job_of(root, "verify", name)
    back = '<p><a href="/releases">All releases</a></p>'
    if running := next((j for j in (verified, made) if j and j.alive), None):
        following = (
            f'<div data-live="{href("releases", name, "live")}" data-every="1000">{_said(running)}</div>'
        )
        return page(name, back + following, here="/releases", kicker="release")
    if name not in names(root) and made is not None and made.exit_code == 0:
        gone = f"<p>It passed the gate, and its folder <code>{escape(str(place(root) / name))}</code> is gone since.</p>"
        return page(name, back + gone, here="/releases", kicker="release deleted")
    if name not in names(root) and made is not None:
        return page(name, back + gate.refused(root, made), here="/releases", kicker="release refused")
    r = record_of(root, name)
    verify = action(href("releases", name, "verify"), "Verify every byte", kind="main", busy="Starting…")
    served = urlencode({"folder": str(place(root) / name)})
    button = f'<div class="row">{verify}<a class="button" href="/service?{escape(served)}">Serve it</a></div>'
    return page(
        name,
        back
        + _verdict(verified if _holds(verified, made, r["id"], place(root) / name) else None)
        + f"<p>{escape(r['sentence'])}</p>"
        + button
        + record(root, name, r),
        here="/releases",
        kicker="release",
    )


def _stamp(folder: Path) -> str:
    """A digest of the manifest and of the size and time of every file: which state of a folder was checked."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found = [(str(p.relative_to(folder)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    listed = (folder / MANIFEST).read_bytes() if (folder / MANIFEST).is_file() else b""
    return hashlib.sha256(json.dumps(found).encode() + listed).hexdigest()


def _holds(checked: jobs.Job | None, made: jobs.Job | None, version: str, folder: Path) -> bool:
    """Whether what a check found is of the release that lies here now."""
    if checked is None or (made is not None and made.started > checked.started):
        return False
    return checked.about.get("id") == version and checked.about.get("stamp") == _stamp(folder)


def _verdict(job: jobs.Job | None) -> str:
    if job is None:
        return '<p class="small">Not verified from here yet: what follows is what its record says.</p>'
    when = dt.datetime.fromtimestamp(job.started).strftime("%Y-%m-%d %H:%M")
    if job.error:
        return alert(f"It did not verify on {when}: {job.error}")
    # what follows its first line stands in the record
    said = job.text("out.txt").partition("\n")[0]
    return f"<p class='small'>Verified on {when}; no file has changed since.</p><p class='badge finished'>■ {cut(said)}</p>"


def record(root: Path, name: str, r: dict[str, Any]) -> str:
    """Gate, measures, licence and card of a release."""
    measures = [[cut(m["name"], 120), cut(m.get("slice", ""), 120), *_interval(m)] for m in r["measures"]]
    card = place(root) / name / CARD
    text = card.read_text(encoding="utf-8", errors="replace")[:60_000] if card.is_file() else ""
    parts = [
        ("The gate", gate.answers(r["gate"])),
        ("Measures", table(("what", "slice", "estimate", "95 %", "n"), measures, 2) if measures else ""),
        ("Licence", _licence(r["licence"]) if r["licence"] else ""),
        (
            "Limits",
            f"<ul>{''.join(f'<li>{cut(line)}</li>' for line in r['limitations'])}</ul>"
            if r["limitations"]
            else "",
        ),
        (
            "Card",
            f"<details><summary>README.md</summary><pre tabindex='0'>{escape(text)}</pre></details>"
            if text
            else "",
        ),
        ("Where it is", f"<p><code>{escape(str(place(root) / name))}</code></p>"),
    ]
    return "".join(f"<section><h2>{t}</h2>{b}</section>" for t, b in parts if b)


def _licence(found: dict[str, Any]) -> str:
    """What may be done with a release, what it asks for, and what each part of it came under."""
    allowed = {True: "allowed", False: "not allowed", None: "not known"}[found.get("commercial")]
    asked = [
        f"<li>{escape(what)}, by {cut(', '.join(names), 200)}</li>"
        for what, names in found.get("obligations", {}).items()
    ]
    # an edge goes from the parent to what came of it
    went = {parent: how for parent, _, how in found.get("edges", [])}
    rows = [
        [
            cut(node["name"].removeprefix(f"{node['what']}:"), 120),
            escape(node["what"]),
            cut(node["licence"] or "not stated", 120),
            escape(went.get(node["name"], "–")),
            cut(node["signed_by"] or "–", 120),
        ]
        for node in found.get("nodes", [])
        if node["name"] != "release"
    ]
    given = found.get("outgoing") or "not chosen: whatever fits its parts"
    reasons = "".join(f"<li>{escape(verdict)}: {cut(why)}</li>" for verdict, why in found.get("reasons", []))
    return (
        f"<p>Commercial use is {allowed}. Its parts together: {escape(found.get('expression') or 'not known')}; "
        f"given under: {escape(given)}.</p>"
        + (f"<p>It asks for:</p><ul>{''.join(asked)}</ul>" if asked else "<p>It asks for nothing.</p>")
        + (f"<ul>{reasons}</ul>" if reasons else "")
        + table(("part", "what it is", "licence", "went in as", "answered for by"), rows)
    )


def _interval(m: dict[str, Any]) -> list[str]:
    if m.get("estimate") is None:
        return ["–", "–", "–"]
    low, high = m.get("low"), m.get("high")
    return [
        number(m["estimate"], 3),
        f"[{number(low, 3)}, {number(high, 3)}]",
        f"{m['n']:,}" if m.get("n") else "–",
    ]


@router.post("/releases/{name}/verify")
def verify(name: str, root: Root) -> Response:
    """Start `basewise verify`; which release it checks is kept beside it."""
    folder = place(root) / name
    about = {"release": name, "id": record_of(root, name)["id"], "stamp": _stamp(folder)}
    jobs.start(root, f"verify.{name}", ["verify", str(folder)], about)
    return RedirectResponse(href("releases", name), status_code=303)
