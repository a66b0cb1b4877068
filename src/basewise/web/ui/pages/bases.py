"""Bases: what there is, what is here, at what size and under which licence; fetched by a job with its progress."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import HTMLResponse, RedirectResponse, Response

from basewise.core.base import Card
from basewise.core.errors import LicenceRefused, UnknownName
from basewise.web.sections import table
from basewise.web.ui import jobs
from basewise.web.ui.forms import Form, Root
from basewise.web.ui.shell import action, alert, bar, href, megabytes, page

router = APIRouter()


def job_name(key: str) -> str:
    """The name of the job that fetches a base."""
    return "pull." + (re.sub(r"[^\w.-]+", "-", key)[:80] or "base")


def pulling(root: Path, key: str) -> jobs.Job | None:
    """The job that fetches, or has fetched, a base."""
    return jobs.named(root, job_name(key), "bases")


@router.get("/bases")
def show(root: Root) -> HTMLResponse:
    """All bases, with a field to search them."""
    from basewise.steps import bases

    cards = bases.listing()
    rows = [_line(root, card, bases.here(card)) for card in cards]
    head = ("base", "on this machine", "weights", "download", "reads", "licence", "can")
    search = '<label class="field"><span>Search</span><input type="search" data-search="bases" placeholder="encoder, mit, here …"></label>'
    body = (
        f"<p>{len(cards)} bases are known, {sum(map(bases.here, cards))} are here. Any hub id, folder or GGUF file "
        "can be named too.</p>"
        f'<div class="filters">{search}</div><div id="bases">{table(head, rows)}</div>'
        '<h2>Another one</h2><form method="post" action="/bases/pull" class="filters" data-busy="Starting…">'
        '<label class="field"><span>Hub id, folder or GGUF file</span><input name="name" required placeholder="owner/model"></label>'
        "<button>Fetch</button></form>"
    )
    return page("Bases", body, here="/bases")


def _line(root: Path, card: Card, here: bool) -> list[str]:
    job = None if here else pulling(root, card.key)
    if here:
        state = '<span class="badge finished">■ here</span>'
    elif job is not None and job.alive:
        state = f'<a href="{href("bases", card.key)}">▶ being fetched</a>'
    else:
        state = "not here"
    name = f'<a href="{href("bases", card.key)}">{escape(card.key)}</a><br><span class="small">{escape(card.family)} from {escape(card.source)}</span>'
    return [
        name,
        state,
        f"{card.parameters / 1e6:,.1f} M",
        megabytes(card.download_bytes) if card.download_bytes else "–",
        f"{card.context:,} tokens",
        escape(card.licence)
        + (f"<br><span class='small'>{escape(card.terms)}, to be accepted</span>" if card.terms else ""),
        escape(", ".join(sorted(card.provides))),
    ]


@router.post("/bases/pull")
def pull(root: Root, sent: Form) -> Response:
    """Start fetching a base. Terms that a person must accept are accepted with a tick on its page."""
    from basewise.steps import bases

    name = sent.one("name")
    card = bases.find(name)
    words = ["bases", "pull", name]
    if card.terms and not bases.here(card):
        if sent.one("accept") != "yes":
            raise LicenceRefused(
                f"{card.key} comes under the {card.terms}", "read them, then tick the box on its page"
            )
        words.append("--accept-terms")
    jobs.start(root, job_name(card.key), words, {"base": card.key, "name": name})
    return RedirectResponse(href("bases", card.key), status_code=303)


def _card(root: Path, key: str) -> Card:
    from basewise.steps import bases

    try:
        return bases.find(key)
    except UnknownName:
        # a folder or file that was named by its path goes by its key afterwards
        job = pulling(root, key)
        if job is None:
            raise
        return bases.find(job.about["name"])


@router.get("/bases/{key:path}/live")
def live(key: str, root: Root) -> HTMLResponse:
    """The progress alone."""
    job = pulling(root, key)
    over = job is None or not job.alive
    return HTMLResponse(_progress(job) if job else "", headers={"x-over": "1"} if over else {})


def _progress(job: jobs.Job) -> str:
    said = job.progress
    if not said:
        return f"<p data-say>Asking the source.</p>{bar(0, 0, 'progress')}"
    of = f" of {megabytes(said['total'])}" if said["total"] else ""
    size = f": {megabytes(said['done'])}{of}" if said["done"] or of else ""
    what = f"{said['what'][:1].upper()}{said['what'][1:]}"
    return f"<p data-say>{escape(what)}{size}</p>{bar(said['done'], said['total'], 'fetched')}"


@router.get("/bases/{key:path}")
def one(key: str, root: Root) -> HTMLResponse:
    """Everything known about one base, and the way to get it."""
    from basewise.steps import bases

    card = _card(root, key)
    job, here = pulling(root, card.key), bases.here(card)
    rows = [[escape(name), escape(str(value))] for name, value in bases.describe(card).items() if value]
    body = ""
    if job is not None and job.alive:
        body = f'<div data-live="{href("bases", key)}/live" data-every="700">{_progress(job)}</div>'
    elif not here:
        body = alert(job.error) if job is not None and job.error else ""
        size = f" ({megabytes(card.download_bytes)})" if card.download_bytes else ""
        if card.terms:
            body += (
                '<form method="post" action="/bases/pull" class="fields" data-busy="Starting…">'
                f'<input type="hidden" name="name" value="{escape(key)}"><label class="tick"><input type="checkbox" name="accept" value="yes" '
                f"required> <span>I have read and accept the {escape(card.terms)}</span></label><button class='main'>Fetch it{size}</button></form>"
            )
        else:
            body += action(
                "/bases/pull", f"Fetch it{size}", kind="main", fields={"name": key}, busy="Starting…"
            )
    return page(card.key, body + table(("what", "value"), rows), here="/bases", kicker="base")
