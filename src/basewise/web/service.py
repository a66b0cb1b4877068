"""The service: one address for many tasks on shared bases. Routes live in files of their own; here is what they share.

Two processes: this one speaks HTTP and decides who may ask what; its worker (`link.py`) computes. `Service` holds what both need to
know, `create_app` joins the routes, `run` serves until stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from basewise import __version__
from basewise.core.errors import BasewiseError, InputError, RunError
from basewise.core.files import lock
from basewise.steps.serve import ServeOptions, authority
from basewise.web import documents
from basewise.web.keys import Key, Keys
from basewise.web.limits import Buckets, Refusal, Room, check_depth, read_body
from basewise.web.link import Link, WorkerError
from basewise.web.metrics import Metrics
from basewise.web.outermost import LOG, Outermost, answer_of, refusal_of
from basewise.web.traffic import Traffic
from basewise.web.watch import Watch

T = TypeVar("T")
MEND_SECONDS = 30.0
STOP_LOOK_SECONDS = 0.1
"""How often a service that is starting looks whether it was told to stop."""


class Service:
    """What the routes share: worker, traffic, watch, keys, limits, counters; `tasks` and `bases` by name, as the worker tells of them."""

    def __init__(self, folders: tuple[str, ...], options: ServeOptions) -> None:
        self.options, self.limits = options, options.limits
        state = Path(options.state)
        self.keys = Keys(state / "keys.json")
        self.traffic = Traffic(state / "traffic.json")
        self.metrics = Metrics()
        self.watch = Watch(state / "watch.db", self.metrics)
        self.link = Link(on_restart=self.metrics.restarts.inc)
        self.room, self.buckets = Room(self.limits.waiting_rows), Buckets()
        self.about: dict[str, dict[str, Any]] = {}
        self.bases: dict[str, dict[str, Any]] = {}
        self.named: set[str] = set()
        """Bases that were named at the start: they are served without a task, too."""
        self.predict: Callable[[str, Request], Awaitable[Response]] | None = None
        self.using: Counter[str] = Counter()
        self.background: set[asyncio.Task[Any]] = set()
        self.closing: list[Callable[[], Awaitable[None]]] = []
        self.changing = asyncio.Lock()
        self._folders = folders

    async def start(self) -> None:
        """Open everything: what the state says is served, then the folders that were given."""
        await self.link.start()
        for version, folder in list(self.traffic.folders.items()):
            await self._reopen(version, folder)
        self.traffic.keep(set(self.about))
        self.later(self._mend_forever())
        given: dict[str, dict[str, Any]] = {}
        for folder in self._folders:
            about = await self.open(folder)
            other = given.setdefault(about["task"], about)
            if other["version"] != about["version"]:
                raise InputError(
                    f"{other['folder']} and {about['folder']} are both served as {about['task']}",
                    "rename one of the folders, or release it under another name",
                )
        for about in given.values():
            self.traffic.start(about["task"], about["version"], about["folder"], set(self.about))
        for name in self.options.bases:
            try:
                found = await self.link.open_base(name)
            except WorkerError as error:
                raise RunError(error.message if error.mendable else f"{name} cannot be opened", "") from error
            self.bases[found["key"]] = found
            self.named.add(found["key"])
        self.watch.start()

    async def stop(self) -> None:
        """End the worker and what the routes have opened (`closing`); what the watch has is written."""
        for task in self.background:
            task.cancel()
        for close in self.closing:
            await close()
        await self.link.stop()
        await asyncio.to_thread(self.watch.stop)

    async def _reopen(self, version: str, folder: str) -> None:
        """A release of the state; one that is gone or changed is told, and requests for it are refused until it is back."""
        try:
            self._known(await self.link.open(folder, version))
        except WorkerError as error:
            LOG.warning(json.dumps({"event": "not reopened", "version": version, "why": error.message}))

    async def _mend_forever(self) -> None:
        """Now and then, try again to open what could not be opened."""
        while True:
            await asyncio.sleep(MEND_SECONDS)
            async with self.changing:
                await self.mend()

    async def mend(self) -> None:
        """Try once more to open what could not be opened: its folder may be back."""
        for version, folder in list(self.traffic.folders.items()):
            if version not in self.about:
                await self._reopen(version, folder)
        if self.link.failed:
            await self.link.mend()
            LOG.warning(json.dumps({"event": "mended", "left": self.link.failed}))

    def is_open(self, version: str) -> bool:
        """Whether the worker can answer for a version."""
        return version in self.about and version not in self.link.failed

    def opened(self, version: str) -> dict[str, Any]:
        """What is known of a version; Refusal (503) where it could not be opened again."""
        if not self.is_open(version):
            raise Refusal(
                503,
                "not_open",
                f"release {version} could not be opened again; its operator must put its folder back or replace it",
                MEND_SECONDS,
            )
        return self.about[version]

    def check_base(self, name: str) -> None:
        """Refusal (503) where a new worker could not open a base again."""
        if f"base:{name}" in self.link.failed:
            said = "the base could not be opened again; its operator must bring its files back"
            raise Refusal(503, "not_open", said, MEND_SECONDS)

    def check_ready(self) -> None:
        """Refusal (503) where a worker is being started, or no task's live release is open: one that is away must not take the others
        out of the rotation."""
        if not self.link.ready.is_set():
            raise Refusal(503, "not_ready", "a worker is being started; come again", 1.0)
        lanes = list(self.traffic.lanes.values())
        if lanes and not any(self.is_open(lane.live) for lane in lanes):
            self.opened(lanes[0].live)

    async def open(self, folder: str) -> dict[str, Any]:
        """Open a folder in the worker; BasewiseError says what is wrong with it."""
        try:
            return self._known(await self.link.open(str(Path(folder).resolve())))
        except WorkerError as error:
            raise RunError(error.message if error.mendable else f"{folder} cannot be opened", "") from error

    def _known(self, about: dict[str, Any]) -> dict[str, Any]:
        self.about[about["version"]] = about
        self.watch.refer(about)
        if about["base"] and about["embeds"]:
            self.bases.setdefault(
                about["base"], {"key": about["base"], "digest": about["base_digest"], "provides": ["embed"]}
            )
        return about

    def outcomes(self, task: str, found: list[tuple[str, bool, bool | None]]) -> str | None:
        """Truths to the lane of a task; a state that cannot be written costs this evidence and no answer."""
        try:
            return self.traffic.outcomes(task, found)
        except BasewiseError as error:
            LOG.warning(json.dumps({"event": "evidence not kept", "task": task, "why": error.message}))
            return None

    def answered(self, task: str, found: list[tuple[str, bool]]) -> None:
        """Which versions could answer a request; as `outcomes` it costs no answer."""
        try:
            self.traffic.answered(task, found)
        except BasewiseError as error:
            LOG.warning(json.dumps({"event": "evidence not kept", "task": task, "why": error.message}))

    async def forget_unused(self) -> None:
        """Close versions that no lane names and no request uses any more, and bases that nothing else uses."""
        for version in set(self.about) - set(self.traffic.folders):
            if self.using[version]:
                # the next change closes it
                continue
            del self.about[version]
            self.metrics.forget(version)
            await self.link.close(version)
        used = self.named | {about["base"] for about in self.about.values()}
        self.bases = {name: found for name, found in self.bases.items() if name in used}

    def admit(self, request: Request, task: str | None = None, admin: bool = False) -> Key | None:
        """The key of a request. Refusal: 401 without a good one, 403 for another task or no admin, 429 too often."""
        given = request.headers.get("authorization", "")
        scheme, _, secret = given.partition(" ")
        key = None
        try:
            found = self.keys.find(secret.strip())
        except BasewiseError as error:
            # damaged: nobody is let in, and a client learns no path
            LOG.error(json.dumps({"event": "keys not read", "why": str(error)}))
            raise Refusal(
                503, "no_keys", "the service cannot read its keys; its operator's log says why"
            ) from error
        if admin or self.keys.needed:
            key = found if scheme.lower() == "bearer" else None
            if key is None or key.expired:
                said = "the key has expired" if key else "no valid key came"
                raise Refusal(401, "no_key", f"{said}; send one as: Authorization: Bearer KEY")
            if admin and not key.admin:
                raise Refusal(403, "not_admin", "the key may not change releases; use an admin key")
            if task is not None:
                self.permit(key, task)
            self.buckets.take(key.id, key.rate)
            request.state.key = key.id
        return key

    @staticmethod
    def permit(key: Key | None, task: str) -> None:
        """Refusal (403) where an admitted key is for other tasks or bases than this one."""
        if key is not None and not key.may(task):
            raise Refusal(403, "other_task", "the key is for other tasks; use one for this task")

    async def body(self, request: Request) -> bytes:
        """The body within the limits."""
        limits = self.limits
        length = request.headers.get("content-length")
        try:
            body = await read_body(request.stream(), length, limits.body_bytes, limits.seconds)
        except ClientDisconnect:
            raise Refusal(499, "gone", "the client went away") from None
        check_depth(body, limits.depth)
        return body

    async def unless_gone(self, request: Request, work: Awaitable[T]) -> T:
        """The result of `work`, which is given up when the client goes away."""
        task = asyncio.ensure_future(work)
        done, _ = await asyncio.wait({task}, timeout=0.1)
        if not done:
            gone = asyncio.ensure_future(_until_gone(request))
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                raise Refusal(499, "gone", "the client went away")
            gone.cancel()
        return task.result()

    def later(self, work: Any) -> None:
        """Run something beside the requests."""
        task = asyncio.ensure_future(work)
        self.background.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self.background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            LOG.warning(json.dumps({"event": "background work failed", "error": type(error).__name__}))


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _methods(app: FastAPI, request: Request) -> set[str]:
    """What the routes of a path take."""
    there = [route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE]
    found = {method for route in there for method in getattr(route, "methods", None) or ()}
    return found | {"HEAD"} if "GET" in found else found


def create_app(service: Service) -> Any:
    """The ASGI application of a service."""
    from basewise.web import admin_routes, openai_routes, predict_routes, watch_routes

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.stop()

    app = FastAPI(title="basewise", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)

    async def refuse(request: Request, error: Exception) -> Response:
        answer = answer_of(refusal_of(error), request.state.id)
        if isinstance(error, HTTPException):
            answer.headers.update(error.headers or {})
            # the framework names only what the first of a path's routes takes
            if error.status_code == 405:
                answer.headers["Allow"] = ", ".join(sorted(_methods(app, request)))
        return answer

    for kind in (Refusal, WorkerError, BasewiseError, HTTPException, Exception):
        app.add_exception_handler(kind, refuse)
    for routes in (predict_routes, openai_routes, admin_routes, watch_routes):
        routes.add_routes(app, service)

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> str:
        return documents.page(app.openapi())

    documents.describe(app)
    return Outermost(app, service)


def run(folders: tuple[str, ...], options: ServeOptions, held: socket.socket) -> None:
    """Serve on a socket that has its address until stopped; one JSON line a request on standard error unless quiet. RunError where
    the state folder is in use."""
    # a second service would write its own traffic.json over that of the first
    path = Path(options.state) / ".service.lock"
    # where nothing can be written, nothing is overwritten
    if path.parent.is_dir() and not os.access(path.parent, os.W_OK):
        _serve(folders, options, held)
        return
    with lock(path, wait=False, what="the state folder", option="--state"):
        _serve(folders, options, held)


def _serve(folders: tuple[str, ...], options: ServeOptions, held: socket.socket) -> None:
    import uvicorn

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    LOG.handlers, LOG.propagate = [handler], False
    LOG.setLevel(logging.WARNING if options.quiet else logging.INFO)
    service = Service(folders, options)
    app = create_app(service)
    failed: list[BaseException] = []
    start = service.start

    async def starting() -> None:
        opening = asyncio.ensure_future(start())
        while not opening.done() and not server.should_exit:
            await asyncio.wait({opening}, timeout=STOP_LOOK_SECONDS)
        # told to stop: what is still to be opened is not waited for
        if not opening.done():
            opening.cancel()
            await service.stop()
            raise asyncio.CancelledError
        try:
            opening.result()
        except BasewiseError as error:
            failed.append(error)
            await service.stop()
            raise
        if options.announce is not None:
            at = f"http://{authority(options.host, held.getsockname()[1])}"
            options.announce(f"serving on {at}, how to ask: {at}/docs")

    service.start = starting  # type: ignore[method-assign]
    config = uvicorn.Config(
        app,
        log_level="critical",
        access_log=False,
        timeout_graceful_shutdown=10,
        timeout_keep_alive=30,
        server_header=False,
    )
    server = uvicorn.Server(config)
    try:
        server.run(sockets=[held])
    except KeyboardInterrupt:
        return
    except SystemExit:
        # so uvicorn ends where the start failed, for which there is a better line, or was told to stop
        if not failed and not server.should_exit:
            raise
    if failed:
        raise failed[0]
