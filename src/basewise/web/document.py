"""The frame of every page that is written as a file: it forbids itself scripts and connections, and opens without a network."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from basewise.web.style import CSS

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def document(title: str, main: str, *, head: str = "") -> str:
    """The whole page; `title` is text, `main` and what else stands in the head are HTML."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">{head}'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body><main>{main}</main></body></html>\n"
    )


def sections(parts: Iterable[tuple[str, str]]) -> str:
    """Links to the sections and the sections themselves, from (title, HTML); an empty one is left out."""
    made = [(title, body) for title, body in parts if body]
    links = "".join(f'<a href="#s{i}">{escape(title)}</a>' for i, (title, _) in enumerate(made))
    body = "".join(
        f'<section id="s{i}"><h2>{escape(title)}</h2>{text}</section>' for i, (title, text) in enumerate(made)
    )
    return f"<nav aria-label='Sections'>{links}</nav>{body}"
