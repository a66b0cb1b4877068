"""Talking to a running service (`basewise serve`) over its own routes; its key is kept in this process and nowhere else."""

from __future__ import annotations

import http.client
import json
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from basewise.core.errors import InputError, RunError, UnknownName

SECONDS = 30.0
ADDRESS = "http://127.0.0.1:8000"
SAMPLE = re.compile(r"^basewise_(\w+?)(?:\{(.*)\})? ([-+0-9.eE]+|NaN|\+Inf)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class _Stays(urllib.request.HTTPRedirectHandler):
    """Follows nobody elsewhere: the key would go along."""

    def redirect_request(self, *_asked: Any) -> None:
        return None


# A service of one's own is asked directly, whatever proxy the environment names.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stays)


@dataclass(frozen=True, kw_only=True)
class Service:
    """Where a service is, the key that opens it, and the job that runs it when it was started from the pages."""

    address: str = ADDRESS
    key: str = ""
    job: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"https?://[^\s/?#]+", self.address):
            raise InputError(f"{self.address!r} is no address of a service", f"write it like {ADDRESS}")
        if not (self.key.isascii() and self.key.isprintable()):
            raise InputError(
                "the key holds signs that no key has", "copy it again from `basewise access add`"
            )

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON of a route. RunError where nobody answers, InputError with the service's own line where it refuses."""
        try:
            return json.loads(self.text(method, path, body))
        except ValueError:
            raise self._other("what answers sends no JSON") from None

    def lanes(self) -> dict[str, Any]:
        """All tasks, as /v1/admin/tasks has them: what only a service answers to an admin key. The errors of `ask`."""
        found = self.ask("GET", "/v1/admin/tasks")
        if not (isinstance(found, dict) and isinstance(found.get("tasks"), list)):
            raise self._other("what answers knows no tasks")
        return found

    def _other(self, why: object) -> RunError:
        """Somebody else listens there, or nobody."""
        return RunError(
            f"no service answers at {self.address} ({why})",
            "start one with `basewise serve`, or give its address",
        )

    def text(self, method: str, path: str, body: dict[str, Any] | None = None) -> str:
        """The text of a route, with the same errors."""
        headers = {"content-type": "application/json"} | (
            {"authorization": f"Bearer {self.key}"} if self.key else {}
        )
        content = None if body is None else json.dumps(body).encode()
        try:
            asked = urllib.request.Request(self.address + path, data=content, headers=headers, method=method)
            with _direct.open(asked, timeout=SECONDS) as answer:
                return str(answer.read().decode("utf-8", errors="replace"))
        except urllib.error.HTTPError as error:
            raise _refused(error) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            # HTTPException: an address that is none, or an answer that is no HTTP
            raise self._other(getattr(error, "reason", error) or type(error).__name__) from None

    def task(self, name: str, path: str = "") -> str:
        """A route of one task."""
        return f"/v1/tasks/{quote(name, safe='')}{path}"

    def admin(self, name: str, path: str) -> str:
        """A route that changes one task."""
        return f"/v1/admin/tasks/{quote(name, safe='')}{path}"


def _refused(error: urllib.error.HTTPError) -> InputError | RunError:
    """The service's own words."""
    try:
        with error:
            text = error.read().decode("utf-8", errors="replace")
        said = json.loads(text)["error"]
        message = str(said.get("message", said) if isinstance(said, dict) else said)
    except (ValueError, KeyError, TypeError, OSError, http.client.HTTPException):
        message = f"status {error.code}"
    if error.code == 404:
        return UnknownName(f"the service says: {message}")
    if error.code in (401, 403):
        return InputError(
            f"the service says: {message}", "give an admin key: `basewise access add NAME --admin`"
        )
    return InputError(f"the service says: {message}")


def samples(text: str) -> list[tuple[str, dict[str, str], float]]:
    """(name, labels, value) of each line of a Prometheus text that is the service's own."""
    matches = filter(None, map(SAMPLE.match, text.splitlines()))
    return [(m[1], dict(LABEL.findall(m[2] or "")), float(m[3])) for m in matches]


def latency(found: list[tuple[str, dict[str, str], float]]) -> list[dict[str, Any]]:
    """{"route", "requests", "median", "p99"} from the histogram's buckets: the upper end of the bucket that holds it, None beyond the
    last."""
    routes: dict[str, list[tuple[float, float]]] = {}
    for name, labels, value in found:
        if name == "request_seconds_bucket":
            routes.setdefault(labels["route"], []).append((float(labels["le"].replace("+Inf", "inf")), value))
    lines = []
    for route, buckets in sorted(routes.items()):
        buckets.sort()
        total = buckets[-1][1]
        if total:
            at = [next(le for le, count in buckets if count >= share * total) for share in (0.5, 0.99)]
            median, high = (None if le == float("inf") else le for le in at)
            lines.append({"route": route, "requests": int(total), "median": median, "p99": high})
    return lines
