"""The OpenAPI document and a page that shows it, without a script and without a network."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from basewise.web import contract
from basewise.web.style import CSS

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "code"],
            "properties": {k: {"type": "string"} for k in ("message", "type", "code", "request")},
        }
    },
}
REASONS = {
    400: "No JSON, empty or nested too deeply.",
    401: "No valid key.",
    403: "The key is for something else.",
    404: "No such task, base or version.",
    408: "The body came too slowly.",
    413: "More bytes, rows or tokens than allowed.",
    422: "JSON of another shape, or values that cannot be used.",
    429: "Too many requests for this key; see Retry-After.",
    503: "Too much is waiting, a worker is being started, or nothing can be written; see Retry-After.",
    504: "The deadline passed.",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": said, "content": {"application/json": {"schema": _ERROR}}}
    for status, said in REASONS.items()
}
_DEFINITIONS: dict[str, Any] = {}
_PLAIN: dict[str, Any] = {"type": "string"}


def gives(
    model: type[BaseModel] | str, *also: str, refused: Iterable[int | str] = ERRORS
) -> dict[int | str, dict[str, Any]]:
    """A route's answers for the document: `model` as JSON, or text of a media type (`also`: of others too), and what it refuses with."""
    if isinstance(model, str):
        said, content = "Text.", {model: {"schema": _PLAIN}}
    else:
        schema = contract.schema_of(model, _DEFINITIONS)
        said, content = schema.pop("description"), {"application/json": {"schema": schema}}
    content |= {kind: {"schema": _PLAIN} for kind in also}
    return {200: {"description": said, "content": content}, **{status: ERRORS[status] for status in refused}}


def body(model: type[BaseModel]) -> dict[str, Any]:
    """What a route's body looks like, for the document; it is read and checked by `contract.read`."""
    schema = contract.schema_of(model, _DEFINITIONS)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def describe(app: FastAPI) -> None:
    """Complete the application's OpenAPI document: the models that bodies refer to, and the key."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        parts = document.setdefault("components", {})
        parts.setdefault("schemas", {}).update(_DEFINITIONS)
        parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{}, {"key": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def page(document: dict[str, Any]) -> str:
    """A plain page of all routes: what each takes and answers."""
    parts = [f"<h1>{html.escape(document['info']['title'])} {html.escape(document['info']['version'])}</h1>"]
    parts.append('<p>As a document: <a href="/openapi.json">/openapi.json</a>. A key goes into the header ')
    parts.append("<code>Authorization: Bearer KEY</code>.</p>")
    for path, methods in document["paths"].items():
        for method, about in methods.items():
            parts.append(f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>")
            parts.append(f"<p>{html.escape(about.get('description', ''))}</p>")
            parts.append(_table("field", about.get("requestBody", {}), document))
            parts.append(_table("of the answer", about.get("responses", {}).get("200", {}), document))
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    return f"{head}<title>basewise service</title><style>{CSS}</style><main>{''.join(parts)}</main></html>"


def _table(head: str, about: dict[str, Any], document: dict[str, Any]) -> str:
    """The fields of a body or an answer; nothing where it has none."""
    schema = about.get("content", {}).get("application/json", {}).get("schema", {})
    lines = [
        f"<tr><td><code>{html.escape(name)}</code>{' (required)' if must else ''}</td><td>{html.escape(said)}</td></tr>"
        for name, must, said in _fields(schema, document)
    ]
    first = f"<table><thead><tr><th>{head}</th><th>what</th></tr></thead>"
    return f"{first}<tbody>{''.join(lines)}</tbody></table>" if lines else ""


def _fields(
    schema: dict[str, Any], document: dict[str, Any], before: str = ""
) -> Iterator[tuple[str, bool, str]]:
    """(name, whether it must be there, what it is) of each field, those inside lists and objects behind the name of these."""
    for name, field in schema.get("properties", {}).items():
        must = not before and name in schema.get("required", ())
        yield before + name, must, field.get("description") or field.get("title") or ""
        each = field.get("items", field)
        inner = document["components"]["schemas"].get(each.get("$ref", "").rpartition("/")[2], {})
        yield from _fields(inner, document, f"{before}{name}{'[]' if each is not field else ''}.")
