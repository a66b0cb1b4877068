"""What the benchmarks of the service share: a service or a rival in a process of its own, closed-loop clients in another, memory.

Clients speak HTTP/1.1 over plain sockets, one connection each: a client library would take more of two cores than the service does.
Run as a worker of `common.run_worker`: {"url", "path", "bodies", "clients", "seconds"} to statuses, latencies and answers a second.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import common

HEAD = "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: list[str], port: int, ready: str, seconds: float = 600
) -> Iterator[subprocess.Popen[bytes]]:
    """A server until the block ends, ready when `ready` answers 200."""
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    stop = time.monotonic() + seconds
    try:
        while True:
            if process.poll() is not None or time.monotonic() > stop:
                raise SystemExit(f"the server did not start: {(process.stderr or sys.stdin).read()[-800:]!r}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{ready}", timeout=5) as answer:
                    if answer.status == 200:
                        break
            except OSError:
                time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def service_command(folders: list[Path], port: int, state: Path, *more: str) -> list[str]:
    """`basewise serve` of some folders."""
    code = "from basewise.cli.main import main; main()"
    words = ["serve", *map(str, folders), "--port", str(port), "--state", str(state), "--quiet", *more]
    return [sys.executable, "-c", code, *words]


def memory_of(pid: int) -> int:
    """Bytes that a process and its children hold, shared pages counted once (PSS)."""
    import psutil

    process = psutil.Process(pid)
    return sum(p.memory_full_info().pss for p in [process, *process.children(recursive=True)])


def load(port: int, requests: list[tuple[str, str]], clients: int, seconds: float) -> common.Json:
    """Closed-loop clients for so many seconds in a process of their own; requests are (path, body), taken in turn."""
    job = {"port": port, "requests": requests, "clients": clients, "seconds": seconds}
    found = common.run_worker("serving.py", job, seconds=seconds + 300)
    if "error" in found:
        raise SystemExit(f"the load failed: {found['error']}")
    return found


async def _client(
    port: int,
    number: int,
    requests: list[tuple[str, str]],
    stop: float,
    took: list[float],
    seen: Counter[int],
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    at = number * 7
    while time.perf_counter() < stop:
        path, text = requests[at % len(requests)]
        at += 1
        body = text.encode()
        began = time.perf_counter()
        head = HEAD.format(path=path, host=f"127.0.0.1:{port}", length=len(body))
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        status = int(answer[9:12])
        length = next(
            int(line.split(b":")[1])
            for line in answer.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        await reader.readexactly(length)
        took.append(time.perf_counter() - began)
        seen[status] += 1
    writer.close()


async def _load(job: common.Json) -> common.Json:
    took: list[float] = []
    seen: Counter[int] = Counter()
    began = time.perf_counter()
    stop = began + job["seconds"]
    await asyncio.gather(
        *(_client(job["port"], i, job["requests"], stop, took, seen) for i in range(job["clients"]))
    )
    spent = time.perf_counter() - began
    took.sort()
    return {
        "requests": len(took),
        "per_second": len(took) / spent,
        "statuses": {str(k): v for k, v in seen.items()},
        "median_ms": 1000 * took[len(took) // 2],
        "p99_ms": 1000 * took[min(len(took) - 1, int(0.99 * len(took)))],
        "clients": job["clients"],
    }


def predict_requests(texts: list[str], tasks: list[str], rows: int = 1) -> list[tuple[str, str]]:
    """Bodies of the predict route, `rows` texts each, tasks in turn."""
    groups = [texts[i : i + rows] for i in range(0, len(texts) - rows + 1, rows)]
    return [
        (f"/v1/tasks/{tasks[i % len(tasks)]}/predict", json.dumps({"rows": group, "top": 1}))
        for i, group in enumerate(groups)
    ]


def main() -> None:
    """As a worker: job and answer as JSON files."""
    job: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    Path(sys.argv[2]).write_text(json.dumps(asyncio.run(_load(job))))


if __name__ == "__main__":
    main()
