"""The causal engine: log-probabilities of continuations and texts, and generation, from any decoder transformers opens.

Requests become a trie whose shared prefixes are computed once (`engine/trie.py`, `engine/scoring.py`); the result does not
depend on their order or on the size of a pass. Token boundaries, the token before an empty context, cuts from the left and
rolling windows are those of lm-evaluation-harness (Gao et al. 2024), so that numbers can be compared one by one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from basewise.core.base import GENERATE, SCORE, UNSTATED_CONTEXT, Base
from basewise.core.errors import InputError, OutOfMemory
from basewise.core.files import Progress, silent
from basewise.engine.batches import CPU_TOKENS, GPU_TOKENS
from basewise.engine.decoder import Decoder
from basewise.engine.fidelity import settle
from basewise.engine.generate import Answer, Generator, Sampling, generate, news
from basewise.engine.growing import Growing
from basewise.engine.journal import Job, Journal, kept_in_groups
from basewise.engine.scoring import Stem, sweep, sweep_plain
from basewise.engine.ties import settled
from basewise.engine.trie import build
from basewise.engine.weights import load_tokenizer

MOST_OPEN = 2


@dataclass(frozen=True)
class Scores:
    """n requests in their order: summed log-probability (n,) float64 in nats, whether every token was the likeliest (n,) bool,
    tokens scored (n,) int64. `computed` tokens went through the network, `unique` is what the trie holds; their ratio is the redundancy
    (below 1 where the beginning was known from the job before)."""

    log_probability: np.ndarray
    greedy: np.ndarray
    tokens: np.ndarray
    computed: int
    unique: int


class Causal:
    """An opened decoder.

    base: one that provides "score"; precision: "auto" (bf16 where it is faster here and verified, else fp32), "fp32", "bf16", or
    "int8" (where it holds on `prompts`, else as "auto"); memory_bytes: what the process may use beside the weights, None for the
    engine's own small passes. `context`: the most tokens it reads; `digest`: of the weights; `precision`: what was settled on, `why`
    in a line where that was weighed; `packed`: whether prefixes can be shared (see engine/decoder.py). Raises InputError for a base
    that cannot score or has no tokenizer.
    """

    def __init__(
        self,
        base: Base,
        precision: str = "auto",
        memory_bytes: float | None = None,
        prompts: Sequence[str] = (),
    ) -> None:
        if SCORE not in base.provides:
            raise InputError(
                f"{base.key} is no causal language model and cannot score text",
                "use a decoder such as smollm2-135m, or a method that embeds, such as prototype or probe",
            )
        if (
            not (base.folder / "tokenizer.json").exists()
            and not (base.folder / "tokenizer_config.json").exists()
        ):
            raise InputError(f"{base.key} has no tokenizer", "put its tokenizer.json into its folder")
        self.base, self.digest, self.memory_bytes = base, base.digest, memory_bytes
        self.tokenizer = load_tokenizer(base)
        found = settle(base, precision, self.tokenizer, prompts)
        self.precision, self.decoder, self.why = found.precision, found.decoder, found.why
        self.packed = self.decoder.packed
        self.context = _context_of(self.decoder.model.config, self.tokenizer, base)
        self.prefix_token = _prefix_of(self.tokenizer)
        self.budget = _budget(self.decoder, memory_bytes, self.context)
        self._stem = Stem()

    def encode(self, text: str, special: bool | None = None) -> list[int]:
        """Token ids; special tokens as the tokenizer adds them itself, unless the text begins with one or `special` says.
        InputError for half a character (a lone surrogate, as a cut in JSON leaves), which no tokenizer reads."""
        _check_letters(text)
        if special is None:
            prefix = self.decode([self.prefix_token])
            special = not (prefix and text.startswith(prefix))
        if hasattr(self.tokenizer, "backend_tokenizer"):
            return list(self.tokenizer.encode(text, add_special_tokens=special))
        return list(self.tokenizer.encode(text, add_special_tokens=special).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of token ids, special tokens included."""
        return str(self.tokenizer.decode([int(t) for t in tokens], skip_special_tokens=False))

    def encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Token ids of both sides of the boundary; trailing spaces of the context belong to the continuation."""
        if context == "":
            own = self.encode(continuation, special=False)
            return ([self.prefix_token], own) if own[:1] != [self.prefix_token] else (own[:1], own[1:])
        spaces = len(context) - len(context.rstrip())
        if spaces:
            context, continuation = context[:-spaces], context[-spaces:] + continuation
        # of white space alone what stands before any text, as lm-evaluation-harness has it
        before = self.encode(context)
        return before, self.encode(context + continuation)[len(before) :]

    def score(
        self,
        requests: Sequence[tuple[str, str]],
        progress: Progress = silent,
        journal: Journal | None = None,
    ) -> Scores:
        """The log-probability of each continuation after its context; requests are (context, continuation).

        With a journal, finished groups of the job are kept there and not computed again (`engine/journal.py`).
        """
        pairs = self._pairs(requests)
        for (_, continuation), (_, after) in zip(requests, pairs, strict=True):
            if not after:
                raise InputError(
                    f"the continuation {continuation!r} adds no token to its context",
                    "give every choice a text of its own",
                )
        return self.score_tokens(pairs, progress, journal)

    def pick(
        self,
        requests: Sequence[tuple[str, str]],
        counts: Sequence[int],
        progress: Progress = silent,
        journal: Journal | None = None,
    ) -> Scores:
        """As `score` for questions with `counts` choices each, one question's choices after another's: in a faster precision
        close questions are scored again in fp32 (see engine/ties.py), so that hardly ever another choice is made."""
        near = self.score(requests, progress, journal)
        return near if self.precision == "fp32" else settled(self, requests, counts, near)

    @functools.cached_property
    def exact(self) -> Causal:
        """The same decoder in fp32, opened when it is first asked."""
        return Causal(self.base, "fp32", self.memory_bytes) if self.precision != "fp32" else self

    def _pairs(self, requests: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        """`encode_pair` of every request, texts in batches and each context once."""
        pairs: list[tuple[list[int], list[int]]] = []
        split = []
        for context, continuation in requests:
            bare = context.rstrip()
            split.append((bare, context[len(bare) :] + continuation))
        fresh = list(dict.fromkeys(bare for bare, _ in split))
        known = dict(zip(fresh, self.encode_all(fresh), strict=True))
        wholes = self.encode_all([before + after for before, after in split])
        for (context, continuation), (bare, _), whole in zip(requests, split, wholes, strict=True):
            before = known[bare]
            pairs.append(
                self.encode_pair("", continuation) if context == "" else (before, whole[len(before) :])
            )
        return pairs

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts, in one call where none begins with the prefix token's text."""
        _check_letters(*texts)
        prefix = self.decode([self.prefix_token])
        batched = hasattr(self.tokenizer, "backend_tokenizer")
        if not texts or not batched or (prefix and any(text.startswith(prefix) for text in texts)):
            return [self.encode(text) for text in texts]
        return [list(ids) for ids in self.tokenizer(list(texts), add_special_tokens=True)["input_ids"]]

    def score_tokens(
        self,
        requests: Sequence[tuple[Sequence[int], Sequence[int]]],
        progress: Progress = silent,
        journal: Journal | None = None,
    ) -> Scores:
        """As `score`, for token ids. A context that is too long loses its left end; an empty one becomes the prefix token."""
        befores, afters = self._fitted(requests)
        counts = np.array([len(after) for after in afters], np.int64)
        if journal is not None:
            job = Job(befores, afters, self.digest, self.budget)
            sums, wrong, computed = kept_in_groups(self.decoder, job, progress, journal)
            return Scores(sums, wrong == 0, counts, computed, len(build(befores, afters)))
        trie = build(befores, afters)
        if self.packed:
            found = sweep(self.decoder, trie, self.budget, progress, self._stem)
            self.budget = max(1, min(self.budget, found.budget))
        else:
            found = sweep_plain(self.decoder, trie, progress)
        n = len(befores)
        sums = np.bincount(trie.query_request, weights=found.log_probability, minlength=n)
        wrong = np.bincount(trie.query_request, weights=~found.greedy, minlength=n)
        return Scores(sums.astype(np.float64), wrong == 0, counts, found.computed, len(trie))

    def _fitted(
        self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]
    ) -> tuple[list[Sequence[int]], list[Sequence[int]]]:
        """Contexts cut to what the base reads, and continuations."""
        befores, afters = [], []
        for before, after in requests:
            if not len(after):
                raise InputError("a continuation has no token", "give every choice a text of its own")
            if len(after) > self.context:
                raise InputError(
                    f"a continuation has {len(after):,} tokens, {len(after) - self.context:,} more than"
                    f" {self.base.key} reads",
                    "shorten it, or use rolling",
                )
            room = self.context + 1 - len(after)
            before = before if len(before) else [self.prefix_token]
            befores.append(before if len(before) <= room else before[-room:])
            afters.append(after)
        return befores, afters

    def rolling(self, texts: Sequence[str], progress: Progress = silent) -> np.ndarray:
        """(n,) summed log-probability of whole texts: windows that do not overlap in what they score, the last with
        as much context as fits; the first token follows the prefix token. An empty text has 0."""
        requests, whose = [], []
        for index, text in enumerate(texts):
            windows = rolling_windows(self.encode(text), self.prefix_token, self.context)
            requests += windows
            whose += [index] * len(windows)
        if not requests:
            return np.zeros(len(texts))
        scores = self.score_tokens(requests, progress)
        return np.bincount(np.array(whose), weights=scores.log_probability, minlength=len(texts)).astype(
            float
        )

    def generate(self, prompts: Sequence[str], options: Sampling, progress: Progress = silent) -> list[str]:
        """A text for each prompt, in their order."""
        return [answer.text for answer in self.answers(prompts, options, progress)]

    def answers(
        self, prompts: Sequence[str], options: Sampling | Sequence[Sampling], progress: Progress = silent
    ) -> list[Answer]:
        """As `generate`, with the tokens that each text took and why it ended; `options` for all prompts or one for each."""
        each = [options] * len(prompts) if isinstance(options, Sampling) else list(options)
        rows = [self.prompt_tokens(prompt, own) for prompt, own in zip(prompts, each, strict=True)]
        return generate(self._generator(), rows, prompts, each, progress)

    def stream(self, prompt: str, options: Sampling, special: bool | None = None) -> Iterator[str]:
        """The text for one prompt in pieces as they come; joined they are what `generate` gives. `special`: see `encode`."""
        shown = ""
        tokens = self.prompt_tokens(prompt, options, special)
        for _, text, answer in self._generator().run([tokens], [options], [prompt]):
            if piece := news(shown, text, answer is not None, options.stop):
                yield piece
                shown += piece

    def growing(self) -> Growing:
        """Texts of many callers that are to grow together; their prompts come from `prompt_tokens`."""
        return Growing(self._generator())

    def chat(self, messages: Sequence[dict[str, str]], answered: bool = True) -> str:
        """The prompt of a conversation, [{"role", "content"}, …], in the base's own template; InputError without one, or where
        it refuses the conversation. `answered`: the base is to answer, else it goes on with the last message.

        A template holds all special tokens, so the prompt is to be encoded without others (`special=False`), as transformers does.
        """
        from jinja2.exceptions import TemplateError

        self.template()
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    list(messages),
                    tokenize=False,
                    add_generation_prompt=answered,
                    continue_final_message=not answered,
                )
            )
        except (TemplateError, ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"the chat template of {self.base.key} refuses the conversation: {error}",
                "say it in the roles and the order that this base was made for, or give a prompt instead",
            ) from error

    def template(self) -> str:
        """The base's chat template; InputError without one."""
        held = getattr(self.tokenizer, "chat_template", None)
        if not held:
            raise InputError(
                f"{self.base.key} has no chat template",
                "give a prompt instead, or use an instruction-tuned base",
            )
        try:
            return str(self.tokenizer.get_chat_template())
        except ValueError as error:
            raise InputError(
                f"{self.base.key} has chat templates by the names {', '.join(sorted(held))} and none by default",
                'call one of them "default" in its tokenizer_config.json',
            ) from error

    def _generator(self) -> Generator:
        if GENERATE not in self.base.provides:
            raise InputError(f"{self.base.key} cannot generate", "use a decoder such as smollm2-135m")
        return Generator(self.decoder, self.tokenizer, self.budget)

    def prompt_tokens(self, prompt: str, options: Sampling, special: bool | None = None) -> np.ndarray:
        """Token ids of a prompt with room for the answer; `special`: see `encode`."""
        tokens = self.encode(prompt, special) or [self.prefix_token]
        most = self.context - options.most_tokens
        if len(tokens) > most:
            if not options.cut_left or most < 1:
                raise InputError(
                    f"the prompt has {len(tokens):,} tokens; with {options.most_tokens:,} to generate that is"
                    f" {len(tokens) - most:,} more than {self.base.key} reads ({self.context:,})",
                    "shorten it, give fewer shots or generate fewer tokens",
                )
            tokens = tokens[-most:]
        return np.asarray(tokens, np.int64)


def _check_letters(*texts: str) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"a text holds half a character, {text[error.start]!a} at place {error.start + 1:,}",
                "write the character whole, or leave it out",
            ) from error


def rolling_windows(tokens: list[int], prefix: int, most: int) -> list[tuple[list[int], list[int]]]:
    """(context, scored tokens) so that each token is scored once: `most` tokens a window, the last window's context full."""
    made = [([prefix], tokens[:most])] if tokens else []
    for start in range(most, len(tokens), most):
        stop = min(start + most, len(tokens))
        made.append((tokens[stop - most - 1 : start], tokens[start:stop]))
    return made


def _context_of(config: Any, tokenizer: Any, base: Base) -> int:
    """The most tokens the network reads: of its configuration, else of its tokenizer, else of its card."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    for name in ("max_position_embeddings", "n_positions", "n_ctx"):
        if isinstance(value := getattr(text, name, None), int) and value > 0:
            return value
    said = getattr(tokenizer, "model_max_length", 0)
    return int(said) if 0 < said < 10**9 else base.card.context or UNSTATED_CONTEXT


def _prefix_of(tokenizer: Any) -> int:
    """The token before an empty context: the beginning, else the end of a text, else token 0."""
    for name in ("bos_token_id", "eos_token_id"):
        if (token := getattr(tokenizer, name, None)) is not None:
            return int(token)
    return 0


def _budget(decoder: Decoder, memory_bytes: float | None, context: int) -> int:
    """Tokens a pass: few enough for the cache of a processor, and for the memory allowed beside the weights."""
    usual = CPU_TOKENS if decoder.device.type == "cpu" else GPU_TOKENS // 4
    if memory_bytes is None:
        return usual
    config = decoder.model.config.get_text_config()
    size = decoder.dtype.itemsize
    width = int(config.hidden_size)
    wide = int(getattr(config, "intermediate_size", None) or 4 * width)
    kept = 2 * decoder.layers * width * size
    each = size * (12 * width + 3 * wide) + 2 * kept + 4 * context
    left = memory_bytes - kept * context
    if left < 16 * each:
        raise OutOfMemory(
            f"{memory_bytes / 1e6:.0f} MB do not hold one context of {context:,} tokens of this base",
            "allow more memory or use a smaller base",
        )
    return int(min(usual, left // each))


_opened: dict[tuple[Any, ...], Causal] = {}


def opened(base: Base, precision: str = "auto", prompts: Sequence[str] = ()) -> Causal:
    """The decoder of a base, kept open: the folds of a race and the texts of a predictor share it."""
    weighed = tuple(prompts) if precision == "int8" else ()
    key = (str(base.folder), base.digest, base.random_seed, precision, weighed)
    if key not in _opened:
        while len(_opened) >= MOST_OPEN:
            _opened.pop(next(iter(_opened)))
        _opened[key] = Causal(base, precision, prompts=weighed)
    return _opened[key]
