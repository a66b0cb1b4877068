"""From a run to a release and back: the folder, the gate's refusal, overrides, diff, push; and what cannot be released."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import basewise as bw
import released
import tamper_kinds
import tiny
from basewise.core.errors import (
    BasewiseError,
    InputError,
    ReleaseChanged,
    ReleaseRefused,
    RunError,
    UnknownName,
)
from basewise.core.manifest import write_manifest
from basewise.core.release import Release
from basewise.steps.compare import diff
from basewise.steps.push import push
from basewise.steps.release import release, verify_release

FILES = {
    "LICENSE", "NOTICE", "README.md", "bom.cdx.json", "evidence.parquet", "golden.json", "manifest.json", "policy.toml", "predictor",
    "release.json", "spdx.json", "task.json",
}  # fmt: skip


def test_a_release_holds_what_it_should_and_no_text_of_the_users() -> None:
    folder = released.released()
    assert {p.name for p in folder.iterdir()} == FILES
    texts = [row["text"] for row in tiny.rows(120)]
    for path in folder.rglob("*"):
        if path.is_file():
            said = path.read_bytes()
            assert not any(text.encode() in said for text in texts), path
    assert str(released.place()).encode() not in b"".join(
        p.read_bytes() for p in folder.rglob("*") if p.is_file()
    )


def test_it_predicts_like_the_run_it_came_from() -> None:
    made, run = Release.load(released.released()), bw.load(released.run_folder())
    texts = ["invoice charge refund", "parcel courier van", "screen crash update", ""]
    assert made.predict(texts) == run.predict(texts)
    assert (made.predict_proba(texts) == run.predict_proba(texts)).all()
    assert bw.load(released.released()).predict(texts) == run.predict(texts)
    assert made.classes == list(run.classes) and made.score["n"] == 24


@pytest.mark.slow
def test_with_the_base_inside_it_needs_nothing_else(tmp_path: Path) -> None:
    folder = released.copy_of(released.released("probe", weights="whole"), tmp_path / "moved")
    shutil.move(released.place() / "probe-120" / "tiny-base", tmp_path / "away")
    try:
        assert bw.load(folder).predict(["invoice charge refund"]) == ["billing"]
        assert Release.load(folder).base["inside"] == "base"  # type: ignore[index]
    finally:
        shutil.move(tmp_path / "away", released.place() / "probe-120" / "tiny-base")


def test_the_gate_refuses_and_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ReleaseRefused, match="licence of data:tickets is not known"):
        release(released.run_folder(), to=tmp_path / "r")
    assert not list(tmp_path.iterdir())
    found = json.loads((released.run_folder() / "gate.json").read_text())
    assert {c["check"]: c["verdict"] for c in found["checks"]}["licence"] == "fail"


def test_no_personal_data_gets_into_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From what a check says of a column's values, from a note of the decision, from a finding of the audit."""
    from basewise.core.gate import WARN, CheckResult, interval
    from basewise.core.registry import part

    who = ["jane.doe@example.org", "+49 30 1234567", "030 765 43 21"]
    run = Path(shutil.copytree(released.run_folder(), tmp_path / "run"))
    decision = json.loads((run / "decision.json").read_text())
    decision["notes"] = [f"Call {who[1]} about this.", *decision["notes"]]
    (run / "decision.json").write_text(json.dumps(decision))
    task = json.loads((run / "task.json").read_text())
    finding = {
        "check": "x",
        "severity": "info",
        "message": f"see {who[2]}",
        "advice": "",
        "rows": [1],
        "numbers": {},
    }
    task["findings"] = [finding, *task["findings"]]
    (run / "task.json").write_text(json.dumps(task))

    def check(subject: Any, limits: Any) -> CheckResult:
        slice_ = interval(f"customer is {who[0]!r}", {"estimate": 0.5, "low": 0.4, "high": 0.6, "n": 50})
        said = f"errs where customer is {who[0]!r}"
        return CheckResult(check="slices", verdict=WARN, sentence=said, evidence=(slice_,), advice=who[0])

    monkeypatch.setattr(part("checks", "slices"), "check", check)
    release(run, to=tmp_path / "r", options=released.signed_for())
    card = (tmp_path / "r" / "README.md").read_text()
    assert "customer is '[email]'" in card and "Call [phone] about this." in card
    for path in [run / "gate.json", *(p for p in (tmp_path / "r").rglob("*") if p.is_file())]:
        said = path.read_bytes()
        assert not any(one.encode() in said for one in who), path


def test_an_override_stays_visible_everywhere(tmp_path: Path) -> None:
    options = released.signed_for(data_licence="", override={"licence": "the contract is being signed"})
    made = release(released.run_folder(), to=tmp_path / "r", options=options)
    assert made.overrides[0]["by"] == "A. Person"
    assert {line["check"]: line["verdict"] for line in made.gate}["licence"] == "fail"
    for name in ("README.md", "bom.cdx.json", "spdx.json", "policy.toml"):
        assert "the contract is being signed" in (tmp_path / "r" / name).read_text("utf-8"), name
    answered = tiny.command("verify", tmp_path / "r")
    assert "overridden: licence by A. Person" in answered.out and "fail: licence" in answered.out


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"override": {"licence": "because"}, "by": "", "data_licence": ""}, InputError, "name"),
        ({"override": {"licens": "because"}}, UnknownName, "licence"),
        ({"override": {"licence": " "}}, InputError, "reason"),
        ({"data_licence": "own", "by": ""}, InputError, "name"),
        ({"weights": "half"}, InputError, "alone"),
        ({"against": "nowhere"}, UnknownName, "nowhere"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, options: dict[str, Any], error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        release(released.run_folder(), to=tmp_path / "r", options=released.signed_for(**options))
    assert not (tmp_path / "r").exists()


def test_runs_and_places_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UnknownName):
        release(tmp_path / "nothing", to=tmp_path / "r")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="no decision"):
        release(tmp_path / "empty", to=tmp_path / "r")
    with pytest.raises(RunError, match="never written over"):
        release(released.run_folder(), to=tmp_path / "empty")
    with pytest.raises(BasewiseError):
        release(released.run_folder(), to=tmp_path / "r", key=tmp_path / "no.pem")
    with pytest.raises(InputError, match="no policy file"):
        release(released.run_folder(), to=tmp_path / "r", policy=tmp_path / "no.toml")


def test_an_incumbent_is_compared_on_the_locked_rows_and_the_look_is_counted(tmp_path: Path) -> None:
    run = released.copy_of(released.run_folder(), tmp_path / "run")
    before = len(json.loads((run / "looks.json").read_text()))
    # 24 rows cannot show less
    (tmp_path / "p.toml").write_text("[score]\nmargin = 0.2\n")
    options = released.signed_for(against=released.released())
    with pytest.raises(ReleaseRefused, match="the margin is 0"):
        release(released.run_folder(), to=tmp_path / "r", options=options)
    made = release(run, to=tmp_path / "r", policy=tmp_path / "p.toml", options=options)
    assert any("minus the incumbent" in m["name"] and m["n"] == 24 for m in made.measures)
    assert len(json.loads((run / "looks.json").read_text())) == before + 1
    assert made.score["looks"] == before + 2, (
        "the refused one, of another folder, has looked at the same rows"
    )


def test_an_incumbent_that_reads_other_columns_is_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from basewise.steps import gate

    candidate = gate.open_run(released.run_folder())
    other = replace(candidate.predictor, inputs=("subject", "text"))
    monkeypatch.setattr(gate, "load", lambda folder: other)
    looks = (candidate.run / "looks.json").read_text()
    with pytest.raises(RunError, match="reads subject, text and this run text"):
        gate.incumbent(candidate, tmp_path / "before")
    assert (candidate.run / "looks.json").read_text() == looks, "nothing was looked at"


def test_a_release_of_a_later_version_and_half_a_copy(tmp_path: Path) -> None:
    later = released.copy_of(released.released(), tmp_path / "later")
    tamper_kinds.edit("release.json", lambda v: v.update(format=2))(later)
    write_manifest(later)
    with pytest.raises(RunError, match="upgrade"):
        bw.load(later)
    half = tmp_path / "half"
    half.mkdir()
    shutil.copyfile(released.released() / "release.json", half / "release.json")
    with pytest.raises(ReleaseChanged, match="not whole"):
        bw.load(half)


@pytest.mark.slow
def test_a_base_that_is_not_here(tmp_path: Path) -> None:
    folder = released.released("probe")
    shutil.move(released.place() / "probe-120" / "tiny-base", tmp_path / "away")
    try:
        with pytest.raises(BasewiseError):
            bw.load(folder)
    finally:
        shutil.move(tmp_path / "away", released.place() / "probe-120" / "tiny-base")


def test_commands_from_run_to_verified(tmp_path: Path) -> None:
    key, to = tmp_path / "key.pem", tmp_path / "r"
    assert "trusted here" in tiny.command("keys", "new", key).out
    answered = tiny.command(
        "release",
        released.run_folder(),
        "--to",
        to,
        "--key",
        key,
        "--data-licence",
        "own",
        "--by",
        "A. Person",
    )
    assert answered.code == 0 and "signed" in answered.out, answered
    assert "pass licence" in answered.err
    answered = tiny.command("verify", to)
    assert "signed by" in answered.out and "golden answers hold" in answered.out
    name = tiny.command("keys", "list").out.split()[0]
    assert tiny.command("keys", "forget", name).code == 0
    tiny.refused(tiny.command("verify", to), "no key that is trusted here")
    tiny.refused(tiny.command("keys", "forget", name), "unknown key")
    assert tiny.command("keys", "trust", tmp_path / "key.pub.pem").code == 0
    assert tiny.command("verify", to).code == 0
    tiny.refused(
        tiny.command("release", released.run_folder(), "--to", tmp_path / "x", "--override", "licence"),
        "CHECK=reason",
    )
    answered = tiny.command("release", released.run_folder(), "--to", tmp_path / "x")
    assert answered.code == 2 and "fail licence" in answered.err
    last = answered.err.strip().splitlines()[-1]
    assert last.startswith("error: not released") and "--data-licence" in last


def test_a_record_that_is_not_its_version_is_refused(tmp_path: Path) -> None:
    folder = released.copy_of(released.released(), tmp_path / "r")
    tamper_kinds.forged(tamper_kinds.edit("release.json", tamper_kinds.pass_the_gate))(folder)
    with pytest.raises(ReleaseChanged, match="another record"):
        verify_release(folder)


def test_the_outgoing_licence_is_named_as_spdx_names_it(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('[licence]\noutgoing = "apache 2.0"\n')
    made = release(
        released.run_folder(), to=tmp_path / "r", policy=tmp_path / "p.toml", options=released.signed_for()
    )
    assert made.licence["outgoing"] == "Apache-2.0"
    assert "license: apache-2.0" in (tmp_path / "r" / "README.md").read_text("utf-8")


def test_verify_gives_the_record_and_the_seal() -> None:
    found = verify_release(released.released())
    assert str(found["seal"]) == "unsigned"
    assert found["release"].id == Release.load(released.released()).id
    assert not found["failed"]


@pytest.mark.slow
def test_diff_names_what_changed_and_pairs_the_score() -> None:
    found = diff(released.released(), released.released("probe", weights="whole"))
    changed = {line["what"]: (line["from"], line["to"]) for line in found["changed"]}
    assert changed["method"] == ("words", "probe") and changed["base key"] == (None, "tiny-base")
    assert changed["weights"] == ("alone", "whole")
    same = diff(released.released(), released.released())
    assert same["changed"] == [] and same["score"]["estimate"] == 0 and same["score"]["n"] == 96
    if found["score"] is not None:
        assert found["score"]["n"] > 0
    answered = tiny.command("diff", released.released(), released.released("probe", weights="whole"))
    assert "method: words -> probe" in answered.out


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as an upload of small files needs; keeps what it was sent."""

    kept: dict[str, bytes]
    made = False
    refuse = 0

    def _say(self, value: Any, code: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(code)
        if code == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _own(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/o/r"

    def do_GET(self) -> None:
        if "/tree/" in self.path or "/paths-info/" in self.path:
            return self._say([])
        if not self.made:
            return self._say({"error": "Repository not found"}, 404)
        return self._say({"id": "o/r", "sha": "0" * 40, "siblings": [], "private": True})

    def do_POST(self) -> None:
        import base64

        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.refuse:
            return self._say({"error": "You may not."}, self.refuse)
        if "/preupload/" in self.path:
            files = json.loads(body)["files"]
            return self._say(
                {
                    "files": [
                        {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                        for f in files
                    ]
                }
            )
        if "/commit/" in self.path:
            for line in map(json.loads, filter(None, body.split(b"\n"))):
                if line["key"] == "file":
                    self.kept[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return self._say(
                {"commitUrl": f"{self._own()}/commit/{'1' * 40}", "commitOid": "1" * 40, "success": True}
            )
        if "/paths-info/" in self.path:
            return self._say([])
        type(self).made = True
        return self._say({"url": self._own(), "name": "o/r"})

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, type[Hub]]]:
    kind = type("Kept", (Hub,), {"kept": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield f"http://127.0.0.1:{server.server_port}", kind
    server.shutdown()
    server.server_close()
    thread.join()


def test_push_uploads_every_file(hub: tuple[str, type[Hub]], tmp_path: Path) -> None:
    address, kind = hub
    folder = released.released()
    assert "commit" in push(folder, "o/r", endpoint=address, token="hf_test")
    sent = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert kind.made and kind.kept == sent
    # what arrived is a release again
    for name, content in kind.kept.items():
        (tmp_path / "back" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "back" / name).write_bytes(content)
    assert bw.load(tmp_path / "back").predict(["parcel courier van"]) == ["delivery"]


def test_push_refuses_what_was_touched_and_tells_the_hubs_reason(
    hub: tuple[str, type[Hub]], tmp_path: Path
) -> None:
    address, kind = hub
    touched = released.copy_of(released.released(), tmp_path / "r")
    tamper_kinds.KINDS["a file added"](touched)
    with pytest.raises(ReleaseChanged):
        push(touched, "o/r", endpoint=address, token="hf_test")
    assert kind.kept == {}
    kind.refuse, kind.made = 403, True
    with pytest.raises(RunError, match="did not take"):
        push(released.released(), "o/r", endpoint=address, token="hf_test")
    # nothing listens there
    with pytest.raises(RunError, match="did not take"):
        push(released.released(), "o/r", endpoint="http://127.0.0.1:9", token="hf_test")
    with pytest.raises(InputError, match="owner/name"):
        push(released.released(), "../r", endpoint=address)
    for name in ("o/a--b", "o/a..b", "o/a-"):
        with pytest.raises(InputError, match="is no name of a repository"):
            push(released.released(), name, endpoint=address)
