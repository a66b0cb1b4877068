"""The web app without a browser: who is let in, the whole way from a dropped file to an answer, and bad input.

The way is gone once, with a run in a process of its own on a tiny base; most tests look at what it left.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import tiny
import ui_world
from basewise.core.registry import keys, summary
from ui_world import TOKEN, until


@dataclass(frozen=True)
class World:
    """A folder of runs with one finished run `tickets` that was started from the page, the key of its table, and a client."""

    root: Path
    table: str
    base: str
    client: Any
    watched: list[str]


@pytest.fixture(autouse=True)
def _home_of_the_world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that look at the world look into its cache folder too, where its base is known."""
    if "world" in request.fixturenames:
        monkeypatch.setenv("BASEWISE_HOME", str(request.getfixturevalue("world").root.parent / "home"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("ui")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BASEWISE_HOME", str(folder / "home"))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("HF_HUB_OFFLINE", "1")
        base = ui_world.own_base(folder / "tiny-bert")
        content = tiny.write_csv(folder / "tickets.csv", noisy()).read_bytes()
        root = folder / "runs"
        root.mkdir()
        client = ui_world.client(root)
        answer = client.post("/new", files={"file": ("tickets.csv", content, "text/csv")})
        assert answer.status_code == 303, answer.text
        key = answer.headers["location"].rpartition("/")[2]
        settings = {
            "name": "tickets",
            "budget": "10m",
            "base": base,
            "method": ["majority", "words", "probe"],
            "download": "1B",
            "curves": "no",
        }
        answer = client.post(f"/new/{key}/start", data={**settings, "seed": "0"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/runs/tickets"), answer.text
        watched = [client.get("/runs/tickets").text]

        def over() -> bool:
            live = client.get("/runs/tickets/live")
            watched.append(live.text)
            return "x-over" in live.headers

        until(over, "the run")
        yield World(root, key, base, client, watched)


def noisy() -> list[dict[str, str]]:
    """Rows of tiny's table, some with a label that is wrong."""
    rows = tiny.rows(150)
    for i in range(0, 150, 15):
        rows[i] = {**rows[i], "queue": "technical" if rows[i]["queue"] != "technical" else "billing"}
    return rows


# ------------------------------------------------------------------ who is let in


def test_the_address_with_its_token_lets_in_and_hides_the_token(tmp_path: Path) -> None:
    client = ui_world.client(tmp_path, let_in=False)
    assert client.get("/").status_code == 403
    answer = client.get(f"/runs?token={TOKEN}&x=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs?x=1")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie
    assert client.get("/").status_code == 200, "the cookie lets in"
    assert ui_world.client(tmp_path, let_in=False).get("/?token=wrong").status_code == 403


def test_two_apps_on_one_machine_let_their_browsers_in_by_cookies_of_their_own(tmp_path: Path) -> None:
    from basewise.web.ui.guard import cookie_of

    answer = ui_world.client(tmp_path, let_in=False).get(f"/?token={TOKEN}")
    name = f"basewise-{ui_world.PORT}"
    assert answer.headers["set-cookie"].startswith(f"{name}=")
    both = {"cookie": f"basewise-1=other; {name}={TOKEN}"}
    assert cookie_of(both, name) == TOKEN and cookie_of(both, "basewise-2") == ""


def test_a_text_of_several_lines_is_the_one_that_was_typed(tmp_path: Path) -> None:
    text = ui_world.client(tmp_path).post("/playground", data={"text": "one\r\ntwo"}).text
    assert "one\ntwo</textarea>" in text


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil:8765", ""])
def test_another_host_is_refused(tmp_path: Path, host: str) -> None:
    assert ui_world.client(tmp_path).get("/", headers={"host": host}).status_code == 400


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1:8765", "http://127.0.0.1:9999", ""]
)
def test_a_change_from_another_site_is_refused(tmp_path: Path, origin: str) -> None:
    answer = ui_world.client(tmp_path).post("/new", data={"sample": "1"}, headers={"origin": origin})
    assert answer.status_code == 403
    assert not list(tmp_path.iterdir())


def test_every_answer_forbids_what_it_does_not_need(tmp_path: Path) -> None:
    client = ui_world.client(tmp_path)
    for path in ("/", "/static/app.js", "/nowhere", "/new"):
        headers = client.get(path).headers
        assert (
            "default-src 'none'" in headers["content-security-policy"]
            and "script-src 'self'" in headers["content-security-policy"]
        )
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
    assert ui_world.client(tmp_path, let_in=False).get("/new").headers["content-security-policy"]


# ------------------------------------------------------------------ the way


def test_the_roles_are_guessed_and_the_audit_stands_there(world: World) -> None:
    text = world.client.get(f"/new/{world.table}").text
    assert "What the audit found" in text and "to read" not in text.split("<h2>Start")[1]
    assert re.search(r"<b>queue</b></td><td[^>]*>target", text) and re.search(
        r"<b>text</b></td><td[^>]*>input", text
    )
    assert 'value="tickets-2"' in text, "a name that no run has"


def test_other_roles_give_another_audit(world: World) -> None:
    text = world.client.get(f"/new/{world.table}", params={"target": "channel", "split": "none"}).text
    assert re.search(r"<b>channel</b></td><td[^>]*>target", text) and "split: none" in text


def test_a_run_is_seen_while_it_runs(world: World) -> None:
    said = "".join(world.watched)
    assert "Stop and keep the best so far" in world.watched[0]
    assert "time left" in said and "time used" in said, "no look fell into the race"
    assert "rung 1 of" in said or "% right [95 %]" in said


def test_a_finished_run_shows_its_decision(world: World) -> None:
    text = world.client.get("/runs/tickets").text
    decision = json.loads((world.root / "tickets" / "decision.json").read_text())
    assert (
        decision["chosen"] in text
        and "Quality against cost" in text
        and "Slices" not in text.split("<h1>")[0]
    )
    assert "Check labels and run again" in text
    # a name that only the terminal gives
    twin = 'a & b?#"'
    shutil.copytree(world.root / "tickets", world.root / twin)
    try:
        there = world.client.get(f"/runs/{quote(twin)}").text
        for place in ("playground", "compare"):
            assert f'href="/{place}?run=a+%26+b%3F%23%22"' in there
    finally:
        shutil.rmtree(world.root / twin)
    assert world.client.get("/").text.count("■ finished") == 1


def test_rows_are_read_and_filtered(world: World) -> None:
    everything = world.client.get("/runs/tickets/rows").text
    n = int(re.search(r"of (\d+) held-out train rows", everything).group(1))  # type: ignore[union-attr]
    wrong = world.client.get("/runs/tickets/rows", params={"show": "wrong", "trial": "words"}).text
    assert 0 < int(re.search(r"(\d+) of \d+ held-out", wrong).group(1)) < n  # type: ignore[union-attr]
    billing = world.client.get(
        "/runs/tickets/rows", params={"label": "billing", "words": "INVOICE", "sort": "sure"}
    ).text
    body = billing.split("<tbody>")[1]
    assert body.count("<tr>") == body.count("invoice") > 0
    assert "2 of " in world.client.get("/runs/tickets/rows", params={"page": "2"}).text
    task = json.loads((world.root / "tickets" / "task.json").read_text())
    assert n == task["train"], "the locked test rows are not among them"


def test_the_playground_answers_with_neighbours_and_words(world: World) -> None:
    assert "Whose answer" in world.client.get("/playground").text
    sent = {"text": "the invoice charge on my card is wrong", "run": "tickets"}
    text = world.client.post("/playground", data=sent).text
    assert 'class="big">billing' in text
    assert "Nearest train rows" in text and "What carries it" in text
    assert "the answer is <b>" in text or "never changed the answer" in text
    assert f"{world.base} + " in text or "words" in text


def test_labels_are_changed_and_the_locked_rows_stay(world: World) -> None:
    page = world.client.get("/runs/tickets/relabel").text
    suspect = json.loads((world.root / "tickets" / "decision.json").read_text())["suspects"][0]
    field = f"row-{suspect['row_id']}"
    assert f'name="{field}" data-suggested="{suspect["suggested"]}"' in page
    answer = world.client.post("/runs/tickets/relabel", data={field: suspect["suggested"], "row-999999": ""})
    assert answer.status_code == 303, answer.text
    again = world.client.get(answer.headers["location"]).text
    assert "split: given" in again
    from basewise.core.taskfile import load_task
    from basewise.web.ui import tables

    old = load_task(world.root / "tickets")
    key = answer.headers["location"].split("/")[2].partition("?")[0]
    assert "the same rows as before" in again
    roles = tables.Roles(target="queue", inputs=("text",), split="kept_split+group:kept_group")
    new = tables.look(tables.path_of(world.root, key), roles)
    assert new.test_digest() == old.test_digest()
    assert len(set(new.rows.groups)) == len(set(old.rows.groups)), "who belongs together is kept too"
    assert len(new.rows) == len(old.rows)
    changed = [a != b for a, b in zip(old.rows.labels, new.rows.labels, strict=True)]
    assert sum(changed) == 1


def test_runs_are_compared_row_by_row(world: World) -> None:
    assert "Two finished runs are needed" in world.client.get("/compare").text
    shutil.copytree(world.root / "tickets", world.root / "second")
    try:
        text = world.client.get("/compare", params={"run": ["tickets", "second"]}).text
    finally:
        shutil.rmtree(world.root / "second")
    assert "0.0 [" in text.split("Row by row")[1], "a run against itself differs by nothing"


def test_two_starts_in_one_folder(world: World) -> None:
    sent = {"name": "tickets", "budget": "10m", "method": "words", "download": "1B", "curves": "no"}
    answer = world.client.post(f"/new/{world.table}/start", data=sent)
    assert answer.status_code == 409 and "here already" in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.slow
def test_a_run_is_stopped_and_goes_on(world: World) -> None:
    """Stopped right after its start, long before it could be done; then the same command from where it was."""
    sent = {
        "name": "stopped",
        "budget": "10m",
        "method": ["majority", "words"],
        "download": "1B",
        "curves": "no",
    }
    assert world.client.post(f"/new/{world.table}/start", data=sent).status_code == 303
    assert world.client.post("/runs/stopped/resume").status_code == 409, "it runs"
    assert world.client.post("/runs/stopped/stop").status_code == 303
    until(lambda: "x-over" in world.client.get("/runs/stopped/live").headers, "the stop")
    text = world.client.get("/runs/stopped").text
    if "Go on from here" in text:
        assert world.client.post("/runs/stopped/resume").status_code == 303
        until(lambda: "x-over" in world.client.get("/runs/stopped/live").headers, "the second half")
    assert "Leaderboard" in world.client.get("/runs/stopped").text
    assert world.client.post("/runs/stopped/stop").status_code == 409, "there is nothing to stop"
    shutil.rmtree(world.root / "stopped")
    shutil.rmtree(world.root / ".jobs" / "stopped")


def test_a_run_that_fails_says_its_line(world: World) -> None:
    from basewise.web.ui import jobs

    words = ["choose", str(world.root / "gone.csv"), "--to", str(world.root / "lost")]
    job = jobs.start(world.root, "lost", words, {})
    until(lambda: not job.alive, "the failure")
    text = world.client.get("/runs/lost").text
    assert "gone.csv" in text and "✕ failed" in world.client.get("/").text
    assert "Traceback" not in text
    shutil.rmtree(world.root / ".jobs" / "lost")


def test_a_killed_run_is_known_by_another_app(world: World) -> None:
    """The lock is told from the process, not from what the app remembers."""
    from basewise.web.ui import jobs

    words = ["choose", str(world.root / ".tables"), "--to", str(world.root / "x")]
    job = jobs.start(world.root, "killed", words, {})
    import os
    import signal

    os.kill(job.pid, signal.SIGKILL)
    until(lambda: not job.alive, "the end")
    assert "killed" in jobs.find(world.root, "killed").error
    shutil.rmtree(world.root / ".jobs" / "killed")


# ------------------------------------------------------------------ other pages


def test_bases_with_search_and_one_of_them(world: World) -> None:
    text = world.client.get("/bases").text
    assert "minilm-l6" in text and "■ here" in text and world.base in text
    card = world.client.get("/bases/minilm-l6").text
    assert "Apache-2.0" in card and "Fetch it (" in card


def test_a_base_that_cannot_be_fetched_says_why(world: World) -> None:
    """Offline, so the hub cannot be asked; the line of the command stands on the page."""
    answer = world.client.post("/bases/pull", data={"name": "nobody/nothing"})
    where = answer.headers.get("location", "")
    assert answer.status_code in (303, 409), answer.text
    if where:
        until(lambda: "x-over" in world.client.get(f"{where}/live").headers, "the fetch")
        assert 'role="alert"' in world.client.get(where).text


def test_terms_must_be_accepted(world: World) -> None:
    from basewise.steps import bases

    card = next((c for c in bases.listing() if c.terms), None)
    assert card is not None, "no base of the catalogue has terms"
    assert world.client.post("/bases/pull", data={"name": card.key}).status_code == 409
    assert "I have read and accept" in world.client.get(f"/bases/{card.key}").text


def test_curves_of_pretraining(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = ui_world.client(tmp_path)
    assert "Start pretraining" in client.get("/pretraining").text
    ui_world.metrics(tmp_path / "nightly")
    text = client.get("/pretraining/nightly").text
    assert "bits per byte by step" in text and "Loss by step" in text and "of 100" in text
    assert "&lt;b&gt;a&lt;/b&gt;" in text and "<b>a</b>" not in text
    assert "x-over" in client.get("/pretraining/nightly/live").headers, "nothing writes it"
    assert client.get("/runs/nightly").headers["location"] == "/pretraining/nightly"
    monkeypatch.setenv("BASEWISE_HOME", str(tmp_path / "home"))
    base = tmp_path / "nightly" / "base"
    assert "Use it as a base" not in text
    base.mkdir()
    card = {"key": "nightly", "source": "folder", "family": "decoder", "licence": "MIT", "parameters": 1, "layers": 1, "width": 1,
            "download_bytes": 0, "locator": {"folder": str(base)}}  # fmt: skip
    (base / "card.json").write_text(json.dumps(card))
    assert "Use it as a base" in client.get("/pretraining/nightly").text
    assert client.post("/pretraining/nightly/use").headers["location"] == "/bases/nightly", (
        "by the name of its run"
    )
    assert "nightly" in client.get("/bases").text


def test_an_empty_folder_leads_on(tmp_path: Path) -> None:
    client = ui_world.client(tmp_path / "none")
    for path in ("/", "/compare", "/bench", "/pretraining", "/playground"):
        answer = client.get(path)
        assert answer.status_code == 200 and "Traceback" not in answer.text


# ------------------------------------------------------------------ bad input

TABLES = {
    "empty": (b"", "is empty"),
    "not a table": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20, ""),
    "header only": (b"text,label\n", ""),
    "broken parquet": (b"PAR1" + b"x" * 100, ""),
}


@pytest.mark.parametrize("kind", TABLES)
def test_what_is_no_table_is_refused(tmp_path: Path, kind: str) -> None:
    content, words = TABLES[kind]
    answer = ui_world.client(tmp_path).post("/new", files={"file": ("rows.csv", content)})
    assert answer.status_code == 400
    assert words in answer.text and 'role="alert"' in answer.text and "Traceback" not in answer.text
    assert not list(tmp_path.glob(".tables/*/*")), "nothing of it is kept"


def test_no_file_at_all(tmp_path: Path) -> None:
    assert ui_world.client(tmp_path).post("/new", data={}).status_code == 400


def test_a_table_without_a_target_keeps_its_form(tmp_path: Path) -> None:
    client = ui_world.client(tmp_path)
    rows = b"a,b\n" + b"".join(b"%d,some words here number %d\n" % (i, i) for i in range(40))
    where = client.post("/new", files={"file": ("rows.csv", rows)}).headers["location"]
    answer = client.get(where)
    assert answer.status_code == 400 and 'role="alert"' in answer.text and "Change the roles" in answer.text


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "streamed"])
def test_a_file_above_the_limit(tmp_path: Path, announced: bool) -> None:
    client = ui_world.client(tmp_path, most_bytes=20_000)
    content = b"text,label\n" + b"x,y\n" * 20_000
    if announced:
        answer = client.post("/new", files={"file": ("big.csv", content)})
    else:
        head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="big.csv"\r\n\r\n'

        def pieces() -> Any:
            yield head
            for i in range(0, len(content), 5000):
                yield content[i : i + 5000]

        kind = {"content-type": "multipart/form-data; boundary=b"}
        answer = client.post("/new", content=pieces(), headers=kind)
    assert answer.status_code == 413 and "larger than" in answer.text
    assert not list(tmp_path.glob(".tables/*/*"))


@pytest.mark.parametrize(
    "path",
    ["/runs/none", "/runs/none/rows", "/runs/none/relabel", "/runs/..%2f..%2fetc", "/new/0123456789abcdef", "/new/zz", "/nowhere",
     "/bench/none", "/pretraining/none", "/bases/none-such", "/static/app.py", "/runs/none/report.html", "/compare?run=a&run=b"],
)  # fmt: skip
def test_what_is_not_here(world: World, path: str) -> None:
    answer = world.client.get(path)
    if path.startswith("/compare"):
        assert answer.status_code in (200, 404)
        return
    assert answer.status_code == 404 and 'role="alert"' in answer.text and "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("field", "value"),
    [("budget", "soon"), ("budget", "0s"), ("budget", ""), ("name", "../x"), ("name", ".hidden"), ("seed", "one"), ("download", "many"), ("metric", "f1"), ("metric", "brier"),
     ("target", "no such column"), ("split", "no such column"), ("inputs", "nothing")],
)  # fmt: skip
def test_settings_that_cannot_be(world: World, field: str, value: str) -> None:
    sent = {"name": "fresh", "budget": "10m", "download": "1B", "curves": "no", "seed": "0", field: value}
    answer = world.client.post(f"/new/{world.table}/start", data=sent)
    assert 400 <= answer.status_code < 500 and 'role="alert"' in answer.text
    assert not (world.root / "fresh").exists() and not (world.root / ".jobs" / "fresh" / "job.json").exists()


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"text": "x"},
        {"run": "tickets"},
        {"text": "x", "run": "none"},
        {"text": "x" * 30_000, "run": "tickets"},
    ],
)
def test_questions_that_cannot_be_answered(world: World, sent: dict[str, str]) -> None:
    answer = world.client.post("/playground", data=sent)
    assert 400 <= answer.status_code < 500 and 'role="alert"' in answer.text


@pytest.mark.parametrize(
    ("file", "change"),
    [("decision.json", {"quantum": 1}), ("task.json", {"format": 99}), ("decision.json", None)],
    ids=["newer decision", "newer task", "damaged"],
)
def test_a_run_of_a_newer_version(world: World, file: str, change: dict[str, Any] | None) -> None:
    shutil.copytree(world.root / "tickets", world.root / "odd")
    path = world.root / "odd" / file
    path.write_text(
        json.dumps({**json.loads(path.read_text()), **change}) if change else "{", encoding="utf-8"
    )
    try:
        answer = world.client.get("/runs/odd")
        listed = world.client.get("/").text
        asked = world.client.post("/playground", data={"text": "invoice", "run": "odd"})
    finally:
        shutil.rmtree(world.root / "odd")
    assert answer.status_code == 409 and 'role="alert"' in answer.text and "Traceback" not in answer.text
    assert "? unreadable" in listed and "■ finished" in listed, "one that cannot be read hides no other"
    assert asked.status_code == 200 or 400 <= asked.status_code < 500


def test_columns_with_commas_in_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page writes is what the command reads."""
    from basewise.cli.main import _options_of
    from basewise.cli.settings import read_settings
    from basewise.core.errors import InputError
    from basewise.web.ui import jobs

    started: list[Any] = []
    monkeypatch.setattr(jobs, "start", lambda *given: started.append(given))
    rows = [
        {"subject, short": r["text"], "body": r["text"] + " indeed", "queue": r["queue"]}
        for r in tiny.rows(60)
    ]
    content = tiny.write_csv(tmp_path / "odd.csv", rows).read_bytes()
    client = ui_world.client(tmp_path / "runs")
    where = client.post("/new", files={"file": ("odd.csv", content)}).headers["location"]
    chosen = ["subject, short", "body"]
    sent = {"name": "odd", "budget": "10m", "target": "queue", "inputs": chosen}
    assert client.post(f"{where}/start", data=sent).status_code == 303
    words = started[0][2]
    settings = read_settings(Path(words[words.index("--config") + 1]))
    assert _options_of(settings.inputs, None, None).inputs == tuple(chosen)
    for text, expected in (('"subject,body"', ("subject", "body")), ("[]", None), ("[1]", None)):
        (tmp_path / "more.toml").write_text(f"inputs = {text}\n")
        if expected:
            assert _options_of(read_settings(tmp_path / "more.toml").inputs, None, None).inputs == expected
        else:
            with pytest.raises(InputError, match=r"inputs in .* was expected"):
                read_settings(tmp_path / "more.toml")


@pytest.mark.parametrize("name", ["release.x", "verify.x", "serve.8000", "pull.minilm-l6"])
def test_a_run_shares_no_job_with_other_kinds(world: World, name: str) -> None:
    """Refused where the page would start it; a run of the command line under that name has no job of the page."""
    from basewise.web.ui import jobs, runs

    sent = {"name": name, "budget": "10m", "download": "1B", "curves": "no", "seed": "0"}
    answer = world.client.post(f"/new/{world.table}/start", data=sent)
    assert answer.status_code == 400 and "another kind of job" in answer.text
    assert not (world.root / ".jobs" / name).exists()
    ui_world.metrics(world.root / name)
    kind = {"pull": "bases"}.get(name.partition(".")[0], name.partition(".")[0])
    job = jobs.start(world.root, name, [kind, "--no-such-option"], {"release": "x"})
    until(lambda: not job.alive, "the end")
    try:
        run = runs.find(world.root, name)
        assert (run.job, run.state) == (None, "stopped")
        assert jobs.named(world.root, name, kind) == jobs.find(world.root, name)
    finally:
        shutil.rmtree(world.root / name)
        shutil.rmtree(world.root / ".jobs" / name)


def test_what_was_sent_stands_in_the_form_again(world: World) -> None:
    """After an error on start, and when the settings of a run that failed are to be changed."""
    from basewise.web.ui import jobs

    sent = {"name": "tickets", "budget": "7m", "base": world.base, "method": ["words", "probe"], "download": "1B",
            "metric": "macro_f1", "curves": "no", "seed": "3"}  # fmt: skip

    def kept(text: str) -> None:
        assert 'value="7m"' in text and 'value="3"' in text and "<details open><summary>Bases" in text
        for box in (world.base, "words", "probe"):
            assert f'value="{box}" checked' in text
        assert 'value="majority" checked' not in text
        for choice in ("1B", "macro_f1", "no"):
            assert f'value="{choice}" selected' in text

    answer = world.client.post(f"/new/{world.table}/start", data=sent)
    assert answer.status_code == 409 and 'name="name" value="tickets"' in answer.text
    kept(answer.text)
    assert world.client.post(f"/new/{world.table}/start", data={**sent, "name": "fails"}).status_code == 303
    world.client.post("/runs/fails/stop")
    job = jobs.find(world.root, "fails")
    until(lambda: not job.alive, "the stop")
    shutil.rmtree(world.root / "fails", ignore_errors=True)
    link = re.search(r'href="(/new/[^"]*)">Change its settings', world.client.get("/runs/fails").text)
    text = world.client.get(html.unescape(link.group(1))).text  # type: ignore[union-attr]
    kept(text)
    assert 'name="name" value="tickets-2"' in text
    shutil.rmtree(world.root / ".jobs" / "fails")


def test_words_are_cut_at_their_ends(world: World) -> None:
    text = world.client.get(f"/new/{world.table}").text
    said = [html.unescape(t) for t in re.findall(r'name="method" value="\w+"> <span>\w+: (.*?)</span>', text)]
    whole = [summary("methods", m).partition(":")[0] for m in keys("methods")]
    assert len(said) == len(whole) and max(map(len, said)) <= 90
    assert all(
        a == b or (a.endswith(" …") and b[len(a) - 2] == " ") for a, b in zip(said, whole, strict=True)
    )


def test_labels_that_cannot_be(world: World) -> None:
    for sent in ({}, {"row-1": "no such class"}, {"row-x": "billing"}, {"row-1": "-drop-"}):
        assert world.client.post("/runs/tickets/relabel", data=sent).status_code == 400


def test_a_class_of_any_name_is_not_what_leaves_a_row_out() -> None:
    from basewise.web.ui.pages.relabel import DROP, changes_of

    classes = ("-drop-", "drop", "leave out")
    sent = {f"row-{i}": [value] for i, value in enumerate((*classes, DROP))}
    assert changes_of(sent, classes) == {0: "-drop-", 1: "drop", 2: "leave out", 3: None}
    assert DROP.strip() != DROP, "the audit takes such spaces away, so no class is called so"


def test_texts_of_the_user_are_text_never_markup(tmp_path: Path) -> None:
    rows = [
        {"text": f"<img src=x onerror=alert(1)> {r['text']}", "queue": f"<i>{r['queue']}</i>"}
        for r in tiny.rows(60)
    ]
    content = tiny.write_csv(tmp_path / "<b>x.csv", rows).read_bytes()
    client = ui_world.client(tmp_path / "runs")
    where = client.post("/new", files={"file": ("<b>x.csv", content)}).headers["location"]
    text = client.get(where).text
    assert "<img" not in text and "<i>" not in text and "&lt;img" in text


# ------------------------------------------------------------------ the command


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        answered = tiny.command("ui", "--port", port, "--runs", tmp_path / "runs")
    tiny.refused(answered, "is in use", "--port")


@pytest.mark.parametrize("port", [70_000, -1])
def test_a_port_that_cannot_be(tmp_path: Path, port: int) -> None:
    tiny.refused(tiny.command("ui", f"--port={port}", "--runs", tmp_path / "runs"), "--port")


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    tiny.refused(tiny.command("ui", "--runs", tmp_path), "basewise[ui]")
