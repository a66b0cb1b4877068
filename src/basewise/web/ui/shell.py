"""Shell: the frame around every page (skip link, navigation, one heading) and the small pieces that pages are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from starlette.responses import HTMLResponse

from basewise.core.errors import BasewiseError, UnknownName
from basewise.web.style import CSS
from basewise.web.ui.wording import for_pages

MOST_TICKS = 24
STATIC = Path(__file__).parent / "static"
PLACES = (
    ("/", "Runs"),
    ("/new", "New run"),
    ("/bases", "Bases"),
    ("/playground", "Playground"),
    ("/compare", "Compare"),
    ("/bench", "Benchmarks"),
    ("/pretraining", "Pretraining"),
    ("/releases", "Releases"),
    ("/service", "Service"),
)


def stylesheet() -> str:
    """The report's look and what the app adds to it."""
    return CSS + (STATIC / "app.css").read_text(encoding="utf-8")


def page(title: str, body: str, *, here: str = "", status: int = 200, kicker: str = "") -> HTMLResponse:
    """A whole page; `title` is its heading (text), `body` is HTML, `here` the path of its place in the navigation."""
    links = "".join(
        f'<a href="{path}"{" aria-current=page" if path == here else ""}>{escape(name)}</a>'
        for path, name in PLACES
    )
    above = f'<p class="brand">{escape(kicker)}</p>' if kicker else ""
    return HTMLResponse(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)} · basewise</title>"
        '<link rel="stylesheet" href="/static/app.css"><link rel="icon" href="data:,"><script src="/static/app.js" defer></script>'
        '</head><body><a class="skip" href="#content">Skip to the content</a><header><div class="top">'
        f'<a class="home" href="/">basewise</a><nav aria-label="Pages">{links}</nav></div></header>'
        '<p id="alarm" class="alert" aria-live="assertive" hidden></p>'
        f'<main id="content" tabindex="-1">{above}<h1>{escape(title)}</h1>{body}</main>'
        '<p id="said" class="unseen" role="status" aria-live="polite"></p></body></html>\n',
        status_code=status,
    )


def refusal(status: int, message: str, back: str = "") -> HTMLResponse:
    """A page that says in one line what is wrong and how to mend it; `back`: the path of the page that asked, if it is known."""
    titles = {403: "Not let in", 404: "Not here", 409: "Not now", 413: "Too large"}
    links = f'<a class="button" href="{escape(back)}">Back to where you were</a>' if back else ""
    links += '<a class="button" href="/">All runs</a>'
    body = f'<p class="alert" role="alert">{escape(sentence(message))}</p><div class="row">{links}</div>'
    return page(titles.get(status, "That did not work"), body, status=status)


def sentence(text: str) -> str:
    """An error's line as a page has it: its words, a capital and a full stop; a name such as a file's at its beginning stays as it is."""
    text = for_pages(text.strip())
    if text.split(" ", 1)[0].rstrip(",:;").isalpha():
        text = text[:1].upper() + text[1:]
    return text if not text or text.endswith((".", "?", "!", ")")) else f"{text}."


def alert(error: BasewiseError | str) -> str:
    """An error inside a page."""
    return f'<p class="alert" role="alert">{escape(sentence(str(error)))}</p>'


def status_of(error: BasewiseError) -> int:
    """404 for what is not here, 409 for a run folder that cannot be used now, else 400."""
    from basewise.core.errors import BaseUnavailable, LicenceRefused, PredictorChanged, RunError

    if isinstance(error, UnknownName):
        return 404
    conflict = (RunError, LicenceRefused, PredictorChanged, BaseUnavailable)
    return 409 if isinstance(error, conflict) else 400


def href(*parts: str) -> str:
    """A path of our own from its parts, each quoted."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def action(
    path: str, label: str, *, kind: str = "", fields: dict[str, str] | None = None, busy: str = ""
) -> str:
    """A form that is one button."""
    hidden = "".join(
        f'<input type="hidden" name="{escape(k)}" value="{escape(v)}">' for k, v in (fields or {}).items()
    )
    return (
        f'<form method="post" action="{escape(path)}" data-busy="{escape(busy)}">{hidden}'
        f'<button class="{kind}">{escape(label)}</button></form>'
    )


def select(name: str, label: str, options: Iterable[tuple[str, str]], chosen: str) -> str:
    """A labelled list of (value, words)."""
    items = "".join(
        f'<option value="{escape(v)}"{" selected" if v == chosen else ""}>{escape(t)}</option>'
        for v, t in options
    )
    return f'<label class="field"><span>{escape(label)}</span><select name="{escape(name)}">{items}</select></label>'


def text_field(name: str, label: str, value: str = "", *, hint: str = "", attributes: str = "") -> str:
    """A labelled line of text; `attributes`: more of them, as HTML."""
    small = f'<small id="hint-{escape(name)}">{escape(hint)}</small>' if hint else ""
    tied = f' aria-describedby="hint-{escape(name)}"' if hint else ""
    return (
        f'<label class="field"><span>{escape(label)}</span>'
        f'<input name="{escape(name)}" value="{escape(value)}" {attributes}{tied}></label>{small}'
    )


def ticks(
    name: str, legend: str, options: Iterable[tuple[str, str]], chosen: Sequence[str], hint: str = ""
) -> str:
    """A group of boxes to tick, (value, words) each; of very many the first and the chosen ones, the rest in a fold."""
    given = list(options)
    first = [
        o for i, o in enumerate(given) if len(given) <= MOST_TICKS or i < MOST_TICKS // 2 or o[0] in chosen
    ]
    rest = [o for o in given if o not in first]
    small = f"<small>{escape(hint)}</small>" if hint else ""
    more = (
        f"<details><summary>{len(rest)} more</summary>{_boxes(name, rest, chosen)}</details>" if rest else ""
    )
    return f"<fieldset><legend>{escape(legend)}</legend>{small}{_boxes(name, first, chosen)}{more}</fieldset>"


def _boxes(name: str, options: Iterable[tuple[str, str]], chosen: Sequence[str]) -> str:
    boxes = "".join(
        f'<label class="tick"><input type="checkbox" name="{escape(name)}" value="{escape(v)}"'
        f"{' checked' if v in chosen else ''}> <span>{escape(t)}</span></label>"
        for v, t in options
    )
    return f'<div class="ticks">{boxes}</div>'


def megabytes(size: float) -> str:
    """12 MB, 1.3 GB."""
    return (
        f"{size / 1e9:.1f} GB"
        if size >= 1e9
        else f"{size / 1e6:,.0f} MB"
        if size >= 1e6
        else f"{size / 1e3:,.0f} kB"
    )


def bar(done: float, total: float, label: str) -> str:
    """A progress bar with its words; without a total it only says that something goes on."""
    value = f' value="{min(done, total):.6g}" max="{total:.6g}"' if total else ""
    return f'<progress aria-label="{escape(label)}"{value}></progress>'
