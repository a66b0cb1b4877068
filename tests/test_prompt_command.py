"""basewise prompt through its own entry point on a tiny random decoder: answers, choices, shots, files, chat, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tiny
import tiny_decoders
from basewise.engine.causal import Causal
from basewise.engine.generate import Sampling
from basewise.steps import prompt as steps


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder that reads 256 tokens."""
    place = tmp_path_factory.mktemp("asked")
    tiny_decoders.decoder(place, "llama", max_position_embeddings=256)
    config = json.loads((place / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["LlamaForCausalLM"]
    return place


def test_one_prompt_is_streamed_and_its_speed_told(folder: Path) -> None:
    said = tiny.command("prompt", folder, "the film was", "--most-tokens", 8)
    assert said.code == 0, said.err
    assert said.out.strip()
    assert "tokens generated" in said.err and "a second" in said.err
    again = tiny.command("prompt", folder, "the film was", "--most-tokens", 8, "--json")
    record = json.loads(again.out)
    assert record["answer"] + "\n" == said.out
    assert record["tokens"] == 8 or record["ended"] == "end"
    drawn = {
        tiny.command("prompt", folder, "x", "--most-tokens", 8, "--temperature", f"2:{s}").out
        for s in (1, 1, 2, 3)
    }
    assert 1 < len(drawn) < 4 + 1


def test_choices_are_scored(folder: Path) -> None:
    said = tiny.command("prompt", folder, "the film was", "--choices", "good, bad,red", "--json")
    assert said.code == 0, said.err
    record = json.loads(said.out)
    assert set(record["probabilities"]) == {"good", "bad", "red"}
    assert sum(record["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert record["answer"] == max(record["probabilities"], key=record["probabilities"].get)
    causal = steps.open_base(str(folder))
    sums = causal.exact.score([("the film was", f" {c}") for c in ("good", "bad", "red")]).log_probability
    logits = sums * (10 / 3) / np.array([4, 3, 3])
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    np.testing.assert_allclose(list(record["probabilities"].values()), expected, atol=1e-4)
    np.testing.assert_allclose(list(record["log_probabilities"].values()), sums, atol=1e-3)
    assert record["tokens"] == 6 and record["seconds"] > 0 and "ended" not in record
    plain = tiny.command("prompt", folder, "the film was", "--choices", "good,bad")
    assert "%" in plain.out and "tokens scored" in plain.err


def test_a_text_may_hold_other_ends_of_lines(tmp_path: Path) -> None:
    from basewise.steps.prompt import read_prompts

    rows = tmp_path / "p.jsonl"
    rows.write_text('{"prompt": "one\u2028two"}\n"three\x85four"\r\n', "utf-8")
    assert read_prompts(rows) == ["one\u2028two", "three\x85four"]
    marked = tmp_path / "marked.jsonl"
    marked.write_text('{"prompt": "one"}\n', "utf-8-sig")
    assert read_prompts(marked) == ["one"]


def test_a_file_of_prompts(folder: Path, tmp_path: Path) -> None:
    lines = tmp_path / "p.txt"
    lines.write_text("the film\n\nquestion: red?\n", "utf-8")
    rows = tmp_path / "p.jsonl"
    rows.write_text('{"prompt": "the film"}\n"question: red?"\n', "utf-8")
    found = []
    for path in (lines, rows):
        said = tiny.command("prompt", folder, "--file", path, "--most-tokens", 5, "--json")
        assert said.code == 0, said.err
        found.append([json.loads(line) for line in said.out.splitlines()])
        assert all(record.pop("seconds") > 0 for record in found[-1])
    assert found[0] == found[1]
    assert [r["prompt"] for r in found[0]] == ["the film", "question: red?"]
    said = tiny.command("prompt", folder, "--file", lines, "--most-tokens", 5)
    assert said.out.startswith("> the film\n")


def test_shots_stand_before_every_prompt(folder: Path, tmp_path: Path) -> None:
    assert steps.with_shots(["c"], [("a", "yes"), ("b ", "no")]) == [
        "a\nAnswer: yes\n\nb\nAnswer: no\n\nc\nAnswer:"
    ]
    table = tiny.write_csv(
        tmp_path / "rows.csv",
        [{"text": f"{w} film {i} of some words", "label": w} for i, w in enumerate(["good", "bad"] * 3)],
    )
    said = tiny.command("prompt", folder, "red film", "--shots", table, "--choices", "good,bad", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["prompt"] == "red film"
    assert steps.read_shots(table)[0] == ("good film 0 of some words", "good")
    two = tiny.write_csv(tmp_path / "two.csv", [{"said": "hello", "meant": "greeting"}])
    assert steps.read_shots(two) == [("hello", "greeting")]
    three = tiny.write_csv(tmp_path / "three.csv", [{"a": "x", "b": "y", "c": "z"}])
    tiny.refused(tiny.command("prompt", folder, "x", "--shots", three), "which is the text")
    empty = tiny.write_csv(tmp_path / "empty.csv", [{"text": "x", "label": ""}])
    tiny.refused(tiny.command("prompt", folder, "x", "--shots", empty), "no row")


def test_a_chat_keeps_what_was_said(folder: Path) -> None:
    said = tiny.command("prompt", folder, "--most-tokens", 6, stdin=b"good?\nbad?\n\nnever read\n")
    assert said.code == 0, said.err
    assert said.err.count("a second") == 2
    causal = steps.open_base(str(folder))
    chat = steps.Chat(causal, Sampling(most_tokens=6))
    first = "".join(chat.say("good?"))
    assert first == causal.generate(["<user>good?\n<assistant>"], Sampling(most_tokens=6))[0]
    assert [m["role"] for m in chat.messages] == ["user", "assistant"]
    for _ in range(30):
        list(chat.say("the film was good " * 2))
    assert len(causal.encode(causal.chat(chat.messages))) <= causal.context + 80
    assert len(chat.messages) < 60


def test_answers_take_what_is_left_of_a_short_context(folder: Path) -> None:
    """256 tokens are what is said where nothing is; this base reads 256 in all."""
    said = tiny.command("prompt", folder, "the film was", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["tokens"] <= 253
    causal = steps.open_base(str(folder))
    assert steps.fitted(causal, ["x", "x" * 200], Sampling()).most_tokens == 56
    tiny.refused(tiny.command("prompt", folder, "x" * 300), "the prompt has 300 tokens")
    talk = tiny.command("prompt", folder, stdin=b"good?\nbad?\n\n")
    assert talk.code == 0 and talk.err.count("a second") == 2, talk.err


def test_a_long_prompt_of_a_file_cuts_no_other_answer_short(folder: Path, tmp_path: Path) -> None:
    lines = tmp_path / "p.txt"
    lines.write_text("the film was\n" + "x" * 250 + "\n", "utf-8")
    said = tiny.command("prompt", folder, "--file", lines, "--json")
    alone = tiny.command("prompt", folder, "the film was", "--json")
    first, second = (json.loads(line) for line in said.out.splitlines())
    assert first["answer"] == json.loads(alone.out)["answer"] and first["tokens"] > 6 >= second["tokens"]


def test_the_prompt_with_the_most_tokens_is_the_longest(folder: Path, tmp_path: Path) -> None:
    """Words are a token and other letters one each: more characters are not more tokens. With choices nothing is cut."""
    lines = tmp_path / "p.txt"
    lines.write_text("question " * 60 + "\n" + "x" * 270 + "\n", "utf-8")
    said = tiny.command("prompt", folder, "--file", lines, "--choices", "good,bad")
    tiny.refused(said, "prompt 2 of 2 has 270 tokens")


def test_a_line_that_is_too_long_does_not_end_a_chat(folder: Path) -> None:
    lines = b"good?\n" + b"x" * 300 + b"\n\xff\nbad?\n\n"
    said = tiny.command("prompt", folder, "--most-tokens", 6, stdin=lines)
    assert said.code == 0 and said.err.count("a second") == 2
    assert said.err.count("error: ") == 2 and "reads (256)" in said.err and "not UTF-8" in said.err
    chat = steps.Chat(steps.open_base(str(folder)), Sampling(most_tokens=6))
    list(chat.say("good?"))
    before = list(chat.messages)
    with pytest.raises(steps.InputError):
        list(chat.say("x" * 300))
    assert chat.messages == before and len(before) == 2


def test_ctrl_c_keeps_what_was_answered(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "JOB_PROMPTS", 1)
    lines = tmp_path / "p.txt"
    lines.write_text("the film\nred\nblue\n", "utf-8")
    answers = Causal.answers

    def stopped(self, prompts, *more):  # type: ignore[no-untyped-def]
        if prompts[0] == "blue":
            raise KeyboardInterrupt
        return answers(self, prompts, *more)

    monkeypatch.setattr(Causal, "answers", stopped)
    said = tiny.command("prompt", folder, "--file", lines, "--most-tokens", 4, "--json")
    assert said.code == 130
    assert [json.loads(line)["prompt"] for line in said.out.splitlines()] == ["the film", "red"]
    assert "stopped" in said.err


def test_what_cannot_be_asked(folder: Path, tmp_path: Path) -> None:
    ask = ("prompt", folder)
    tiny.refused(tiny.command(*ask, "a", "--choices", "yes,,no"), "choice 2 is empty")
    tiny.refused(tiny.command(*ask, "a", "--choices", "yes, yes"), "twice")
    tiny.refused(tiny.command(*ask, "a", "--choices", "yes"), "at least two")
    tiny.refused(tiny.command(*ask, "a", "--temperature", "warm"), "temperature")
    tiny.refused(tiny.command(*ask, "a", "--temperature", "-1"), "temperature")
    tiny.refused(tiny.command(*ask, "a", "--most-tokens", "0"), "most tokens")
    tiny.refused(tiny.command(*ask, "a", "--file", tmp_path / "none"), "give one of them")
    tiny.refused(tiny.command(*ask, "--file", tmp_path / "none.txt"), "none.txt")
    tiny.refused(tiny.command(*ask, "--choices", "a,b"), "no prompt")
    tiny.refused(tiny.command(*ask, "x" * 300), "reads (256)")
    tiny.refused(tiny.command(*ask, "a\udcff"), "not UTF-8")
    tiny.refused(tiny.command(*ask, "a", "--choices", "b,\udcff"), "not UTF-8")
    tiny.refused(tiny.command(*ask, "a", "--choices", "b,c", "--temperature", "0.8:1"), "temperature")
    for name, content, word in (
        ("e.txt", "\n", "no prompt"),
        ("b.jsonl", "{", "line 1"),
        ("n.jsonl", '{"a": 1}', "line 1"),
    ):
        (tmp_path / name).write_text(content, "utf-8")
        tiny.refused(tiny.command(*ask, "--file", tmp_path / name), word)
    encoder = tiny.base_folder(tmp_path / "encoder")
    tiny.refused(tiny.command("prompt", encoder, "a"), "no causal language model", "probe")
    bare = tmp_path / "bare"
    tiny_decoders.decoder(bare, "llama", chat=False)
    tiny.refused(tiny.command("prompt", bare), "no chat template")


def test_too_many_shots_say_how_many_fit(folder: Path) -> None:
    causal = Causal(steps.base_steps.pull(str(folder)), "fp32")
    shots = [("the film was good", "yes")] * 40
    with pytest.raises(steps.InputError, match="give at most") as error:
        list(steps.answer(causal, ["the film"], options=Sampling(most_tokens=4), shots=shots))
    kept = int(error.value.fix.split("at most ")[1].split()[0])
    replies = list(steps.answer(causal, ["the film"], options=Sampling(most_tokens=4), shots=shots[:kept]))
    assert len(replies) == 1
    with pytest.raises(steps.InputError):
        list(steps.answer(causal, ["the film"], options=Sampling(most_tokens=4), shots=shots[: kept + 2]))


def test_a_file_goes_on_where_it_was_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was answered before a stop is not asked again, the answers are those of one go, and nothing is left behind."""
    from basewise.core.files import home

    monkeypatch.setattr(steps, "KEPT_PROMPTS", 2)
    causal, options = steps.open_base(str(folder)), Sampling(most_tokens=4)
    prompts = ["the film", "question: red?", "x", "yes", "no"]
    whole = [reply.text for reply in steps.answer_file(causal, prompts, options=options)]
    assert len(whole) == 5 and not list((home() / "prompts").iterdir())
    asked: list[list[str]] = []
    answers = causal.answers

    def counted(texts: list[str], *more: object) -> object:
        asked.append(list(texts))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return answers(texts, *more)

    monkeypatch.setattr(causal, "answers", counted)
    with pytest.raises(KeyboardInterrupt):
        list(steps.answer_file(causal, prompts, options=options))
    assert [r.text for r in steps.answer_file(causal, prompts, options=options)] == whole
    assert asked == [prompts[:2], prompts[2:4], prompts[2:4], prompts[4:]]
    assert not list((home() / "prompts").iterdir())


def test_a_precision_after_the_base(folder: Path) -> None:
    assert steps.split_precision("smollm2-135m:int8") == ("smollm2-135m", "int8")
    assert steps.split_precision("C:/bases/mine") == ("C:/bases/mine", "auto")
    assert steps.split_precision("int8") == ("int8", "auto")
    said = tiny.command("prompt", f"{folder}:int8", "the film was", "--most-tokens", 4)
    assert said.code == 0, said.err
    assert said.out.strip()
    assert "int8" in said.err and "tokens generated" in said.err
    plain = tiny.command("prompt", f"{folder}:fp32", "the film was", "--most-tokens", 4)
    assert plain.code == 0 and "int8" not in plain.err
