"""Claim: ten minutes of mixed load with replacements, canaries, rollbacks and a killed worker lose no request, answer none from a half-loaded release, and leave memory flat.

Clients post one to eight rows to two tasks; every answer must be 200 and its label the one that the version it names gives, computed beforehand.
Beside them an admin changes releases without a pause and a killer ends the worker a few times. Memory is that of both processes.
Run: python benchmarks/change.py [--seconds 600 --clients 16 --kills 3 --base minilm-l6]
"""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import os
import signal
import statistics
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import common
import serving
from service import save_runs, texts_of


class Load:
    """Clients that check each answer against what its version is known to say."""

    def __init__(self, port: int, key: str, truth: dict[str, dict[str, str]], texts: list[str]) -> None:
        self.port, self.truth, self.texts = port, truth, texts
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self.seen: Counter[str] = Counter()
        self.versions: Counter[str] = Counter()
        self.stop = threading.Event()
        self.took: list[float] = []

    def ask(self, connection: http.client.HTTPConnection, path: str, value: Any, method: str = "POST") -> Any:
        connection.request(method, path, json.dumps(value) if value is not None else None, self.headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def client(self, number: int) -> None:
        """One connection until told to stop; a broken connection or a wrong label is counted, never retried."""
        connection, at = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120), number * 13
        while not self.stop.is_set():
            rows = [self.texts[(at + i) % len(self.texts)] for i in range(1 + at % 8)]
            at += 8
            began = time.perf_counter()
            try:
                status, found = self.ask(
                    connection, f"/v1/tasks/task{at % 2}/predict", {"rows": rows, "top": 1}
                )
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.seen[f"lost: {type(error).__name__}"] += 1
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
                continue
            self.took.append(time.perf_counter() - began)
            if status != 200:
                self.seen[f"status {status}"] += 1
                continue
            known = self.truth.get(found["version"])
            right = known is not None and [a["label"] for a in found["answers"]] == [known[t] for t in rows]
            self.seen["right" if right else "wrong"] += 1
            self.versions[found["version"]] += 1


def changes(load: Load, folders: list[Path], swaps: list[float]) -> Counter[str]:
    """Replace, canary at each share, shadow and rollback in turn until the load stops; seconds of each into `swaps`."""
    connection, made = http.client.HTTPConnection("127.0.0.1", load.port, timeout=300), Counter[str]()
    other, turn = [str(f) for f in folders[2:]], 0
    while not load.stop.is_set():
        folder, task = other[turn % len(other)], f"task{turn % 2}"
        steps: list[tuple[str, Any]] = [("canary", {"folder": folder, "percent": p}) for p in (1, 5, 25, 100)]
        steps += [("rollback", None), ("shadow", {"folder": folder}), ("rollback", None)]
        steps += [("replace", {"folder": folder}), ("rollback", None)]
        for step, value in steps:
            began = time.perf_counter()
            status, _ = load.ask(connection, f"/v1/admin/tasks/{task}/{step}", value)
            swaps.append(time.perf_counter() - began)
            made[f"{step} {status}"] += 1
            if load.stop.wait(0.2):
                break
        turn += 1
    return made


def main() -> None:
    """Measure, print, write the result."""
    o = common.options(__doc__, seconds=600.0, clients=16, kills=3, base="minilm-l6")
    seconds, clients, kills = (10.0, 4, 1) if o.smoke else (o.seconds, o.clients, o.kills)
    texts = texts_of(64)
    import psutil

    from basewise.steps.hosting import version_of
    from basewise.steps.predict import load as open_run
    from basewise.web.keys import Keys

    with tempfile.TemporaryDirectory(prefix="basewise-bench-") as place:
        folders = save_runs(Path(place), o.base, 5, texts)
        truth = {version_of(f): dict(zip(texts, open_run(f).predict(texts), strict=True)) for f in folders}
        port, state = serving.free_port(), Path(place) / "state"
        key = Keys(state / "keys.json").add("bench", admin=True)
        with serving.running(serving.service_command(folders[:2], port, state), port, "/ready") as process:
            load, swaps, memory = Load(port, key, truth, texts), [], []
            with concurrent.futures.ThreadPoolExecutor(clients + 1) as pool:
                asking = [pool.submit(load.client, i) for i in range(clients)]
                changing = pool.submit(changes, load, folders, swaps)
                began = time.monotonic()
                for step in range(1, 21):
                    time.sleep(max(0.0, began + seconds * step / 20 - time.monotonic()))
                    memory.append(serving.memory_of(process.pid))
                    if kills and step % max(1, 20 // (kills + 1)) == 0 and step < 20:
                        os.kill(psutil.Process(process.pid).children()[0].pid, signal.SIGKILL)
                load.stop.set()
                for one in asking:
                    one.result()
                made = changing.result()
    settled, last = statistics.median(memory[4:10]), statistics.median(memory[-5:])
    if not load.seen["right"]:
        raise SystemExit(f"no request was answered: {dict(load.seen)}")
    lost = sum(n for what, n in load.seen.items() if what != "right")
    met = {
        "no request lost or refused": lost == load.seen["wrong"],
        "no answer that its version does not give": load.seen["wrong"] == 0,
        "every change took place": all(name.endswith("200") for name in made),
        "memory flat (last quarter at most 5 % above the second)": last <= 1.05 * settled,
    }
    load.took.sort()
    result = {
        "settings": vars(o),
        "answers": dict(load.seen),
        "by_version": dict(load.versions),
        "changes": dict(made),
        "change_seconds": common.spread(swaps),
        "p99_ms": 1000 * load.took[int(0.99 * len(load.took))],
        "memory_bytes": memory,
        "met": met,
    }
    result["headline"] = (
        f"{sum(load.seen.values())} requests in {seconds:.0f} s beside {sum(made.values())} changes and {kills} kills: {lost} lost or wrong; "
        f"memory {last / settled - 1:+.1%}"
    )
    print(json.dumps({k: v for k, v in result.items() if k != "memory_bytes"}, indent=1))
    common.write_result("change", (__doc__ or "").splitlines()[0], result, smoke=o.smoke)


if __name__ == "__main__":
    main()
