"""Relabel: the labels that the other rows speak against, each to be kept, changed or left out; then a new table for a new run.

The new table keeps the side of every row, so the locked test rows of the new run are the old ones, untouched.
"""

from __future__ import annotations

import io
import re
from html import escape
from pathlib import Path
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter
from starlette.responses import HTMLResponse, RedirectResponse, Response

from basewise.core.errors import BasewiseError, InputError
from basewise.web.sections import cut, how, table
from basewise.web.ui import runs, tables
from basewise.web.ui.forms import Form, Root
from basewise.web.ui.pages.playground import task_of
from basewise.web.ui.runs import Run
from basewise.web.ui.shell import href, page

router = APIRouter()
DROP = " leave out"
"""No class begins with a space: the audit takes those around a label away."""


@router.get("/runs/{name}/relabel")
def show(name: str, root: Root) -> HTMLResponse:
    """The suspects, one list each."""
    run = runs.find(root, name)
    decision = runs.decision_of(run.folder)
    classes = task_of(run.folder).classes
    back = f'<p><a href="{href("runs", name)}">Back to {escape(name)}</a></p>'
    if not decision.suspects:
        return page(f"Labels of {name}", back + "<p>No label is suspected.</p>", here="/")
    rows = []
    for s in decision.suspects:
        options = [
            ("", f"keep {s['label']}"),
            *((c, f"{c} (suggested)" if c == s["suggested"] else c) for c in classes if c != s["label"]),
        ]
        items = "".join(
            f'<option value="{escape(v)}">{escape(t)}</option>'
            for v, t in [*options, (DROP, "leave this row out")]
        )
        chooser = f'<select name="row-{s["row_id"]}" data-suggested="{escape(s["suggested"])}" aria-label="Label of row {s["row_id"]}">{items}</select>'
        rows.append(
            [
                str(s["row_id"]),
                cut(s["text"]),
                cut(s["label"], 80),
                cut(s["suggested"], 80),
                f"{s['margin']:.2f}",
                chooser,
            ]
        )
    text = (
        "Rows whose label the other rows speak against, the most doubtful first. Only train rows stand here; the locked test rows stay "
        "as they are. A suggestion is the model's opinion: read the row."
    )
    body = (
        f'{back}{how(text)}<form method="post" action="{href("runs", name, "relabel")}" data-busy="Writing the new table…">'
        f'<div class="texts choices">{table(("row", "text", "label", "suggested", "margin", "becomes"), rows)}</div>'
        '<div class="row"><button class="main">Make a new table of it</button>'
        '<button type="button" data-take-all hidden>Take all suggestions</button></div></form>'
    )
    return page(f"Labels of {name}", body, here="/")


@router.post("/runs/{name}/relabel")
def write(name: str, root: Root, sent: Form) -> Response:
    """A new table with the changes, then its page with the audit."""
    import pyarrow.parquet as pq

    run = runs.find(root, name)
    task = task_of(run.folder)
    changes = changes_of(sent, task.classes)
    if not changes:
        raise InputError("no label was changed", "go back and change at least one")
    if unknown := set(changes) - {int(i) for i in task.rows.row_ids}:
        raise InputError(f"the run has no row {min(unknown)}", "go back and load the page anew")
    locked = {int(i) for i, side in zip(task.rows.row_ids, task.split, strict=True) if side == "test"}
    if locked & set(changes):
        raise InputError("a locked test row was to be changed", "change train rows only")
    source = source_of(root, run)
    data = tables.relabelled(source, task, changes, [str(s) for s in task.split])
    buffer = io.BytesIO()
    pq.write_table(data, buffer)
    buffer.seek(0)
    key = tables.keep(root, f"{task.name}-relabelled.parquet", buffer)
    inputs = list(task.inputs) if source is not None or len(task.inputs) == 1 else ["text"]
    split = f"{'kept_split' if locked else 'none'}+group:{tables.KEPT_GROUP}"
    query = {"target": task.target, "inputs": inputs, "split": split}
    return RedirectResponse(f"{href('new', key)}?{urlencode(query, doseq=True)}", status_code=303)


def changes_of(sent: dict[str, list[str]], classes: tuple[str, ...]) -> dict[int, str | None]:
    """{row id: its new label, None to leave it out} from the form."""
    changes: dict[int, str | None] = {}
    for field, values in sent.items():
        number = field.removeprefix("row-")
        if not field.startswith("row-") or not re.fullmatch("[0-9]{1,18}", number) or not values[0]:
            continue
        if values[0] != DROP and values[0] not in classes:
            raise InputError(
                f"{values[0]!r} is no class of this task", f"the classes are {', '.join(classes[:8])}"
            )
        changes[int(number)] = None if values[0] == DROP else values[0]
    return changes


def source_of(root: Path, run: Run) -> Path | None:
    """The file that a run was made of, when it was dropped here and is still here."""
    key = run.job.about.get("table") if run.job else None
    if not key or "query" in parse_qs(run.job.about.get("address", "")):  # type: ignore[union-attr]
        return None
    try:
        return tables.path_of(root, key)
    except BasewiseError:
        return None
