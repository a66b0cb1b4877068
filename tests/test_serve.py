"""The service as a user has it: a process on loopback, OpenAI's own client, the curl lines of the guide, kills of worker and service."""

from __future__ import annotations

import concurrent.futures
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
import tiny_decoders
from basewise.core.errors import InputError
from basewise.core.files import lock
from basewise.steps.predict import load
from basewise.steps.serve import read_limits
from basewise.web.keys import Keys
from served import CLASSES, Running, body, free_port, labelled, run_folder, service, start
from tiny import command, refused

GUIDE = Path(__file__).resolve().parent.parent / "docs" / "serve.md"
TEXTS = [row["text"] for row in tiny.rows(24, seed=7)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run folders on one tiny base, one without a base, a wrong one, and a decoder."""
    root = tmp_path_factory.mktemp("served")
    base = tiny.base_folder(root / "minilm-l6")
    tiny_decoders.decoder(root / "smollm2-135m")
    folders = {
        "tickets": run_folder(root / "tickets", "probe", base),
        "mails": run_folder(root / "mails", "prototype", base, seed=1),
        "words": run_folder(root / "words", "words", None),
        "wrong": run_folder(root / "wrong", "probe", base, turn=1),
    }
    return {**folders, "base": base, "decoder": root / "smollm2-135m"}


@pytest.fixture(scope="module")
def running(made: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service of three tasks and a decoder, with keys."""
    state = tmp_path_factory.mktemp("state") / "one"
    keys = Keys(state / "keys.json")
    tokens = {"all": keys.add("all"), "admin": keys.add("admin", admin=True)}
    limits = state / "limits.toml"
    # a busy machine must not look like a lost request
    limits.write_text("seconds = 300\n")
    words = [str(made[n]) for n in ("tickets", "mails", "words")] + ["--base", str(made["decoder"])]
    words += ["--config", str(limits)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BASEWISE_HOME", str(tmp_path_factory.mktemp("home")))
        with service(words, state, tokens) as found:
            yield found


def test_answers_are_those_of_predict(made: dict[str, Path], running: Running) -> None:
    with running.client() as client:
        for name in ("tickets", "mails", "words"):
            found = client.post(f"/v1/tasks/{name}/predict", content=body(TEXTS)).json()
            expected = load(made[name]).predict_proba(TEXTS)
            served = np.array([[a["probabilities"][c] for c in CLASSES] for a in found["answers"]])
            assert np.abs(served - expected).max() < 1e-4, name
            assert [a["label"] for a in found["answers"]] == [CLASSES[i] for i in expected.argmax(1)]
            for answer in found["answers"]:
                assert answer["abstained"] == (answer["probability"] < 0.5)
                assert answer["label"] in answer["set"]
        columns = client.post(
            "/v1/tasks/tickets/predict", content=body([{"text": TEXTS[0], "more": 1}])
        ).json()
        assert (
            columns["answers"][0]["label"]
            == client.post("/v1/tasks/tickets/predict", content=body(TEXTS[0])).json()["answers"][0]["label"]
        )


def test_many_clients_of_many_tasks_get_their_own_answers(made: dict[str, Path], running: Running) -> None:
    expected = {
        n: dict(zip(TEXTS, load(made[n]).predict(TEXTS), strict=True)) for n in ("tickets", "mails", "words")
    }

    def ask(i: int) -> bool:
        name, text = ("tickets", "mails", "words")[i % 3], TEXTS[i % len(TEXTS)]
        answer = client.post(f"/v1/tasks/{name}/predict", content=body([text, TEXTS[0]]))
        labels = [a["label"] for a in answer.json()["answers"]]
        return labels == [expected[name][text], expected[name][TEXTS[0]]]

    with running.client() as client, concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(120)))


def test_openais_own_client_works(running: Running) -> None:
    import openai

    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.keys["all"], max_retries=0)
    with client:
        names = [m.id for m in client.models.list()]
        assert "minilm-l6" in names
        assert "smollm2-135m" in names
        assert client.models.retrieve("minilm-l6").id == "minilm-l6"
        vectors = client.embeddings.create(model="minilm-l6", input=["invoice charge", "parcel courier"])
        lists = client.embeddings.create(model="minilm-l6", input="invoice charge", encoding_format="float")
        assert vectors.data[0].embedding == pytest.approx(lists.data[0].embedding, abs=1e-3)
        assert np.linalg.norm(vectors.data[1].embedding) == pytest.approx(1, abs=1e-3)
        asked: dict[str, Any] = {"model": "smollm2-135m", "max_tokens": 6, "temperature": 0}
        whole = client.completions.create(prompt="the film was", **asked)
        pieces = client.completions.create(prompt="the film was", stream=True, **asked)
        assert "".join(p.choices[0].text for p in pieces) == whole.choices[0].text
        assert whole.usage is not None
        assert whole.usage.completion_tokens > 0
        messages: Any = [{"role": "user", "content": "the film was good"}]
        chat = client.chat.completions.create(messages=messages, **asked)
        stream = client.chat.completions.create(messages=messages, stream=True, **asked)
        said = "".join(p.choices[0].delta.content or "" for p in stream)
        assert said == chat.choices[0].message.content
        counted = client.completions.create(
            prompt="the film was", stream=True, stream_options={"include_usage": True}, **asked
        )
        assert [p.usage for p in counted][-1] == whole.usage
        drawn = {
            client.completions.create(model="smollm2-135m", max_tokens=12, prompt="the film was", seed=seed)
            .choices[0]
            .text
            for seed in (None, None, 5, 5)
        }
        assert len(drawn) == 3
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="nobody", input="a")
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{running.url}/v1", api_key="no", max_retries=0).models.list()
        with pytest.raises(openai.APIStatusError):
            client.completions.create(model="minilm-l6", prompt="a")


def curl_lines() -> list[str]:
    """The curl commands of the guide, in their order."""
    return re.findall(r"^\$ (curl .+)$", GUIDE.read_text(encoding="utf-8"), flags=re.M)


def test_the_curl_lines_of_the_guide_work(made: dict[str, Path], running: Running) -> None:
    assert len(curl_lines()) >= 16
    for line in curl_lines():
        words = shlex.split(
            line.replace("http://127.0.0.1:8000", running.url)
            .replace("$KEY", running.keys["all"])
            .replace("$ADMIN", running.keys["admin"])
            .replace("runs/", f"{made['tickets'].parent}/")
        )
        done = subprocess.run(
            [*words, "--fail-with-body"], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        assert done.stdout, line
    # the guide ends with another live release: put the first one back
    with running.client("admin") as client:
        client.post("/v1/admin/tasks/tickets/rollback")


@pytest.mark.slow
def test_a_killed_worker_loses_no_request(running: Running) -> None:
    def ask(i: int) -> int:
        return client.post("/v1/tasks/tickets/predict", content=body([TEXTS[i % len(TEXTS)]] * 8)).status_code

    with running.client() as client, concurrent.futures.ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(ask, i) for i in range(80)]
        children = subprocess.run(
            ["pgrep", "-P", str(running.process.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        os.kill(int(children[0]), signal.SIGKILL)
        waiting += [pool.submit(ask, i) for i in range(40)]
        assert {w.result() for w in waiting} == {200}
    with running.client("admin") as client:
        assert client.get("/v1/admin/tasks").json()["worker_restarts"] >= 1
        metrics = client.get("/metrics").text
    assert re.search(r"^basewise_worker_restarts_total [1-9]", metrics, flags=re.M)


def test_a_wrong_release_is_rolled_back_by_its_labels(made: dict[str, Path], running: Running) -> None:
    with running.client("admin") as client:
        good = client.get("/v1/tasks").json()["tasks"][0]["version"]
        changed = client.post(
            "/v1/admin/tasks/tickets/canary", json={"folder": str(made["wrong"]), "percent": 25}
        ).json()
        assert changed["percent"] == 25
        rolled_back = None
        for round_ in range(20):
            for i, row in enumerate(tiny.rows(12, seed=100 + round_)):
                text = f"{row['text']} {i}"
                answer = client.post("/v1/tasks/tickets/predict", content=body(text)).json()["answers"][0]
                found = labelled(client, "tickets", answer, row["queue"])
                assert found["kept"] == 1
                rolled_back = rolled_back or found["rolled_back"]
            if rolled_back:
                break
        assert rolled_back
        assert "proven harm" in rolled_back
        lane = client.get("/v1/tasks").json()["tasks"][0]
    assert lane["canary"] is None
    assert lane["version"] == good


def test_a_folder_that_is_no_release_changes_nothing(
    made: dict[str, Path], running: Running, tmp_path: Path
) -> None:
    half = tmp_path / "half" / "predictor"
    half.mkdir(parents=True)
    for file in (made["mails"] / "predictor").iterdir():
        (half / file.name).write_bytes(file.read_bytes())
    (half / "prototype.safetensors").write_bytes(b"cut off")
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "release.json").write_text("{}")
    with running.client("admin") as client:
        before = client.get("/v1/tasks").json()
        for folder in (half.parent, tmp_path / "nowhere", tmp_path, tmp_path / "claims", "\x00"):
            answer = client.post("/v1/admin/tasks/tickets/replace", json={"folder": str(folder)})
            assert answer.status_code == 422, answer.text
            assert "Traceback" not in answer.text
        assert client.get("/v1/tasks").json() == before


@pytest.mark.slow
def test_the_state_survives_a_kill(made: dict[str, Path], tmp_path: Path) -> None:
    state = tmp_path / "state"
    admin = Keys(state / "keys.json").add("admin", admin=True)
    first = start([str(made["words"])], state)
    try:
        first.keys = {"all": admin}
        with first.client() as client:
            client.post(
                "/v1/admin/tasks/words/replace", json={"folder": str(made["mails"])}
            ).raise_for_status()
            answer = client.post("/v1/tasks/words/predict", content=body(TEXTS[0])).json()
            assert labelled(client, "words", answer["answers"][0], "billing")["kept"] == 1
    finally:
        first.kill()
    with service([str(made["words"])], state, {"all": admin}) as again, again.client() as client:
        found = client.get("/v1/tasks/words/watch").json()
        assert found["live"] == answer["version"]
        assert found["versions"][answer["version"]]["labelled"] == 1
        assert client.post("/v1/admin/tasks/words/rollback").json()["live"] != answer["version"]


@pytest.mark.slow
def test_a_worker_ends_with_its_service(made: dict[str, Path], tmp_path: Path) -> None:
    found = start([str(made["words"])], tmp_path / "state")
    children = subprocess.run(
        ["pgrep", "-P", str(found.process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    found.kill()
    for _ in range(300):
        if not any(Path(f"/proc/{c}/stat").exists() for c in children):
            return
        time.sleep(0.1)
    pytest.fail("the worker lives on")


def test_what_a_user_can_mend_is_one_line(made: dict[str, Path], tmp_path: Path) -> None:
    state = ("--state", tmp_path / "state")
    refused(command("serve", made["words"], "--host", "0.0.0.0", *state), "no key is set")
    port = free_port()
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        refused(command("serve", made["words"], "--port", port, *state), "cannot listen")
    (tmp_path / "limits.toml").write_text("rowz = 3\n")
    refused(command("serve", made["words"], "--config", tmp_path / "limits.toml", *state), "rowz", "rows")
    for line in (
        "rows = 0.5",
        "rows = inf",
        "rows = nan",
        "rows = 0",
        "seconds = inf",
        "seconds = nan",
        "seconds = -1",
    ):
        (tmp_path / "limits.toml").write_text(line)
        with pytest.raises(InputError, match=f"{line.split()[0]} in .* is .*; give "):
            read_limits(tmp_path / "limits.toml")
    refused(command("access", "remove", "nobody", *state), "nobody")


@pytest.mark.slow
def test_what_cannot_be_served_ends_the_service_with_one_line(tmp_path: Path) -> None:
    def last_line(*words: str) -> str:
        code = ["-c", "from basewise.cli.main import main; main()", "serve", *words]
        code += ["--port", str(free_port()), "--state", str(tmp_path / "state")]
        done = subprocess.run(
            [sys.executable, *code], capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr.splitlines()[-1]

    assert "nowhere" in last_line(str(tmp_path / "nowhere"))
    assert "nosuchbase" in last_line("--base", "nosuchbase")
    with lock(tmp_path / "state" / ".service.lock"):
        assert "in use by another process" in last_line()


def test_an_upstream_is_passed_through(tmp_path: Path, running: Running) -> None:
    """The first service stands in for vllm: same routes, its own keys."""
    import asyncio

    from basewise.web.upstream import Upstream

    async def ask() -> tuple[int, bytes, list[Any]]:
        upstream = Upstream(running.url)
        upstream._client.headers["Authorization"] = f"Bearer {running.keys['all']}"
        answer = await upstream.post(
            "/v1/completions", b'{"model":"smollm2-135m","prompt":"the","max_tokens":3}', False
        )
        models = await upstream.models()
        await upstream.close()
        return answer.status_code, bytes(answer.body), models

    status, content, models = asyncio.run(ask())
    assert status == 200
    assert b"text_completion" in content
    assert {"minilm-l6", "smollm2-135m"} <= {m["id"] for m in models}
    with pytest.raises(InputError, match="no address"):
        Upstream("somewhere")


@pytest.mark.slow
def test_schemathesis_finds_no_server_error(running: Running) -> None:
    import schemathesis
    from hypothesis import HealthCheck, given, settings
    from schemathesis.checks import not_a_server_error

    schema = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
    seen = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        key = "admin" if "/admin/" in operation.path else "all"
        headers = {"Authorization": f"Bearer {running.keys[key]}"}

        each = _case_check(headers, not_a_server_error)
        with_settings = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
        with_settings(given(case=operation.as_strategy())(each))()
        seen += 1
    assert seen >= 15


def _case_check(headers: dict[str, str], check: Any) -> Any:
    """One call of a generated case: no server error, no trace of the inside."""

    def each(case: Any) -> None:
        answer = case.call(headers=headers)
        case.validate_response(answer, checks=[check])
        assert "Traceback" not in answer.text

    return each
