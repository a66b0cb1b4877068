"""Recipe: everything that decides a pretraining run, as one frozen value and one TOML file.

The same recipe runs on two cores and on many GPUs. A recipe states its cost, its hardware and the number to expect beside its
settings. Its digest names the run: a run folder goes on only with the recipe that it was begun with.
"""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from basewise.core.budget import parse_seconds
from basewise.core.errors import InputError, UnknownName
from basewise.core.hashing import digest_json

NETWORKS = ("decoder", "encoder", "gpt2", "bert", "vit")
NETWORK_KINDS = {"decoder": "qwen3", "encoder": "modernbert", "gpt2": "gpt2", "bert": "bert"}
"""What transformers calls the networks that read text."""
OUTPUT_SHARES = {"next_token": 1.0, "masked": 0.25, "mixed": 0.45}
OPTIMISERS, SCHEDULES, PRECISIONS = ("muon", "adamw"), ("wsd", "cosine"), ("auto", "fp32", "bf16")
HEAD_WIDTH, LEAST_WIDTH = 64, 128
RATES, MOST_RATE = ("rate", "rate_embeddings", "rate_head"), 10.0
"""A rate above it is taken for a slip of the pen."""
MOST_SEED = 2**63 - 1
"""What torch takes."""
BESIDE = (
    "licence",
    "cost",
    "hardware",
    "expect",
    "log",
    "downstream",
    "samples",
    "keep",
    "evaluate_every",
    "checkpoint_every",
    "tokens_at_once",
)
"""Keys that do not change what is learned: they may differ when a run is resumed. Another `tokens_at_once` rounds sums in another order."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A pretraining run. Lengths in tokens, rates as the optimiser takes them; 0 or "" means: chosen from the rest.

    `corpus`: folder of `basewise corpus build` or a .txt file (text), or a Parquet file of images. `tokens`, `steps` and
    `epochs`: exactly one says how long; `seconds` ends it earlier. `tokens_at_once`: micro-batch; memory, not the result.
    """

    name: str
    corpus: str
    objective: str = "next_token"
    network: str = "decoder"
    depth: int = 4
    width: int = 0
    heads: int = 0
    context: int = 256
    tied: bool = True
    start: str = ""
    """A base to start from instead of random weights: a folder that this command saved (contrastive on top of masked)."""

    tokens: int = 0
    steps: int = 0
    epochs: float = 0.0
    seconds: str = ""
    batch_tokens: int = 16384
    tokens_at_once: int = 4096

    optimiser: str = "muon"
    rate: float = 0.0
    """Of all weights with adamw, of the matrices with muon (0.02 when left out)."""
    rate_embeddings: float = 0.0
    rate_head: float = 0.0
    weight_decay: float = 0.1
    schedule: str = "wsd"
    warmup_steps: int = 20
    cooldown: float = 0.5
    clip: float = 1.0
    spike: float = 6.0
    """A loss this many standard deviations above its recent mean is not learned from; 0 learns from all."""

    mask_first: float = 0.0
    mask_last: float = 0.0
    causal_share: float = 0.0

    precision: str = "auto"
    seed: int = 0
    evaluate_every: int = 100
    checkpoint_every: int = 200
    keep: int = 3
    samples: tuple[str, ...] = ()
    downstream: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    licence: str = "not stated"
    """Of the weights, for the card; SPDX."""
    cost: str = ""
    hardware: str = ""
    expect: str = ""

    @property
    def hidden(self) -> int:
        """Width of the network: as given, else 64 a layer, 128 at least."""
        return self.width or max(LEAST_WIDTH, HEAD_WIDTH * self.depth)

    @property
    def head_count(self) -> int:
        """Attention heads: as given, else one for every 64 of the width."""
        return self.heads or max(1, self.hidden // HEAD_WIDTH)

    @property
    def rows(self) -> int:
        """Rows of `context` tokens a step takes."""
        return max(1, self.batch_tokens // self.context)

    @property
    def causal(self) -> bool:
        """Whether a token attends to those before it only, in all rows."""
        return self.objective == "next_token"

    @property
    def output_share(self) -> float:
        """Share of the tokens that the output matrix is applied to: hidden ones alone, a quarter on average, or all."""
        return OUTPUT_SHARES.get(self.objective, 0.0)

    @property
    def attention_flop(self) -> float:
        """FLOP of attention in training on one token: 12 a layer, unit of width and token seen; half of them under a causal mask."""
        seen = 0.5 if self.causal else 1.0
        return 12.0 * self.depth * self.hidden * self.context * seen

    @property
    def seconds_limit(self) -> float:
        """Seconds of training at most."""
        return parse_seconds(self.seconds) if self.seconds else float("inf")

    def steps_for(self, rows_there: int) -> int:
        """Steps of the run on a corpus of so many packed rows. InputError where it would end before one batch."""
        if self.steps:
            return self.steps
        rows = self.epochs * rows_there if self.epochs else self.tokens / self.context
        if rows < self.rows:
            asked = (
                f"epochs = {self.epochs:g} of {rows_there:,} rows"
                if self.epochs
                else f"tokens = {self.tokens:,}"
            )
            fits = int(rows) * self.context
            raise InputError(
                f"{asked} is less than one batch of {self.rows * self.context:,} tokens",
                "raise it" + (f", or write batch_tokens = {fits}" if fits else ""),
            )
        return round(rows / self.rows)

    def digest(self) -> str:
        """sha256 of all that decides the weights."""
        return digest_json({key: value for key, value in self.to_dict().items() if key not in BESIDE})

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_recipe(path: Path | str) -> Recipe:
    """The recipe of a TOML file. Unknown keys (nearest name given), wrong kinds and contradictions raise InputError."""
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            f"cannot read the recipe {path}: {getattr(error, 'strerror', None) or error}",
            "give a TOML file such as recipes/basewise-tiny.toml",
        ) from error
    return recipe_of(values, str(path))


def stored_recipe(values: dict[str, Any]) -> Recipe:
    """A checked recipe of what `to_dict` wrote: every key is there, so one that has its default counts as not given."""
    default = {field.name: field.default for field in fields(Recipe)}
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in default.items()}
    return recipe_of(
        {key: value for key, value in values.items() if value != plain.get(key)}, "the recipe of the run"
    )


def recipe_of(values: dict[str, Any], where: str = "the recipe") -> Recipe:
    """A checked recipe of plain values."""
    known = {field.name: field for field in fields(Recipe)}
    for key in values:
        if key not in known:
            raise UnknownName.of("key of a recipe", key, known)
    for key in ("name", "corpus"):
        if not values.get(key):
            raise InputError(f"{where} has no {key}", f'write {key} = "…"')
    # it names folders, files and jobs of schedulers
    if not re.fullmatch(r"\w[\w.-]*", str(values["name"])):
        raise InputError(f"the name in {where} is {values['name']!r}", "use letters, digits, dots and dashes")
    made = {key: _value(key, value, known[key].default, where) for key, value in values.items()}
    recipe = Recipe(**made)
    # one that cannot be read is an error now, not after an hour
    _ = recipe.seconds_limit
    for problem, fix in _contradictions(recipe, set(values)):
        raise InputError(f"{where}: {problem}", fix)
    return recipe


def _value(key: str, value: Any, default: Any, where: str) -> Any:
    """The value if it is of the kind of the default (texts where there is none)."""
    wanted: type = str if not isinstance(default, (bool, int, float, str, tuple)) else type(default)
    if wanted is float and type(value) is int:
        return float(value)
    if wanted is tuple and isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    if type(value) is not wanted:
        words = {
            bool: "true or false",
            int: "a whole number",
            float: "a number",
            tuple: "a list of texts",
            str: "a text",
        }
        raise InputError(
            f"{key} in {where} is {value!r}, {words[wanted]} was expected", "change it in the recipe"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{key} in {where} is {value}", "write a finite number")
    if key in RATES and isinstance(value, float) and value > MOST_RATE:
        raise InputError(
            f"{key} in {where} is {value:g}, above {MOST_RATE:g}", "write a rate such as 0.02 or 0.001"
        )
    return value


def _contradictions(r: Recipe, given: set[str]) -> list[tuple[str, str]]:
    """What cannot go together, each with its fix."""
    for key, known in (
        ("network", NETWORKS),
        ("optimiser", OPTIMISERS),
        ("schedule", SCHEDULES),
        ("precision", PRECISIONS),
    ):
        if getattr(r, key) not in known:
            raise UnknownName.of(key, getattr(r, key), known)
    found = []
    lengths = [key for key in ("tokens", "steps", "epochs") if getattr(r, key)]
    if len(lengths) != 1:
        came = " and ".join(lengths) if lengths else "neither tokens, steps nor epochs"
        found.append(
            (f"{came} came, exactly one says how long the run is", "keep one of tokens, steps and epochs")
        )
    positive = (
        "depth",
        "context",
        "batch_tokens",
        "tokens_at_once",
        "evaluate_every",
        "checkpoint_every",
        "keep",
        "clip",
    )
    found += [
        (f"{key} is {getattr(r, key)}", f"{key} must be above zero")
        for key in positive
        if getattr(r, key) <= 0
    ]
    negative = [
        f.name for f in fields(r) if isinstance(getattr(r, f.name), (int, float)) and getattr(r, f.name) < 0
    ]
    if r.seed > MOST_SEED:
        found.append((f"seed is {r.seed}", f"write {MOST_SEED} or less"))
    found += [
        (f"{key} is {getattr(r, key)}", "it cannot be negative") for key in negative if key not in positive
    ]
    return found or [*_of_shape(r), *_of_training(r, given)]


def _of_shape(r: Recipe) -> list[tuple[str, str]]:
    """Contradictions of the network and its rows."""
    found = []
    if r.hidden % r.head_count:
        found.append((f"width {r.hidden} is no multiple of {r.head_count} heads", "change width or heads"))
    elif r.network in ("decoder", "encoder") and (r.hidden // r.head_count) % 2:
        found.append(
            (
                f"a head of {r.hidden // r.head_count} is odd, rotary positions need pairs",
                "change width or heads",
            )
        )
    if not r.tied and r.network != "decoder":
        found.append(
            (
                f"tied = false came with network {r.network}, whose input and output tokens share one matrix",
                "take it out",
            )
        )
    if r.objective == "contrastive" and r.context <= r.batch_tokens < 2 * r.context:
        found.append(
            (
                "a step is one row, and objective contrastive tells a row apart from the others of its step",
                f"write batch_tokens = {2 * r.context} or more",
            )
        )
    if r.batch_tokens < r.context:
        found.append(
            (
                f"batch_tokens {r.batch_tokens} is less than one row of context {r.context}",
                "raise batch_tokens",
            )
        )
    return found


def _of_training(r: Recipe, given: set[str]) -> list[tuple[str, str]]:
    """Contradictions of optimiser, schedule and objective."""
    found = []
    if not 0 <= r.cooldown <= 1:
        found.append((f"cooldown is {r.cooldown}", "it is a share of the run, 0 to 1"))
    if r.schedule == "cosine" and "cooldown" in given:
        found.append(
            ("cooldown came with schedule cosine, which has none", 'take cooldown out, or schedule = "wsd"')
        )
    if r.optimiser == "adamw" and not r.rate:
        found.append(("optimiser adamw came without a rate", "write rate = 0.001"))
    masked = r.objective in ("masked", "mixed", "patches")
    if not masked and r.mask_first + r.mask_last:
        found.append((f"mask rates came with objective {r.objective}, which masks nothing", "take them out"))
    if max(r.mask_first, r.mask_last) >= 1:
        found.append(("a mask rate is 1 or more", "it is a share, such as 0.35"))
    if r.causal_share >= 1:
        found.append((f"causal_share is {r.causal_share:g}", "it is a share below 1, such as 0.25"))
    if r.objective != "mixed" and r.causal_share:
        found.append(
            (f"causal_share came with objective {r.objective}", 'take it out, or objective = "mixed"')
        )
    return found
