"""New run: drop a file, look at the guessed roles and at what the audit found, set a budget, start."""

from __future__ import annotations

import contextlib
import json
import textwrap
import time
from html import escape
from pathlib import Path
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from basewise.core.budget import duration, parse_bytes, parse_seconds
from basewise.core.errors import BasewiseError, InputError
from basewise.core.files import write_text
from basewise.core.registry import keys, summary
from basewise.steps.measures import check_metric, may_choose, name_of
from basewise.web.sections import AUDIT_SHOWN, cut, how, table
from basewise.web.ui import jobs, runs, shell, tables
from basewise.web.ui.forms import Form, Root, Sent
from basewise.web.ui.shell import href, page, select, text_field, ticks
from basewise.web.ui.tables import Roles
from basewise.web.ui.wording import for_pages

router = APIRouter()
SPLITS = (("", "as guessed"), ("chance", "by chance"), ("none", "none: no locked test rows"))
CURVES = (("yes", "measure them, as time allows"), ("no", "leave them out"))
DOWNLOADS = (("500MB", "up to 500 MB"), ("2GB", "up to 2 GB"), ("1B", "none"))
SETTINGS = ("budget", "base", "method", "download", "metric", "curves", "seed")
"""Fields of the form that starts a run, its name and the roles left out: what a run that failed is begun anew with."""
FORMATS = ".csv,.tsv,.txt,.json,.jsonl,.ndjson,.parquet,.pq,.arrow,.feather,.gz,.db,.sqlite,.sqlite3,.duckdb"


@router.get("/new")
def choose_file(root: Root) -> HTMLResponse:
    """Where a file is dropped."""
    return page("New run", _drop(root), here="/new")


def _drop(root: Path) -> str:
    kept = tables.every(root)
    again = "".join(
        f'<li><a href="{href("new", key)}">{escape(path.name)}</a> '
        f'<span class="small">{shell.megabytes(path.stat().st_size)}</span></li>'
        for key, path in kept
    )
    return (
        '<p class="lead">A table with a text column and a label column. It stays on this machine.</p>'
        '<form method="post" action="/new" enctype="multipart/form-data" data-busy="Reading the table…" class="drop">'
        f'<label for="file">Drop a file here, or choose one</label><input id="file" name="file" type="file" required accept="{FORMATS}" '
        'aria-describedby="formats"><small id="formats">CSV, TSV, JSON lines, Parquet, Arrow, SQLite or DuckDB; gzip is fine.</small>'
        '<button class="main">Look it over</button></form>'
        '<form method="post" action="/new" data-busy="Reading the table…"><input type="hidden" name="sample" value="1">'
        "<button>Try it with the embedded sample</button></form>"
        + (f"<h2>Tables dropped before</h2><ul>{again}</ul>" if again else "")
    )


@router.post("/new")
def take_file(root: Root, sent: Form) -> Response:
    """Keep the file, then show its page."""
    if sent.one("sample"):
        from basewise.sample import path

        with open(path(), "rb") as stream:
            return RedirectResponse(href("new", tables.keep(root, "sample.csv", stream)), status_code=303)
    file = sent.files.get("file")
    if file is None or not file.filename:
        body = shell.alert(InputError("no file came", "choose one, or drop one on the field")) + _drop(root)
        return page("New run", body, here="/new", status=400)
    try:
        key = tables.keep(root, file.filename, file.file)
    except BasewiseError as error:
        return page("New run", shell.alert(error) + _drop(root), here="/new", status=400)
    return RedirectResponse(href("new", key), status_code=303)


def roles_of(request: Request) -> Roles:
    """Roles from the address of the page."""
    query = request.query_params
    return Roles(
        target=query.get("target") or None,
        inputs=tuple(query.getlist("inputs")),
        split=query.get("split") or None,
        query=query.get("query") or None,
    )


@router.get("/new/{key}")
def look_over(key: str, request: Request, root: Root) -> HTMLResponse:
    """Roles, findings, and the form that starts the run; how far the audit is, where it takes longer than a page may."""
    path, roles = tables.path_of(root, key), roles_of(request)
    # the page says what
    with contextlib.suppress(BasewiseError):
        tables.read(path, roles.query)
        going_on = tables.looking(path, roles)
        if not going_on.done.wait(request.app.state.patience):
            return _waiting(path, f"{href('new', key, 'live')}?{request.query_params}", going_on)
    return _page(root, key, path, roles, Sent.of(request.query_params.multi_items()))


def _waiting(path: Path, live: str, going_on: tables.Look) -> HTMLResponse:
    """The page while the audit goes on; without the script it is loaded again by itself."""
    body = f'<div data-live="{escape(live)}" data-every="1000">{_progress(going_on)}</div>'
    again = '<noscript><meta http-equiv="refresh" content="3"></noscript>'
    return page(path.name, body + again, here="/new", kicker="New run")


def _progress(going_on: tables.Look) -> str:
    spent = duration(time.monotonic() - going_on.since)
    said = f"{going_on.said[:1].upper()}{going_on.said[1:]}"
    return (
        f"<p data-say>The table is looked over. {escape(said)}: {spent} so far.</p>{shell.bar(0, 0, 'audit')}"
    )


@router.get("/new/{key}/live")
def live(key: str, request: Request, root: Root) -> HTMLResponse:
    """How far the audit is; x-over when it is done."""
    going_on = tables.looking(tables.path_of(root, key), roles_of(request))
    return HTMLResponse(_progress(going_on), headers={"x-over": "1"} if going_on.done.is_set() else {})


def _page(
    root: Path, key: str, path: Path, roles: Roles, sent: Sent, error: BasewiseError | None = None
) -> HTMLResponse:
    """The whole page, its last form with what was sent before; an error of the audit stands where its findings would."""
    said = shell.alert(error) if error else ""
    status = shell.status_of(error) if error else 200
    try:
        read = tables.read(path, roles.query)
    except BasewiseError as unread:
        ask = _query_form(roles) if path.suffix in (".db", ".sqlite", ".sqlite3", ".duckdb") else ""
        return page(path.name, shell.alert(unread) + ask, here="/new", kicker="New run", status=400)
    try:
        task = tables.look(path, roles)
    except BasewiseError as found:
        body = said + shell.alert(found) + _roles_form(read, roles, {}, ("", ()))
        return page(path.name, body, here="/new", kicker="New run", status=shell.status_of(found))
    tests = int((task.split == "test").sum())
    counts = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(more)}</small></dd></div>"
        for name, value, more in (
            ("rows", f"{len(task.rows):,}", f"of {len(read):,} in the file"),
            ("classes", f"{len(task.classes):,}", f"of {task.target}"),
            ("train", f"{len(task.rows) - tests:,}", f"split: {task.split_said}"),
            ("test", f"{tests:,}", "locked until the end"),
        )
    )
    findings = [
        [
            f'<span class="badge {escape(f.severity)}">{escape(f.severity)}</span>',
            escape(f.check),
            _message(f),
            cut(for_pages(f.advice)),
        ]
        for f in task.findings[:AUDIT_SHOWN]
    ]
    text = "“fail” makes a score untrue, “warn” makes it weaker or needs a person, “info” is for knowing."
    found_table = (
        f'{how(text)}<div class="findings">{table(("", "check", "found", "advice"), findings)}</div>'
        if findings
        else "<p>Nothing was found.</p>"
    )
    body = (
        f'{said}<dl class="strip">{counts}</dl><h2>Roles</h2>'
        + _roles_form(read, roles, task.roles, (task.target, task.inputs))
        + f"<h2>What the audit found</h2>{found_table}<h2>Start</h2>"
        + _start_form(root, key, path, roles, sent)
    )
    return page(path.name, body, here="/new", kicker="New run", status=status)


def _message(finding: object) -> str:
    rows = getattr(finding, "rows", ())
    numbers = ", ".join(str(r) for r in rows[:20]) + (" …" if len(rows) > 20 else "")
    more = f'<details><summary>rows</summary><p class="small">{numbers}</p></details>' if rows else ""
    return cut(getattr(finding, "message", "")) + more


def _query_form(roles: Roles) -> str:
    field = text_field("query", "SQL query", roles.query or "select * from ", attributes='size="60" required')
    return f'<form method="get" data-busy="Reading the table…">{field}<button class="main">Look it over</button></form>'


def _roles_form(
    read: tables.Table, roles: Roles, guessed: dict[str, str], chosen: tuple[str, tuple[str, ...]]
) -> str:
    """Columns with their roles, and the fields that settle them."""
    target, inputs = roles.target or chosen[0], roles.inputs or chosen[1]
    rows = []
    for name in read.columns:
        role, _, why = guessed.get(name, "–").partition(" (")
        values = " · ".join(cut(v, 60) for v in tables.examples(read, name))
        rows.append([f"<b>{cut(name, 80)}</b>", escape(role), cut(why.removesuffix(")"), 120), values])
    shown = table(("column", "role", "because", "values"), rows)
    splits = [*SPLITS, *((f"group:{n}", f"whole groups of {n}") for n in read.columns)]
    splits += [(f"time:{n}", f"latest by {n}") for n in read.columns] + [
        (n, f"as the column {n} says") for n in read.columns
    ]
    if roles.split and roles.split not in dict(splits):
        splits.append((roles.split, "the same rows as before"))
    query = f'<input type="hidden" name="query" value="{escape(roles.query)}">' if roles.query else ""
    fields = (
        select("target", "What to predict", [("", "guess it"), *((n, n) for n in read.columns)], target)
        + select("split", "Test rows", splits, roles.split or "")
        + ticks("inputs", "What to read", [(n, n) for n in read.columns if n != target], inputs)
    )
    opened = "" if guessed else " open"
    return (
        f"{shown}<details{opened}><summary>Change the roles</summary>"
        f'<form method="get" class="fields" data-busy="Looking it over…">{query}{fields}<button>Look it over again</button></form></details>'
    )


def _start_form(root: Path, key: str, path: Path, roles: Roles, sent: Sent) -> str:
    """Budget, bases and methods; what was sent before stands in its fields again."""
    hidden = "".join(
        f'<input type="hidden" name="{n}" value="{escape(v)}">'
        for n, v in (
            ("target", roles.target or ""),
            ("split", roles.split or ""),
            ("query", roles.query or ""),
            *(("inputs", i) for i in roles.inputs),
        )
        if v
    )
    name = sent.one("name") or runs.free_name(root, path.name.split(".")[0] or "run")
    opened = " open" if any(field in sent for field in SETTINGS[1:]) else ""
    return (
        f'<form method="post" action="{href("new", key, "start")}" data-busy="Starting…" class="fields">{hidden}'
        + text_field("name", "Name of the run", name, attributes='required maxlength="100"')
        + text_field(
            "budget",
            "Time",
            sent.one("budget", "10m"),
            hint="Wall time, such as 90s, 10m or 1h.",
            attributes='required size="8"',
        )
        + f"<details{opened}><summary>Bases, methods and more</summary>{_more(sent)}</details>"
        '<button class="main">Start the run</button></form>'
    )


def _more(sent: Sent) -> str:
    """What most runs leave as it is."""
    from basewise.steps import bases

    cards = [card for card in bases.listing() if bases.here(card)]
    known = [(c.key, f"{c.key} ({c.parameters / 1e6:.0f} M, {c.licence})") for c in cards]
    methods = [(m, f"{m}: {_short(summary('methods', m).partition(':')[0])}") for m in keys("methods")]
    metrics = [(m, name_of(m)) for m in keys("metrics") if may_choose(m)]
    lists = (
        select(
            "download",
            "Fetch starter bases that are not here",
            DOWNLOADS,
            sent.one("download", "500MB"),
        )
        + select("metric", "Choose by", metrics, sent.one("metric", "accuracy"))
        + select("curves", "Learning curves, for the labels saved", CURVES, sent.one("curves", "yes"))
        + text_field("seed", "Seed", sent.one("seed", "0"), attributes='inputmode="numeric"')
    )
    none = "None ticked: all that fit into the time. More under Bases."
    return (
        ticks("base", "Bases that are here", known, sent.get("base", ()), none)
        + ticks("method", "Methods", methods, sent.get("method", ()), "None ticked: all.")
        + f'<div class="filters">{lists}</div>'
    )


def _short(text: str, most: int = 90) -> str:
    """The whole words of a text that fit, with an ellipsis where some are left out."""
    return textwrap.shorten(text, most, placeholder=" …")


@router.post("/new/{key}/start")
def start(key: str, root: Root, sent: Form) -> Response:
    """Start `basewise choose` in a process of its own and go to its page."""
    path = tables.path_of(root, key)
    roles = Roles(
        target=sent.one("target") or None,
        inputs=tuple(sent.get("inputs", [])),
        split=sent.one("split") or None,
        query=sent.one("query") or None,
    )
    try:
        name = begin(root, key, path, roles, sent)
    except BasewiseError as error:
        return _page(root, key, path, roles, sent, error)
    return RedirectResponse(href("runs", name), status_code=303)


def begin(root: Path, key: str, path: Path, roles: Roles, sent: Sent) -> str:
    """Check what can be checked now, write the settings, start; the run's name. A folder that holds a run is refused."""
    name = sent.one("name") or path.name.split(".")[0]
    parse_seconds(sent.one("budget"))
    download, seed = sent.one("download", "500MB"), sent.one("seed", "0")
    check_metric(metric := sent.one("metric", "accuracy"))
    parse_bytes(download)
    if not (seed.isascii() and seed.isdigit()):
        raise InputError(f"the seed {seed!r} is no whole number", "give one such as 0")
    runs.check_new(root, name)
    task = tables.look(path, roles)
    inputs = list(roles.inputs or task.inputs)
    settings = {"download": download, "inputs": inputs, "query": roles.query, "metric": metric}
    config = root / jobs.FOLDER / name / "settings.toml"
    lines = [f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in settings.items() if v]
    lines += [f"seed = {int(seed)}", f"curves = {str(sent.one('curves') != 'no').lower()}"]
    write_text(config, "\n".join(lines) + "\n")
    words = ["choose", str(path), "--target", roles.target or task.target, "--budget", sent.one("budget")]
    words += ["--to", str(root / name), "--config", str(config)]
    words += ["--split", roles.split] if roles.split else []
    words += [w for base in sent.get("base", []) for w in ("--base", base)]
    words += [w for method in sent.get("method", []) for w in ("--method", method)]
    settled = {field: sent[field] for field in SETTINGS if field in sent}
    about = {"table": key, "address": urlencode(_address(roles), doseq=True)}
    jobs.start(root, name, words, {**about, "settings": urlencode(settled, doseq=True)})
    return name


def _address(roles: Roles) -> dict[str, object]:
    pairs = {"target": roles.target, "inputs": list(roles.inputs), "split": roles.split, "query": roles.query}
    return {k: v for k, v in pairs.items() if v}
