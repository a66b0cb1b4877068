"""The routes as OpenAI's: what changes an answer is done or refused, never left out in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from basewise.web.link import WorkerError
from basewise.web.openai_routes import NEUTRAL
from served import call, message, stood_in

HERE = {"generate": "own/decoder@v1", "embed": "tiny"}


@pytest.fixture
def made(tmp_path: Path) -> Any:
    service, app, worker = stood_in(tmp_path / "state")
    service.bases = {n: {"key": n, "digest": "", "provides": [what]} for what, n in HERE.items()}
    return service, app, worker


def ask(app: Any, path: str = "/v1/completions", **more: Any) -> httpx.Response:
    """A text asked for; a chat where the path is that of chats."""
    what = {"messages": [{"role": "user", "content": "hi"}]} if "chat" in path else {"prompt": "hi"}
    content = json.dumps({"model": HERE["generate"], **what, **more}).encode()
    return call(app, "POST", path, content=content)


def test_without_a_seed_each_request_draws_its_own(made: Any) -> None:
    _, app, worker = made
    for _ in range(3):
        assert ask(app).status_code == 200
    ask(app, seed=None)
    assert len({header["options"]["seed"] for header in worker.asked}) == 4
    for seed in (0, 7, -1):
        ask(app, seed=seed)
        assert worker.asked[-1]["options"]["seed"] == seed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logprobs", 0),
        ("logprobs", True),
        ("top_logprobs", 2),
        ("echo", True),
        ("suffix", "."),
        ("best_of", 2),
        ("response_format", {"type": "json_object"}),
        ("tools", [{"type": "function"}]),
        ("functions", [{"name": "f"}]),
        ("tool_choice", "required"),
        ("presence_penalty", 0.5),
        ("frequency_penalty", -1),
        ("logit_bias", {"50256": -100}),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy"}),
    ],
)
def test_what_would_change_an_answer_and_is_not_known_is_refused_by_its_name(
    made: Any, name: str, value: Any
) -> None:
    _, app, worker = made
    for path in ("/v1/completions", "/v1/chat/completions"):
        for stream in (False, True):
            answer = ask(app, path, **{name: value}, stream=stream)
            assert (answer.status_code, answer.json()["error"]["code"]) == (422, "not_supported")
            assert message(answer).startswith(f"{name} ")
    assert not worker.asked


def test_values_that_change_nothing_pass_and_so_does_what_clients_add(made: Any) -> None:
    _, app, _ = made
    for name, values in NEUTRAL.items():
        for value in (None, *values):
            assert ask(app, **{name: value}).status_code == 200, (name, value)
    assert ask(app, user="me", store=False, metadata={"a": "b"}, presence_penalty=0.0).status_code == 200


@pytest.mark.parametrize(
    ("prompt", "status"),
    [(["hi"], 200), ("hi", 200), (["a", "b"], 422), ([1, 2], 422), ([[1, 2]], 422), ([], 422), ([1], 422)],
)
def test_one_text_is_a_prompt(made: Any, prompt: Any, status: int) -> None:
    _, app, worker = made
    answer = ask(app, prompt=prompt)
    assert answer.status_code == status
    if status == 200:
        assert worker.asked[-1]["prompt"] == "hi"
    else:
        assert "one text" in message(answer)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_stream_tells_its_tokens_where_that_is_asked_for(made: Any, path: str) -> None:
    def events(**more: Any) -> list[dict[str, Any]]:
        lines = [x for x in ask(made[1], path, stream=True, **more).text.split("\n\n") if x]
        assert lines[-1] == "data: [DONE]"
        return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]

    for off in ({}, {"stream_options": None}, {"stream_options": {"include_usage": False}}):
        plain = events(**off)
        assert len(plain) == 2
        assert all("usage" not in event and len(event["choices"]) == 1 for event in plain)
    *first, last = events(stream_options={"include_usage": True})
    assert [event["usage"] for event in first] == [None, None]
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert {event["object"] for event in first} == {last["object"]}


def test_a_text_that_is_too_long_is_refused_before_its_stream_begins(made: Any) -> None:
    answer = ask(made[1], stream=True, max_tokens=100_000)
    assert answer.status_code == 413
    assert "100,000" in message(answer)


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_worker_refuses_at_once_begins_no_stream(made: Any, stream: bool) -> None:
    async def refuse(header: dict[str, Any]) -> Any:
        raise WorkerError("PromptTooLong", "prompt and answer have 5,000 tokens, the context 2,048", True)
        yield

    made[2].pieces = refuse
    answer = ask(made[1], stream=stream)
    assert answer.status_code == 422
    assert "5,000 tokens" in message(answer)


def test_a_model_is_told_by_its_name(made: Any) -> None:
    service, app, _ = made
    listed = {m["id"]: m for m in call(app, "GET", "/v1/models").json()["data"]}
    for name, line in listed.items():
        assert call(app, "GET", f"/v1/models/{name}").json() == line
    assert call(app, "GET", "/v1/models/own%2Fdecoder@v1").json() == listed["own/decoder@v1"]
    missing = call(app, "GET", "/v1/models/nobody")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "no_model")
    headers = {"Authorization": f"Bearer {service.keys.add('one', tasks=('tiny',))}"}
    assert call(app, "GET", "/v1/models/tiny").status_code == 401
    assert call(app, "GET", "/v1/models/tiny", headers=headers).status_code == 200
    assert call(app, "GET", "/v1/models/own/decoder@v1", headers=headers).status_code == 403
