"""Guard: who may talk to the app, and how much. In front of every route, before anything is read or computed.

The app listens on loopback, which other users of the machine and every page in the browser can reach too. So: a random token,
once in the address that the command prints and then in a cookie; the Host header must be ours (a page of another site that
points its name at 127.0.0.1 is refused); what changes something must come from one of our own pages (Origin); bodies are counted
as they come in; and the pages forbid themselves scripts and connections of others.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlencode

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
COOKIE = "basewise-{port}"
"""A cookie is sent to every port of a host: each app has one of its own name, or a second app would shut the first one's browser out."""
POLICY = (
    "default-src 'none'; style-src 'self'; style-src-attr 'unsafe-inline'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}
# the look of the page that says what is wrong; nothing of the user's
OPEN = ("/static/",)
READS = ("GET", "HEAD")


@dataclass(frozen=True)
class Guard:
    """The app behind its checks. `hosts`: accepted Host headers; `most_bytes`: of a body; `refuse`: a page that says why not."""

    app: Callable[[Scope, Receive, Send], Awaitable[None]]
    token: str
    port: int
    hosts: frozenset[str]
    most_bytes: int
    refuse: Callable[[int, str], Response]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        answer = self.check(scope, headers)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {key.lower() for key, _ in message["headers"]}
                extra = [(key, value) for key, value in HEADERS.items() if key not in names]
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        if answer is not None:
            await answer(scope, receive, send_guarded)  # type: ignore[arg-type]
            return
        await self._counted(scope, receive, send_guarded)

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and count its body; above the limit it ends with 413, whatever length was announced."""
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.most_bytes:
                raise HTTPException(413, self.too_large())
            return message

        await self.app(scope, counted, send)

    def too_large(self) -> str:
        return (
            f"the file is larger than {self.most_bytes / 1e6:,.0f} MB; run `basewise choose FILE` in a terminal, "
            "its run appears here, or give fewer rows"
        )

    def check(self, scope: Scope, headers: dict[str, str]) -> Response | None:
        """A refusal, the redirect that sets the cookie, or None when the request may pass."""
        if headers.get("host", "") not in self.hosts:
            return self.refuse(
                400, "this app answers on 127.0.0.1 and localhost only; use the address that it printed"
            )
        if scope["path"].startswith(OPEN):
            return None
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if scope["method"] == "GET" and self.same(query.get("token", [""])[0]):
            return self._welcome(scope["path"], query)
        if not self.same(cookie_of(headers, COOKIE.format(port=self.port))):
            return self.refuse(
                403, "this browser has not been let in; open the address that `basewise ui` printed"
            )
        if scope["method"] in READS:
            return None
        origin = headers.get("origin")
        ours = {f"http://{host}" for host in self.hosts}
        if origin not in ours and not (origin is None and headers.get("sec-fetch-site") == "same-origin"):
            return self.refuse(403, "the request came from another site; use the forms of this app")
        if int_of(headers.get("content-length", "0")) > self.most_bytes:
            return self.refuse(413, self.too_large())
        return None

    def same(self, given: str) -> bool:
        """Whether a token is ours, in constant time."""
        return hmac.compare_digest(given.encode(), self.token.encode())

    def _welcome(self, path: str, query: dict[str, list[str]]) -> Response:
        """Keep the token in a cookie and take it out of the address."""
        rest = urlencode([(k, v) for k, values in query.items() if k != "token" for v in values])
        where = "/" + path.lstrip("/") + (f"?{rest}" if rest else "")
        answer = RedirectResponse(where, status_code=303)
        answer.set_cookie(COOKIE.format(port=self.port), self.token, httponly=True, samesite="lax", path="/")
        return answer


def cookie_of(headers: dict[str, str], name: str) -> str:
    """The token in the request's cookie of this name, or nothing."""
    try:
        jar = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return jar[name].value if name in jar else ""


def int_of(text: str) -> int:
    """A header's whole number; 0 where it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
