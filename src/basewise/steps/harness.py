"""A base as a model of lm-evaluation-harness: `--model basewise --model_args base=smollm2-135m`, for every task that it has.

The class stands in the entry point group `lm_eval.models`, where no release of the harness looks so far (0.4.13, 0.5.0.dev1); for
those `python -m basewise.steps.harness run --model basewise ...` is the harness' own command with the class registered.
Log-likelihoods, rolling log-likelihoods and text up to stop strings; what is not drawn is item by item what its `hf` model gives.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from basewise.core.errors import InputError

USUAL_TOKENS = 256
TOKEN_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names that tasks give the most tokens of an answer, the first that is there counts."""


@register_model("basewise")
class Harness(LM):
    """base: anything that `basewise bases show` knows; precision: "auto", "fp32", "bf16", or "int8" where it holds.

    batch_size, max_batch_size and device are what the harness hands to every model; results do not depend on a batch here,
    so they are taken and not used.
    """

    def __init__(
        self,
        base: str = "",
        precision: str = "auto",
        batch_size: Any = None,
        max_batch_size: Any = None,
        device: Any = None,
    ) -> None:
        from basewise.engine.causal import Causal
        from basewise.steps.bases import pull

        super().__init__()
        if not base:
            raise InputError("no base was named", "give --model_args base=smollm2-135m")
        self.causal: Any = Causal(pull(str(base)), precision=str(precision))

    @property
    def tokenizer_name(self) -> str:
        """What fingerprints the harness' caches: the base by its digest."""
        return f"basewise-{self.causal.digest[:24]}"

    def get_model_info(self) -> dict[str, Any]:
        """What the harness writes beside its results."""
        return {"model_sha": self.causal.digest, "model_dtype": self.causal.precision}

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(summed log-probability, whether greedy) of each (context, continuation)."""
        pairs = [tuple(request.args) for request in requests]
        scores = self.causal.score(pairs)
        found = [
            (float(value), bool(greedy))
            for value, greedy in zip(scores.log_probability, scores.greedy, strict=True)
        ]
        for pair, one in zip(pairs, found, strict=True):
            self.cache_hook.add_partial("loglikelihood", pair, one)
        return found

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[Any]:
        """Summed log-probability of each whole text.

        From 0.5 on a text comes after an empty context, and its answer is a pair as that of `loglikelihood`; before, both come alone.
        """
        keys = [tuple(request.args) for request in requests]
        values = self.causal.rolling([str(key[-1]) for key in keys])
        found = [(float(v), False) if len(key) > 1 else float(v) for key, v in zip(keys, values, strict=True)]
        for key, one in zip(keys, found, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", key, one)
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Answers up to the task's stop strings; requests with the same settings together. A prompt that is asked again, as tasks with
        `repeats` do, is drawn anew each time."""
        groups: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault(json.dumps(request.args[1], sort_keys=True, default=str), []).append(place)
        found = [""] * len(requests)
        for places in groups.values():
            options = sampling(dict(requests[places[0]].args[1]))
            prompts = [requests[place].args[0] for place in places]
            asked: Counter[str] = Counter()
            each = []
            for prompt in prompts:
                each.append(replace(options, seed=asked[prompt]))
                asked[prompt] += 1
            answers = self.causal.answers(prompts, each)
            for place, answer in zip(places, answers, strict=True):
                found[place] = answer.text
                self.cache_hook.add_partial("generate_until", requests[place].args, answer.text)
        return found

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template that `apply_chat_template` uses, for the harness' record; None where it is to use none."""
        return str(self.causal.template()) if chat_template else None

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation in the base's own template: without its system message where the template knows none, as the `hf` model has it."""
        try:
            return str(self.causal.chat(chat_history, add_generation_prompt))
        except InputError:
            plain = [message for message in chat_history if message["role"] != "system"]
            if len(plain) == len(chat_history):
                raise
            return str(self.causal.chat(plain, add_generation_prompt))


def sampling(settings: dict[str, Any]) -> Any:
    """The engine's options for a task's generation settings; InputError for one that is unknown and would change the answers."""
    from basewise.engine.generate import Sampling

    until = settings.pop("until", None) or []
    until = [until] if isinstance(until, str) else list(until)
    given = [settings.pop(name, None) for name in TOKEN_NAMES]
    most = next((int(value) for value in given if value is not None), USUAL_TOKENS)
    heat, drawn = settings.pop("temperature", None), settings.pop("do_sample", None)
    # a temperature alone says it too, as theirs reads it
    drawn = bool(heat if drawn is None else drawn)
    temperature = (1.0 if heat is None else float(heat)) if drawn else 0.0
    top_p = float(settings.pop("top_p", None) or 1.0) if drawn else 1.0
    if not drawn:  # of a greedy answer they say nothing
        for name in ("top_p", "top_k"):
            settings.pop(name, None)
    if settings:
        raise InputError(
            f"the task generates with {', '.join(f'{k}={v}' for k, v in sorted(settings.items()))}, which is unknown here",
            "use the harness' hf model for this task",
        )
    return Sampling(stop=tuple(until), most_tokens=most, temperature=temperature, top_p=top_p, cut_left=True)


def main() -> None:
    """The harness' own command, with `--model basewise` known to it."""
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()


if __name__ == "__main__":
    main()
