"""What a user gets wrong, through the command itself: one clear line with the fix, exit code 2, nothing half-written.

The readers' and the store's own tests hold the finer cases; here every kind of mistake is made once where a user makes it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tiny
from basewise.core import files

ROWS = "text,label\n" + "".join(f"some words about thing number {i},{'ab'[i % 2]}\n" for i in range(40))
MAJORITY = ("--method", "majority", "--method", "words", "--budget", "30s")

FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "header only": (b"text,label\n", "no rows"),
    "binary": (bytes(range(256)) * 20, "binary"),
    "ragged": (b"text,label\na,b\nc,d,e\n", "line 3"),
    "one class": (ROWS.replace(",b\n", ",a\n").encode(), "one class only"),
    "one usable class": (
        b"text,label\n" + b"".join(b"words %d of a row,%s\n" % (i, b"a" if i else b"b") for i in range(40)),
        "fewer than two classes",
    ),
    "no text": (b"text,label\n" + b" ,a\n ,b\n" * 20, "text"),
    "nothing but duplicates": (
        b"text,label\n" + b"the same words,a\nthe same words,b\n" * 20,
        "the same text",
    ),
    "numbers": (
        b"text,label\n" + b"".join(b"words of row %d,%d\n" % (i, i % 500) for i in range(1500)),
        "regression",
    ),
    "no label": (b"text,label\n" + b"".join(b"words of row %d,\n" % i for i in range(40)), "label"),
    "no label but NaN": (
        b"text,label\n" + b"".join(b"words of row %d,NaN\n" % i for i in range(40)),
        "label",
    ),
}


def nothing_left(folder: Path, *known: Path) -> None:
    """Beside the files that the test made, the folder holds nothing."""
    assert set(folder.rglob("*")) == set(known)


@pytest.mark.parametrize("case", list(FILES))
def test_a_table_that_cannot_be_used(tmp_path: Path, case: str) -> None:
    content, word = FILES[case]
    table = tmp_path / "t.csv"
    table.write_bytes(content)
    said = tiny.command("choose", table, "--target", "label", *MAJORITY, "--to", tmp_path / "run")
    tiny.refused(said, word)
    nothing_left(tmp_path, table)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    tiny.refused(tiny.command("choose", tmp_path / "absent.csv", "--to", tmp_path / "run"), "absent.csv")
    tiny.refused(tiny.command("choose", tmp_path, "--to", tmp_path / "run"), "folder")
    nothing_left(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "utf-8-sig"])
def test_other_encodings_are_guessed(tmp_path: Path, encoding: str) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes(ROWS.replace("words", "Wörter für Öfen").encode(encoding))
    said = tiny.command("audit", table, "--target", "label")
    assert said.code == 0, said.err


def usual(folder: Path) -> Path:
    table = folder / "t.csv"
    table.write_text(ROWS, "utf-8")
    return table


MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    "column": (("--target", "labl"), "label"),
    "base": (("--target", "label", "--base", "minilm-l7"), "minilm-l6"),
    "method": (("--target", "label", "--method", "prob"), "probe"),
    "unit": (("--target", "label", "--budget", "10q"), "10q"),
    "negative budget": (("--target", "label", "--budget=-5m"), "-5m"),
    "split": (("--target", "label", "--split", "group:none"), "none"),
    "option": (("--tarbet", "label"), "--target"),
    "settings": (("--target", "label", "--config", "absent.toml"), "absent.toml"),
}


@pytest.mark.parametrize("case", list(MISTAKES))
def test_a_word_that_is_wrong(tmp_path: Path, case: str) -> None:
    table = usual(tmp_path)
    words, hint = MISTAKES[case]
    tiny.refused(tiny.command("choose", table, *words, "--to", tmp_path / "run"), hint)
    nothing_left(tmp_path, table)


def test_a_base_that_is_not_here_and_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    table = usual(tmp_path)
    given = ("--target", "label", "--base", "minilm-l6", "--method", "probe", "--budget", "30s")
    said = tiny.command("choose", table, *given, "--to", tmp_path / "run")
    announced, line = said.err.strip().splitlines()
    assert announced.startswith("fetching minilm-l6: 84 MB, licence Apache-2.0")
    tiny.refused(tiny.Answered(said.code, said.out, line), "minilm-l6", "here now: basewise-tiny")
    nothing_left(tmp_path, table)


def test_weights_that_are_damaged(tmp_path: Path) -> None:
    table, base = usual(tmp_path), tiny.base_folder(tmp_path / "base")
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    before = set(tmp_path.rglob("*"))
    words = ("--target", "label", "--base", base, "--method", "probe", "--to", tmp_path / "run")
    tiny.refused(tiny.command("choose", table, *words), "model.safetensors")
    assert set(tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    table = usual(tmp_path)
    (tmp_path / "note").write_text("a file, not a folder")
    said = tiny.command("choose", table, "--target", "label", *MAJORITY, "--to", tmp_path / "note" / "run")
    tiny.refused(said, "note")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = usual(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    said = tiny.command("choose", table, "--target", "label", *MAJORITY, "--to", tmp_path / "run")
    tiny.refused(said, "disk")
    assert not [p for p in tmp_path.rglob("*") if p.suffix == ".html" or p.name == "decision.json"]


FINISHED: dict[str, tuple[str, ...]] = {
    "predict": ("absent.csv",),
    "evaluate": ("absent.csv",),
    "show": (),
}


@pytest.mark.parametrize("verb", list(FINISHED))
def test_a_run_that_is_none(tmp_path: Path, verb: str) -> None:
    tiny.refused(tiny.command(verb, tmp_path / "absent", *FINISHED[verb]), "absent")
    (tmp_path / "empty").mkdir()
    tiny.refused(tiny.command(verb, tmp_path / "empty", *FINISHED[verb]), "empty")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two methods without a base."""
    folder = tmp_path_factory.mktemp("words")
    table = tiny.write_csv(folder / "t.csv", tiny.rows(60))
    said = tiny.command("choose", table, "--target", "queue", *MAJORITY, "--to", folder / "run")
    assert said.code == 0, said.err
    return folder / "run"


@pytest.mark.parametrize(
    "content", ["{}", "[]", "{", '{"verdict": "winner", "sentence": "", "chosen": "", "of": 1}']
)
def test_a_decision_that_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "decision.json").write_text(content, "utf-8")
    tiny.refused(tiny.command("show", tmp_path), "decision.json")


def test_a_base_to_prompt_needs_rows_of_another_origin(tmp_path: Path, run: Path) -> None:
    table = tiny.write_csv(tmp_path / "new.csv", tiny.rows(20, seed=1))
    said = tiny.command("evaluate", run, table, "--base", "smollm2-135m", "--to", tmp_path / "out.json")
    tiny.refused(said, "--shift")
    nothing_left(tmp_path, table)


def test_rows_that_are_not_there_leave_no_header(run: Path, tmp_path: Path) -> None:
    tiny.refused(tiny.command("predict", run, tmp_path / "absent.csv"), "absent.csv")


def without_text(folder: Path) -> Path:
    return tiny.write_csv(folder / "n.csv", [{"words": "hello", "queue": "billing"}])


def other_labels(folder: Path) -> Path:
    return tiny.write_csv(folder / "n.csv", [{"text": "hello", "queue": "kitchen", "channel": "web"}])


WRONG_ROWS: dict[str, tuple[str, Callable[[Path], Path], str]] = {
    "predict without its column": ("predict", without_text, "text"),
    "evaluate without its column": ("evaluate", without_text, "text"),
    "evaluate with unknown labels": ("evaluate", other_labels, "none of the labels"),
}


@pytest.mark.parametrize("case", list(WRONG_ROWS))
def test_new_rows_that_do_not_fit(tmp_path: Path, run: Path, case: str) -> None:
    verb, make, word = WRONG_ROWS[case]
    table = make(tmp_path)
    tiny.refused(tiny.command(verb, run, table, "--to", tmp_path / "out.csv"), word)
    nothing_left(tmp_path, table)


def test_answers_are_whole_or_absent(tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tiny.write_csv(tmp_path / "new.csv", tiny.rows(20, seed=1))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    tiny.refused(tiny.command("predict", run, table, "--to", tmp_path / "out.csv"), "disk")
    nothing_left(tmp_path, table)


def test_told_to_end_it_leaves_no_half_of_its_answers(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from basewise.cli import answers

    table = tiny.write_csv(tmp_path / "new.csv", tiny.rows(20, seed=1))
    monkeypatch.setattr(answers, "_write_text", lambda *_: signal.raise_signal(signal.SIGTERM))
    said = tiny.command("predict", run, table, "--to", tmp_path / "out.csv")
    assert (said.code, said.out, said.err) == (128 + signal.SIGTERM, "", "")
    nothing_left(tmp_path, table)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    monkeypatch.setattr(answers, "_write_text", lambda *_: signal.default_int_handler(signal.SIGINT, None))
    said = tiny.command("predict", run, table, "--to", tmp_path / "out.csv")
    assert (said.code, said.err) == (130, "stopped\n")
    nothing_left(tmp_path, table)


@pytest.mark.parametrize("words", [["predict", "new.csv"], ["show"]])
def test_a_reader_that_has_read_enough_is_no_error(
    words: list[str], tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from basewise.cli.main import main

    tiny.write_csv(tmp_path / "new.csv", tiny.rows(20, seed=1))
    monkeypatch.chdir(tmp_path)
    read, write = os.pipe()
    os.close(read)
    monkeypatch.setattr(sys, "argv", ["basewise", words[0], str(run), *words[1:]])
    with open(write, "w", encoding="utf-8") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 0


def test_a_folder_is_no_file_to_write(tmp_path: Path, run: Path) -> None:
    table, folder = tiny.write_csv(tmp_path / "new.csv", tiny.rows(20, seed=1)), tmp_path / "out.csv"
    folder.mkdir()
    tiny.refused(tiny.command("predict", run, table, "--to", folder), "is a folder", "name a file")
    nothing_left(tmp_path, table, folder)


@pytest.mark.slow
def test_ten_megabytes_in_one_cell(tmp_path: Path, run: Path) -> None:
    rows = [*tiny.rows(3, seed=2), {"text": "invoice " * 1_300_000, "queue": "billing", "channel": "web"}]
    table = tiny.write_csv(tmp_path / "new.csv", rows)
    said = tiny.command("predict", run, table, "--to", tmp_path / "out.csv")
    assert said.code == 0, said.err
    assert len((tmp_path / "out.csv").read_text("utf-8").splitlines()) == 5


def test_a_pipe_is_written_into_and_a_link_stays_one(tmp_path: Path) -> None:
    """A file in the place of /dev/null would be the end of a machine."""
    import os
    import threading

    from basewise.core.files import write_bytes

    pipe, link, target = tmp_path / "pipe", tmp_path / "link", tmp_path / "target"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_bytes(pipe, b"rows")
    reader.join()
    assert read == [b"rows"] and pipe.is_fifo()
    target.write_text("old", encoding="utf-8")
    link.symlink_to(target)
    write_bytes(link, b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "link", "target"}
