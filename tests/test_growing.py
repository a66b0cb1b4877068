"""Texts that grow together: each is what it is alone, whenever it joins, whoever leaves; and the worker's thread around them."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_decoders
from basewise.engine import causal as opening
from basewise.engine import generate as generating
from basewise.engine.causal import Causal
from basewise.engine.generate import Answer, Sampling
from basewise.engine.growing import Growing
from basewise.steps.queueing import Late
from basewise.steps.writing import Texts

ASKED = (
    ("the film was", Sampling(most_tokens=14)),
    ("question: red?", Sampling(most_tokens=9, temperature=0.8, seed=3)),
    ("the film was good the", Sampling(most_tokens=30, temperature=1.2, seed=1, top_p=0.9)),
    ("x", Sampling(most_tokens=5)),
    ("the film", Sampling(most_tokens=20, choices=("good", "bad film"))),
    ("the film was", Sampling(most_tokens=14)),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Causal]:
    """Decoders by architecture; "bloom" cannot be packed."""
    return {
        k: Causal(tiny_decoders.decoder(tmp_path_factory.mktemp(k), k), "fp32") for k in ("gemma3", "bloom")
    }


def grown(causal: Causal, joins: dict[int, list[int]], leave: dict[int, int]) -> dict[int, Answer]:
    """Answers by place in ASKED; joins: step -> places that come before it; leave: step -> place that is cancelled."""
    growing, answers, step = causal.growing(), {}, 0
    while step <= max(joins) or len(growing):
        came = []
        for place in joins.get(step, []):
            prompt, options = ASKED[place]
            came.append(growing.add(place, causal.prompt_tokens(prompt, options), options, prompt))
        if step in leave:
            growing.cancel(leave[step])
        if len(growing):
            came += growing.step()
        answers |= {key: answer for key, _, answer in came if answer is not None}
        step += 1
    return answers


@pytest.mark.parametrize("kind", ["gemma3", "bloom"])
def test_a_text_is_the_same_alone_and_among_others(kind: str, made: dict[str, Causal]) -> None:
    causal = made[kind]
    alone = {i: causal.answers([prompt], options)[0] for i, (prompt, options) in enumerate(ASKED)}
    assert grown(causal, {0: [0, 1], 2: [2], 3: [3, 4, 5]}, {}) == alone
    late = grown(causal, {0: [2], 7: [0, 1, 3], 12: [4], 60: [5]}, {})
    assert late == alone


def test_who_is_cancelled_leaves_and_the_others_stay_the_same(made: dict[str, Causal]) -> None:
    causal = made["gemma3"]
    answers = grown(causal, {0: [0, 1, 2, 3]}, {1: 1, 2: 99})
    assert 1 not in answers
    for place in (0, 2, 3):
        prompt, options = ASKED[place]
        assert answers[place] == causal.answers([prompt], options)[0]


def test_room_is_bounded_but_for_the_first(made: dict[str, Causal], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generating, "BUFFER_BYTES", 1)
    causal = made["gemma3"]
    prompt, options = ASKED[0]
    tokens = causal.prompt_tokens(prompt, options)
    growing = causal.growing()
    assert growing.fits(tokens, options)
    growing.add(0, tokens, options, prompt)
    assert not growing.fits(tokens, options)


class Heard:
    """What a worker's thread sends, by request."""

    def __init__(self) -> None:
        self.text: dict[int, str] = {}
        self.pieces: dict[int, int] = {}
        self.ends: dict[int, dict[str, Any]] = {}
        self.errors: dict[int, BaseException] = {}
        self.order: list[int] = []

    def send(self, header: dict[str, Any]) -> None:
        number = header["id"]
        self.order.append(number)
        self.text[number] = self.text.get(number, "") + header["piece"]
        self.pieces[number] = self.pieces.get(number, 0) + 1
        if "end" in header:
            self.ends[number] = header["end"]

    def fail(self, number: int, error: BaseException) -> None:
        self.errors[number] = error

    def wait(self, numbers: set[int]) -> None:
        """Until all of these have ended or failed."""
        for _ in range(3000):
            if numbers <= self.ends.keys() | self.errors.keys():
                return
            time.sleep(0.01)
        raise AssertionError(f"not ended: {numbers - self.ends.keys() - self.errors.keys()}")


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Texts, Heard, Causal]:
    causal = Causal(tiny_decoders.decoder(tmp_path, "llama"), "fp32")
    monkeypatch.setattr(opening, "opened", lambda base: causal)
    heard = Heard()
    texts = Texts(lambda name: causal.base, heard.send, heard.fail)
    threading.Thread(target=texts.run, daemon=True).start()
    return texts, heard, causal


def asked(prompt: str, seconds: float = 60.0, **options: Any) -> dict[str, Any]:
    return {"name": "llama", "prompt": prompt, "seconds": seconds, "options": options}


def test_requests_grow_together_and_each_gets_its_own(worker: tuple[Texts, Heard, Causal]) -> None:
    texts, heard, causal = worker
    texts.add(1, asked("the film was", most_tokens=40))
    texts.add(2, asked("question: red?", most_tokens=12, temperature=0.9, seed=5))
    texts.add(3, asked("x", most_tokens=3))
    heard.wait({1, 2, 3})
    assert not heard.errors
    for number, prompt, options in (
        (1, "the film was", Sampling(most_tokens=40)),
        (2, "question: red?", Sampling(most_tokens=12, temperature=0.9, seed=5)),
        (3, "x", Sampling(most_tokens=3)),
    ):
        answer = causal.answers([prompt], options)[0]
        assert heard.text[number] == answer.text
        assert heard.ends[number]["tokens"] == answer.tokens
        assert heard.ends[number]["ended"] == ("length" if answer.ended == "length" else "stop")
        assert heard.ends[number]["prompt_tokens"] == len(causal.encode(prompt))


def test_one_that_fails_or_is_late_fails_alone(worker: tuple[Texts, Heard, Causal]) -> None:
    texts, heard, _ = worker
    texts.add(1, asked("the film was", most_tokens=0))
    texts.add(2, asked("the film was", seconds=-1.0, most_tokens=5))
    texts.add(3, asked("the film was", most_tokens=5))
    heard.wait({1, 2, 3})
    assert "most tokens" in str(heard.errors[1])
    assert isinstance(heard.errors[2], Late)
    assert heard.ends[3]["tokens"] == 5


def test_what_is_cancelled_is_not_told(
    worker: tuple[Texts, Heard, Causal], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, heard, _ = worker
    stepped, held = threading.Event(), threading.Event()
    step = Growing.step

    def slow(self: Growing) -> Any:
        stepped.set()
        held.wait(10)
        return step(self)

    monkeypatch.setattr(Growing, "step", slow)
    texts.add(1, asked("the film was", most_tokens=40))
    texts.add(2, asked("the film was", most_tokens=6))
    assert stepped.wait(10)
    texts.cancel(1)
    texts.cancel(77)
    held.set()
    heard.wait({2})
    assert 1 not in heard.ends
    assert heard.pieces.get(1, 0) <= 2


def test_a_step_that_fails_fails_those_that_share_it_and_the_thread_goes_on(
    worker: tuple[Texts, Heard, Causal], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, heard, _ = worker

    def broken(self: Growing) -> Any:
        raise torch.OutOfMemoryError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(Growing, "step", broken)
        texts.add(1, asked("the film was", most_tokens=40))
        heard.wait({1})
    assert isinstance(heard.errors[1], torch.OutOfMemoryError)
    texts.add(2, asked("the film was", most_tokens=4))
    heard.wait({2})
    assert heard.ends[2]["tokens"] == 4


def test_prompts_that_wait_are_read_once_and_in_their_order(
    worker: tuple[Texts, Heard, Causal], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, heard, _ = worker
    read: list[str] = []
    asked_for: list[int] = []
    tokens, fits = Causal.prompt_tokens, Growing.fits

    def counted(self: Causal, prompt: str, *more: Any) -> Any:
        read.append(prompt)
        return tokens(self, prompt, *more)

    def one_at_a_time(self: Growing, prompt: Any, options: Sampling) -> bool:
        asked_for.append(len(prompt))
        return not self.live and fits(self, prompt, options)

    monkeypatch.setattr(Causal, "prompt_tokens", counted)
    monkeypatch.setattr(Growing, "fits", one_at_a_time)
    prompts = ["the film was", "x", "question: red?", "the"]
    # all at once
    with texts._changed:
        for number, prompt in enumerate(prompts):
            texts.add(number, asked(prompt, most_tokens=6))
    heard.wait(set(range(4)))
    assert not heard.errors
    assert read == prompts
    assert list(heard.ends) == [0, 1, 2, 3]
    assert len(asked_for) < 40, "only the first that waits is tried at each step"
