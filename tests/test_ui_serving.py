"""Services that are started from the pages: whom the admin key is shown to, when it is taken back, what a later app can do."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import ui_world
from basewise.steps.serve import ServeOptions
from basewise.web.keys import Keys
from basewise.web.ui import jobs

LIVE = "a" * 64
LANE = {"name": "queue", "live": LIVE, "canary": None, "shadow": None, "percent": 0}
TASKS = json.dumps({"tasks": [LANE], "events": [], "worker_restarts": 0})


def reply(content: str, status: str = "200 OK") -> bytes:
    """An answer of HTTP."""
    return (
        f"HTTP/1.1 {status}\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n{content}".encode()
    )


@contextmanager
def listening(answers: dict[str, bytes], otherwise: bytes = b"") -> Iterator[tuple[int, list[str]]]:
    """(port, what came in) of somebody who answers by the path that is asked."""
    heard: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with suppress(OSError):
                while True:
                    asked, _ = server.accept()
                    with asked, suppress(OSError):
                        text = asked.recv(65_536).decode()
                        heard.append(text)
                        asked.sendall(answers.get(text.split(" ")[1] if " " in text else "", otherwise))

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1], heard
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


SERVICE = {"/v1/admin/tasks": reply(TASKS), "/metrics": reply("")}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs with one release beside it."""
    monkeypatch.setenv("BASEWISE_HOME", str(tmp_path / "home"))
    folder = tmp_path / "releases" / "one"
    folder.mkdir(parents=True)
    (folder / "release.json").write_text("{}")
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def keys(root: Path) -> list[str]:
    """The ids of all keys of the services of the terminal and of those started from the pages."""
    states = (ServeOptions().state, *(root / jobs.FOLDER).glob("serve.*/state"))
    return [key.id for state in states for key in Keys(state / "keys.json").all()]


def alive(root: Path, port: int) -> Any:
    """A job `serve.PORT` that lives."""
    return ui_world.living(root, f"serve.{port}", ["serve", "/releases/one", "--port", str(port), "--quiet"])


def start(root: Path, client: Any, port: int) -> Any:
    sent = {"folder": str(root.parent / "releases" / "one"), "port": str(port)}
    return client.post("/serving/start", data=sent)


def test_a_taken_port_is_told_before_a_key_is_made(root: Path) -> None:
    with listening(SERVICE) as (port, heard):
        client = ui_world.client(root)
        answer = start(root, client, port)
        assert answer.status_code == 400 and "annot listen on" in answer.text
        assert client.get("/service").status_code == 200
    assert not keys(root) and not heard, "the stranger on that port was asked nothing"


@pytest.mark.parametrize(
    "answered", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", reply("<html>"), reply("[]"), reply("{}"), reply("x", "404 No")]
)  # fmt: skip
def test_somebody_else_at_the_address_is_one_line(root: Path, answered: bytes) -> None:
    with listening({}, answered) as (port, _):
        answer = ui_world.client(root).post("/service", data={"address": f"http://127.0.0.1:{port}"})
    assert answer.status_code in (404, 409) and 'role="alert"' in answer.text


@pytest.mark.parametrize("address", ["http://127.0.0.1:abc", "http://[::1", "http://127.0.0.1:99999"])
def test_an_address_that_is_none_is_one_line(root: Path, address: str) -> None:
    answer = ui_world.client(root).post("/service", data={"address": address})
    assert answer.status_code == 409 and 'role="alert"' in answer.text


def test_the_key_is_shown_to_nobody_before_the_job_serves(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody takes the port after it was looked at; the job ends with its line, and the key goes."""
    client = ui_world.client(root)
    with listening(SERVICE) as (port, heard):
        monkeypatch.setattr("basewise.web.ui.pages.serving.hold", lambda *_: socket.socket())
        assert start(root, client, port).status_code == 303
        job = jobs.find(root, f"serve.{port}")
        assert len(keys(root)) == 1
        for path in ("/service", "/service.part?up=0", "/service/queue"):
            client.get(path)
        ui_world.until(lambda: not job.alive, "the end of the job")
        assert "x-over" in client.get("/service.part?up=0").headers
        answer = client.get("/service")
        assert not heard
    assert answer.status_code == 409 and "annot listen on" in answer.text and "Start one here" in answer.text
    assert not keys(root)
    assert client.get("/service/queue").headers["location"] == "/service"
    assert "annot listen on" in client.get("/service").text, "every window that is open tells it"


def test_a_key_for_a_program_opens_one_task_and_is_shown_once(root: Path) -> None:
    with listening(SERVICE) as (port, _), alive(root, port) as folder:
        (folder / "err.txt").write_text(f"serving on http://127.0.0.1:{port}, how to ask: …/docs\n")
        client = ui_world.client(root)
        client.post("/serving/connect", data={"job": f"serve.{port}"})
        before = set(keys(root))
        assert client.post("/service/other/key").status_code == 404 and set(keys(root)) == before
        text = client.post("/service/queue/key").text
        (made,) = set(keys(root)) - before
        assert f"<pre tabindex='0'>bw-{made}-" in text
        assert f"bw-{made}" not in client.get("/service").text


def test_what_comes_up_is_shown_and_stopped_by_a_later_app(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[str] = []
    monkeypatch.setattr(jobs, "stop", lambda job: stopped.append(job.name))
    with listening(SERVICE) as (port, heard), alive(root, port) as folder:
        (folder / "err.txt").write_text("opening\n")
        client, told = ui_world.client(root), {"job": f"serve.{port}"}
        assert (
            "▶ starting" in client.get("/service").text
            and ">Connect<" not in client.get("/serving.part").text
        )
        assert client.post("/serving/connect", data=told).status_code == 409 and not keys(root)
        (folder / "err.txt").write_text(f"serving on http://127.0.0.1:{port}, how to ask: …/docs\n")
        assert "▶ serving" in client.get("/service").text
        assert client.post("/serving/connect", data=told).status_code == 303
        assert not heard and len(keys(root)) == 1
        text = client.get("/service").text
        assert "One task more" in text and "Another service" in text and "Stop the service" in text
        assert f"Bearer bw-{keys(root)[0]}" in heard[0]
        assert "x-over" in client.get("/service.part?up=0").headers, (
            "it has come up: the whole page is needed"
        )
        assert "x-over" not in client.get("/service.part?up=1").headers
        assert client.post("/serving/stop", data=told).status_code == 303
        assert stopped == [f"serve.{port}"] and not keys(root)
        assert "stopping" in client.get("/service").text
    assert "x-over" in client.get("/serving.part").headers
    assert client.post("/serving/stop", data={"job": "serve.1"}).status_code == 409
