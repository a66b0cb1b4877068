"""What a newcomer meets between the pages: a button pressed twice, a form that was refused, a table that takes long to look over."""

from __future__ import annotations

import datetime as dt
import html
import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import ui_world
from basewise.web.ui import jobs, shell


def test_a_second_press_on_stop_does_not_throw_the_best_so_far_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(jobs, "stop", lambda job: sent.append(job.name))
    root = tmp_path / "runs"
    with ui_world.living(root, "queue", ["choose", "x.csv"], table="0" * 16):
        client = ui_world.client(root)
        assert "Stop and keep the best so far" in client.get("/runs/queue").text
        # a page that was not loaded anew, another tab, an impatient hand
        for _ in range(3):
            assert client.post("/runs/queue/stop").status_code == 303
        assert sent == ["queue"]
        text = client.get("/runs/queue").text
        assert "Stopping: the best so far" in text and "Stop and keep" not in text
        assert "Stopping: the best so far" in client.get("/runs/queue/live").text
        assert client.post("/runs/queue/stop", data={"at_once": "yes"}).status_code == 303
        assert sent == ["queue", "queue"], "who does not want to wait says so"
    monkeypatch.setattr(jobs, "start", lambda root, name, words, about: sent.append(str(about)))
    assert client.post("/runs/queue/resume").status_code == 303
    assert "stopping" not in sent[-1] and "table" in sent[-1]


# ------------------------------------------------------------------ the gate


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A folder of runs with one that has a predictor, as far as the pages look."""
    predictor = tmp_path / "runs" / "queue" / "predictor"
    predictor.mkdir(parents=True)
    (predictor / "predictor.json").write_text("{}")
    (predictor.parent / "decision.json").write_text("{}")
    return tmp_path / "runs"


def said_no(root: Path, *, gate: bool) -> None:
    """A job `release.queue-1` that the gate refused."""
    folder = root / jobs.FOLDER / "release.queue-1"
    folder.mkdir(parents=True)
    sent = "run=queue&name=queue-1&by=R.+Roe&data_licence=own&override=slices%3Dread+%22it%22"
    about = {"release": "queue-1", "run": "queue", "sent": sent}
    value = {"format": 1, "kind": "release", "words": ["release"], "about": about, "pid": 1, "started": time.time()}  # fmt: skip
    (folder / "job.json").write_text(json.dumps(value))
    (folder / "exit.txt").write_text("2")
    (folder / "err.txt").write_text(
        "error: not released, 1 of 2 checks failed: groups: <i>they</i> flip; ask\n"
    )
    checks = [
        {"check": "groups", "verdict": "fail", "sentence": "<i>they</i> flip", "advice": "ask", "override": None},
        {"check": "weights", "verdict": "pass", "sentence": "sound", "advice": "", "override": None},
    ]  # fmt: skip
    when = dt.datetime.fromtimestamp(time.time() if gate else 0, dt.UTC).isoformat("T", "seconds")
    (root / "queue" / "gate.json").write_text(json.dumps({"when": when, "checks": checks}))


def test_a_refused_release_shows_each_check_and_is_tried_again(finished: Path) -> None:
    said_no(finished, gate=True)
    text = ui_world.client(finished).get("/releases/queue-1").text
    assert "Not released, 1 of 2 checks failed.</p>" in text, "the alert is short: the table has the rest"
    assert '<span class="badge fail">fail</span>' in text and "&lt;i&gt;they&lt;/i&gt; flip" in text
    for value in ('value="queue-1"', 'value="R. Roe"', 'value="slices=read &quot;it&quot;"'):
        assert value in text, "what was sent stands in the form again"
    assert 'placeholder="groups=reason"' in text


def test_what_an_earlier_gate_found_is_not_shown_as_this_ones(finished: Path) -> None:
    said_no(finished, gate=False)
    text = ui_world.client(finished).get("/releases/queue-1").text
    assert "badge fail" not in text and "flip; ask" in text


def test_a_form_for_a_release_keeps_what_was_sent(finished: Path) -> None:
    (finished.parent / "releases" / "queue-1").mkdir(parents=True)
    client = ui_world.client(finished)
    assert 'value="queue-2"' in client.get("/releases").text, "the name that is offered is free"
    sent = {"run": "queue", "name": "queue-1", "by": "R. Roe", "override": "scope=known"}
    for change, status in (({}, 409), ({"name": "a b"}, 400), ({"weights": "--help", "name": "x"}, 404)):
        answer = client.post("/releases", data={**sent, **change})
        assert answer.status_code == status and 'role="alert"' in answer.text
        assert 'value="R. Roe"' in answer.text and 'value="scope=known"' in answer.text


def test_a_key_is_made_on_the_page_and_signs_from_then_on(finished: Path, started: list[list[str]]) -> None:
    client = ui_world.client(finished)
    assert "there is no key to sign with yet" in client.get("/releases").text
    for made in (1, 2):
        assert client.post("/releases/key").status_code == 303
        assert len(list((finished.parent / "keys").glob("*.pem"))) == 2 * made
    sent = {"run": "queue", "name": "queue-1", "by": "R. Roe"}
    offered = re.search('<select name="sign"><option value="([^"]+)" selected>', client.get("/releases").text)
    assert offered and Path(offered[1]).stat().st_mode & 0o077 == 0, "nobody else reads it"
    assert (Path(offered[1]).parent / ".gitignore").read_text() == "*\n", "and no repository takes it"
    for sign, words in ((offered[1], f"--key={offered[1]}"), ("", None)):
        client.post("/releases", data={**sent, "sign": sign})
        assert [w for w in started[-1] if w.startswith("--key")] == [words] * bool(words)
    text = client.get("/releases?run=queue&sign=").text
    assert '<option value="" selected>none: unsigned' in text, "what was sent stands in the form again"


# ------------------------------------------------------------------ benchmarks and pretraining started here


def test_a_benchmark_is_started_and_followed(finished: Path, started: list[list[str]]) -> None:
    client = ui_world.client(finished)
    sent = {
        "base": ["basewise-tiny", "basewise-tiny-gpt"],
        "suite": ["blimp", "bbh"],
        "name": "asked",
        "limit": "20",
        "data": "/sets",
    }
    for change, told in (({"base": []}, "tick at least one"), ({"suite": ["none"]}, "blimp"), ({"limit": "many"}, "such as 100"),
                         ({"name": "queue"}, "give another name, such as queue-2"), ({"base": ["no-base"]}, "no-base")):  # fmt: skip
        answer = client.post("/bench", data={**sent, **change})
        assert 400 <= answer.status_code < 500 and told in answer.text
        assert f'value="{change.get("limit", "20")}"' in answer.text, "what was sent stands in the form again"
    assert not started
    assert client.post("/bench", data=sent).headers["location"] == "/bench/asked"
    words = [
        "bench",
        *sent["base"],
        "--suite",
        "blimp",
        "--suite",
        "bbh",
        "--to",
        str(finished / "asked"),
        "--limit=20",
        "--data=/sets",
    ]
    assert started == [words]
    with ui_world.living(finished, "asked", words) as folder:
        (folder / "progress.json").write_text('{"done": 5, "total": 9, "what": "characters read"}')
        text = client.get("/bench/asked").text
        assert "Characters read: 5 of 9" in text and "Stop and keep what is answered" in text
        assert "x-over" not in client.get("/bench/asked/live").headers
    assert "x-over" in client.get("/bench/asked/live").headers
    assert "Go on from here" in client.get("/bench/asked").text


def test_pretraining_is_started_from_a_text(finished: Path, started: list[list[str]]) -> None:
    from basewise.core.recipe import read_recipe

    client = ui_world.client(finished)
    sent, file = {"name": "plays", "seconds": "4m"}, {"file": ('a "b".txt', b"to be or not to be\n" * 50)}
    for change, files, told in (({}, {}, "no text came"), ({"recipe": "depht = 2"}, file, "depth"), ({"seconds": "4q"}, file, "4q"),
                                ({"recipe": "not toml"}, file, "recipe"), ({"name": "queue"}, file, "queue-2")):  # fmt: skip
        answer = client.post("/pretraining", data={**sent, **change}, files=files)
        assert 400 <= answer.status_code < 500 and told in answer.text.replace("No text", "no text")
    assert not started and not (finished / jobs.FOLDER / "plays").exists(), "nothing half-written stays"
    assert client.post("/pretraining", data=sent, files=file).headers["location"] == "/pretraining/plays"
    ((verb, recipe, _, to),) = started
    read = read_recipe(Path(recipe))
    assert (verb, to) == ("pretrain", str(finished / "plays")) and (read.name, read.seconds) == (
        "plays",
        "4m",
    )
    assert Path(read.corpus).read_bytes().startswith(b"to be")


# ------------------------------------------------------------------ services and refusals


@pytest.fixture
def started(finished: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The words of the services that are started; none runs."""
    words: list[list[str]] = []

    def start(root: Path, name: str, said: list[str], about: dict[str, Any]) -> jobs.Job:
        words.append(said)
        return jobs.Job(
            name=name, kind="serve", words=tuple(said), about=about, pid=1, started=0.0, folder=root
        )

    monkeypatch.setattr(jobs, "start", start)
    return words


def test_each_service_has_a_state_of_its_own_and_serves_what_was_ticked(
    finished: Path, started: list[list[str]]
) -> None:
    import socket

    from basewise.steps.serve import ServeOptions
    from basewise.web.keys import Keys
    from basewise.web.traffic import Traffic

    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    client, queue = ui_world.client(finished), str(finished / "queue")
    states = [finished / jobs.FOLDER / f"serve.{port}" / "state" for port in ports]
    before = Traffic(states[0] / "traffic.json")
    before.live("queue", "a" * 64, queue)
    before.live("other", "b" * 64, "/runs/other")
    before.canary("queue", "c" * 64, "/runs/next", 5)
    for port, state in zip(ports, states, strict=True):
        assert client.post("/serving/start", data={"folder": queue, "port": str(port)}).status_code == 303
        assert started[-1][started[-1].index("--state") + 1] == str(state)
        assert len(Keys(state / "keys.json").all()) == 1
    kept = Traffic(states[0] / "traffic.json").lanes
    assert list(kept) == ["queue"] and kept["queue"].percent == 5, "what was changed in it stays"
    assert not (ServeOptions().state / "keys.json").exists(), (
        "services of the terminal ask for no key because of it"
    )


def test_a_refusal_leads_back_to_the_page_that_asked(tmp_path: Path) -> None:
    client, origin = ui_world.client(tmp_path / "runs"), ui_world.ORIGIN
    for came, path in (
        (f"{origin}/service/queue?a=%22", "/service/queue?a=%22"),
        ("http://evil.example/service", ""),
        (f"{origin}//evil.example/x", "/evil.example/x"),
        (f"{origin}/service/queue/rollback", ""),
        ("", ""),
    ):
        text = client.post("/service/queue/rollback", headers={"referer": came}).text
        assert ("Back to where you were" in text) == bool(path)
        assert not path or f'href="{path}"' in text


# ------------------------------------------------------------------ a table that takes long


def test_a_long_audit_is_followed_and_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from basewise.core.errors import TableError
    from basewise.web.ui import tables

    go_on, begun = threading.Event(), []

    def slow(path: Path, changed: int, roles: Any, progress: Any) -> Any:
        begun.append(roles.target)
        progress(1, 4, "finding <b>duplicates</b>")
        go_on.wait(600)
        raise TableError("a table that cannot be", "give another")

    monkeypatch.setattr(tables, "_audited", slow)
    client = ui_world.client(tmp_path / "runs", patience=0.0)
    file = {"file": ("t.csv", b"text,label\n" + b"hello,a\nbye,b\n" * 9)}
    where = f"{client.post('/new', files=file).headers['location']}?target=label&inputs=text"
    # loaded again and again by who cannot wait
    for _ in range(3):
        text = client.get(where).text
        assert "The table is looked over" in text and 'http-equiv="refresh"' in text
    ui_world.until(lambda: "duplicates" in client.get(where).text, "the first word of the audit")
    live = html.unescape(re.search('data-live="([^"]*)"', text)[1])  # type: ignore[index]
    assert "target=label" in live and "inputs=text" in live
    assert "&lt;b&gt;duplicates" in client.get(live).text and "x-over" not in client.get(live).headers
    assert begun == ["label"], "one audit, however often it was asked for"
    go_on.set()
    ui_world.until(lambda: "x-over" in client.get(live).headers, "the end of the audit")
    assert "A table that cannot be" in client.get(where).text


@pytest.mark.parametrize(
    ("told", "read"),
    [("broken.csv is empty", "broken.csv is empty."), ("owner/model is away", "owner/model is away."), ("no file came", "No file came."), ("licence: it is not known", "Licence: it is not known."), ("", "")],
)  # fmt: skip
def test_names_at_the_beginning_of_a_line_stay_as_they_are(told: str, read: str) -> None:
    assert shell.sentence(told) == read


@pytest.mark.parametrize(
    "told",
    [
        "the folder x holds another run; give another --to, or delete it",
        "no column holds text; name the text column with inputs (in Python, or in the file of --config)",
        "a split by group needs a group column, none was found; name it with group=, on the command line --split group:COLUMN",
        'say what the rows are licensed under: --data-licence CC-BY-4.0, or own with --by "Your Name"',
        'not released; mend it, or answer for it: --override "groups=reason" --by "Your Name"',
        'nobody\'s name stands behind this; give it: --by "Your Name"',
        "minilm-l6 is not here; fetch it with: basewise bases pull minilm-l6",
        "gemma comes under terms; read them, then run: basewise bases pull gemma --accept-terms",
        "cannot listen on 127.0.0.1:80: it is taken; stop what listens there, or give another --port",
        "cannot read the key k.pem: no such file; make one with: basewise keys new",
        "the method probe needs a base that can embed; list the bases with: basewise bases list",
        "x could not be fetched; connect to a package registry, or use a base that is here: basewise bases list",
        "take the column out, or split again with --split",
        "Stopped by hand: this is the best so far; the same command goes on from here.",
        "no service answers at http://127.0.0.1:9 (refused); start one with `basewise serve`, or give its address",
    ],
)
def test_advice_of_commands_is_given_in_the_words_of_the_pages(told: str) -> None:
    said = shell.sentence(told)
    assert not re.search(r"--\w|basewise \w|Python|command", said), said


@pytest.mark.parametrize("name", ["my first run", "<b>bold</b>", "100 % ja?#", "größe; \"q\" 'x'", "a" * 200])
def test_runs_of_the_terminal_are_shown_whatever_they_are_called(finished: Path, name: str) -> None:
    name = name.replace("/", "∕")
    (finished / "queue").rename(finished / name)
    ui_world.metrics(finished / f"{name} 2")
    client = ui_world.client(finished)
    places = re.findall(r'<a href="(/(?:runs|pretraining)/[^"]+)"', client.get("/").text)
    assert len(places) == 2
    for path in places:
        assert client.get(path).status_code in (200, 409) and name[:5] not in path[:3]
    assert html.escape(name) in client.get("/playground").text
    offered = re.search('name="name" value="([^"]*)"', client.get("/releases").text)
    assert offered and jobs.NAME.fullmatch(offered[1]), "a name that the form itself accepts"


def test_long_lists_are_searched_and_folded(finished: Path) -> None:
    import shutil

    client = ui_world.client(finished)
    assert (
        "data-search" not in client.get("/").text and " more</summary>" not in client.get("/playground").text
    )
    for i in range(30):
        shutil.copytree(finished / "queue", finished / f"more-{i}")
    assert 'data-search="runs"' in client.get("/").text
    first, fold = client.get("/playground?run=queue").text.split("<summary>18 more</summary>")
    assert 'value="queue" checked' in first and fold.count('name="run"') == 18
    assert first.count('name="run"') == 13, "the latest, and the chosen one wherever it is"


def test_pages_of_the_wrong_kind_lead_to_the_right_one(finished: Path) -> None:
    answer = ui_world.client(finished).get("/bench/queue")
    assert answer.status_code == 404 and "is no benchmark" in answer.text


def test_a_row_without_end_is_no_row() -> None:
    from basewise.web.ui.pages import relabel

    assert relabel.changes_of({"row-" + "9" * 5000: ["a"], "row-7": ["a"]}, ("a",)) == {7: "a"}


def test_every_rule_for_the_words_of_pages_knows_a_sentence_that_is_still_said() -> None:
    """A rule whose sentence was changed elsewhere would pass the command's own words on without notice."""
    from basewise.web.ui import wording

    files = (p for p in Path(wording.__file__).parents[2].rglob("*.py") if p.name != "wording.py")
    said = re.sub(r'"\s*\n\s*f?"', "", " ".join(p.read_text(encoding="utf-8") for p in files))
    for pattern, _ in wording.SAID:
        plain = max(re.split(r"\\.\+?|[()|]|\.\*\??|\?", pattern), key=len)
        assert plain in said, f"nothing says {plain!r} any more"
