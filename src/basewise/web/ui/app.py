"""app: the routes joined, errors as pages, and the server on loopback."""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

from basewise.core.errors import BasewiseError, InputError
from basewise.core.rundir import check_place
from basewise.web.ui import shell
from basewise.web.ui.guard import Guard
from basewise.web.ui.pages import ROUTERS

HOST = "127.0.0.1"
MOST_BYTES = 512_000_000
"""Of one upload; larger tables are given to the command line by their path."""
PATIENCE = 4.0
"""Seconds; most tables are looked over sooner."""


def create_app(
    root: Path, token: str, port: int, most_bytes: int = MOST_BYTES, patience: float | None = PATIENCE
) -> Any:
    """The ASGI app over a folder of runs. `port`: the one that browsers name in their Host header; `patience`: seconds that a page
    waits for an audit before it shows how far it is, None for its end."""
    app = FastAPI(title="basewise", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.root, app.state.patience = Path(root), patience
    for router in ROUTERS:
        app.include_router(router)

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        """The stylesheet and the script."""
        if name == "app.css":
            return Response(shell.stylesheet(), media_type="text/css")
        if name == "app.js":
            return FileResponse(shell.STATIC / name, media_type="text/javascript")
        raise HTTPException(404)

    app.add_exception_handler(BasewiseError, _mendable)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _http)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _broken)
    hosts = frozenset({f"{HOST}:{port}", f"localhost:{port}"})
    return Guard(app=app, token=token, port=port, hosts=hosts, most_bytes=most_bytes, refuse=shell.refusal)


def came_from(request: Request) -> str:
    """The path of our own page that a request came from, as the browser names it; "" where that is unknown or this very page."""
    page = urlsplit(request.headers.get("referer", ""))
    if page.netloc != request.headers.get("host") or not page.path or page.path == request.url.path:
        return ""
    return "/" + page.path.lstrip("/") + (f"?{page.query}" if page.query else "")


def _mendable(request: Request, error: BasewiseError) -> Response:
    return shell.refusal(shell.status_of(error), str(error), came_from(request))


def _http(request: Request, error: HTTPException) -> Response:
    words = {
        404: "there is no such page; the address may be old",
        405: "this page is not used that way; go back and use its form",
    }
    said = words.get(error.status_code, str(error.detail))
    return shell.refusal(error.status_code, said, came_from(request))


def _broken(request: Request, error: Exception) -> Response:
    return shell.refusal(
        500, "something broke that should not; the terminal that runs `basewise ui` says where"
    )


def serve(root: Path, port: int, announce: Callable[[str], None]) -> None:
    """Serve until Ctrl-C; `announce` gets the address with its token. Port 0 takes a free one."""
    import uvicorn

    check_place(root)
    root.mkdir(parents=True, exist_ok=True)
    listening = _bind(port)
    token, port = secrets.token_urlsafe(24), listening.getsockname()[1]
    app = create_app(root.resolve(), token, port)
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, lifespan="off")
    announce(f"http://{HOST}:{port}/?token={token}")
    with listening:
        uvicorn.Server(config).run(sockets=[listening])


def _bind(port: int) -> socket.socket:
    """A listening socket on loopback; InputError when the port cannot be had."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen(64)
    except (OSError, OverflowError) as error:
        listening.close()
        used = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        why = "is in use" if used else f"cannot be used: {error}"
        raise InputError(f"port {port} {why}", "give another --port; 0 takes a free one") from None
    return listening
