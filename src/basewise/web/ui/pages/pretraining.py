"""Pretraining: started from a text, and the curves of runs of `basewise pretrain`, drawn from metrics.jsonl while it is being written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.responses import HTMLResponse, RedirectResponse, Response

from basewise.core.base import Card
from basewise.core.budget import duration, parse_seconds
from basewise.core.errors import BasewiseError, InputError, RunError, UnknownName
from basewise.core.files import atomic_path, read_json, write_text
from basewise.core.recipe import read_recipe
from basewise.web import plots
from basewise.web.plots import Axis
from basewise.web.pretrain import read_metrics, thinned
from basewise.web.sections import cut, table
from basewise.web.ui import jobs, runs
from basewise.web.ui.forms import Form, Root, Sent
from basewise.web.ui.pages.home import badge, listing
from basewise.web.ui.pages.run import command_of, resume_form, stop_form
from basewise.web.ui.runs import Run
from basewise.web.ui.shell import action, alert, bar, href, page, status_of, text_field

router = APIRouter()
MOST_SOURCES = 4
Lines = list[dict[str, Any]]
RECIPE = """objective = "next_token"
depth = 4
width = 192
heads = 3
context = 128
tokens = 5_000_000
batch_tokens = 8192
evaluate_every = 50
checkpoint_every = 100
samples = ["The "]
"""
"""That of recipes/first.toml, held against more often: a text of one's own is small."""


@router.get("/pretraining")
def show(root: Root) -> HTMLResponse:
    """All pretraining runs here, and the form that starts one."""
    return _page(root, Sent.of(()))


def _page(root: Path, sent: Sent, error: BasewiseError | None = None) -> HTMLResponse:
    found = [run for run in runs.every(root) if run.kind == "pretrain"]
    body = (alert(error) if error else "") + (listing(found) if found else "") + _form(root, sent)
    return page("Pretraining", body, here="/pretraining", status=status_of(error) if error else 200)


def _form(root: Path, sent: Sent) -> str:
    """What to learn from and for how long; what was sent before stands in its fields again."""
    recipe = escape(sent.one("recipe", RECIPE))
    return (
        '<h2>Start one</h2><p class="how">A small decoder of your own, from a text alone.</p>'
        '<form method="post" action="/pretraining" enctype="multipart/form-data" class="fields" data-busy="Starting…">'
        '<label class="field"><span>A text to learn from</span><input name="file" type="file" accept=".txt" aria-describedby="hint-file">'
        '</label><small id="hint-file">A .txt file; it is read by characters.</small>'
        + text_field("corpus", "Or a corpus", sent.one("corpus"), hint="The folder that corpus build wrote.", attributes='size="40"')
        + text_field("name", "Name of the run", sent.one("name") or runs.free_name(root, "base"), attributes='required maxlength="100"')
        + text_field("seconds", "Time", sent.one("seconds", "10m"), hint="At most; the tokens of the recipe may end it sooner.", attributes='required size="8"')
        + f'<details{" open" if sent.one("recipe") else ""}><summary>Recipe</summary><label class="field" style="width:100%"><span>All else, as TOML</span><textarea name="recipe" rows="14">{recipe}</textarea>'
        "</label></details><button class='main'>Start pretraining</button></form>"
    )  # fmt: skip


@router.post("/pretraining")
def start(root: Root, sent: Form) -> Response:
    """Write the recipe, start `basewise pretrain` and go to its page."""
    try:
        name = _begin(root, sent)
    except BasewiseError as error:
        return _page(root, sent, error)
    return RedirectResponse(href("pretraining", name), status_code=303)


def _begin(root: Path, sent: Sent) -> str:
    name, corpus, file = sent.one("name"), sent.one("corpus"), sent.files.get("file")
    runs.check_new(root, name)
    parse_seconds(sent.one("seconds"))
    if not corpus and (file is None or not file.filename):
        raise InputError("no text came", "choose a file, or name the folder of a corpus")
    folder = root / jobs.FOLDER / name
    path = folder / "recipe.toml"
    try:
        if file is not None and file.filename:
            corpus = str(folder / "text.txt")
            with atomic_path(Path(corpus)) as temporary, open(temporary, "wb") as kept:
                shutil.copyfileobj(file.file, kept)
        said = {
            "name": name,
            "corpus": str(Path(corpus).expanduser().absolute()),
            "seconds": sent.one("seconds"),
        }
        lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in said.items()]
        write_text(path, "\n".join([*lines, sent.one("recipe", RECIPE)]) + "\n")
        read_recipe(path)
    except BasewiseError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    jobs.start(root, name, ["pretrain", str(path), "--to", str(root / name)], {})
    return name


def _run(root: Path, name: str) -> Run:
    run = runs.find(root, name)
    if run.kind != "pretrain":
        raise UnknownName(f"{name} is no pretraining run", "its own page is under Runs")
    return run


@router.get("/pretraining/{name}")
def one(name: str, root: Root) -> HTMLResponse:
    """The curves of one run; they move while it runs."""
    run = _run(root, name)
    if run.state == "running":
        following = (
            f'<div data-live="{href("pretraining", name, "live")}" data-every="2000">{curves(run)}</div>'
        )
        after = stop_form(run, "Stop: it can go on from its last checkpoint")
    else:
        following, after = curves(run), resume_form(run) + _use_form(run)
    said = alert(run.sentence) if run.state == "failed" else ""
    body = said + following + after + command_of(run)
    return page(name, body, here="/pretraining", kicker="pretraining")


def _use_form(run: Run) -> str:
    """The button that makes what a run saved a base like any other."""
    if not (run.folder / "base" / "card.json").is_file():
        return ""
    path = href("pretraining", run.name, "use")
    return action(path, "Use it as a base", kind="main", busy="Adding it…")


@router.post("/pretraining/{name}/use")
def use(name: str, root: Root) -> Response:
    """Put the base that a run saved among the bases, as `basewise bases add` does, and go to its page."""
    from basewise.steps import bases

    path = _run(root, name).folder / "base" / "card.json"
    try:
        card = Card.from_dict(read_json(path))
    except (TypeError, AttributeError) as error:
        raise RunError(f"{path} is not a card: {error}", "start the run anew") from error
    bases.add(card)
    return RedirectResponse(href("bases", card.key), status_code=303)


@router.get("/pretraining/{name}/live")
def live(name: str, root: Root) -> HTMLResponse:
    """The curves alone."""
    run = _run(root, name)
    return HTMLResponse(curves(run), headers={} if run.state == "running" else {"x-over": "1"})


def curves(run: Run) -> str:
    """State, numbers, and every curve that the run has."""
    lines = read_metrics(run.folder / "metrics.jsonl")
    if not lines:
        said = runs.doing(run.job) if run.job and run.state == "running" else ""
        return f"{badge(run.state)}<p data-say>No step has been finished yet. {escape(said)}</p>"
    last = lines[-1]
    left = last["seconds"] / max(last["step"], 1) * (last["total"] - last["step"])
    loss = "not finite" if last.get("loss") is None else f"{last['loss']:.3f}"
    cells = (
        ("step", f"{last['step']:,}", f"of {last['total']:,}"),
        ("tokens", f"{last['tokens']:,}", f"{last['tokens_per_second']:,.0f} a second"),
        ("loss", loss, "nats, mean of the step"),
        ("share of the peak", f"{100 * last['share_of_peak']:.0f} %", "of matrix products, measured here"),
        (
            "time",
            duration(last["seconds"]),
            f"about {duration(left)} left" if run.state == "running" else run.state,
        ),
    )
    items = "".join(
        f"<div><dt>{a}</dt><dd>{escape(b)}<small>{escape(c)}</small></dd></div>" for a, b, c in cells
    )
    made = [
        ("Loss", _plot(lines, "Loss", "nats", "loss")),
        ("Held out, bits per byte", _sources(lines, "bits_per_byte", "bits per byte")),
        ("Held out, nats a hidden token", _sources(lines, "masked_nats", "nats a hidden token")),
        ("Learning rate", _plot(lines, "Learning rate", "share of the full rate", "factor")),
        ("Speed", _plot(lines, "Speed", "tokens a second", "tokens_per_second")),
        ("Norm of the gradient", _plot(lines, "Norm of the gradient", "norm", "norm")),
        ("It writes", _samples(lines)),
        ("Recipe", _recipe(run.folder)),
    ]
    sections = "".join(f"<section><h2>{escape(t)}</h2>{b}</section>" for t, b in made if b)
    progress = bar(last["step"], last["total"], "steps")
    return f'{badge(run.state)}{progress}<dl class="strip">{items}</dl>{sections}'


def _axes(points: Sequence[tuple[float, ...]], unit: str) -> tuple[Axis, Axis]:
    low, high = min(min(p[1:]) for p in points), max(max(p[1:]) for p in points)
    x = Axis(low=0.0, high=max(1.0, *(p[0] for p in points)), label="step")
    return x, Axis(low=low, high=high if high > low else low + 1.0, label=unit)


def _plot(lines: Lines, title: str, unit: str, key: str) -> str:
    points = thinned([(float(e["step"]), float(e[key])) for e in lines if e.get(key) is not None])
    if len(points) < 2:
        return ""
    x, y = _axes(points, unit)
    return plots.frame(x, y, f"{title} by step", [plots.line(x, y, points, 0)])


def _sources(lines: Lines, key: str, unit: str) -> str:
    """One curve a source with its 95 % band; all sources together come first."""
    names = sorted(dict.fromkeys(n for e in lines for n in e.get(key, {})), key=lambda n: n != "all")
    names = names[:1] if len(names) == 2 else names[:MOST_SOURCES]
    drawn: dict[str, list[tuple[float, float, float, float]]] = {}
    for name in names:
        values = [
            (e["step"], e[key][name]) for e in lines if (e.get(key, {}).get(name) or {}).get("estimate")
        ]
        drawn[name] = thinned(
            [
                (float(s), v["estimate"], v["low"] or v["estimate"], v["high"] or v["estimate"])
                for s, v in values
            ]
        )
    every = [p for points in drawn.values() for p in points]
    if not every:
        return ""
    x, y = _axes(every, unit)
    marks: list[plots.Mark] = []
    for kind, (name, points) in enumerate(drawn.items()):
        named = name if len(drawn) > 1 else ""
        marks.append(plots.band(x, y, [(s, low, high) for s, _, low, high in points], kind))
        marks.append(plots.line(x, y, [(s, v) for s, v, _, _ in points], kind, named))
    at = next(e for e in reversed(lines) if key in e)
    rows = [
        [
            escape(n),
            f"{v['estimate']:.3f}" if v.get("estimate") is not None else "–",
            f"[{v['low']:.3f}, {v['high']:.3f}]" if v.get("low") is not None else "–",
            f"{v['n']:,}",
        ]
        for n, v in at[key].items()
    ]
    numbers = table(("source", unit, "95 %", "documents"), rows, 1, caption=f"At step {at['step']:,}")
    return plots.frame(x, y, f"{unit} by step", marks) + numbers


def _samples(lines: Lines) -> str:
    found = next((e for e in reversed(lines) if e.get("samples")), None)
    return "".join(f"<p>{cut(' '.join(str(t).split()))}</p>" for t in found["samples"]) if found else ""


def _recipe(folder: Path) -> str:
    path = folder / "recipe.json"
    value = read_json(path).get("recipe") if path.exists() else None
    if not isinstance(value, dict):
        return ""
    rows = [[escape(k), cut(str(v), 300)] for k, v in value.items() if v not in ("", [], 0, 0.0, None)]
    return f"<details><summary>all settings</summary>{table(('setting', 'value'), rows)}</details>"
