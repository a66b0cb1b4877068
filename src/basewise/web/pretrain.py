"""pretrain.html: the run while it runs, as one page without scripts that asks the browser to read it again.

The page reads metrics.jsonl, recipe.json and, at the end, pretrain.json; it computes nothing but positions on axes. While the run
goes on it refreshes every few seconds; a finished one stays.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from basewise.core.files import read_json, write_text
from basewise.web.document import document
from basewise.web.plots import Axis, frame, line

REFRESH_SECONDS = 5
MOST_POINTS = 400
MOST_FOLLOWED, TAIL_BYTES = 8, 512


def write_page(folder: Path) -> None:
    """Write the page into the run folder, whole or not at all."""
    write_text(Path(folder) / "pretrain.html", render(Path(folder)))


def render(folder: Path) -> str:
    """The whole page as a string."""
    lines = read_metrics(folder / "metrics.jsonl")
    recipe = read_json(folder / "recipe.json")["recipe"] if (folder / "recipe.json").exists() else {}
    result = read_json(folder / "pretrain.json") if (folder / "pretrain.json").exists() else None
    refresh = "" if result else f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">'
    name = str(recipe.get("name", folder.name))
    body = "".join(
        [
            _strip(lines),
            _plots(lines),
            _scores(lines, result),
            _worth(result),
            _samples(lines),
            _settings(recipe),
        ]
    )
    state = "finished" if result else "running"
    return document(
        f"{name} · pretraining",
        f'<p class="brand">basewise · pretrain</p><h1>{escape(name)}: {state}</h1>{body}',
        head=refresh,
    )


def server(folder: Path) -> ThreadingHTTPServer:
    """Serves the page of a run on the loopback alone, made anew at every request, at a free port; nothing else is served."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path in ("/", "/index.html")
            content = render(folder).encode() if found else b"not here"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8" if found else "text/plain")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_said: Any) -> None:
            """Quiet."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Page)


@dataclass
class _Followed:
    """Metrics that were read before: the entries up to `offset`, and the bytes before it, which tell a file that was cut meanwhile."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    offset: int = 0
    tail: bytes = b""


_followed: dict[Path, _Followed] = {}
_following = threading.Lock()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines that are whole; the last one may be being written, in the middle of a letter too.

    Pages ask every few seconds, so only what came since the last call is read; a file that a resumed run cut back is read anew.
    """
    path = Path(path).absolute()
    with _following:
        known = _followed.pop(path, None) or _Followed()
        if not path.exists():
            return []
        with open(path, "rb") as file:
            file.seek(known.offset - len(known.tail))
            if file.read(len(known.tail)) != known.tail:
                known = _Followed()
                file.seek(0)
            content = file.read()
        end = content.rfind(b"\n") + 1
        known.entries += _entries(content[:end])
        known.offset += end
        known.tail = (known.tail + content[:end])[-TAIL_BYTES:]
        _followed[path] = known
        while len(_followed) > MOST_FOLLOWED:
            _followed.pop(next(iter(_followed)))
        return known.entries + _entries(content[end:])


def _entries(content: bytes) -> list[dict[str, Any]]:
    found = []
    for text in content.decode("utf-8", errors="replace").split("\n"):
        try:
            entry = json.loads(text)
        except ValueError:
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found


def _strip(lines: list[dict[str, Any]]) -> str:
    if not lines:
        return "<p>No step has been finished yet.</p>"
    last = lines[-1]
    left = last["seconds"] / max(last["step"], 1) * (last["total"] - last["step"])
    cells = [
        ("step", f"{last['step']:,}", f"of {last['total']:,}"),
        ("tokens", f"{last['tokens']:,}", f"{last['tokens_per_second']:,.0f} a second"),
        ("loss", "not finite" if last["loss"] is None else f"{last['loss']:.3f}", "nats, mean of the step"),
        (
            "share of the matrix-product peak",
            f"{100 * last['share_of_peak']:.0f} %",
            "measured on this machine",
        ),
        ("time", f"{last['seconds'] / 60:,.1f} min", f"about {left / 60:,.1f} min left"),
    ]
    items = "".join(
        f"<div><dt>{escape(a)}</dt><dd>{escape(b)}<small>{escape(c)}</small></dd></div>" for a, b, c in cells
    )
    return f'<dl class="strip">{items}</dl>'


def thinned(points: list[Any]) -> list[Any]:
    """At most MOST_POINTS, evenly spaced, first and last among them."""
    if len(points) <= MOST_POINTS:
        return points
    step = (len(points) - 1) / (MOST_POINTS - 1)
    return [points[round(i * step)] for i in range(MOST_POINTS)]


def _plots(lines: list[dict[str, Any]]) -> str:
    made = [
        _plot("Loss", "nats", lines, [("loss", _value("loss"))]),
        _plot("Held out", "bits per byte", lines, _sources(lines, "bits_per_byte")),
        _plot("Held out", "nats a hidden token", lines, _sources(lines, "masked_nats")),
        _plot("Rate", "share of the full rate", lines, [("rate", _value("factor"))]),
        _plot("Tokens per second", "tokens a second", lines, [("tokens", _value("tokens_per_second"))]),
    ]
    return "".join(f"<section><h2>{escape(title)}</h2>{svg}</section>" for title, svg in made if svg)


def _value(key: str) -> Any:
    return lambda entry: entry.get(key)


def _sources(lines: list[dict[str, Any]], key: str) -> list[tuple[str, Any]]:
    """One curve a source (all of them first), four at most."""
    names = dict.fromkeys(name for entry in lines for name in entry.get(key, {}))
    ordered = sorted(names, key=lambda name: name != "all")
    if len(ordered) == 2:
        ordered = ordered[:1]
    return [
        (name, lambda entry, name=name: (entry.get(key, {}).get(name) or {}).get("estimate"))
        for name in ordered[:4]
    ]


def _plot(
    title: str, unit: str, lines: list[dict[str, Any]], curves: list[tuple[str, Any]]
) -> tuple[str, str]:
    drawn = []
    for name, value in curves:
        points = [(float(e["step"]), float(value(e))) for e in lines if value(e) is not None]
        if points:
            drawn.append((name, thinned(points)))
    if not drawn:
        return title, ""
    every = [p for _, points in drawn for p in points]
    x = Axis(low=0.0, high=max(1.0, *(p[0] for p in every)), label="step")
    low, high = min(p[1] for p in every), max(p[1] for p in every)
    # for the unit, above the curves
    room = 0.08 * (high - low) if high > low else 1.0
    y = Axis(low=low, high=high + room, label=unit)
    body = "".join(
        line(x, y, points, kind, name if len(drawn) > 1 else "") for kind, (name, points) in enumerate(drawn)
    )
    return title, frame(x, y, f"{title} by step", body)


def _scores(lines: list[dict[str, Any]], result: dict[str, Any] | None) -> str:
    found = next((e for e in reversed(lines) if "bits_per_byte" in e or "masked_nats" in e), None)
    if result:
        found = {"step": result["steps"], **result["scores"]}
    if not found:
        return ""
    rows = ""
    for key, title in (("bits_per_byte", "bits per byte"), ("masked_nats", "nats a hidden token")):
        for source, value in found.get(key, {}).items():
            if value["estimate"] is not None:
                width = "" if value["low"] is None else f"[{value['low']:.3f}, {value['high']:.3f}]"
                rows += (
                    f"<tr><td>{escape(source)}</td><td>{title}</td><td class=n>{value['estimate']:.3f}</td>"
                    f"<td class=n>{width}</td><td class=n>{value['n']:,}</td></tr>"
                )
    head = "<tr><th>source</th><th>measure</th><th class=n>estimate</th><th class=n>95 %</th><th class=n>documents</th></tr>"
    return f"<section><h2>Held-out documents at step {found['step']:,}</h2><div class=scroll><table>{head}{rows}</table></div></section>"


def _samples(lines: list[dict[str, Any]]) -> str:
    found = next((e for e in reversed(lines) if e.get("samples")), None)
    if not found:
        return ""
    items = "".join(f"<p>{escape(' '.join(text.split()))}</p>" for text in found["samples"])
    return f"<section><h2>It writes</h2>{items}</section>"


def _worth(result: dict[str, Any] | None) -> str:
    said = [
        f"<li>{escape(one['set'])} (n = {one['n']:,}): {escape(sentence)}</li>"
        for one in (result or {}).get("worth", [])
        for sentence in (
            *([one["sentence"]] if "sentence" in one else []),
            *(saved["sentence"] for saved in one["labels_saved"].values()),
        )
    ]
    return f"<section><h2>What the base is worth</h2><ul>{''.join(said)}</ul></section>" if said else ""


def _settings(recipe: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(key)}</td><td class=text>{escape(str(value))}</td></tr>"
        for key, value in recipe.items()
        if value not in ("", [], 0, 0.0)
    )
    return f"<section><h2>Recipe</h2><details><summary>all settings</summary><table>{rows}</table></details></section>"
