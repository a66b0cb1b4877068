"""Generation: greedy equals transformers' own, a batch equals its rows alone, constraints hold whatever the base would say."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import tiny_decoders
from basewise.core.errors import InputError, OutOfMemory
from basewise.engine import generate as generating
from basewise.engine.causal import Causal
from basewise.engine.constraints import Matching, OneOf
from basewise.engine.generate import Sampling, held_back
from basewise.engine.letters import letters_from, whole_letters
from basewise.steps.bases import pull
from basewise.steps.prompt import Chat

PROMPTS = ("the film was", "question: red?", "the film was good the", "x", "the film was")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Causal]:
    """Decoders by architecture, made when first asked for; "bloom" cannot be packed."""

    class Lazy(dict):  # type: ignore[type-arg]
        def __missing__(self, kind: str) -> Causal:
            self[kind] = Causal(tiny_decoders.decoder(tmp_path_factory.mktemp(kind), kind), "fp32")
            return self[kind]

    return Lazy()


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2", "bloom", "mamba", "bamba", "openai", "phi3"])
def test_greedy_is_that_of_transformers(kind: str, made: dict[str, Causal]) -> None:
    from transformers import AutoModelForCausalLM

    causal = made[kind]
    model = AutoModelForCausalLM.from_pretrained(causal.base.folder, dtype=torch.float32).eval()
    # beyond 24 tokens the positions of "phi3" are others
    prompts = (*PROMPTS, "x" * 18)
    answers = causal.answers(prompts, Sampling(most_tokens=12))
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([causal.encode(prompt)])
        whole = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, pad_token_id=0
        )
        new = whole[0, ids.shape[1] :].tolist()
        new = new[: new.index(0)] if 0 in new else new
        assert answer.text == causal.tokenizer.decode(new, skip_special_tokens=True)
        assert answer.tokens == len(new)
        assert answer.ended == ("length" if len(new) == 12 else "end")


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_batch_gives_what_its_rows_give_alone(temperature: float, made: dict[str, Causal]) -> None:
    causal, options = made["llama"], Sampling(most_tokens=15, temperature=temperature, seed=3, top_p=0.95)
    together = causal.generate(PROMPTS, options)
    assert together == [causal.generate([prompt], options)[0] for prompt in PROMPTS]
    assert together[0] == together[4]
    assert together == causal.generate(PROMPTS, options)
    if temperature:
        assert together != causal.generate(PROMPTS, Sampling(most_tokens=15, temperature=temperature, seed=4))


def test_streaming_joins_to_the_same(made: dict[str, Causal]) -> None:
    causal = made["llama"]
    whole = causal.generate([PROMPTS[0]], Sampling(most_tokens=20))[0]
    assert len(whole) > 6
    pieces = list(causal.stream(PROMPTS[0], Sampling(most_tokens=20)))
    assert len(pieces) > 1
    assert "".join(pieces) == whole
    stop = whole[4:6]
    cut = whole[: whole.index(stop)]
    options = Sampling(most_tokens=20, stop=(stop, "never there"))
    assert causal.answers([PROMPTS[0]], options)[0].text == cut
    assert causal.answers([PROMPTS[0]], options)[0].ended == "stop"
    assert "".join(causal.stream(PROMPTS[0], options)) == cut


def test_what_may_be_the_beginning_of_a_stop_string_waits() -> None:
    assert held_back("good\nQ", ("\nQuestion", "END")) == "good"
    assert held_back("good E", ("END",)) == "good "
    assert held_back("good\ufffd", ()) == "good"
    assert held_back("good", ("",)) == "good"


@pytest.mark.parametrize("temperature", [0.0, 1.5])
@pytest.mark.parametrize("kind", ["llama", "bloom"])
def test_constraints_hold(kind: str, temperature: float, made: dict[str, Causal]) -> None:
    causal = made[kind]
    for seed in range(3):
        choices = ("yes", "no", "yes and no")
        options = Sampling(most_tokens=20, temperature=temperature, seed=seed, choices=choices)
        assert all(text.strip() in choices for text in causal.generate(PROMPTS, options))
        options = Sampling(most_tokens=8, temperature=temperature, seed=seed, pattern=r"\d{2}-[a-f]+")
        for answer in causal.answers(PROMPTS, options):
            whole = re.fullmatch(r"\d{2}-[a-f]+", answer.text.strip())
            assert whole or (
                answer.ended == "unmatched" and Matching(r"\d{2}-[a-f]+").begins(answer.text.strip())
            )


def test_kept_states_go_by_the_name_that_the_network_has_for_them(
    made: dict[str, Causal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers calls them `cache` from 5.24 on; a network that is handed another name swallows it and forgets the text."""
    causal, options = made["bloom"], Sampling(most_tokens=6)
    model, whole = causal.decoder.model, causal.generate(PROMPTS, options)
    own, lengths = model.forward, []

    def forward(
        input_ids: torch.Tensor, cache: object = None, use_cache: bool = True, **more: object
    ) -> object:
        lengths.append(input_ids.shape[1])
        found = own(input_ids, past_key_values=cache, use_cache=use_cache)
        return SimpleNamespace(logits=found.logits, cache=found.past_key_values, past_key_values=1)

    monkeypatch.setattr(model, "forward", forward)
    assert causal.generate(PROMPTS, options) == whole
    # a token at a time
    assert lengths.count(1) >= 20


@pytest.mark.parametrize("pattern", [r"(- [a-z]{2}\n){2}", "yes ", " yes", r"\n\nyes", "yes"])
def test_white_space_may_be_what_the_expression_asks_for(pattern: str, made: dict[str, Causal]) -> None:
    (answer,) = made["llama"].answers(PROMPTS[:1], Sampling(most_tokens=20, pattern=pattern))
    cuts = range(len(answer.text) - len(answer.text.lstrip()) + 1)
    assert answer.ended == "constraint" and any(re.fullmatch(pattern, answer.text[cut:]) for cut in cuts)


@pytest.mark.parametrize("drawn", [{"temperature": 1.0, "top_p": 0.01}, {"temperature": 0.001}])
def test_a_constraint_holds_where_none_of_its_tokens_can_be_drawn(
    drawn: dict[str, float], made: dict[str, Causal]
) -> None:
    for given in ({"choices": ("yes", "no")}, {"pattern": "yes|no"}):
        (answer,) = made["llama"].answers(PROMPTS[:1], Sampling(most_tokens=20, **drawn, **given))  # type: ignore[arg-type]
        assert answer.ended == "constraint" and answer.text.strip() in ("yes", "no")


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 1.5])
@pytest.mark.parametrize("base", ["bytes for letters it lacks", "bytes throughout"])
def test_constraints_hold_where_tokens_end_within_letters(
    base: str, temperature: float, tmp_path: Path
) -> None:
    lacks = base == "bytes for letters it lacks"
    causal = Causal(tiny_decoders.spm_decoder(tmp_path) if lacks else pull("basewise-tiny-gpt"), "fp32")
    for allowed in (
        OneOf(("東京", "京都")),
        OneOf(("🍎", "🍌")),
        Matching("[α-ω]{3,8}"),
        Matching("[1-9]{2}"),
    ):
        given = {"choices": allowed.choices} if isinstance(allowed, OneOf) else {"pattern": allowed.expression.pattern}  # fmt: skip
        options = Sampling(most_tokens=12, temperature=temperature, **given)
        (answer,) = causal.answers(PROMPTS[:1], options)
        text = answer.text.strip()
        assert allowed.complete(text) or (answer.ended == "unmatched" and (not text or allowed.begins(text)))
    (whole,) = causal.answers(PROMPTS[:1], Sampling(most_tokens=16, choices=("東京", "京都")))
    pieces = list(causal.stream(PROMPTS[0], Sampling(most_tokens=16, choices=("東京", "京都"))))
    assert "".join(pieces) == whole.text and "\ufffd" not in whole.text


def test_what_ends_without_a_match_says_so(tmp_path: Path) -> None:
    causal = Causal(tiny_decoders.spm_decoder(tmp_path), "fp32")
    (answer,) = causal.answers(["the"], Sampling(most_tokens=5, choices=("東京", "京都")))
    # six bytes are needed
    assert answer.ended == "unmatched" and answer.text.strip() in ("", "東", "京")


def test_letters_that_bytes_begin() -> None:
    for letter in "éω東🍎\U000e0067":
        data = letter.encode()
        assert whole_letters(b"a" + data) == ("a" + letter, b"")
        for n in range(1, len(data)):
            assert whole_letters(b"a" + data[:n]) == ("a", data[:n])
            letters = list(letters_from(data[:n]))
            assert letter in letters and all(one.encode()[:n] == data[:n] for one in letters[::97])
    assert whole_letters(b"\xe6a") is None and whole_letters(b"\xff") is None
    greek = Matching("[α-ω]+")
    assert greek.begins("", b"\xce") and greek.begins("α", b"\xcf") and not greek.begins("", b"\xe6")
    assert not Matching(r"\d{3}").begins("1", b"\xc3") and not greek.begins("α", b"\xf0")


def test_constraints_themselves() -> None:
    choices = OneOf([" red", "red wine "])
    assert choices.begins("re") and choices.begins("red w") and not choices.begins("rod")
    assert choices.complete("red") and not choices.complete("re")
    with pytest.raises(InputError, match="twice"):
        OneOf(["red", " red "])
    with pytest.raises(InputError, match="choice 2 is empty"):
        OneOf(["red", " "])
    with pytest.raises(InputError, match="at least two"):
        OneOf(["red"])
    with pytest.raises(InputError, match="no regular expression"):
        Matching("(")
    for ahead in ("(?=a)b", "(?!.*bad)[a-z]+", r"(x)?(?(?=a)a|b)", "[]a](?=x)"):
        with pytest.raises(InputError, match="looks ahead"):
            Matching(ahead)
    with pytest.raises(InputError, match="looks backwards"):
        Matching("(?r)abc")
    for behind in (r"\(\?=", "[(?=]+", r"[^\](?!]", "a(?<=a)b", "(?:a)(?P<x>b)(?>c)"):
        Matching(behind)


def test_what_no_token_can_begin_is_refused(made: dict[str, Causal]) -> None:
    for wanted in ({"pattern": r"[^\x00-\U0010ffff]"}, {"pattern": "ж+"}, {"choices": ("東京", "京都")}):
        for temperature in (0.0, 1.0):
            with pytest.raises(InputError, match="no token"):
                made["llama"].answers(PROMPTS, Sampling(most_tokens=12, temperature=temperature, **wanted))  # type: ignore[arg-type]


def test_half_a_character_is_refused(made: dict[str, Causal]) -> None:
    for asked in (
        lambda: made["llama"].generate(["good", "a\ud800b"], Sampling(most_tokens=2)),
        lambda: made["llama"].score([("a\ud800", "b")]),
        lambda: made["llama"].rolling(["\udfff"]),
    ):
        with pytest.raises(InputError, match="half a character"):
            asked()


def test_prompts_that_are_too_long(made: dict[str, Causal]) -> None:
    causal = made["gpt2"]
    long = "x" * 100
    with pytest.raises(InputError, match="46 more than"):
        causal.generate([long], Sampling(most_tokens=10))
    cut = causal.generate([long], Sampling(most_tokens=10, cut_left=True))
    assert cut == causal.generate(["x" * 54], Sampling(most_tokens=10))
    assert causal.generate([], Sampling()) == []
    assert len(causal.generate([""], Sampling(most_tokens=3))) == 1


def test_memory_that_runs_out_halves_the_batch(
    made: dict[str, Causal], monkeypatch: pytest.MonkeyPatch
) -> None:
    causal, options, fill = made["llama"], Sampling(most_tokens=6), generating.fill
    whole = causal.generate(PROMPTS, options)
    sizes = []

    def small(decoder, prompts, *more):  # type: ignore[no-untyped-def]
        sizes.append(len(prompts))
        if len(prompts) > most:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")
        return fill(decoder, prompts, *more)

    monkeypatch.setattr(generating, "fill", small)
    most = 2
    assert causal.generate(PROMPTS, options) == whole
    assert max(sizes) == len(PROMPTS) and sizes[-1] <= 2
    most = 0
    with pytest.raises(OutOfMemory, match="one prompt"):
        causal.generate(PROMPTS, options)


def test_chat_templates(made: dict[str, Causal], tmp_path: Path) -> None:
    said = [{"role": "user", "content": "good?"}]
    assert made["llama"].chat(said) == "<user>good?\n<assistant>"
    bare = Causal(tiny_decoders.decoder(tmp_path, "llama", chat=False), "fp32")
    with pytest.raises(InputError, match="no chat template"):
        bare.chat(said)
    for template, told in (
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% for m in messages %}", "refuses"),
        ("{{ messages[0]['content'] + 1 }}", "refuses"),
        ({"rag": "x", "tool_use": "y"}, "rag, tool_use"),
    ):
        bare.tokenizer.chat_template = template
        with pytest.raises(InputError, match=told):
            bare.chat(said)


@pytest.mark.parametrize("begins", ["", "<s>"])
def test_a_chat_is_the_tokens_of_its_template_and_no_more(
    begins: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokenizer puts <s> before any text, and a template that wants it says so itself."""
    causal = Causal(tiny_decoders.spm_decoder(tmp_path), "fp32")
    causal.tokenizer.chat_template = begins + tiny_decoders.CHAT
    said = [{"role": "user", "content": "yes"}]
    theirs = causal.tokenizer.apply_chat_template(said, add_generation_prompt=True, return_dict=True)
    asked: list[list[int]] = []
    own = causal.prompt_tokens

    def noted(*given: object) -> np.ndarray:
        asked.append(own(*given).tolist())  # type: ignore[arg-type]
        return np.array(asked[-1])

    monkeypatch.setattr(causal, "prompt_tokens", noted)
    list(Chat(causal, Sampling(most_tokens=4)).say("yes"))
    assert asked == [list(theirs["input_ids"])]


@pytest.mark.slow
def test_sampling_follows_the_probabilities(made: dict[str, Causal]) -> None:
    """First tokens drawn by many seeds come as often as their probability says."""
    causal = made["llama"]
    prompt = "the film was"
    drawn = [
        causal.generate([prompt], Sampling(most_tokens=1, temperature=1.0, seed=s))[0] for s in range(400)
    ]
    likely = max(set(drawn) - {""}, key=drawn.count)
    context = causal.encode(prompt)
    tokens = [t for t in range(1, 100) if causal.tokenizer.decode([t], skip_special_tokens=True) == likely]
    p = float(np.exp(causal.score_tokens([(context, [t]) for t in tokens]).log_probability).sum())
    assert abs(drawn.count(likely) / 400 - p) < 4 * (p * (1 - p) / 400) ** 0.5


@pytest.mark.parametrize("wrong", [{"most_tokens": 0}, {"temperature": -1}, {"top_p": 0}])
def test_settings_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Sampling(**wrong)  # type: ignore[arg-type]
