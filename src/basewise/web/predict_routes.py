"""Predictions: POST /v1/tasks/{name}/predict, what tasks there are, health, readiness, metrics."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from basewise.core.cells import join_inputs
from basewise.web import answers, contract
from basewise.web.documents import body, gives
from basewise.web.limits import Refusal
from basewise.web.link import WorkerError
from basewise.web.outermost import PREDICT
from basewise.web.service import Service

MOST_AT_ONCE = 5_000
"""Probabilities of an answer beyond which it is put together in a thread: other requests would wait for it."""
MOST_BESIDE = 1_024
"""Rows on their way to shadows, which answer while no others wait: what comes beyond them is not asked of a shadow."""
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def texts_of(rows: str | list[contract.Row], inputs: list[str], most: int) -> list[str]:
    """One text a row; Refusal for too many rows or a column that is missing."""
    rows = [rows] if isinstance(rows, str) else rows
    if len(rows) > most:
        raise Refusal(
            413, "too_many_rows", f"{len(rows):,} rows came, at most {most:,} are allowed; send fewer"
        )
    texts = []
    for i, row in enumerate(rows):
        if isinstance(row, str) and len(inputs) == 1:
            texts.append(row)
            continue
        if isinstance(row, str):
            raise Refusal(
                422, "no_column", f"row {i} is a text; give an object with the columns {', '.join(inputs)}"
            )
        missing = [name for name in inputs if name not in row]
        if missing:
            raise Refusal(
                422, "no_column", f"row {i} lacks an input column; the task reads {', '.join(inputs)}"
            )
        texts.append(join_inputs(row, inputs))
    return texts


def answers_of(
    probabilities: np.ndarray, about: dict[str, Any], top: int | None, request_id: str
) -> list[dict[str, Any]]:
    """The answer of each row. `set`: the classes that hold the truth with 1 - alpha, None where no held-out rows are known."""
    classes, threshold = about["classes"], about["threshold"]
    order = np.argsort(-probabilities, axis=1, kind="stable")
    shown = order[:, :top]
    best = probabilities.max(1)
    unsure = np.zeros(len(best), bool) if threshold is None else best < threshold
    held = None
    if about["conformal"]:
        held = np.maximum((probabilities >= about["conformal"]["least"]).sum(1), 1)
    numbers = np.round(np.take_along_axis(probabilities, shown, 1), 6)
    out = []
    for i, (places, values) in enumerate(zip(shown.tolist(), numbers.tolist(), strict=True)):
        out.append(
            {
                "id": f"{request_id}-{i}",
                "label": classes[places[0]],
                "probability": values[0],
                "abstained": bool(unsure[i]),
                "set": None if held is None else [classes[c] for c in order[i, : held[i]].tolist()],
                "probabilities": {classes[c]: p for c, p in zip(places, values, strict=True)},
            }
        )
    return out


def packed(found: dict[str, Any], answers: list[dict[str, Any]]) -> bytes:
    """JSON of an answer, row by row: the encoder gives other threads no turn before it ends."""
    rows = ",".join(map(_ENCODER.encode, answers))
    return f'{_ENCODER.encode(found)[:-1]},"answers":[{rows}]}}'.encode("utf-8", "replace")


class Predicting:
    """From texts to answers: the version of the lane, the worker, the watch; a canary that fails gives way to the live one."""

    def __init__(self, service: Service) -> None:
        self.service, self.beside = service, 0

    async def __call__(
        self, task: str, texts: list[str], seconds: float, request_id: str
    ) -> tuple[np.ndarray, dict[str, Any], int]:
        """((n, C) probabilities, what is known of the version that gave them, tokens).

        Lane and version may be gone whenever this has waited, so both are looked up before and after.
        """
        service = self.service
        lane = service.traffic.lane(task)
        version = lane.pick(request_id)
        if version == lane.canary and not service.is_open(version):
            version = lane.live
        about = service.opened(version)
        until = time.monotonic() + seconds
        try:
            values, features, tokens = await self._rows(version, texts, seconds)
            service.answered(task, [(version, True)])
        except WorkerError as error:
            if error.kind in ("Late", "TooManyTokens"):
                raise
            if version != lane.canary:
                service.answered(task, [(version, False)])
                raise
            live = service.traffic.lane(task).live
            about = service.opened(live)
            values, features, tokens = await self._rows(live, texts, max(0.0, until - time.monotonic()))
            # a request that the live release cannot answer either says nothing of the canary
            service.answered(task, [(version, False), (live, True)])
            version = live
        service.watch.answered(task, about, request_id, values, features)
        now = service.traffic.lanes.get(task)
        if now is not None and now.shadow is not None and version == now.live:
            self._later(task, now.shadow, texts, seconds, request_id)
        metrics = service.metrics
        metrics.rows.labels(task, version).inc(len(texts))
        if about["threshold"] is not None:
            metrics.abstained.labels(task).inc(int((values.max(1) < about["threshold"]).sum()))
        return values, about, tokens

    async def _rows(self, version: str, texts: list[str], seconds: float, beside: bool = False) -> Any:
        header = {"version": version, "texts": texts, "most_tokens": self.service.limits.tokens}
        self.service.using[version] += 1
        try:
            return await self.service.link.rows({**header, "watched": True, "beside": beside}, seconds)
        finally:
            self.service.using[version] -= 1

    def _later(self, task: str, version: str, texts: list[str], seconds: float, request_id: str) -> None:
        """Ask the shadow too, unless rows that somebody waits for are many or the shadow has enough to do."""
        busy = self.service.room.rows >= self.service.room.most // 2
        if busy or (self.beside and self.beside + len(texts) > MOST_BESIDE):
            return
        self.beside += len(texts)
        self.service.later(self._beside(task, version, texts, seconds, request_id))

    async def _beside(
        self, task: str, version: str, texts: list[str], seconds: float, request_id: str
    ) -> None:
        """The shadow's answers, for the watch alone; where it fails there is nothing to compare, and no evidence."""
        try:
            if self.service.is_open(version):
                about = self.service.about[version]
                values, _, _ = await self._rows(version, texts, seconds, beside=True)
                self.service.watch.shadowed(task, request_id, about, values)
        except WorkerError:
            return
        finally:
            self.beside -= len(texts)


def add_routes(app: FastAPI, service: Service) -> None:
    """Add these routes."""
    predicting = Predicting(service)

    @app.post(
        PREDICT, responses=gives(answers.Predicted), openapi_extra=body(contract.Predict), tags=["tasks"]
    )
    async def predict(name: str, request: Request) -> Response:
        """Answer rows: label, probability, abstention, conformal set, probabilities, and the version that said so."""
        service.admit(request, name)
        if name not in service.traffic.lanes:
            raise Refusal(404, "no_task", "no such task is served; see /v1/tasks")
        asked = contract.read(contract.Predict, await service.body(request))
        # only now: a release may have been changed while the body came
        lane = service.traffic.lane(name)
        about = service.opened(lane.live)
        texts = texts_of(asked.rows, about["inputs"], service.limits.rows)
        seconds = min(service.limits.seconds, (asked.deadline_ms or 600_000) / 1000)
        request_id, state = request.state.id, request.state
        if not texts:
            nothing = {"task": name, "version": lane.live, "answers": [], "tokens": 0}
            return JSONResponse(nothing, headers={"X-Basewise-Version": lane.live})
        service.room.enter(len(texts))
        try:
            work = predicting(name, texts, seconds, request_id)
            values, about, tokens = await service.unless_gone(request, work)
        finally:
            service.room.leave(len(texts))
        version = about["version"]
        state.task, state.version, state.rows, state.tokens = name, version, len(texts), tokens
        service.metrics.tokens.labels("predict").inc(tokens)
        found = {"task": name, "version": version, "tokens": tokens}

        def whole() -> bytes:
            return packed(found, answers_of(values, about, asked.top, request_id))

        text = await asyncio.to_thread(whole) if values.size > MOST_AT_ONCE else whole()
        return Response(text, media_type="application/json", headers={"X-Basewise-Version": version})

    service.predict = predict

    @app.get("/v1/tasks", responses=gives(answers.Tasks), tags=["tasks"])
    async def tasks(request: Request) -> dict[str, Any]:
        """The tasks that the key opens: inputs, classes, base, thresholds, and the releases in use."""
        key = service.admit(request)
        return {"tasks": [_line(service, n) for n in service.traffic.lanes if key is None or key.may(n)]}

    _add_state(app, service)


def _add_state(app: FastAPI, service: Service) -> None:
    """Health, readiness and counters."""

    @app.get("/health", responses=gives(answers.Health, refused=()), tags=["state"])
    async def health() -> dict[str, Any]:
        """The process is alive; the digests of what it serves."""
        versions = {name: lane.live for name, lane in service.traffic.lanes.items()}
        return {"status": "alive", "versions": versions, "bases": _digests(service)}

    @app.get("/ready", responses=gives(answers.Ready, refused=(503,)), tags=["state"])
    async def ready() -> dict[str, Any]:
        """Whether requests are answered at once: a worker is there and releases are open; `unavailable` names tasks whose release is
        not."""
        service.check_ready()
        lanes = service.traffic.lanes
        away = [name for name, lane in lanes.items() if not service.is_open(lane.live)]
        return {"status": "ready", "tasks": len(lanes), "unavailable": away}

    @app.get("/metrics", tags=["state"], responses=gives("text/plain"), response_class=Response)
    async def metrics(request: Request) -> Response:
        """Counters for Prometheus; where keys are set, for a key of all tasks."""
        key = service.admit(request)
        if key is not None and not key.may("*"):
            raise Refusal(403, "other_task", "the key is for some tasks only; use one for all")
        service.metrics.waiting.set(service.room.rows)
        for name, lane in service.traffic.lanes.items():
            service.metrics.percent.labels(name).set(lane.percent)
        text, kind = await asyncio.to_thread(service.metrics.text)
        return Response(text, headers={"Content-Type": kind})


def _digests(service: Service) -> dict[str, str]:
    return {key: found["digest"] for key, found in service.bases.items() if found.get("digest")}


def _line(service: Service, name: str) -> dict[str, Any]:
    lane = service.traffic.lanes[name]
    about = service.about.get(lane.live, {"version": lane.live})
    shown = ("version", "method", "base", "base_digest", "classes", "inputs", "threshold", "conformal")
    line = {"name": name, **{k: about.get(k) for k in shown}, "open": service.is_open(lane.live)}
    return {**line, "shadow": lane.shadow, "canary": lane.canary, "percent": lane.percent}
