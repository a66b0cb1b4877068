"""Bodies of requests: their shape, checked before anything else; the same models describe them in the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from basewise.web.limits import Refusal

Cell = str | bool | int | float | None
Row = str | dict[str, Cell]
Body = TypeVar("Body", bound=BaseModel)


class Strict(BaseModel):
    """No unknown names, no numbers that JSON does not have (NaN, Infinity); for routes of our own."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Predict(Strict):
    """Rows to answer: texts, or objects with the task's input columns."""

    rows: str | list[Row] = Field(
        description="One text, or a list of texts or of objects with the input columns."
    )
    top: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None,
        description="How many of the most probable classes to give with each row; all when left out.",
    )
    deadline_ms: Annotated[int, Field(ge=1, le=600_000)] | None = Field(
        default=None, description="Answer within this time, or 504."
    )


class Label(Strict):
    """The truth of one answered row."""

    id: Annotated[str, Field(min_length=1, max_length=80)] = Field(description="`id` of the answer.")
    label: Annotated[str, Field(max_length=1_000)] | bool | int | float = Field(
        description="Name of the class; a number or a boolean stands for what it is in a table."
    )


class Labels(Strict):
    """Truths that came later."""

    labels: Annotated[list[Label], Field(min_length=1, max_length=10_000)]


class Change(Strict):
    """A release by its folder on the server; `percent` for a canary: 1, 5, 25 or 100."""

    folder: Annotated[str, Field(min_length=1, max_length=4_096)]
    percent: Literal[1, 5, 25, 100] | None = None


class Embeddings(BaseModel):
    """As OpenAI's: texts to vectors of a served base."""

    model: Annotated[str, Field(max_length=200)]
    input: str | Annotated[list[str], Field(min_length=1)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1, le=100_000)] | None = None
    user: str | None = None


class Embed(BaseModel):
    """As text-embeddings-inference's."""

    inputs: str | Annotated[list[str], Field(min_length=1)]
    model: Annotated[str, Field(max_length=200)] | None = None
    normalize: bool = True
    truncate: bool = True


class Message(BaseModel):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "developer"]
    content: str | list[dict[str, Any]]


class StreamOptions(BaseModel):
    """As OpenAI's: whether the last event of a stream tells the tokens."""

    include_usage: bool | None = None


class Sampled(BaseModel):
    """What both generating routes take. Clients send much: what else came is kept, since some of it would change the answer
    (`openai_routes.NEUTRAL`) and a server behind this one may know it."""

    model_config = ConfigDict(extra="allow")

    model: Annotated[str, Field(max_length=200)]
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int | None = Field(
        default=None, description="The same one gives the same text; drawn when left out."
    )
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None


class Completion(Sampled):
    """As OpenAI's."""

    prompt: str | list[str] | list[int] | list[list[int]] = Field(
        description="One text; several, or tokens, only where a server behind this one takes them."
    )


class ChatCompletion(Sampled):
    """As OpenAI's."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1_000)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


def read(model: type[Body], body: bytes) -> Body:
    """A body as its model; what is wrong with it as a 400 (not JSON) or 422 (JSON of another shape), without its content."""
    if not body.strip():
        raise Refusal(400, "empty", "the body is empty; send a JSON object")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        # of what may be of several types most errors only say that it is none of the others: that it is of the right type and wrong, or
        # wrong deeper inside, says more
        first = max(found, key=lambda e: (e["type"] == "finite_number", not _of_type(e), len(e["loc"])))
        if first["type"] == "json_invalid":
            raise Refusal(400, "not_json", "the body is no valid JSON in UTF-8; send a JSON object") from None
        where = ".".join(str(p) for p in first["loc"] if isinstance(p, int) or str(p).isidentifier())[:80]
        said = first["msg"][:200]
        raise Refusal(
            422, "wrong_shape", f"{where or 'the body'}: {said}; see /docs for what is expected"
        ) from None


def _of_type(error: Any) -> bool:
    return str(error["type"]).endswith("_type")


def schema_of(model: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of a model; what it refers to is added to `definitions`."""
    found = model.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions.update(found.pop("$defs", {}))
    return found
