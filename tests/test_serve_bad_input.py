"""Every bad input of the service is refused in one shape, before any compute, without a trace of the inside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from basewise.core.errors import InputError
from basewise.steps.serve import ServeOptions, authority, hold
from basewise.web.limits import Buckets, Refusal, Room, check_depth, depth_of, read_body
from basewise.web.link import Link, WorkerError
from served import about, body, call, message, stood_in

PATH = "/v1/tasks/tickets/predict"


@pytest.fixture
def made(tmp_path: Path) -> Any:
    return stood_in(tmp_path / "state")


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"   ", 400),
        (b"{", 400),
        (b"not json", 400),
        (b"\xff\xfe{}", 400),
        (b'{"rows": "\xff"}', 400),
        (b'{"rows": "\\ud800"}', 400),
        (b"null", 422),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"rows": 3}', 422),
        (b'{"rows": [1]}', 422),
        (b'{"rows": [null]}', 422),
        (b'{"rows": [["a"]]}', 422),
        (b'{"rows": "a", "more": 1}', 422),
        (b'{"rows": "a", "top": 0}', 422),
        (b'{"rows": "a", "deadline_ms": -1}', 422),
        (b'{"rows": [{"other": "a"}]}', 422),
        (b'{"rows": [{"text": {"a": 1}}]}', 422),
        (b'{"rows": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        (b'{"rows": NaN}', 422),
        (b'{"rows": [{"text": NaN}]}', 422),
        (b'{"rows": [{"text": -Infinity}]}', 422),
        (b'{"rows": [{"text": 1e999}]}', 422),
    ],
)
def test_a_wrong_body_is_refused_before_any_compute(made: Any, content: bytes, status: int) -> None:
    _, app, worker = made
    answer = call(app, "POST", PATH, content=content)
    assert answer.status_code == status, answer.text
    assert message(answer)
    assert not worker.asked
    if b'"text": NaN' in content:
        assert "finite number" in message(answer)


def test_too_many_rows_and_too_many_bytes(made: Any) -> None:
    _, app, worker = made
    many = call(app, "POST", PATH, content=body(["a"] * 10_000))
    assert many.status_code == 413
    assert "10,000 rows" in message(many)
    huge = call(app, "POST", PATH, content=body(["a" * 10_000_000]))
    assert huge.status_code == 413
    assert "1,048,576 bytes" in message(huge)
    assert not worker.asked


def test_a_body_without_a_length_is_counted_as_it_comes(made: Any) -> None:
    _, app, worker = made

    async def endless() -> Any:
        for _ in range(10_000):
            yield b"x" * 65_536

    assert call(app, "POST", PATH, content=endless()).status_code == 413
    assert not worker.asked


def test_nul_emoji_and_empty_texts_are_texts(made: Any) -> None:
    _, app, _ = made
    answer = call(app, "POST", PATH, content=body(["\x00", "", "🙂", "1 of b"]))
    assert answer.status_code == 200
    assert [a["label"] for a in answer.json()["answers"]] == ["a", "a", "a", "b"]
    assert call(app, "POST", PATH, content=body([])).json()["answers"] == []


def test_a_folder_of_releases_stands_for_all_in_it(tmp_path: Path) -> None:
    from basewise.steps.serve import inside

    for name in ("b", "a", "notes", ".c.making"):
        (tmp_path / name / "predictor").mkdir(parents=True)
    for name in ("a", "b", ".c.making"):
        (tmp_path / name / "predictor" / "predictor.json").write_text("{}")
    # a corpus, say
    (tmp_path / "notes" / "manifest.json").write_text("{}")
    assert [path.name for path in inside(tmp_path)] == ["a", "b"]
    assert inside(tmp_path / "a") == [tmp_path / "a"]
    assert inside(tmp_path / "notes" / "predictor") == [tmp_path / "notes" / "predictor"], (
        "refused later, by its own name"
    )
    assert inside(tmp_path / "nowhere") == [tmp_path / "nowhere"]


def test_numbers_and_booleans_are_the_texts_that_they_are_in_a_table() -> None:
    from basewise.core.cells import cell
    from basewise.web import contract
    from basewise.web.predict_routes import texts_of

    values = [5, 5.0, 2.5, 0, 1, True, False, None, "5.0", 12_345_678_901_234_567_890_123]
    rows = contract.read(contract.Predict, body([{"n": v, "more": 1} for v in values])).rows
    assert texts_of(rows, ["n"], 100) == [cell(v) or "" for v in values]


@pytest.mark.parametrize(
    "rows", ["Who was first?", ["Who was first?"], [{"a": "x", "b": "y"}, "Who was first?"]]
)
def test_a_plain_text_is_no_row_of_several_columns(rows: Any) -> None:
    from basewise.web.limits import Refusal
    from basewise.web.predict_routes import texts_of

    with pytest.raises(Refusal, match="is a text; give an object with the columns a, b") as caught:
        texts_of(rows, ["a", "b"], 100)
    assert (caught.value.status, caught.value.code) == (422, "no_column")


def test_unknown_tasks_routes_and_methods(made: Any) -> None:
    _, app, _ = made
    for method, path, status in (
        ("POST", "/v1/tasks/nobody/predict", 404),
        ("GET", "/nowhere", 404),
        ("GET", PATH, 405),
        ("POST", "/v1/tasks/%00/predict", 404),
        ("POST", "/v1/tasks/../predict", 404),
    ):
        answer = call(app, method, path, content=body("a") if method == "POST" else None)
        assert answer.status_code == status, path
        assert message(answer)


def test_a_head_is_a_get_without_its_body_and_a_405_names_what_may_be_asked(made: Any) -> None:
    service, app, _ = made
    for path in ("/health", "/ready", "/docs", "/v1/tasks"):
        head, get = call(app, "HEAD", path), call(app, "GET", path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == get.headers["content-length"]
    assert call(app, "HEAD", "/nowhere").status_code == 404
    for method, path, allowed in (
        ("POST", "/health", "GET, HEAD"),
        ("GET", PATH, "POST"),
        ("HEAD", PATH, "POST"),
        ("PUT", "/v1/admin/tasks", "GET, HEAD, POST"),
        ("GET", "/v1/admin/tasks/tickets", "DELETE"),
    ):
        answer = call(app, method, path)
        assert (answer.status_code, answer.headers.get("Allow")) == (405, allowed), path
    service.link.ready.clear()
    assert call(app, "HEAD", "/ready").status_code == 503


def test_keys_open_their_own_tasks_until_they_expire(made: Any) -> None:
    service, app, worker = made
    keys = {
        "all": service.keys.add("all"),
        "other": service.keys.add("other", tasks=("another",)),
        "old": service.keys.add("old", seconds=1e-9),
        "admin": service.keys.add("admin", admin=True),
    }

    def status(key: str | None, path: str = PATH, content: bytes = body("a")) -> int:
        headers = {"Authorization": f"Bearer {key}".encode()} if key is not None else {}
        answer = call(app, "POST", path, content=content, headers=headers)
        if answer.status_code == 401:
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        return answer.status_code

    assert status(keys["all"]) == 200
    wrong = (
        None,
        "",
        "x",
        keys["all"][:-1],
        keys["all"] + "x",
        "bw--",
        keys["old"],
        "ключ",
    )
    asked = len(worker.asked)
    assert [status(key) for key in wrong] == [401] * len(wrong)
    assert status(keys["other"]) == 403
    assert len(worker.asked) == asked
    assert status(keys["all"], "/v1/admin/tasks/tickets/replace", b'{"folder": "/x"}') == 403
    # nothing to go back to
    assert status(keys["admin"], "/v1/admin/tasks/tickets/rollback") == 422
    stored = (service.keys.path).read_text()
    # a secret may have hyphens of its own
    assert not any(key.split("-", 2)[2] in stored for key in keys.values())
    assert service.keys.path.stat().st_mode & 0o077 == 0
    service.keys.remove(keys["all"].split("-")[1])
    assert status(keys["all"]) == 401


def test_an_admin_key_of_one_task_changes_and_sees_no_other(made: Any) -> None:
    service, app, worker = made
    service.traffic.live("mails", "m1", "/releases/m1")
    service.traffic.live("mails", "m2", "/releases/m2")

    async def of_mails(folder: str, version: str = "") -> dict[str, Any]:
        return about(Path(folder).name, "mails")

    worker.open = of_mails
    mine = service.keys.add("mine", tasks=("tickets",), admin=True)
    theirs = service.keys.add("theirs", tasks=("mails",), admin=True)

    def ask(key: str, method: str, path: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"}
        change = {"folder": f"/releases/{path.rpartition('/')[2]}", "percent": 5}
        content = None if method == "GET" else json.dumps(change).encode()
        return call(app, method, path, content=content, headers=headers)

    routes = [(m, r.path) for r in app.app.routes if "/admin/" in r.path for m in r.methods]
    assert len(routes) == 7
    routes = [(method, path.format(name="mails")) for method, path in routes]
    before = dict(service.traffic.lanes)
    for method, path in routes:
        answer = ask(mine, method, path)
        if method != "GET":
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "other_task"), path
    assert service.traffic.lanes == before
    assert worker.asked == [{"closed": "tasks"}], "what was opened to learn its task is closed again"
    seen = ask(mine, "GET", "/v1/admin/tasks").json()
    assert ({t["name"] for t in seen["tasks"]}, {e["task"] for e in seen["events"]}) == ({"tickets"},) * 2
    removal = next(route for route in routes if route[0] == "DELETE")
    for method, path in [route for route in routes if route != removal] + [removal]:
        assert ask(theirs, method, path).status_code == 200, path
    assert list(service.traffic.lanes) == ["tickets"]


def test_damaged_keys_let_nobody_in_and_show_no_path(made: Any, caplog: pytest.LogCaptureFixture) -> None:
    service, app, worker = made
    headers = {"Authorization": f"Bearer {service.keys.add('one')}"}
    for content in ("[{", "[3]", "{}x"):
        service.keys.path.write_text(content)
        caplog.clear()
        for path in (PATH, "/v1/admin/tasks/tickets/rollback"):
            answer = call(app, "POST", path, content=body("a"), headers=headers)
            assert answer.status_code == 503
            assert "keys" in message(answer) and "/" not in message(answer)
        assert str(service.keys.path) in caplog.text
    assert not worker.asked


def test_taking_the_last_key_back_does_not_open_the_service(made: Any) -> None:
    service, app, worker = made
    assert call(app, "POST", PATH, content=body("a")).status_code == 200
    key = service.keys.add("only")
    service.keys.remove(key.split("-")[1])
    assert not service.keys.any
    assert call(app, "POST", PATH, content=body("a")).status_code == 401
    service.keys.path.unlink()
    assert call(app, "POST", PATH, content=body("a")).status_code == 401
    assert len(worker.asked) == 1


def test_a_request_counts_once_against_its_key_on_every_route(made: Any) -> None:
    service, app, _ = made
    for path, field in (("/v1/embeddings", "input"), ("/embed", "inputs"), ("/v1/completions", "prompt")):
        headers = {"Authorization": f"Bearer {service.keys.add('slow', rate=6)}"}
        content = json.dumps({"model": "nobody", field: "a"}).encode()
        found = [call(app, "POST", path, content=content, headers=headers).status_code for _ in range(2)]
        assert found == [404, 429], path
    headers = {"Authorization": f"Bearer {service.keys.add('other', tasks=('another',))}"}
    content = b'{"model": "tiny", "input": "a"}'
    assert call(app, "POST", "/v1/embeddings", content=content, headers=headers).status_code == 403


@pytest.mark.parametrize("name", ["", " ", "\t\n"])
def test_a_key_without_a_name_is_refused(made: Any, name: str) -> None:
    with pytest.raises(InputError, match="whose key"):
        made[0].keys.add(name)
    assert not made[0].keys.any


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf"), 1e12])
def test_a_key_whose_time_is_no_time_is_refused(made: Any, seconds: float) -> None:
    with pytest.raises(InputError, match="100 years"):
        made[0].keys.add("name", seconds=seconds)


def test_a_flood_is_sent_away_with_the_time_to_wait(made: Any) -> None:
    service, app, _ = made
    key = service.keys.add("eager", rate=30)
    headers = {"Authorization": f"Bearer {key}"}
    answers = [call(app, "POST", PATH, content=body("a"), headers=headers) for _ in range(9)]
    refused = [a for a in answers if a.status_code == 429]
    assert refused
    assert all(int(a.headers["Retry-After"]) >= 1 for a in refused)


def test_rows_beyond_the_room_are_sent_away_and_the_others_answered(tmp_path: Path) -> None:
    _, app, worker = stood_in(tmp_path / "state", waiting_rows=4)
    worker.seconds = 0.2

    async def many() -> list[httpx.Response]:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://127.0.0.1"
        ) as client:
            return await asyncio.gather(*(client.post(PATH, content=body(["a", "b"])) for _ in range(6)))

    answers = asyncio.run(many())
    found = sorted(a.status_code for a in answers)
    assert found == [200, 200, 503, 503, 503, 503]
    assert all("Retry-After" in a.headers for a in answers if a.status_code == 503)


def test_a_slow_client_is_not_waited_for(tmp_path: Path) -> None:
    _, app, worker = stood_in(tmp_path / "state", seconds=0.05)

    async def dripping() -> Any:
        yield b'{"rows'
        await asyncio.sleep(30)

    assert call(app, "POST", PATH, content=dripping()).status_code == 408
    assert not worker.asked


async def asked(app: Any, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is sent to a client from whom these messages come; it may be cancelled."""
    sent: list[dict[str, Any]] = []

    async def receive() -> Any:
        return messages.pop(0) if messages else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
    }
    scope |= {"headers": [], "http_version": "1.1", "scheme": "http", "root_path": "", "server": ("x", 1)}
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait_for(app(scope, receive, send), 20)
    return sent


WHOLE = {"type": "http.request", "body": body("a"), "more_body": False}


def test_a_client_that_goes_away_frees_the_worker(made: Any) -> None:
    service, app, worker = made
    worker.seconds = 60
    sent = asyncio.run(asked(app, [WHOLE, {"type": "http.disconnect"}]))
    assert sent[0]["status"] == 499
    assert worker.cancelled == 1
    assert service.room.rows == 0


def test_a_client_that_goes_away_while_it_sends_is_no_error_of_the_service(
    made: Any, caplog: pytest.LogCaptureFixture
) -> None:
    _, app, _ = made
    part = {"type": "http.request", "body": b'{"rows', "more_body": True}
    sent = asyncio.run(asked(app, [part, {"type": "http.disconnect"}]))
    assert sent[0]["status"] == 499
    assert not caplog.records


def test_a_request_that_a_stop_cuts_off_is_told_so(made: Any) -> None:
    _, app, worker = made
    worker.seconds = 60

    async def stopped() -> list[dict[str, Any]]:
        task = asyncio.ensure_future(asked(app, [WHOLE]))
        while not worker.asked:
            await asyncio.sleep(0)
        task.cancel()
        return await task

    start, content = asyncio.run(stopped())
    assert start["status"] == 503
    assert b"retry-after" in dict(start["headers"])
    assert json.loads(content["body"])["error"]["code"] == "stopping"


def test_no_answer_is_waited_for_beyond_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    timeout = asyncio.timeout
    monkeypatch.setattr(asyncio, "timeout", lambda seconds: waited.append(seconds) or timeout(seconds))
    # no worker is there to answer
    with pytest.raises(WorkerError, match="deadline"):
        asyncio.run(Link().rows({"version": "v1", "texts": ["a"]}, 0.02))
    assert waited == [0.02]


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b'{"rows": [["a"]]}', "rows.0"),
        (b'{"rows": [{"text": ["a"]}]}', "rows.0.text"),
        (b'{"rows": "a", "top": "x"}', "top"),
    ],
)
def test_what_is_wrong_is_told_where_it_is(made: Any, content: bytes, where: str) -> None:
    assert message(call(made[1], "POST", PATH, content=content)).startswith(where)


def test_an_error_inside_shows_nothing_of_the_inside(made: Any) -> None:
    _, app, worker = made
    worker.fails["v1"] = ValueError("secret /path/inside")
    answer = call(app, "POST", PATH, content=body("a"))
    assert answer.status_code == 500
    assert message(answer) == "internal error"


def test_the_log_holds_no_text_of_users(made: Any, caplog: pytest.LogCaptureFixture) -> None:
    _, app, _ = made
    with caplog.at_level("INFO", logger="basewise.serve"):
        call(app, "POST", PATH, content=body("1 very private words"))
        call(app, "POST", PATH, content=b'{"rows": {"private": 1}}')
        call(app, "GET", "/v1/tasks/private/watch")
    assert len(caplog.records) == 3
    lines = [json.loads(r.message) for r in caplog.records]
    assert lines[0]["task"] == "tickets"
    assert lines[0]["rows"] == 1
    assert "private" not in caplog.text


def test_the_body_is_refused_as_soon_as_it_is_too_long() -> None:
    async def chunks() -> Any:
        yield b"12345"
        raise AssertionError("read on")

    with pytest.raises(Refusal) as refused:
        asyncio.run(read_body(chunks(), None, 4, 1.0))
    assert refused.value.status == 413


def test_depth_counts_brackets_outside_of_strings() -> None:
    assert depth_of(b'{"a": "[[[[", "b": [1, {"c": "\\"]"}]}') == 3
    assert depth_of(b'[["[[[[') == 2
    # quadratic where each quote is a new start
    assert depth_of(b"[" * 20 + b'"' + b'\\"' * 400_000) == 20
    check_depth(b'{"a": "' + b"[" * 100 + b'"}', 16)
    with pytest.raises(Refusal, match="deeper than 2"):
        check_depth(b"[[[1]]]", 2)


def test_a_bucket_fills_steadily() -> None:
    buckets = Buckets()
    for _ in range(10):
        buckets.take("a", 60, now=0.0)
    with pytest.raises(Refusal) as refused:
        buckets.take("a", 60, now=0.0)
    assert refused.value.retry_after == pytest.approx(1.0)
    buckets.take("a", 60, now=1.0)
    buckets.take("b", 60, now=0.0)
    buckets.take("a", 0, now=1.0)


def test_an_address_that_holds_colons_is_told_as_one_that_can_be_opened() -> None:
    assert httpx.URL(f"http://{authority('::1', 8000)}").host == "::1"
    assert authority("127.0.0.1", 8000) == "127.0.0.1:8000"
    with pytest.raises(InputError, match=r"cannot listen on \[::1\]:99999"):
        hold("::1", 99_999)


def test_a_service_that_is_told_to_stop_while_it_opens_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from basewise.web import service

    async def opening(_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(asyncio.Event().wait(), 10)
        raise InputError("it was waited for", "")

    monkeypatch.setattr(service.Service, "start", opening)
    with hold("127.0.0.1", 0) as held:
        service.run((), ServeOptions(state=tmp_path / "state", quiet=True), held)


def test_the_time_to_come_again_is_by_the_speed_of_a_busy_service(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("basewise.web.limits.time.monotonic", lambda: clock[0])
    room = Room(1_000)
    for _ in range(100):  # a row a minute, each answered within 5 ms: 200 rows a second
        clock[0] += 60
        room.enter(1)
        clock[0] += 0.005
        room.leave(1)
    room.enter(1_000)
    with pytest.raises(Refusal) as refused:
        room.enter(400)
    assert refused.value.retry_after == pytest.approx(2.0)


def test_an_empty_service_takes_a_request_of_any_allowed_size() -> None:
    room = Room(4)
    room.enter(10)
    with pytest.raises(Refusal):
        room.enter(1)
    room.leave(10)
    room.enter(4)


def test_a_server_started_behind_the_service_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from basewise.steps.serve import ServeOptions
    from basewise.web.service import Service, create_app
    from basewise.web.upstream import Upstream

    started: list[subprocess.Popen[bytes]] = []

    def start(self: Upstream, model: str) -> str:
        self._process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        started.append(self._process)
        return "http://127.0.0.1:1"

    monkeypatch.setattr(Upstream, "_start_vllm", start)
    service = Service((), ServeOptions(state=tmp_path / "state", upstream="vllm:model"))
    create_app(service)
    asyncio.run(service.stop())
    assert started[0].poll() is not None
