"""Gate: the form that takes a run to it, and, where it said no, each check's answer with the same form to try again."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter
from starlette.responses import RedirectResponse, Response

from basewise.core.errors import BasewiseError, InputError, RunError, UnknownName
from basewise.core.files import read_json, write_text
from basewise.web.sections import cut, table
from basewise.web.ui import jobs
from basewise.web.ui.forms import Form, Root, Sent
from basewise.web.ui.pages.playground import usable
from basewise.web.ui.released import place
from basewise.web.ui.shell import action, alert, href, page, select, status_of, text_field
from basewise.web.ui.wording import for_pages

router = APIRouter()
WEIGHTS = (("alone", "without the base: small"), ("whole", "with the base: runs without a network"))
FOLDED = ("policy", "key", "override")
FIELDS = ("data_licence", "by", "sign", *FOLDED)
SIGNING_KEYS = "keys"
"""The folder of the keys that were made here, beside the runs."""


def free_name(root: Path, run: str) -> str:
    """A name for a release of this run that no other has; runs of the terminal have names of any signs."""
    stem = re.sub(r"[^\w.-]+", "-", run).strip("-.")[:70] or "release"
    return next(n for n in (f"{stem}-{i}" for i in range(1, 10_000)) if not (place(root) / n).exists())


def form(root: Path, sent: Sent, failed: Sequence[str] = ()) -> str:
    """What a release is asked for, with what was sent before; `failed`: the checks that an override could let through."""
    known = usable(root)
    if not known:
        return "<p>A finished run is needed to release one.</p>"
    run = sent.one("run") if sent.one("run") in known else known[0]
    name = sent.one("name") or free_name(root, run)
    reasons = "; ".join(f"{check}=reason" for check in failed)
    opened = " open" if failed or any(sent.one(field) for field in FOLDED) else ""

    def field(key: str, label: str, hint: str, attributes: str = "") -> str:
        return text_field(key, label, sent.one(key), hint=hint, attributes=attributes)

    return (
        '<form method="post" action="/releases" class="fields" data-busy="Going to the gate…">'
        + select("run", "Run", [(n, n) for n in known], run)
        + text_field("name", "Name of the release", name, attributes='required maxlength="80"')
        + field("data_licence", "Licence of the rows", "An SPDX id, or own. Without it the gate says no.")
        + field("by", "Who answers for it", "A person's name; needed for overrides and for own rows.")
        + select("weights", "Weights", WEIGHTS, sent.one("weights", "alone"))
        + _sign(root, sent)
        + f"<details{opened}><summary>Policy, key, overrides</summary>"
        + field("policy", "Policy file", "TOML; the defaults when left out.")
        + field("key", "Another private key file", "Instead of a key that was made here.")
        + field(
            "override",
            "Override",
            "CHECK=reason lets a failed check through, several with ; between them; it stays visible everywhere.",
            f'size="50" placeholder="{escape(reasons)}"',
        )
        + '</details><button class="main">Take it to the gate</button></form>'
        + action("/releases/key", "Make a key to sign with", fields={"run": run}, busy="Making a key…")
    )


def _sign(root: Path, sent: Sent) -> str:
    """Which of the keys that were made here signs, the latest unless another was asked for."""
    keys = sorted((root.parent / SIGNING_KEYS).glob("*.pem"), key=lambda p: -p.stat().st_mtime)
    known = [(str(p), p.stem) for p in keys if not p.name.endswith(".pub.pem")]
    if not known:
        return '<p class="small">Unsigned, and it says so: there is no key to sign with yet. The button below makes one.</p>'
    chosen = sent.one("sign") if "sign" in sent else known[0][0]
    return select("sign", "Signed with the key", [*known, ("", "none: unsigned, and it says so")], chosen)


@router.post("/releases/key")
def new_key(root: Root, sent: Form) -> Response:
    """Make a key that signs releases, beside the runs, and trust it on this machine as `basewise keys new` does."""
    from basewise.engine import signing

    folder = root.parent / SIGNING_KEYS
    write_text(folder / ".gitignore", "*\n")  # a key is for nobody else
    today = dt.date.today()
    names = (f"{today}.pem", *(f"{today}-{i}.pem" for i in range(2, 10_000)))
    _, public, _ = signing.new_key(next(folder / n for n in names if not (folder / n).exists()))
    signing.trust(public)
    return RedirectResponse(f"/releases?{urlencode({'run': sent.one('run')})}#make", status_code=303)


@router.post("/releases")
def make(root: Root, sent: Form) -> Response:
    """Start `basewise release`."""
    try:
        words = _words(root, sent)
        name = sent.one("name")
        fields = {key: sent.one(key) for key in ("run", "name", "weights", *FIELDS) if key in sent}
        about = {"release": name, "run": sent.one("run"), "sent": urlencode(fields)}
        jobs.start(root, f"release.{name}", words, about)
    except BasewiseError as error:
        back = '<p><a href="/releases">All releases</a></p>'
        body = back + alert(error) + form(root, sent)
        return page("Release a run", body, here="/releases", status=status_of(error))
    return RedirectResponse(href("releases", name), status_code=303)


def _words(root: Path, sent: Sent) -> list[str]:
    """The command that the form stands for, once everything was checked that can be checked now."""
    name, run, weights = sent.one("name"), sent.one("run"), sent.one("weights", "alone")
    if not jobs.NAME.fullmatch(name) or len(name) > 80:
        raise InputError(f"{name!r} is no name for a release", "use letters, digits, dots and dashes")
    if run not in usable(root):
        raise UnknownName.of("run", run, usable(root))
    if weights not in dict(WEIGHTS):
        raise UnknownName.of("kind of weights", weights, list(dict(WEIGHTS)))
    if (place(root) / name).exists():
        raise RunError(
            f"a release named {name} is here already", "give another name: a release never changes"
        )
    words = ["release", str(root / run), "--to", str(place(root) / name), "--weights", weights]
    given = [(field, sent.one(field)) for field in ("data_licence", "by", "policy")]
    given.append(("key", sent.one("key") or sent.one("sign")))
    given += [("override", part.strip()) for part in sent.one("override").split(";")]
    return words + [f"--{field.replace('_', '-')}={value}" for field, value in given if value]


def refused(root: Path, job: jobs.Job) -> str:
    """Why a job made no release, check by check where the gate wrote that down, and the form with what was sent."""
    sent = Sent.of(parse_qsl(job.about.get("sent", ""), keep_blank_values=True))
    checks = _found(root / str(job.about.get("run", "")) / "gate.json", job.started)
    error = job.error or "it was not made"
    if not checks or not error.startswith("not released"):
        said = f"<h2>What the gate said</h2><pre tabindex='0'>{cut(job.text('err.txt'), 8000)}</pre>"
        return alert(error) + said + _again(root, sent, ())
    failed = [c["check"] for c in checks if c["verdict"] == "fail" and not c.get("override")]
    return f"{alert(error.partition(': ')[0])}<h2>What the gate said</h2>{answers(checks)}{_again(root, sent, failed)}"


def _again(root: Path, sent: Sent, failed: Sequence[str]) -> str:
    return f"<h2>Try again</h2>{form(root, sent, failed)}"


def _found(path: Path, since: float) -> list[dict[str, Any]]:
    """The answers of the checks, when they were written after a moment (seconds since 1970); none otherwise."""
    if not path.is_file():
        return []
    value = read_json(path)
    # written to the second
    late = dt.datetime.fromisoformat(value["when"]).timestamp() >= int(since)
    return list(value["checks"]) if late else []


def answers(checks: Sequence[dict[str, Any]]) -> str:
    """The gate as a table: verdict, check, what it found and who let it through, advice."""
    rows = [
        [
            f'<span class="badge {escape(g["verdict"])}">{escape(g["verdict"])}</span>',
            escape(g["check"]),
            cut(g["sentence"]) + _overridden(g.get("override")),
            cut(for_pages(g.get("advice", ""))),
        ]
        for g in checks
    ]
    return f'<div class="findings">{table(("", "check", "found", "advice"), rows)}</div>' if rows else ""


def _overridden(override: dict[str, Any] | None) -> str:
    """Who let a failed check through, and why."""
    if not override:
        return ""
    return f"<br><b>overridden</b> by {cut(override.get('by', '–'), 120)}: {cut(override.get('reason', '–'))}"
