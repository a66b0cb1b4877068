"""What the tests of the service share: tiny runs made without a race, a service in a process of its own, one with a stand-in worker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

import tiny
from basewise.core.files import write_json
from basewise.core.method import Context
from basewise.core.registry import part
from basewise.core.task import Examples
from basewise.web.link import WorkerError

CLASSES = tuple(tiny.TOPICS)


def run_folder(folder: Path, method: str, base_folder: Path | None, *, turn: int = 0, seed: int = 0) -> Path:
    """A run folder with a predictor and evidence; `turn` moves every label on by so many classes: a release that is wrong."""
    from basewise.core.evidence import Trial, write_evidence
    from basewise.steps.bases import pull
    from basewise.steps.predict import save_predictor

    table = tiny.rows(90, seed)
    labels = np.array([(CLASSES.index(r["queue"]) + turn) % len(CLASSES) for r in table])
    order = np.arange(len(table))
    examples = Examples(tuple(r["text"] for r in table), labels, order, order, CLASSES)
    base = pull(str(base_folder)) if base_folder is not None else None
    fitted = part("methods", method).fit(examples, base, Context(seed=seed))
    save_predictor(folder / "predictor", fitted, method=method, base=base, inputs=("text",), threshold=0.5)
    trial = Trial(
        method=method,
        base="base" if base else None,
        row_ids=order,
        labels=labels,
        probabilities=fitted.probabilities(examples.texts),
        fold=order % 3,
        seed=np.zeros(len(order), int),
        n_train=60,
    )
    write_evidence(folder / "evidence.parquet", [trial])
    write_json(folder / "decision.json", {"chosen": trial.name})
    return folder


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Running:
    """A service in a process of its own."""

    url: str
    state: Path
    process: subprocess.Popen[bytes]
    log: Path
    keys: dict[str, str] = field(default_factory=dict)

    def client(self, key: str = "all", **more: Any) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.keys[key]}"} if key in self.keys else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=600, **more)

    def kill(self) -> None:
        """As `kill -9` does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def start(words: list[str], state: Path, port: int | None = None) -> Running:
    """`basewise serve WORDS` until it is ready."""
    port = port or free_port()
    log = state.parent / f"{state.name}.log"
    code = "from basewise.cli.main import main; main()"
    command = [sys.executable, "-c", code, "serve", *words, "--port", str(port), "--state", str(state)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with open(log, "ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    running = Running(f"http://127.0.0.1:{port}", state, process, log)
    for _ in range(1200):
        if process.poll() is not None:
            raise RuntimeError(f"the service ended with {process.returncode}: {log.read_text()[-2000:]}")
        try:
            if httpx.get(f"{running.url}/ready", timeout=10).status_code == 200:
                return running
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"the service did not come up: {log.read_text()[-2000:]}")


@contextmanager
def service(words: list[str], state: Path, keys: dict[str, str] | None = None) -> Iterator[Running]:
    """A running service that is ended afterwards."""
    running = start(words, state)
    running.keys = keys or {}
    try:
        yield running
    finally:
        running.process.terminate()
        try:
            running.process.wait(60)
        except subprocess.TimeoutExpired:
            running.process.kill()
            running.process.wait()


class StandIn:
    """In the place of a worker: answers with the class whose number stands first in the text, fails or waits when told to."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.ready.set()
        self.restarts, self.fails, self.seconds, self.asked = 0, {}, 0.0, []  # type: ignore[var-annotated]
        self.cancelled = 0
        self.failed: dict[str, str] = {}
        self.gone: set[str] = set()

    async def rows(self, header: dict[str, Any], seconds: float) -> Any:
        self.asked.append(header)
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if (error := self.fails.get(header.get("version", ""))) is not None:
            raise error
        n = len(header["texts"])
        values = np.full((n, 3), 0.1)
        for i, text in enumerate(header["texts"]):
            values[i, int(text[0]) if text[:1] in ("0", "1", "2") else 0] = 0.8
        return values, np.zeros((n, 24), np.float32), n

    async def pieces(self, header: dict[str, Any]) -> Any:
        self.asked.append(header)
        yield "one ", None
        yield "two", {"ended": "stop", "prompt_tokens": 3, "tokens": 2}

    async def open(self, folder: str, version: str = "") -> dict[str, Any]:
        if folder in self.gone:
            raise WorkerError("InputError", f"no folder {folder}", True)
        return about(Path(folder).name)

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def mend(self) -> None:
        self.failed.clear()

    async def close(self, version: str) -> None:
        self.asked.append({"closed": version})


def about(version: str, task: str = "tickets") -> dict[str, Any]:
    """What a worker tells of a version."""
    return {
        "task": task,
        "version": version,
        "folder": f"/releases/{version}",
        "method": "probe",
        "base": "tiny",
        "base_digest": "0" * 64,
        "embeds": True,
        "classes": ["a", "b", "c"],
        "inputs": ["text"],
        "threshold": 0.5,
        "conformal": {"alpha": 0.1, "least": 0.2, "rows": 100},
        "reference": None,
    }


def stood_in(state: Path, known: tuple[str, ...] = ("v1",), **limits: Any) -> tuple[Any, Any, StandIn]:
    """(service, application, stand-in) with one live task `tickets`, version v1 (or what the state says); nothing is started."""
    from basewise.steps.serve import Limits, ServeOptions
    from basewise.web.service import Service, create_app

    made = Service((), ServeOptions(state=state, limits=Limits(**limits)))
    worker = StandIn()
    made.link = worker  # type: ignore[assignment]
    for version in known:
        made._known(about(version))
        made.traffic.live("tickets", version, f"/releases/{version}")
    return made, create_app(made), worker


def call(app: Any, method: str, path: str, **more: Any) -> httpx.Response:
    """One request to an application in this process; errors that reach the outside are raised here."""

    async def one() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, **more)

    return asyncio.run(one())


def message(answer: httpx.Response) -> str:
    """The message of a refusal, which has the one shape that all have."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "code", "request"}
    assert "Traceback" not in answer.text
    return str(error["message"])


def body(rows: Any, **more: Any) -> bytes:
    """A body of the predict route."""
    return json.dumps({"rows": rows, **more}).encode()


def labelled(client: Any, task: str, answer: dict[str, Any], label: str) -> dict[str, Any]:
    """Post one label; sent again for as long as the service asks for that (answers are written behind the requests)."""
    for _ in range(20):
        posted = client.post(
            f"/v1/tasks/{task}/labels", json={"labels": [{"id": answer["id"], "label": label}]}
        )
        if posted.status_code != 503:
            break
        time.sleep(float(posted.headers["Retry-After"]))
    posted.raise_for_status()
    found: dict[str, Any] = posted.json()
    return found
