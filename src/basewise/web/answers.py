"""Answers of the service: their shape, for the OpenAPI document alone; a test holds real answers against it.

Nothing is checked against these models while requests run. Fields that are not here may come in later versions.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field, RootModel


class Answer(BaseModel):
    """The answer to one row."""

    id: str = Field(description="Under this name the row's truth can be posted later.")
    label: str
    probability: float
    abstained: bool = Field(description="The probability is below the task's threshold.")
    set: list[str] | None = Field(
        description="Classes that hold the truth with probability 1 - alpha, the likeliest first; null where no held-out rows are known."
    )
    probabilities: dict[str, float] = Field(description="By class, the likeliest first.")


class Predicted(BaseModel):
    """Answers of one release, in the order of the rows."""

    task: str
    version: str = Field(description="The release that answered; in the header X-Basewise-Version too.")
    tokens: int
    answers: list[Answer]


class Conformal(BaseModel):
    """Sets hold the truth with probability 1 - alpha; `least`: the smallest probability in one; `rows`: held-out rows behind it."""

    alpha: float
    least: float
    rows: int


class Task(BaseModel):
    """A task with the release that is live; null stands where that could not be opened or has none."""

    name: str
    version: str
    method: str | None
    base: str | None
    base_digest: str | None
    classes: list[str] | None
    inputs: list[str] | None
    threshold: float | None
    conformal: Conformal | None
    open: bool
    shadow: str | None
    canary: str | None
    percent: int


class Tasks(BaseModel):
    """The tasks that the key opens."""

    tasks: list[Task]


class Health(BaseModel):
    """Versions by task and digests by base."""

    status: Literal["alive"]
    versions: dict[str, str]
    bases: dict[str, str]


class Ready(BaseModel):
    """How many tasks there are, and which of them cannot be answered."""

    status: Literal["ready"]
    tasks: int
    unavailable: list[str]


class Tokens(BaseModel):
    """Tokens of an answer; what was generated, where a text was."""

    prompt_tokens: int
    completion_tokens: int | None = None
    total_tokens: int


class Vector(BaseModel):
    """One text's vector: numbers, or base64 of little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Vectors(BaseModel):
    """As OpenAI's."""

    object: Literal["list"]
    data: list[Vector]
    model: str
    usage: Tokens


class Plain(RootModel[list[list[float]]]):
    """As text-embeddings-inference's: one vector a text."""


class Model(BaseModel):
    """A base; `provides` says what it can do, where this service has it."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    provides: list[str] | None = None


class Models(BaseModel):
    """As OpenAI's."""

    object: Literal["list"]
    data: list[Model]


class Choice(BaseModel):
    """A text and why it ended."""

    index: int
    text: str
    finish_reason: str | None
    logprobs: dict[str, Any] | None


class Text(BaseModel):
    """As OpenAI's; with `stream` server-sent events of the same shape, the last one [DONE]."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Tokens


class Said(BaseModel):
    """What the base said in its turn."""

    role: Literal["assistant"]
    content: str | None


class Turn(BaseModel):
    """A turn and why it ended."""

    index: int
    message: Said
    finish_reason: str | None
    logprobs: dict[str, Any] | None


class Chat(BaseModel):
    """As OpenAI's; with `stream` server-sent events of object chat.completion.chunk, the last one [DONE]."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Turn]
    usage: Tokens


class Paired(BaseModel):
    """Labelled rows that live release and shadow both answered; `log_e`: natural log of the evidence against the shadow."""

    old_only: int = Field(description="Rows on which only the live release was right.")
    new_only: int
    rows: int
    log_e: float


class Shared(BaseModel):
    """Outcomes beside a canary, (right, wrong) of the live release and of it; `log_e`: natural log of the evidence against it."""

    old_right: int = Field(description="Of the live release since the canary's last outcome.")
    old_wrong: int
    seen_old: tuple[int, int]
    seen_new: tuple[int, int]
    logs: list[float]
    log_e: float


class Lane(BaseModel):
    """Which releases answer a task, and the evidence for harm."""

    name: str
    live: str
    before: list[str] = Field(description="What was live earlier and can be gone back to, latest last.")
    shadow: str | None
    canary: str | None
    percent: int
    shadow_evidence: Paired
    canary_evidence: Shared
    failures: Shared


class Held(Lane):
    """A lane with the folders of its releases."""

    folders: dict[str, str]


class Event(BaseModel):
    """A change of a lane; `at` in seconds since 1970."""

    at: float
    task: str
    event: str
    version: str | None = None
    to: str | None = None
    percent: int | None = None
    why: str | None = None


class Lanes(BaseModel):
    """All lanes that the key opens, and what happened to them."""

    tasks: list[Held]
    events: list[Event]
    worker_restarts: int


class Removed(BaseModel):
    """The task that is served no longer."""

    removed: str


class Kept(BaseModel):
    """What came of the labels; `rolled_back`: why a canary or shadow was taken back, if one was."""

    kept: int
    unknown: int = Field(description="No such answer.")
    no_class: int = Field(description="Names of no class: not kept, post the right ones.")
    repeated: int = Field(description="The row has a label already; the first one counts.")
    rolled_back: str | None


class Share(BaseModel):
    """A share with its 95 % interval and n."""

    estimate: float
    low: float
    high: float
    n: int


class Totals(BaseModel):
    """Rows of a version that are kept; `first` and `last` in seconds since 1970."""

    rows: int
    abstained: int
    labelled: int
    right: int
    first: float
    last: float
    abstention: Share | None
    accuracy: Share | None


class Estimate(BaseModel):
    """Accuracy without labels (ATC) with its interval, by mean confidence (DoC) beside it; rows now and held out."""

    estimate: float
    low: float
    high: float
    by_confidence: float
    rows: int
    reference: int


class Window(BaseModel):
    """What 500 rows showed. The first window is the reference and has no p-values; what needs held-out rows is left out without them."""

    number: int
    at: float
    rows: int
    passed_over: int
    abstained: float
    confidence: float
    classes: list[int]
    p_values: dict[str, float]
    auc: float | None = None
    latest_p: float | None = None
    level: float
    threshold: float
    alarm: bool | None = None
    alarms: int
    windows_to_false_alarm: int
    estimated_accuracy: Estimate | None = None
    accuracy_then: float | None = None
    shares: dict[str, list[float]] | None = None


class Watched(BaseModel):
    """All that is known of a task's traffic; `versions` holds an `error` alone where the watch cannot be read."""

    task: str
    live: str
    classes: list[str]
    lane: Lane
    versions: dict[str, Totals | str]
    windows: list[Window]
    events: list[Event]
