"""The OpenAPI document: what it says of the answers is what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from served import about, body, call, stood_in

ADMIN = "/v1/admin/tasks"


def closed(value: Any) -> Any:
    """A schema that takes no field which it does not name."""
    if isinstance(value, list):
        return [closed(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {name: closed(one) for name, one in value.items()}
    return {**found, "additionalProperties": False} if "properties" in found else found


class Asked:
    """Requests to a service with a stand-in worker; each answer is held against the document."""

    def __init__(self, state: Path) -> None:
        self.service, self.app, _ = stood_in(state)
        self.service.bases["decoder"] = {"key": "decoder", "digest": "1" * 64, "provides": ["generate"]}
        self.service.named.add("decoder")
        self.headers = {"Authorization": f"Bearer {self.service.keys.add('boss', admin=True)}"}
        self.document = call(self.app, "GET", "/openapi.json").json()
        self.seen: set[tuple[str, str]] = set()

    def __call__(self, method: str, path: str, content: Any = None, **names: str) -> Any:
        """The answer to a request, as JSON where it is JSON."""
        raw = content if content is None or isinstance(content, bytes) else json.dumps(content).encode()
        answer = call(self.app, method, path.format(**names), content=raw, headers=self.headers)
        assert answer.status_code == 200, answer.text
        self.seen.add((method.lower(), path))
        return self._held(answer, self.document["paths"][path][method.lower()]["responses"]["200"])

    def _held(self, answer: httpx.Response, said: dict[str, Any]) -> Any:
        # more than a second to import, which only these tests need
        from jsonschema import Draft202012Validator

        kind = answer.headers["content-type"].partition(";")[0]
        schema = said["content"][kind]["schema"]
        assert schema, "an answer of any shape"
        if kind != "application/json":
            return answer.text
        parts = {"components": {"schemas": closed(self.document["components"]["schemas"])}}
        Draft202012Validator({**closed(schema), **parts}).validate(answer.json())
        return answer.json()


@pytest.fixture
def ask(tmp_path: Path) -> Asked:
    return Asked(tmp_path / "state")


def test_every_answer_has_the_shape_that_the_document_says(ask: Asked) -> None:
    predict, one = "/v1/tasks/{name}/predict", {"name": "tickets"}
    for rows in (["0 a", {"text": "1 b"}], "2 c", []):
        ask("POST", predict, body(rows, top=2), **one)
    ask("POST", ADMIN + "/{name}/shadow", {"folder": "/releases/v2"}, **one)
    ask("POST", ADMIN + "/{name}/canary", {"folder": "/releases/v3", "percent": 25}, **one)
    ask("GET", ADMIN)
    ask("GET", "/v1/tasks")
    ask("POST", ADMIN + "/{name}/rollback", **one)
    ask("POST", ADMIN + "/{name}/replace", {"folder": "/releases/v4"}, **one)
    ask("POST", ADMIN, {"folder": "/releases/v5"})
    labels = [{"id": "none-0", "label": "a"}]
    assert ask("POST", "/v1/tasks/{name}/labels", {"labels": labels}, **one)["unknown"] == 1
    ask("POST", "/v1/completions", {"model": "decoder", "prompt": "hi"})
    turns = [{"role": "user", "content": "hi"}]
    for stream in (False, True):
        ask("POST", "/v1/chat/completions", {"model": "decoder", "messages": turns, "stream": stream})
    for form in ("float", "base64"):
        ask("POST", "/v1/embeddings", {"model": "tiny", "input": "a", "encoding_format": form})
    ask("POST", "/embed", {"inputs": ["a", "b"]})
    ask("GET", "/v1/models/{name}", name="decoder")
    for path in ("/v1/models", "/health", "/ready", "/metrics"):
        ask("GET", path)
    for path in ("/v1/tasks/{name}/watch", "/watch/{name}"):
        ask("GET", path, **one)
    ask("DELETE", ADMIN + "/{name}", **one)
    there = {(method, path) for path, methods in ask.document["paths"].items() for method in methods}
    assert there == ask.seen


def test_windows_and_totals_have_the_shape_that_the_document_says(ask: Asked) -> None:
    watch, rng = ask.service.watch, np.random.default_rng(0)
    reference = {"confidence": [0.9, 0.6, 0.8] * 20, "right": [1, 0, 1] * 20}
    known = {**about("v1"), "reference": {"confusion": np.eye(3).tolist(), **reference}}
    watch.refer(known)
    watch.start()
    for i in range(2):
        watch.answered(
            "tickets", known, f"{i:04x}", rng.dirichlet(np.ones(3), 500), rng.normal(size=(500, 24))
        )
        watch.flush()
    ids = [{"id": f"0000-{i}", "label": "a"} for i in range(4)]
    assert ask("POST", "/v1/tasks/{name}/labels", {"labels": ids}, name="tickets")["kept"] == 4
    found = ask("GET", "/v1/tasks/{name}/watch", name="tickets")
    watch.stop()
    assert [w["number"] for w in found["windows"]] == [0, 1]
    assert found["windows"][1]["shares"]
    assert found["versions"]["v1"]["accuracy"]["n"] == 4


def test_the_page_names_the_fields_of_answers(ask: Asked) -> None:
    page = call(ask.app, "GET", "/docs").text
    assert "<code>answers[].abstained</code>" in page
    assert "<code>lane.canary_evidence.log_e</code>" in page
