"""The pages of releases and of the service, against records and a stand-in service of the shape that those commands have."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import ui_world
from basewise.core.manifest import write_manifest
from basewise.steps import compare
from basewise.web.ui import jobs
from basewise.web.ui.service_client import latency, samples

SHARE = {"estimate": 0.9, "low": 0.85, "high": 0.94, "n": 200}
LIVE, OTHER, SHADOW = "a" * 64, "b" * 64, "c" * 64


def record(name: str, **changed: Any) -> dict[str, Any]:
    """release.json of a release (docs of release: core/release.py)."""
    gate = {"evidence": {}, "advice": "ask", "override": None}
    return {
        "format": 1, "name": name, "id": "c" * 64, "created": "2026-11-25", "kind": "classify", "sentence": f"Take words <b>{name}</b>.",
        "method": "words", "base": {"key": "minilm-l6", "digest": LIVE, "licence": "Apache-2.0"}, "classes": ["a", "b"], "inputs": ["text"],
        "target": "queue", "threshold": 0.7, "promised_risk": 0.05, "conformal": {}, "score": {**SHARE, "where": "locked test rows", "looks": 1},
        "controls": [], "measures": [{"name": "accuracy", "slice": "", **SHARE}], "licence": {"expression": "Apache-2.0", "commercial": True},
        "gate": [{**gate, "check": "licence", "verdict": "pass", "sentence": "all known"},
                 {**gate, "check": "slices", "verdict": "fail", "sentence": "one is bad", "override": {"reason": "known", "by": "R. Roe"}}],
        "overrides": [{"check": "slices", "reason": "known", "by": "R. Roe", "when": "2026-11-25"}], "signed_by": "", "weights": "alone",
        "training": {}, "limitations": ["short texts only"], "provenance": {}, "files": {"words.json": "1"}, **changed,
    }  # fmt: skip


@pytest.fixture
def releases(tmp_path: Path) -> Path:
    for name, more in (
        ("one", {}),
        ("two", {"threshold": 0.8, "files": {"words.json": "2"}}),
        ("later", {"format": 9}),
    ):
        folder = tmp_path / "releases" / name
        folder.mkdir(parents=True)
        (folder / "release.json").write_text(json.dumps(record(name, **more)))
        (folder / "README.md").write_text("# A <script>card</script>")
        write_manifest(folder)
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def test_releases_are_listed_and_read(releases: Path) -> None:
    client = ui_world.client(releases)
    text = client.get("/releases").text
    assert (
        "1 pass, 1 fail, 1 overridden" in text
        and "90.0 [85.0, 94.0]" in text
        and "? unreadable" in text
        and "unsigned" in text
    )
    one = client.get("/releases/one").text
    assert (
        "R. Roe" in one
        and "short texts only" in one
        and "&lt;script&gt;card" in one
        and "<script>card" not in one
    )
    assert "Not verified from here yet" in one
    assert client.get("/releases/later").status_code == 409
    assert client.get("/releases/none").status_code == 404 == client.get("/diff?a=one&b=none").status_code


def test_the_licence_of_a_release_is_told_in_words(releases: Path) -> None:
    node = {"relation": "", "signed_by": ""}
    nodes = [{**node, "name": "data:<b>", "what": "data", "licence": "own", "signed_by": "R. Roe"},
             {**node, "name": "base:minilm-l6", "what": "base", "licence": "Apache-2.0"},
             {**node, "name": "release", "what": "adapter", "licence": ""}]  # fmt: skip
    found = {"expression": "Apache-2.0", "outgoing": "", "use": "commercial", "commercial": None, "obligations": {"notice": ["base:minilm-l6"]},
             "nodes": nodes, "edges": [["data:<b>", "release", "trained-on"], ["base:minilm-l6", "release", "adapter"]],
             "reasons": [["warn", "a share-alike part"]]}  # fmt: skip
    path = releases.parent / "releases" / "one" / "release.json"
    path.write_text(json.dumps(record("one", licence=found)))
    write_manifest(path.parent)
    text = ui_world.client(releases).get("/releases/one").text
    part = text[text.index("<h2>Licence") : text.index("<h2>Limits")]
    assert "{" not in part and "[" not in part and "<b>" not in part, "no JSON, no markup of others"
    for words in ("Commercial use is not known", "notice, by base:minilm-l6", "trained-on", "R. Roe", "warn: a share-alike part"):  # fmt: skip
        assert words in part


def test_two_releases_side_by_side(releases: Path) -> None:
    """As `basewise diff` has it, with the files that differ; a release that does not verify is not compared."""
    one, two = (releases.parent / "releases" / name for name in ("one", "two"))
    client = ui_world.client(releases)
    text = client.get("/diff?a=one&b=two").text
    assert "threshold" in text and "0.7" in text and "base: key" not in text and "Not paired" in text
    assert "<td>release.json" in text.split("Files that differ")[1] and "README.md" not in text
    other = record("two", licence={"expression": "MIT", "commercial": True}, overrides=[], threshold=0.8)
    (two / "release.json").write_text(json.dumps(other))
    (two / "extra.md").write_text("x")
    assert client.get("/diff?a=one&b=two").status_code == 400, "it was changed since it was released"
    write_manifest(two)
    text = client.get("/diff?a=one&b=two").text
    for line in compare.diff(one, two)["changed"]:
        assert f"<td>{line['what']}" in text
    assert "licence expression" in text and "overrides" in text and "extra.md" in text


def test_a_release_named_diff_has_its_page(releases: Path) -> None:
    (releases.parent / "releases" / "one").rename(releases.parent / "releases" / "diff")
    assert "short texts only" in ui_world.client(releases).get("/releases/diff").text


def test_a_check_is_shown_only_of_the_release_that_was_checked(
    releases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, folder = ui_world.client(releases), releases.parent / "releases" / "one"

    def ended(root: Path, name: str, words: list[str], about: dict[str, Any], code: int = 0) -> None:
        """A job that has ended, without its process."""
        place = root / jobs.FOLDER / name
        place.mkdir(parents=True, exist_ok=True)
        value = {"kind": words[0], "words": words, "about": about, "pid": 0, "started": time.time()}
        (place / "job.json").write_text(json.dumps(value))
        (place / "exit.txt").write_text(str(code))
        (place / "out.txt").write_text("golden answers hold")

    monkeypatch.setattr(jobs, "start", ended)
    assert client.post("/releases/one/verify").status_code == 303
    assert "golden answers hold" in (text := client.get("/releases/one").text) and "Verified on 20" in text
    (folder / "README.md").write_text("# another card")
    assert "golden answers hold" not in (text := client.get("/releases/one").text) and "Not verified" in text
    monkeypatch.setattr(jobs, "start", lambda *given: ended(*given, code=2))
    assert client.post("/releases/one/verify").status_code == 303
    assert "It did not verify on 20" in client.get("/releases/one").text
    ended(releases, "release.one", ["release"], {"release": "one"})
    assert "did not verify" not in client.get("/releases/one").text, "it was made again since"
    assert client.post("/releases/one/verify").status_code == 303
    (folder / "release.json").write_text(json.dumps(record("one", id="d" * 64)))
    assert "did not verify" not in client.get("/releases/one").text, "that was another release of this name"


def test_a_release_that_was_deleted_was_not_refused(releases: Path) -> None:
    client = ui_world.client(releases)
    job = jobs.start(releases, "release.three", ["release", "--help"], {"release": "three", "run": "x"})
    ui_world.until(lambda: not job.alive, "the gate")
    assert job.exit_code == 0
    text = client.get("/releases").text
    assert "deleted" in text and "refused" not in text
    assert "is gone since" in (text := client.get("/releases/three").text) and 'role="alert"' not in text


def test_a_release_is_refused_with_its_reasons(releases: Path) -> None:
    """The process of the job stands for the command: it says what a gate says and ends with code 2."""
    client = ui_world.client(releases)
    job = jobs.start(releases, "release.three", ["release", "no-such-run"], {"release": "three", "run": "x"})
    ui_world.until(lambda: not job.alive, "the gate")
    assert "x-over" in client.get("/releases/three/live").headers
    text = client.get("/releases/three").text
    assert (
        'role="alert"' in text and "release refused" in text and "✕ refused" in client.get("/releases").text
    )


@pytest.mark.parametrize(
    ("sent", "status"),
    [({"name": "../x", "run": "r"}, 400), ({"name": "four", "run": "none"}, 404), ({}, 400)],
)
def test_releases_that_cannot_be_made(releases: Path, sent: dict[str, str], status: int) -> None:
    assert ui_world.client(releases).post("/releases", data=sent).status_code == status


# ------------------------------------------------------------------ the service

METRICS = """# HELP basewise_requests_total x
basewise_requests_total{route="/v1/admin/tasks",status="200"} 7000.0
basewise_requests_total{route="/v1/tasks/{name}/watch",status="200"} 800.0
basewise_requests_total{route="/v1/tasks/{name}/predict",status="200"} 90.0
basewise_requests_total{route="/v1/tasks/{name}/predict",status="429"} 10.0
basewise_rows_total{task="queue",version="aaaa"} 120.0
basewise_waiting_rows 3.0
basewise_request_seconds_bucket{le="0.01",route="/p"} 60.0
basewise_request_seconds_bucket{le="0.1",route="/p"} 99.0
basewise_request_seconds_bucket{le="+Inf",route="/p"} 100.0
"""


class Handler(BaseHTTPRequestHandler):
    """Answers as the service does; keeps what it was asked."""

    asked: list[tuple[str, str, Any]]

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def _answer(self, status: int, value: Any) -> None:
        content = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _lane(self) -> dict[str, Any]:
        return {"name": "queue", "live": LIVE, "before": [], "shadow": SHADOW, "canary": OTHER, "percent": 5,
                "shadow_evidence": {}, "canary_evidence": {}, "folders": {OTHER: "/releases/other"}}  # fmt: skip

    def do_GET(self) -> None:
        if self.headers.get("authorization") != "Bearer good":
            self._answer(401, {"error": {"message": "no valid key came", "code": "no_key"}})
        elif self.path == "/v1/admin/tasks":
            self._answer(200, {"tasks": [self._lane()], "events": [], "worker_restarts": 1})
        elif self.path == "/metrics":
            self._answer(200, METRICS)
        elif self.path == "/v1/tasks/queue/watch":
            window = {"rows": 500, "abstained": 0.1, "threshold": 5.0, "p_values": {}, "level": 0.0}
            windows = [
                {**window, "number": 1},
                {
                    **window,
                    "number": 2,
                    "p_values": {"joint": 0.01},
                    "level": 6.0,
                    "alarm": True,
                    "estimated_accuracy": SHARE,
                },
            ]
            versions = {
                LIVE: {"rows": 120, "abstention": SHARE, "accuracy": None},
                OTHER: {"rows": 6, "abstention": SHARE, "accuracy": SHARE},
            }
            events = [{"event": "canary", "version": OTHER, "why": "<i>", "task": "queue"}]
            self._answer(200, {"task": "queue", "live": LIVE, "classes": ["a"], "lane": self._lane(), "versions": versions, "windows": windows, "events": events})  # fmt: skip
        else:
            self._answer(404, {"error": {"message": "no such task is served"}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        type(self).asked.append(
            (self.path, self.headers.get("authorization", ""), json.loads(body or b"null"))
        )
        self._answer(200, {})


@pytest.fixture
def service() -> Iterator[tuple[str, list[Any]]]:
    kind = type("Own", (Handler,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", kind.asked
        server.shutdown()
        thread.join()


def test_the_service_is_watched_and_changed(tmp_path: Path, service: tuple[str, list[Any]]) -> None:
    address, asked = service
    client = ui_world.client(tmp_path)
    assert "Connect to one that runs already" in client.get("/service").text
    assert client.post("/service", data={"address": address, "key": "bad"}).status_code == 400
    assert client.post("/service", data={"address": address, "key": "good"}).status_code == 303
    text = client.get("/service").text
    assert (
        "10 refused" in text
        and ">100<" in text  # what watchers ask is no traffic
        and ">120<" in text
        and "5 % to" in text
        and "100 ms" in text
        and "good" not in text
    )
    task = client.get("/service/queue").text
    assert (
        "✕ alarm" in task
        and "canary, 5 %" in task
        and "&lt;i&gt;" in task
        and "Alarm level by window" in task
        and 'class="chosen"' in task  # where the alarm was, though the level began anew
    )
    assert '<option value="/releases/other" selected>' in task, "only the share of the canary need be moved"
    assert re.search(rf"{SHADOW[:12]}</code></td><td>shadow</td><td[^>]*>0<", task), "it answered no row yet"
    assert f'other <code class="small">{OTHER[:12]}</code>' in task, "a version is called as its folder is"
    assert "canary, 5 %" in client.get("/service/queue/live").text
    assert client.get("/service/other").status_code == 404
    assert (
        client.post("/service/queue/canary", data={"folder": "/releases/two", "step": "2"}).status_code == 303
    )
    assert client.post("/service/queue/rollback").status_code == 303
    assert client.post("/service/queue/label", data={"id": "1", "label": "a"}).status_code == 303
    canary, back, label = asked
    assert label[::2] == ("/v1/tasks/queue/labels", {"labels": [{"id": "1", "label": "a"}]})
    assert canary == (
        "/v1/admin/tasks/queue/canary",
        "Bearer good",
        {"folder": "/releases/two", "percent": 25},
    )
    assert back[0] == "/v1/admin/tasks/queue/rollback"
    for change, sent in (
        ("canary", {"folder": "x", "step": "9"}),
        ("canary", {"step": "1"}),
        ("explode", {}),
    ):
        assert 400 <= client.post(f"/service/queue/{change}", data=sent).status_code < 500
    assert len(asked) == 3, "nothing wrong reached the service"


def test_the_service_is_away(tmp_path: Path, service: tuple[str, list[Any]]) -> None:
    client = ui_world.client(tmp_path)
    answer = client.post("/service", data={"address": "http://127.0.0.1:9", "key": ""})
    assert answer.status_code == 409 and "no service answers" in answer.text.lower()
    assert client.get("/service/queue").headers["location"] == "/service", "none is connected"
    assert client.post("/service", data={"address": "file:///etc/passwd"}).status_code == 400
    assert client.post("/service", data={"address": service[0], "key": "a\nb"}).status_code == 400


def test_a_key_is_not_sent_on_to_where_a_service_points(
    tmp_path: Path, service: tuple[str, list[Any]]
) -> None:
    """Here the other place would even answer to the key."""
    elsewhere = service[0]

    class Moved(Handler):
        def do_GET(self) -> None:
            self.send_response(307)
            self.send_header("location", elsewhere + self.path)
            self.send_header("content-length", "0")
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Moved) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        sent = {"address": f"http://127.0.0.1:{server.server_port}", "key": "good"}
        answer = ui_world.client(tmp_path).post("/service", data=sent)
        server.shutdown()
        thread.join()
    assert answer.status_code == 400 and "status 307" in answer.text


def test_latency_is_read_from_the_buckets() -> None:
    found = latency(samples(METRICS))
    assert found == [{"route": "/p", "requests": 100, "median": 0.01, "p99": 0.1}]
    assert latency(samples('basewise_request_seconds_bucket{le="1.0",route="/p"} 0.0\n')) == []
