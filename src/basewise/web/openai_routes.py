"""Routes as OpenAI's and text-embeddings-inference's: embeddings, completions, chat, models; streamed as server-sent events."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from basewise.web import answers, contract
from basewise.web.documents import body, gives
from basewise.web.keys import Key
from basewise.web.limits import Refusal
from basewise.web.link import WorkerError
from basewise.web.outermost import LOG, refusal_of
from basewise.web.service import Service
from basewise.web.upstream import Upstream

DEFAULT_TOKENS = 128
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "logprobs": (False,),
    "top_logprobs": (0,),
    "echo": (False,),
    "suffix": ("",),
    "best_of": (1,),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "audio": (),
}
"""Parameters of OpenAI's that change the answer and are not known here, with the values beside null that change nothing."""
SSE = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def vectors_of(values: np.ndarray, asked: contract.Embeddings) -> list[dict[str, Any]]:
    """The data of an embeddings answer; `dimensions` keeps the first numbers and brings them to length 1 again."""
    if asked.dimensions is not None:
        if asked.dimensions > values.shape[1]:
            raise Refusal(422, "dimensions", f"the base has {values.shape[1]} dimensions; ask for no more")
        values = values[:, : asked.dimensions]
        values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    made = []
    for i, row in enumerate(values.astype("<f4")):
        packed = (
            base64.b64encode(row.tobytes()).decode() if asked.encoding_format == "base64" else row.tolist()
        )
        made.append({"object": "embedding", "index": i, "embedding": packed})
    return made


def add_routes(app: FastAPI, service: Service) -> None:
    """Add these routes; where an upstream is set, the generating ones and unknown models go there."""
    upstream = Upstream(service.options.upstream) if service.options.upstream else None
    if upstream is not None:
        service.closing.append(upstream.close)
    _add_embeddings(app, service)
    _add_models(app, service, upstream)
    _add_texts(app, service, upstream)


async def _embed(service: Service, request: Request, name: str, texts: list[str]) -> tuple[np.ndarray, int]:
    """(n, width) unit rows and the tokens they took."""
    if name not in service.bases:
        raise Refusal(404, "no_model", "no such base is served; see /v1/models")
    service.check_base(name)
    if len(texts) > service.limits.rows:
        most = service.limits.rows
        raise Refusal(
            413, "too_many_rows", f"{len(texts):,} texts came, at most {most:,} are allowed; send fewer"
        )
    service.room.enter(len(texts))
    try:
        header = {"name": name, "texts": texts, "most_tokens": service.limits.tokens}
        work = service.link.rows(header, service.limits.seconds)
        values, _, tokens = await service.unless_gone(request, work)
    finally:
        service.room.leave(len(texts))
    request.state.rows, request.state.tokens = len(texts), tokens
    service.metrics.tokens.labels("embed").inc(tokens)
    return values, tokens


def _add_embeddings(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/embeddings",
        responses=gives(answers.Vectors),
        openapi_extra=body(contract.Embeddings),
        tags=["bases"],
    )
    async def embeddings(request: Request) -> Response:
        """Vectors of a served base, as OpenAI's route: token means of the last layer, of length 1."""
        key = service.admit(request)
        asked = contract.read(contract.Embeddings, await service.body(request))
        service.permit(key, asked.model)
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        values, tokens = await _embed(service, request, asked.model, texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        data = vectors_of(values, asked)
        return JSONResponse({"object": "list", "data": data, "model": asked.model, "usage": usage})

    @app.post("/embed", responses=gives(answers.Plain), openapi_extra=body(contract.Embed), tags=["bases"])
    async def embed(request: Request) -> Response:
        """Vectors as text-embeddings-inference's route; without a model the first base."""
        key = service.admit(request)
        asked = contract.read(contract.Embed, await service.body(request))
        name = asked.model or next(iter(service.bases), "")
        service.permit(key, name)
        if not asked.normalize:
            raise Refusal(422, "normalize", "vectors have length 1 here; leave normalize out")
        texts = [asked.inputs] if isinstance(asked.inputs, str) else asked.inputs
        values, _ = await _embed(service, request, name, texts)
        return JSONResponse(np.round(values, 7).tolist())


def _add_models(app: FastAPI, service: Service, upstream: Upstream | None) -> None:
    async def listed(key: Key | None) -> list[dict[str, Any]]:
        """The lines of the models that a key opens."""
        about = {"object": "model", "created": 0, "owned_by": "basewise"}
        lines = [
            {"id": name, **about, "provides": found["provides"]}
            for name, found in service.bases.items()
            if key is None or key.may(name)
        ]
        if upstream is not None and (key is None or key.may("*")):
            lines += await upstream.models()
        return lines

    @app.get("/v1/models", responses=gives(answers.Models), tags=["bases"])
    async def models(request: Request) -> dict[str, Any]:
        """The bases that the key opens, and what each can do."""
        return {"object": "list", "data": await listed(service.admit(request))}

    # a base of the hub has a slash in its name
    @app.get("/v1/models/{name:path}", responses=gives(answers.Model), tags=["bases"])
    async def model(name: str, request: Request) -> dict[str, Any]:
        """One of these bases."""
        for line in await listed(service.admit(request, name)):
            if line.get("id") == name:
                return line
        raise Refusal(404, "no_model", "no such base is served; see /v1/models")


def _add_texts(app: FastAPI, service: Service, upstream: Upstream | None) -> None:
    async def answer(request: Request, model: type[contract.Sampled], chat: bool) -> Response:
        key = service.admit(request)
        raw = await service.body(request)
        asked = contract.read(model, raw)
        service.permit(key, asked.model)
        known = service.bases.get(asked.model)
        if upstream is not None and (known is None or "generate" not in known["provides"]):
            return await upstream.post(request.url.path, raw, asked.stream)
        if known is None:
            raise Refusal(404, "no_model", "no such base is served; see /v1/models")
        if "generate" not in known["provides"]:
            raise Refusal(422, "cannot_generate", "this base cannot generate; use a decoder, see /v1/models")
        service.check_base(asked.model)
        made = Texting(service, asked, chat, request.state.id)
        if asked.stream:
            await service.unless_gone(request, made.begin())
            return StreamingResponse(made.events(request), media_type="text/event-stream", headers=SSE)
        return JSONResponse(await service.unless_gone(request, made.whole()))

    @app.post(
        "/v1/completions",
        responses=gives(answers.Text, "text/event-stream"),
        openapi_extra=body(contract.Completion),
        tags=["bases"],
    )
    async def completions(request: Request) -> Response:
        """A text after a prompt, as OpenAI's route; with `stream` as server-sent events."""
        return await answer(request, contract.Completion, False)

    @app.post(
        "/v1/chat/completions",
        responses=gives(answers.Chat, "text/event-stream"),
        openapi_extra=body(contract.ChatCompletion),
        tags=["bases"],
    )
    async def chat_completions(request: Request) -> Response:
        """A turn of a conversation, as OpenAI's route; for bases with a chat template."""
        return await answer(request, contract.ChatCompletion, True)


class Texting:
    """One generated text: asked for in the worker, shaped as OpenAI's answers."""

    def __init__(self, service: Service, asked: Any, chat: bool, request_id: str) -> None:
        self.service, self.asked, self.chat = service, asked, chat
        # drawn here, so that a text which another worker has to begin again is the same
        self.seed = secrets.randbits(63) if asked.seed is None else asked.seed
        self.id = ("chatcmpl-" if chat else "cmpl-") + request_id
        self.kind = "chat.completion" if chat else "text_completion"
        # at once: a refusal comes before a stream begins
        self.header = self._header()
        self._pieces = service.link.pieces(self.header)
        self._first: tuple[str, dict[str, Any] | None] | None = None

    def _header(self) -> dict[str, Any]:
        """What the worker is asked; Refusal of what it could not do or would do otherwise than asked."""
        asked, limits = self.asked, self.service.limits
        _check_known(asked.model_extra or {})
        most = getattr(asked, "max_completion_tokens", None) or asked.max_tokens or DEFAULT_TOKENS
        if most > limits.new_tokens:
            raise Refusal(
                413, "too_many_tokens", f"{most:,} tokens to generate, at most {limits.new_tokens:,}"
            )
        stop = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
        options: dict[str, Any] = {"most_tokens": most, "stop": [s for s in stop if s]}
        options |= {"temperature": 1.0 if asked.temperature is None else asked.temperature}
        options |= {"top_p": asked.top_p or 1.0, "seed": self.seed}
        found: dict[str, Any] = {"name": asked.model, "options": options, "seconds": limits.seconds}
        if self.chat:
            turns = [{"role": m.role, "content": _content(m.content)} for m in asked.messages]
            return {**found, "messages": turns}
        prompt = asked.prompt
        if isinstance(prompt, list) and len(prompt) == 1:
            prompt = prompt[0]
        if not isinstance(prompt, str):
            raise Refusal(422, "one_prompt", "prompt is not one text; send one text a request, and no tokens")
        return {**found, "prompt": prompt}

    async def begin(self) -> None:
        """Wait for the first piece: what the worker refuses, as a prompt that leaves no room, is refused before a stream begins."""
        self._first = await anext(self._pieces)

    async def _all(self) -> AsyncIterator[tuple[str, dict[str, Any] | None]]:
        if self._first is not None:
            yield self._first
        async for found in self._pieces:
            yield found

    async def whole(self) -> dict[str, Any]:
        """The answer in one piece."""
        text, end = "", {"ended": "stop", "prompt_tokens": 0, "tokens": 0}
        async for piece, ended in self._all():
            text += piece
            end = ended or end
        said = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        choice = {"index": 0, **said, "finish_reason": end["ended"], "logprobs": None}
        return {**self._frame(self.kind), "choices": [choice], "usage": _usage(end)}

    async def events(self, request: Request) -> AsyncIterator[str]:
        """The answer as server-sent events; an error midway is one more event, then the stream ends."""
        kind = "chat.completion.chunk" if self.chat else self.kind
        options = self.asked.stream_options
        # as OpenAI does: null in every event, then the numbers in one of their own
        told: dict[str, Any] = {"usage": None} if options is not None and options.include_usage else {}
        first = True
        try:
            async for piece, end in self._all():
                said: dict[str, Any] = {"text": piece}
                if self.chat:
                    delta = {"content": piece, **({"role": "assistant"} if first else {})}
                    said = {"delta": delta}
                first = False
                reason = end["ended"] if end else None
                choice = {"index": 0, **said, "finish_reason": reason, "logprobs": None}
                yield _event({**self._frame(kind), "choices": [choice], **told})
                if end and told:
                    yield _event({**self._frame(kind), "choices": [], "usage": _usage(end)})
            yield "data: [DONE]\n\n"
        except (WorkerError, Refusal) as error:
            refusal = refusal_of(error)
            LOG.warning(
                json.dumps({"event": "stream ended", "request": request.state.id, "code": refusal.code})
            )
            yield _event({"error": {"message": refusal.message, "type": refusal.code, "code": refusal.code}})

    def _frame(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": int(time.time()), "model": self.asked.model}


def _check_known(more: dict[str, Any]) -> None:
    """Refusal of a parameter that would change the answer."""
    for name, neutral in NEUTRAL.items():
        value = more.get(name)
        # True == 1 and False == 0, but `logprobs: 0` asks for something
        same = any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in neutral)
        if value is not None and not same:
            raise Refusal(422, "not_supported", f"{name} is not supported by this base; leave {name} out")


def _content(content: str | list[dict[str, Any]]) -> str:
    """The text of a message; parts that are no text are refused."""
    if isinstance(content, str):
        return content
    if any(not isinstance(p.get("text"), str) for p in content):
        raise Refusal(422, "only_text", "a message has parts that are no text; send text alone")
    return "".join(p["text"] for p in content)


def _usage(end: dict[str, Any]) -> dict[str, int]:
    total = end["prompt_tokens"] + end["tokens"]
    return {"prompt_tokens": end["prompt_tokens"], "completion_tokens": end["tokens"], "total_tokens": total}


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
