"""Around the routes of the service: errors as answers that show nothing of the inside, a line in the log, the quick way to predictions."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from basewise.core.errors import BasewiseError
from basewise.web.limits import NotKept, Refusal, headers_of
from basewise.web.link import WorkerError

LOG = logging.getLogger("basewise.serve")
PREDICT = "/v1/tasks/{name}/predict"
STOPPING = Refusal(503, "stopping", "the service is being stopped; send it again", 1.0)
STATUS = {"Late": 504, "TooManyTokens": 413, "WorkerGone": 503, "OutOfMemory": 413, "NotOpen": 503}


def refusal_of(error: Exception) -> Refusal:
    """What a client is told of an error: never more than a message for users."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, WorkerError):
        status = STATUS.get(error.kind, 422 if error.mendable else 500)
        message = error.message if error.mendable or error.kind in STATUS else "internal error"
        return Refusal(status, error.kind.lower(), message, 1.0 if status == 503 else None)
    if isinstance(error, NotKept):
        return Refusal(503, "not_kept", str(error), 5.0)
    if isinstance(error, BasewiseError):
        status = 404 if type(error).__name__ == "UnknownName" else 422
        return Refusal(status, type(error).__name__.lower(), str(error))
    if isinstance(error, HTTPException):
        return Refusal(error.status_code, "http", str(error.detail))
    return Refusal(500, "internal", "internal error")


def answer_of(refusal: Refusal, request_id: str) -> JSONResponse:
    """A refusal as JSON; the shape is that of OpenAI's errors, so that its clients understand it."""
    error = {"message": refusal.message, "type": refusal.code, "code": refusal.code, "request": request_id}
    return JSONResponse({"error": error}, refusal.status, headers_of(refusal))


class Outermost:
    """Around all routes of a service: a request id, a line in the log without user text, counters, and no error without an answer."""

    def __init__(self, app: Any, service: Any) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # a probe's HEAD is a GET whose body is not sent
        head = scope["method"] == "HEAD"
        inner = {**scope, "method": "GET"} if head else scope
        began, status = time.perf_counter(), 0
        request_id = secrets.token_hex(8)
        state = inner["state"] = scope.setdefault("state", {})
        state["id"] = request_id

        async def sending(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        try:
            if (name := _asked_task(inner)) is not None and self.service.predict is not None:
                await self._predict(name, inner, receive, sending)
            else:
                await self.app(inner, receive, sending)
        except asyncio.CancelledError:
            # the server stops, and has waited for this request for as long as it does
            if not status:
                await answer_of(STOPPING, request_id)(scope, receive, sending)
            raise
        except Exception as error:  # noqa: BLE001 - a client gets an answer, the log the kind of error
            LOG.error(json.dumps({"event": "error", "request": request_id, "error": type(error).__name__}))
            if not status:
                await answer_of(refusal_of(error), request_id)(scope, receive, sending)
        finally:
            route = state.get("route") or getattr(inner.get("route"), "path", "unknown")
            self._seen(scope["method"], route, status, time.perf_counter() - began, state)

    def _seen(self, method: str, route: str, status: int, seconds: float, state: dict[str, Any]) -> None:
        """Count a request and write its line."""
        self.service.metrics.seen(route, status, seconds)
        if LOG.isEnabledFor(logging.INFO):
            line = {"request": state["id"], "method": method, "route": route, "status": status}
            line |= {"ms": round(1000 * seconds, 1)}
            line |= {k: state[k] for k in ("key", "task", "version", "rows", "tokens") if k in state}
            LOG.info(json.dumps(line))

    async def _predict(self, name: str, scope: Any, receive: Any, send: Any) -> None:
        """The busiest route without the framework's way to it, which costs more than the rest of the front."""
        scope["state"]["route"] = PREDICT
        request = Request(scope, receive)
        try:
            answer = await self.service.predict(name, request)
        except (Refusal, WorkerError, BasewiseError) as error:
            answer = answer_of(refusal_of(error), request.state.id)
        await answer(scope, receive, send)


def _asked_task(scope: Any) -> str | None:
    """The task's name where this is a POST to the predict route."""
    path: str = scope["path"]
    before, _, after = PREDICT.partition("{name}")
    if scope["method"] != "POST" or not path.startswith(before) or not path.endswith(after):
        return None
    name = path[len(before) : len(path) - len(after)]
    return name if name and "/" not in name else None
