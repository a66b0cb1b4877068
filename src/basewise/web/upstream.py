"""Large decoders: the generating routes in front of another OpenAI-compatible server, such as vllm's.

Keys, limits and logs stay here; the body goes on as it came, and the answer comes back as it is, streamed or whole.
`vllm:MODEL` starts `vllm serve MODEL` on a free port of this machine, where vllm is installed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

from fastapi.responses import Response, StreamingResponse

from basewise.core.errors import InputError, MissingExtra
from basewise.web.limits import Refusal

SECONDS = 600.0


class Upstream:
    """An OpenAI-compatible server: `http://…` of one that runs, or `vllm:MODEL` to start."""

    def __init__(self, where: str) -> None:
        if importlib.util.find_spec("httpx") is None:
            raise MissingExtra.of("httpx", "serve")
        import httpx

        self._process: subprocess.Popen[bytes] | None = None
        if where.startswith("vllm:"):
            where = self._start_vllm(where.removeprefix("vllm:"))
        if not where.startswith(("http://", "https://")):
            raise InputError(f"the upstream {where!r} is no address", "give http://HOST:PORT or vllm:MODEL")
        self._client = httpx.AsyncClient(base_url=where.rstrip("/"), timeout=SECONDS)

    def _start_vllm(self, model: str) -> str:
        if importlib.util.find_spec("vllm") is None:
            raise MissingExtra.of("vllm", "vllm")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        words = ["-m", "vllm.entrypoints.openai.api_server", "--model", model, "--host", "127.0.0.1"]
        self._process = subprocess.Popen([sys.executable, *words, "--port", str(port)])
        return f"http://127.0.0.1:{port}"

    async def models(self) -> list[dict[str, Any]]:
        """What it serves; nothing while it does not answer."""
        import httpx

        try:
            found = (await self._client.get("/v1/models", timeout=5)).json()["data"]
        except (httpx.HTTPError, ValueError, KeyError):
            return []
        return [m for m in found if isinstance(m, dict)]

    async def post(self, path: str, body: bytes, stream: bool) -> Response:
        """Its answer to a body; 503 where it cannot be reached."""
        import httpx

        request = self._client.build_request(
            "POST", path, content=body, headers={"Content-Type": "application/json"}
        )
        try:
            answer = await self._client.send(request, stream=True)
            kind = answer.headers.get("content-type", "application/json")
            if stream and answer.status_code == 200:
                return StreamingResponse(_chunks(answer), media_type=kind)
            content = await answer.aread()
            await answer.aclose()
        except httpx.HTTPError:
            raise Refusal(
                503, "upstream", "the server behind this one does not answer; come again", 5.0
            ) from None
        if answer.status_code >= 500:
            raise Refusal(503, "upstream", "the server behind this one failed; come again", 5.0)
        return Response(content, answer.status_code, media_type=kind)

    async def close(self) -> None:
        """End the connection, and the server where it was started here."""
        await self._client.aclose()
        if self._process is not None:
            self._process.terminate()
            try:
                await asyncio.to_thread(self._process.wait, 10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                await asyncio.to_thread(self._process.wait)


async def _chunks(answer: Any) -> AsyncIterator[bytes]:
    import httpx

    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    except httpx.HTTPError:
        return
    finally:
        await answer.aclose()
