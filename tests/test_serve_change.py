"""Lanes, evidence for harm, and the watch: state that is whole or not there, rollbacks that are proven, a full disk that costs no answer."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basewise.core import frames
from basewise.core.errors import BasewiseError, InputError, RunError, UnknownName
from basewise.stats.harm import ODDS, Canary, Shadow, proven
from basewise.steps.queueing import SLICE_TOKENS, STEP_TOKENS, Job, take
from basewise.web.limits import Refusal
from basewise.web.link import WorkerError
from basewise.web.metrics import Metrics
from basewise.web.predict_routes import Predicting, answers_of, packed
from basewise.web.traffic import Traffic
from basewise.web.watch import Watch
from served import about, body, call, stood_in

# --- lanes


@pytest.fixture
def traffic(tmp_path: Path) -> Traffic:
    made = Traffic(tmp_path / "traffic.json")
    made.live("t", "a", "/a")
    return made


def test_a_canary_grows_becomes_live_and_goes_back(traffic: Traffic) -> None:
    traffic.canary("t", "b", "/b", 1)
    for percent in (5, 25):
        traffic.canary("t", "b", "/b", percent)
        assert traffic.lane("t").live == "a"
    traffic.canary("t", "b", "/b", 100)
    assert traffic.lane("t").live == "b"
    assert traffic.lane("t").before == ("a",)
    assert traffic.roll_back("t") == "a"
    with pytest.raises(InputError, match="no earlier release"):
        traffic.roll_back("t")
    with pytest.raises(InputError, match="live already"):
        traffic.shadow("t", "a", "/a")
    with pytest.raises(InputError, match="share of 7"):
        traffic.canary("t", "b", "/b", 7)
    with pytest.raises(UnknownName):
        traffic.canary("u", "b", "/b", 5)


def test_the_state_is_the_same_after_a_restart(traffic: Traffic) -> None:
    traffic.shadow("t", "s", "/s")
    traffic.canary("t", "b", "/b", 5)
    traffic.outcomes("t", [("a", True, True), ("b", False, None), ("a", True, False)])
    again = Traffic(traffic.path)
    assert again.lanes == traffic.lanes
    assert again.folders == {"a": "/a", "b": "/b", "s": "/s"}
    assert [e["event"] for e in again.events] == ["added", "shadow", "canary"]


def test_a_restart_with_the_same_words_keeps_what_was_changed_since(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path / "traffic.json")
    traffic.start("t", "a", "/a", {"a"})
    traffic.live("t", "b", "/b")
    again = Traffic(traffic.path)
    again.start("t", "a", "/a", {"a", "b"})
    assert again.lane("t").live == "b"
    again.start("t", "c", "/c", {"a", "b", "c"})
    assert again.lane("t").live == "c"


def test_a_replaced_release_comes_back_where_the_new_one_is_gone_and_a_rolled_back_one_does_not(
    tmp_path: Path,
) -> None:
    traffic = Traffic(tmp_path / "traffic.json")
    traffic.start("t", "a", "/a", {"a"})
    traffic.live("t", "b", "/b")
    Traffic(traffic.path).start("t", "a", "/a", {"a"})
    assert Traffic(traffic.path).lane("t").live == "a"
    other = Traffic(tmp_path / "other.json")
    other.live("t", "a", "/a")
    other.start("t", "b", "/b", {"a", "b"})
    other.roll_back("t", "it errs")
    other.start("t", "b", "/b", {"b"})
    assert other.lane("t").live == "a", "refused until its folder is back"


def test_a_state_that_cannot_be_written_changes_nothing(
    traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, value: Any) -> None:
        raise RunError("the disk is full", "free some space")

    monkeypatch.setattr("basewise.web.traffic.write_json", full)
    with pytest.raises(RunError):
        traffic.live("t", "b", "/b")
    assert traffic.lane("t").live == "a"


def test_a_damaged_state_is_an_error_with_the_fix(tmp_path: Path) -> None:
    path = tmp_path / "traffic.json"
    for content in (
        "{",
        "[]",
        '{"format": 99}',
        '{"format": 1, "tasks": {"t": {}}, "folders": {}, "events": []}',
    ):
        path.write_text(content)
        with pytest.raises(BasewiseError) as error:
            Traffic(path)
        assert error.value.fix


def test_versions_that_cannot_be_opened_again_are_left_out_and_no_other(traffic: Traffic) -> None:
    traffic.live("t", "b", "/b")
    traffic.live("t", "c", "/c")
    traffic.canary("t", "d", "/d", 5)
    traffic.shadow("t", "s", "/s")
    traffic.live("u", "x", "/x")
    traffic.keep({"a", "c", "d"})
    lane = traffic.lane("t")
    assert (lane.live, lane.before, lane.canary, lane.shadow) == ("c", ("a",), "d", None)
    assert traffic.lane("u").live == "x", "its folder may be back at the next start"
    assert Traffic(traffic.path).lanes == traffic.lanes
    assert traffic.events[-1]["version"] == "b, s"
    traffic.roll_back("t")
    assert traffic.roll_back("t") == "a"


def test_a_label_that_changes_no_evidence_writes_nothing(
    traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("basewise.web.traffic.write_json", lambda *_: pytest.fail("written"))
    assert traffic.outcomes("t", [("a", True, None)]) is None


def test_a_canary_gets_its_share_of_the_requests(traffic: Traffic) -> None:
    for percent in (1, 5, 25):
        traffic.canary("t", "b", "/b", percent)
        now = sum(traffic.lane("t").pick(f"request {i}") == "b" for i in range(2000))
        assert now == pytest.approx(20 * percent, abs=5 * np.sqrt(20 * percent) + 1)


# --- harm


def test_a_harmful_canary_is_rolled_back_and_an_equal_one_is_not(traffic: Traffic) -> None:
    rng = np.random.default_rng(0)
    traffic.canary("t", "b", "/b", 25)
    why = None
    for _ in range(300):
        rows = [("b" if rng.random() < 0.25 else "a", bool(rng.random() < 0.9), None) for _ in range(4)]
        why = why or traffic.outcomes("t", rows)
    assert why is None
    for _ in range(300):
        version = "b" if rng.random() < 0.25 else "a"
        why = why or traffic.outcomes(
            "t", [(version, bool(rng.random() < (0.5 if version == "b" else 0.9)), None)]
        )
    assert why
    assert "proven harm" in why
    assert traffic.lane("t").canary is None
    assert traffic.events[-1]["event"] == "rolled back"


def test_a_canary_that_only_fails_is_rolled_back_at_every_share(traffic: Traffic) -> None:
    for between in (0, 3, 99):
        traffic.canary("t", "b", "/b", 1)
        why, failures = None, 0
        while why is None:
            for _ in range(between):
                traffic.answered("t", [("a", True)])
            why, failures = traffic.answered("t", [("b", False), ("a", True)]), failures + 1
            assert failures < 12
        assert f"{failures} of {failures} requests not answered" in why
        assert traffic.lane("t").canary is None
        assert Traffic(traffic.path).lanes == traffic.lanes


def test_a_canary_that_fails_as_often_as_the_live_release_stays(tmp_path: Path) -> None:
    rng, gone = np.random.default_rng(0), 0
    for i in range(60):
        traffic = Traffic(tmp_path / f"{i}.json")
        traffic.live("t", "a", "/a")
        traffic.canary("t", "b", "/b", 25)
        for _ in range(200):
            version, well = "b" if rng.random() < 0.25 else "a", bool(rng.random() < 0.8)
            if version == "a" or well:
                traffic.answered("t", [(version, well)])
            elif rng.random() < 0.8:
                # else the live release cannot answer it either
                traffic.answered("t", [("b", False), ("a", True)])
        gone += traffic.lane("t").canary is None
    assert gone <= 12


def test_a_text_that_comes_often_proves_no_harm(traffic: Traffic) -> None:
    """Nine of ten requests are one text that both releases get right; on the others both err alike."""
    rng, gone = np.random.default_rng(0), 0
    for round_ in range(40):
        traffic.canary("t", "b", "/b", 25)
        rows = []
        for i in range(300):
            right = bool(rng.random() < 0.9 or rng.random() < 0.7)
            rows.append((traffic.lane("t").pick(f"{round_} {i}"), right, None))
        gone += traffic.outcomes("t", rows) is not None
        if traffic.lane("t").canary is not None:
            traffic.roll_back("t")
    assert gone <= 8


def test_a_harmful_shadow_is_dropped(traffic: Traffic) -> None:
    traffic.shadow("t", "s", "/s")
    found = [traffic.outcomes("t", [("a", True, False)]) for _ in range(12)]
    assert any(found)
    assert traffic.lane("t").shadow is None
    assert traffic.lane("t").live == "a"


@given(st.integers(0, 6), st.integers(0, 6))
def test_a_bet_is_fair_where_both_err_alike(right: int, wrong: int) -> None:
    """Given the errors of a block, the new outcome is a draw from it: the expected factor of each bet is 1."""
    size = right + wrong + 1
    factors = np.zeros(len(ODDS))
    for new_right in (False, True):
        # the same total of errors in the block, with the new outcome among them or not
        old_wrong = wrong if not new_right else wrong + 1
        block = Canary(old_right=size - 1 - old_wrong, old_wrong=old_wrong) if size - 1 >= old_wrong else None
        if block is None:
            continue
        errors = wrong + 1
        chance = errors / size if not new_right else 1 - errors / size
        factors += chance * np.exp(block.new(new_right).logs)
    assert factors == pytest.approx(np.ones(len(ODDS)))


@settings(deadline=None, max_examples=5)
@given(st.integers(0, 1000))
def test_alarms_without_harm_are_as_rare_as_promised(seed: int) -> None:
    rng = np.random.default_rng(seed)
    alarms = 0
    for _ in range(60):
        evidence = Canary()
        for _ in range(150):
            right = bool(rng.random() < 0.7)
            evidence = evidence.new(right) if rng.random() < 0.3 else evidence.old(right)
            if proven(evidence.log_e):
                alarms += 1
                break
    # at most 1 in 20 by proof: 3 of 60 expected at most, 12 has a chance below 1e-4
    assert alarms <= 12


@given(st.integers(0, 50), st.integers(0, 50))
def test_evidence_survives_json(a: int, b: int) -> None:
    canary = Canary()
    for i in range(a):
        canary = canary.old(i % 3 > 0)
    for i in range(b % 7):
        canary = canary.new(i % 2 > 0)
    assert Canary.from_dict(json.loads(json.dumps(canary.to_dict()))) == canary
    shadow = Shadow().add([(i % 2 > 0, i % 3 > 0) for i in range(a)])
    assert Shadow.from_dict(json.loads(json.dumps(shadow.to_dict()))) == shadow


# --- the watch


def test_labels_reach_the_lane_once(tmp_path: Path) -> None:
    service, app, _ = stood_in(tmp_path / "state")
    service.watch.start()
    first = call(app, "POST", "/v1/tasks/tickets/predict", content=body(["0", "1", "2"])).json()["answers"]
    labels = [{"id": a["id"], "label": t} for a, t in zip(first, ("a", "b", "a"), strict=True)]
    labels.append({"id": "nobody-0", "label": "a"})
    content = json.dumps({"labels": labels}).encode()
    kept = call(app, "POST", "/v1/tasks/tickets/labels", content=content).json()
    assert kept == {"kept": 3, "unknown": 1, "no_class": 0, "repeated": 0, "rolled_back": None}
    again = call(app, "POST", "/v1/tasks/tickets/labels", content=content).json()
    assert again == {"kept": 0, "unknown": 1, "no_class": 0, "repeated": 3, "rolled_back": None}
    state = call(app, "GET", "/v1/tasks/tickets/watch").json()
    accuracy = state["versions"]["v1"]["accuracy"]
    assert accuracy["n"] == 3
    assert accuracy["estimate"] == pytest.approx(2 / 3)
    assert accuracy["low"] < 2 / 3 < accuracy["high"]
    page = call(app, "GET", "/watch/tickets").text
    assert "0.667" in page
    service.watch.stop()


def test_a_label_that_names_no_class_is_told_and_the_right_one_may_follow(tmp_path: Path) -> None:
    service, app, _ = stood_in(tmp_path / "state", known=())
    told = {**about("v1"), "classes": ["1", "2", "true"]}
    service._known(told)
    service._known({**told, "version": "v2", "classes": ["1", "2", "true", "new"]})
    service.traffic.live("tickets", "v1", "/releases/v1")
    service.traffic.shadow("tickets", "v2", "/releases/v2")
    service.watch.start()
    ids = [a["id"] for row in "012" for a in answered(app, row)]

    def post(id_: str, label: Any) -> dict[str, int]:
        content = json.dumps({"labels": [{"id": id_, "label": label}]}).encode()
        answer = call(app, "POST", "/v1/tasks/tickets/labels", content=content)
        assert answer.status_code == 200, answer.text
        return {k: v for k, v in answer.json().items() if v}

    assert post(ids[0], "one") == {"no_class": 1}
    assert service.watch.totals("tickets")["v1"]["labelled"] == 0
    assert post(ids[0], 1) == {"kept": 1}
    assert post(ids[0], "2") == {"repeated": 1}
    assert post(ids[1], 2.0) == {"kept": 1}
    assert post(ids[2], "new") == {"kept": 1}, "a class of the shadow: the live release is wrong"
    assert post(ids[2], True) == {"repeated": 1}
    totals = service.watch.totals("tickets")["v1"]
    assert (totals["labelled"], totals["right"]) == (3, 2)
    service.watch.stop()


def answered(app: Any, row: str) -> list[dict[str, Any]]:
    """Answers of one request."""
    found: list[dict[str, Any]] = call(app, "POST", "/v1/tasks/tickets/predict", content=body([row])).json()[
        "answers"
    ]
    return found


def test_labels_of_answers_that_are_not_written_yet_are_refused_and_not_lost(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "watch.db", Metrics())
    watch.refer(about("v1"))
    watch.start()
    watch.answered("tickets", about("v1"), "r", np.eye(3)[[0, 0]], None)
    assert watch.flush(60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "flush", lambda: False)
        with pytest.raises(Refusal) as refused:
            watch.truths("tickets", [("r-0", "a"), ("later-0", "a")])
    assert refused.value.status == 503
    assert len(watch.truths("tickets", [("r-0", "a"), ("later-0", "a")])[0]) == 1
    watch.stop()


def test_labels_of_a_version_that_is_gone_are_told_by_its_classes_or_left_out(tmp_path: Path) -> None:
    first = Watch(tmp_path / "watch.db", Metrics())
    first.refer(about("v1"))
    first.start()
    # v0 is of a time before classes were kept
    for version in ("v1", "v0"):
        first.answered("tickets", about(version), version, np.eye(3)[[0, 1]], None)
    first.stop()
    again = Watch(first.path, Metrics())
    assert again.truths("tickets", [("v1-0", "a"), ("v0-0", "a")]) == ([("v1", True, None)], 1, 1, 0, 0)
    assert again.totals("tickets")["v0"]["labelled"] == 0
    assert again.classes("v1") == ["a", "b", "c"]


def test_a_canary_does_not_clear_the_alarm_of_the_live_release() -> None:
    metrics = Metrics()
    read = metrics.registry.get_sample_value
    metrics.watched("t", "live", {"alarms": 2, "p_values": {"joint": 0.005}})
    metrics.watched("t", "canary", {"alarms": 0})
    assert read("basewise_drift_alarms", {"task": "t", "version": "live"}) == 2
    metrics.forget("live")
    assert read("basewise_drift_alarms", {"task": "t", "version": "live"}) is None
    assert read("basewise_drift_alarms", {"task": "t", "version": "canary"}) == 0


def test_an_earlier_shadows_errors_are_no_evidence_against_a_later_one(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "watch.db", Metrics())
    values = np.eye(3)[[0, 0]]
    for version in ("v1", "s1", "s2"):
        watch.refer(about(version))
    watch.start()
    for request in ("r", "q"):
        watch.answered("tickets", about("v1"), request, values, None)
        watch.shadowed("tickets", request, about("s1"), values[:, [1, 0, 2]])
    assert watch.truths("tickets", [("r-0", "a")], "s2") == ([("v1", True, None)], 1, 0, 0, 0)
    assert watch.truths("tickets", [("q-1", "a")], "s1") == ([("v1", True, False)], 1, 0, 0, 0)
    watch.stop()


def test_of_a_request_one_label_is_evidence_and_all_are_kept(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "watch.db", Metrics())
    watch.refer(about("v1"))
    watch.start()
    for request in ("r", "r1"):
        watch.answered("tickets", about("v1"), request, np.eye(3)[[0] * 4], None)
    given = [(f"{request}-{i}", "b") for i in (2, 0, 1) for request in ("r", "r1")]
    assert watch.truths("tickets", given) == ([("v1", False, None)] * 2, 6, 0, 0, 0)
    assert watch.truths("tickets", [*given, ("r-3", "b")]) == ([], 1, 0, 0, 6)
    assert watch.totals("tickets")["v1"]["labelled"] == 7
    watch.stop()


def test_a_full_disk_under_the_watch_costs_no_answer(tmp_path: Path) -> None:
    service, app, _ = stood_in(tmp_path / "state")
    with closing(service.watch._open()) as file:
        pages = file.execute("pragma page_count").fetchone()[0]
    whole = sqlite3.connect

    def small(*arguments: Any, **more: Any) -> Any:
        file = whole(*arguments, **more)
        file.execute(f"pragma max_page_count = {pages}")
        return file

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", small)
        service.watch.start()
        for _ in range(5):
            answer = call(app, "POST", "/v1/tasks/tickets/predict", content=body(["0"] * 200))
            assert answer.status_code == 200
        service.watch.stop()
    lost = service.metrics.registry.get_sample_value("basewise_watch_lost_rows_total")
    assert lost
    assert lost > 0
    assert "basewise_watch_lost_rows_total" in call(app, "GET", "/metrics").text


def test_a_watch_that_is_no_database_costs_no_answer(tmp_path: Path) -> None:
    service, app, _ = stood_in(tmp_path / "state")
    service.watch.path.write_bytes(b"this is no database" * 100)
    service.watch.start()
    assert call(app, "POST", "/v1/tasks/tickets/predict", content=body("0")).status_code == 200
    answer = call(app, "POST", "/v1/tasks/tickets/labels", content=b'{"labels": [{"id": "x", "label": "a"}]}')
    # a client must keep its labels and post them again
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers
    assert call(app, "GET", "/v1/tasks/tickets/watch").status_code == 200
    service.watch.stop()


def test_old_answers_go_with_their_labels_and_each_reference_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("basewise.web.watch.WINDOW", 2)
    monkeypatch.setattr("basewise.web.watch.MOST_KEPT", 3)
    watch = Watch(tmp_path / "watch.db", Metrics())
    with closing(watch._open()) as file, file:
        for n, version in enumerate("aaaabbbb"):
            file.execute(
                "insert into answers(n, id, task, version) values (?, ?, 't', ?)", (n, f"r-{n}", version)
            )
            file.execute("insert into truths values (?, 0, 0)", (f"r-{n}",))
        watch._trim(file, "t")
        kept = [n for (n,) in file.execute("select n from answers order by n")]
        assert kept == [0, 1, 4, 5, 6, 7]
        assert file.execute("select count(*) from truths").fetchone()[0] == 6


def test_a_window_that_cannot_be_judged_does_not_end_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("no window")

    monkeypatch.setattr("basewise.web.watch.WINDOW", 2)
    monkeypatch.setattr("basewise.web.watch.look", broken)
    watch = Watch(tmp_path / "watch.db", Metrics())
    watch.refer(about("v1"))
    watch.start()
    for name in ("r", "s"):
        watch.answered("tickets", about("v1"), name, np.eye(3)[[0, 0]], None)
        watch.flush(60)
    assert watch.totals("tickets")["v1"]["rows"] == 4
    watch.stop()


def test_a_batch_of_rows_that_fills_several_windows_is_judged_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("basewise.web.watch.WINDOW", 100)
    watch = Watch(tmp_path / "watch.db", Metrics())
    watch.refer(about("v1"))
    watch.start()
    watch.answered("tickets", about("v1"), "r", np.random.default_rng(0).dirichlet(np.ones(3), 350), None)
    watch.flush(60)
    watch.stop()
    assert [w["number"] for w in watch.windows("tickets", "v1")] == [0, 1, 2]


def test_more_traffic_than_can_be_judged_is_passed_over_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("basewise.web.watch.WINDOW", 100)
    watch = Watch(tmp_path / "watch.db", Metrics())
    # as after much judging
    watch._credit = -1.0
    watch.refer(about("v1"))
    watch.start()
    rng = np.random.default_rng(0)
    watch.answered("tickets", about("v1"), "r", rng.dirichlet(np.ones(3), 350), None)
    watch.flush(60)
    assert watch.windows("tickets", "v1") == []
    monkeypatch.setattr("basewise.web.watch.SHARE", 1e6)
    watch.answered("tickets", about("v1"), "s", rng.dirichlet(np.ones(3), 1), None)
    watch.flush(60)
    watch.stop()
    (window,) = watch.windows("tickets", "v1")
    assert window["passed_over"] == 251
    assert watch.totals("tickets")["v1"]["rows"] == 351, "they are kept all the same"


def test_windows_show_a_shift_and_survive_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("basewise.web.watch.WINDOW", 100)
    watch = Watch(tmp_path / "watch.db", Metrics())
    reference = {"rows": 90, "confusion": (np.eye(3) * 25 + 2).tolist()}
    reference |= {"confidence": np.linspace(0.4, 1, 90).tolist(), "right": [1] * 75 + [0] * 15}
    told = {**about("v1"), "reference": reference}
    watch.refer(told)
    watch.start()
    rng = np.random.default_rng(0)

    def answer(shift: float, prior: tuple[float, ...]) -> None:
        values = rng.dirichlet(np.array(prior) * 20, 100)
        features = rng.normal(size=(100, 24)).astype(np.float32) + shift
        watch.answered("tickets", told, f"r{rng.integers(10**9)}", values, features)
        watch.flush(60)

    for shift, prior in ((0.0, (1, 1, 1)), (0.0, (1, 1, 1)), (1.0, (3, 1, 1))):
        answer(shift, prior)
    watch.stop()
    windows = Watch(watch.path, Metrics()).windows("tickets", "v1")
    assert [w["number"] for w in windows] == [0, 1, 2]
    assert windows[0]["p_values"] == {}
    assert windows[2]["p_values"]["joint"] == pytest.approx(1 / 200)
    assert windows[2]["level"] > windows[1]["level"]
    assert windows[2]["estimated_accuracy"]["low"] <= windows[2]["estimated_accuracy"]["high"]
    assert windows[2]["shares"]["now"][0] > windows[2]["shares"]["before"][0]


# --- the way of a request


def test_a_canary_that_fails_gives_way_to_the_live_release(tmp_path: Path) -> None:
    service, app, worker = stood_in(tmp_path / "state")
    service._known(about("v2"))
    service.traffic.canary("tickets", "v2", "/releases/v2", 25)
    worker.fails["v2"] = WorkerError("ValueError", "internal error", False)
    answers = [call(app, "POST", "/v1/tasks/tickets/predict", content=body("1 text")) for _ in range(120)]
    assert [a.status_code for a in answers] == [200] * 120
    assert {a.json()["version"] for a in answers} == {"v1"}
    tried = {h["version"] for h in worker.asked if "version" in h}
    assert "v2" in tried
    assert service.traffic.lane("tickets").canary is None, "it has never answered"
    assert "requests not answered" in service.traffic.events[-1]["why"]


def test_changes_by_an_admin_key(tmp_path: Path) -> None:
    service, app, worker = stood_in(tmp_path / "state")
    headers = {"Authorization": f"Bearer {service.keys.add('boss', admin=True)}"}

    def change(path: str, value: Any = None, method: str = "POST") -> Any:
        content = json.dumps(value).encode() if value is not None else None
        answer = call(app, method, f"/v1/admin/tasks{path}", content=content, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def version(text: str = "0") -> str:
        answer = call(app, "POST", "/v1/tasks/tickets/predict", content=body(text), headers=headers)
        assert answer.headers["X-Basewise-Version"] == answer.json()["version"]
        return str(answer.json()["version"])

    assert version() == "v1"
    assert change("/tickets/replace", {"folder": "/releases/v2"})["live"] == "v2"
    assert version() == "v2"
    assert change("/tickets/rollback")["live"] == "v1"
    assert version() == "v1"
    assert change("/tickets/shadow", {"folder": "/releases/v3"})["shadow"] == "v3"
    assert change("/tickets/canary", {"folder": "/releases/v4", "percent": 5})["percent"] == 5
    found = change("", method="GET")
    assert [e["event"] for e in found["events"]] == ["added", "replaced", "rolled back", "shadow", "canary"]
    assert change("/tickets", method="DELETE") == {"removed": "tickets"}
    closed = {h["closed"] for h in worker.asked if "closed" in h}
    assert {"v1", "v3", "v4"} <= closed


@pytest.mark.parametrize(
    ("what", "code"), [({"classes": ["yes", "no"]}, "other_classes"), ({"inputs": ["body"]}, "other_inputs")]
)
def test_a_release_of_another_task_takes_no_place(tmp_path: Path, what: dict[str, Any], code: str) -> None:
    service, app, worker = stood_in(tmp_path / "state")
    headers = {"Authorization": f"Bearer {service.keys.add('boss', admin=True)}"}

    async def other(folder: str, version: str = "") -> dict[str, Any]:
        return {**about(Path(folder).name), **what}

    worker.open = other  # type: ignore[method-assign]
    for change in ("replace", "shadow", "canary"):
        content = json.dumps({"folder": "/releases/v2"}).encode()
        answer = call(app, "POST", f"/v1/admin/tasks/tickets/{change}", content=content, headers=headers)
        assert answer.status_code == 422
        assert answer.json()["error"]["code"] == code
    assert service.traffic.lane("tickets").versions == {"v1"}
    assert "v2" not in service.about


def test_a_slow_body_holds_up_no_other_change(tmp_path: Path) -> None:
    import asyncio

    import httpx

    service, app, _ = stood_in(tmp_path / "state")
    headers = {"Authorization": f"Bearer {service.keys.add('admin', admin=True)}"}

    async def both() -> list[int]:
        goes_on = asyncio.Event()

        async def slowly() -> Any:
            yield b'{"folder": '
            await goes_on.wait()
            yield b'"/releases/v2"}'

        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", headers=headers
        ) as client:
            slow = asyncio.ensure_future(client.post("/v1/admin/tasks/tickets/replace", content=slowly()))
            await asyncio.sleep(0.05)
            sent = {"folder": "/releases/v3"}
            quick = await asyncio.wait_for(client.post("/v1/admin/tasks/tickets/shadow", json=sent), 10)
            goes_on.set()
            return [quick.status_code, (await slow).status_code]

    assert asyncio.run(both()) == [200, 200]
    assert service.traffic.lane("tickets").live == "v2"


def test_a_task_that_is_removed_while_a_row_is_computed_answers_it(tmp_path: Path) -> None:
    import asyncio

    import httpx

    service, app, worker = stood_in(tmp_path / "state")
    headers = {"Authorization": f"Bearer {service.keys.add('boss', admin=True)}"}
    worker.seconds = 0.3

    async def both() -> list[int]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", headers=headers
        ) as client:
            slow = asyncio.ensure_future(client.post("/v1/tasks/tickets/predict", content=body("1")))
            await asyncio.sleep(0.1)
            gone = await client.delete("/v1/admin/tasks/tickets")
            service.about.clear()
            return [gone.status_code, (await slow).status_code]

    assert asyncio.run(both()) == [200, 200]
    with pytest.raises(UnknownName):
        asyncio.run(Predicting(service)("tickets", ["1"], 1.0, "r"))


def test_answers_are_in_order_rounded_and_json_whatever_is_shown() -> None:
    values = np.array([[0.2, 0.2, 0.6], [1 / 3, 1 / 3, 1 / 3], [0.98, 0.0, 0.02]])
    told = {**about("v1"), "conformal": {"alpha": 0.1, "least": 0.5, "rows": 9}, "threshold": 0.5}
    whole = answers_of(values, told, None, "r")
    assert [a["label"] for a in whole] == ["c", "a", "a"]
    assert [a["set"] for a in whole] == [["c"], ["a"], ["a"]]
    assert [a["abstained"] for a in whole] == [False, True, False]
    assert list(whole[0]["probabilities"]) == ["c", "a", "b"]
    assert whole[1]["probability"] == 0.333333
    found = json.loads(packed({"task": "t"}, answers_of(values, told, 1, "r")))
    assert found["task"] == "t"
    assert [a["probabilities"] for a in found["answers"]] == [{"c": 0.6}, {"a": 0.333333}, {"a": 0.98}]


def test_a_release_whose_folder_is_missing_at_a_start_is_refused_and_comes_back(tmp_path: Path) -> None:
    import asyncio

    service, _, _ = stood_in(tmp_path / "state")
    service.traffic.live("tickets", "v2", "/releases/v2")
    service.traffic.live("others", "v3", "/releases/v3")
    service, app, worker = stood_in(tmp_path / "state", known=())
    worker.gone = {"/releases/v2"}
    asyncio.run(service.start())
    assert call(app, "POST", "/v1/tasks/others/predict", content=body("0")).status_code == 200
    answer = call(app, "POST", "/v1/tasks/tickets/predict", content=body("0"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_open")
    ready = call(app, "GET", "/ready")
    assert (ready.status_code, ready.json()["unavailable"]) == (200, ["tickets"]), "the other one goes on"
    assert call(app, "GET", "/v1/tasks").json()["tasks"][0]["open"] is False
    assert call(app, "GET", "/v1/tasks/tickets/watch").status_code == 200
    worker.gone.clear()
    asyncio.run(service.mend())
    assert call(app, "GET", "/ready").json()["unavailable"] == []
    answer = call(app, "POST", "/v1/tasks/tickets/predict", content=body("0"))
    assert answer.json()["version"] == "v2"
    assert service.traffic.lane("tickets").before == ("v1",)
    asyncio.run(service.stop())


def test_two_folders_of_one_task_are_refused_before_either_is_served(tmp_path: Path) -> None:
    import asyncio

    service, _, _ = stood_in(tmp_path / "state", known=())
    service._folders = ("/one/v1", "/other/v2")
    with pytest.raises(InputError, match="/releases/v1 and /releases/v2 are both served as tickets"):
        asyncio.run(service.start())
    assert not service.traffic.lanes
    service._folders = ("/one/v1", "/one/v1")
    asyncio.run(service.start())
    assert service.traffic.lane("tickets").live == "v1"
    asyncio.run(service.stop())


def test_what_a_new_worker_cannot_open_is_refused_until_it_can(tmp_path: Path) -> None:
    import asyncio

    service, app, worker = stood_in(tmp_path / "state")
    worker.failed = {"v1": "no folder", "base:tiny": "no folder"}
    content = b'{"model": "tiny", "input": "a"}'
    for method, path, sent in (
        ("POST", "/v1/tasks/tickets/predict", body("0")),
        ("POST", "/v1/embeddings", content),
        ("GET", "/ready", None),
    ):
        assert call(app, method, path, content=sent).status_code == 503, path
    asyncio.run(service.mend())
    assert call(app, "POST", "/v1/tasks/tickets/predict", content=body("0")).status_code == 200


def test_a_new_worker_says_what_it_could_not_open() -> None:
    import asyncio

    from basewise.web.link import Link

    async def one() -> tuple[dict[int, str], Any]:
        link = Link(failed={"v9": "no folder"})
        link._reader = asyncio.StreamReader()
        for header in ({"id": -2}, {"id": -3, "error": "RunError", "message": "no folder"}, {"id": -1}):
            link._reader.feed_data(frames.pack(header))
        with pytest.raises(WorkerError) as refused:
            await link.ask({"op": "predict", "version": "v9"})
        return await link._barrier(), refused.value.kind

    assert asyncio.run(one()) == ({-3: "no folder"}, "NotOpen")


# --- messages and the queue


@given(
    st.dictionaries(st.text(max_size=8), st.text(max_size=40) | st.integers(), max_size=5),
    st.binary(max_size=64),
)
def test_a_message_comes_out_as_it_went_in(header: dict[str, Any], content: bytes) -> None:
    import io

    packed = frames.pack(header, content)
    assert frames.read(io.BytesIO(packed)) == (header, content)
    assert frames.read(io.BytesIO(packed[:-1])) is None


def test_a_socket_whose_other_side_was_killed_is_at_its_end() -> None:
    import socket

    ours, theirs = socket.socketpair()
    with theirs, theirs.makefile("rb") as file:
        # unread when the other side goes: a reset
        theirs.sendall(frames.pack({"id": 1}))
        ours.close()
        assert frames.read(file) is None


@given(
    st.lists(
        st.tuples(st.lists(st.integers(1, 600), min_size=1, max_size=30), st.floats(0, 100)),
        min_size=1,
        max_size=12,
    )
)
def test_a_batch_keeps_the_budget_and_starves_nobody(jobs: list[tuple[list[int], float]]) -> None:
    waiting = [
        Job(i, "v", [""] * len(lengths), None, np.array(lengths), deadline)
        for i, (lengths, deadline) in enumerate(jobs)
    ]
    steps = 0
    while waiting:
        batch = take(waiting)
        assert batch
        total = sum(int(job.lengths[job.done : job.done + rows].sum()) for job, rows in batch)
        assert total <= STEP_TOKENS
        first = min(waiting, key=lambda j: j.deadline)
        assert any(job is first for job, _ in batch)
        if len(waiting) > 1:
            several = [job for job, _ in batch]
            small = [j for j in waiting if j.lengths[j.done :].sum() <= SLICE_TOKENS]
            assert several or not small
        for job, rows in batch:
            assert 0 < rows <= job.left
            job.done += rows
        waiting = [j for j in waiting if j.left]
        steps += 1
        assert steps < 10_000


@pytest.mark.slow
def test_jobs_that_wait_by_the_thousand_are_not_all_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    from basewise.steps import queueing
    from basewise.steps.hosting import Answered

    weighed: list[int] = []
    finished: list[int] = []
    errors: list[int] = []

    def counted(jobs: list[Job]) -> Any:
        weighed.append(len(jobs))
        return take(jobs)

    def finish(job: Job, answered: Answered) -> None:
        (errors if answered.error else finished).append(job.number)
        if len(finished) + len(errors) == 4_999:
            queue.close()

    def answer(parts: list[Any]) -> list[Answered]:
        return [Answered(np.zeros((len(p.texts), 2))) for p in parts]

    monkeypatch.setattr(queueing, "take", counted)
    queue = queueing.Queue(answer, finish)
    now = time.monotonic()
    for number in range(5_000):
        deadline = now - 1 if number % 1_000 == 7 else now + 10_000 - number
        queue.add(Job(number, "v", ["x"], None, np.array([600 if number % 2 else 2]), deadline))
    queue.cancel(4_998)
    queue.run()
    assert sorted(errors) == [7, 1_007, 2_007, 3_007, 4_007]
    assert set(finished) == set(range(5_000)) - set(errors) - {4_998}
    assert max(weighed) <= queueing.MOST_LOOKED_AT
    assert finished[0] == 4_999, "the earliest deadline comes first"


def test_rows_beside_come_last_and_alone() -> None:
    from basewise.steps import queueing
    from basewise.steps.hosting import Answered

    batches: list[list[str]] = []

    def answer(parts: list[Any]) -> list[Answered]:
        batches.append([p.version for p in parts])
        # a row that somebody waits for comes between those beside
        if len(batches) == 2:
            queue.add(Job(9, "live", ["x"], None, np.array([9]), now + 1_000))
        return [Answered(np.zeros((len(p.texts), 2))) for p in parts]

    def finish(job: Job, answered: Answered) -> None:
        finished.append(job.number)
        if len(finished) == 5:
            queue.close()

    finished: list[int] = []
    queue, now = queueing.Queue(answer, finish), time.monotonic()
    for number, beside in enumerate((True, True, False, False)):
        job = Job(number, "beside" if beside else "live", ["x"], None, np.array([900]), now + 10 + number)
        job.beside = beside
        queue.add(job)
    queue.run()
    assert batches == [["live", "live"], ["beside"], ["live"], ["beside"]]
    assert finished == [2, 3, 0, 9, 1]


def test_a_shadow_is_asked_for_no_more_rows_than_it_can_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    monkeypatch.setattr("basewise.web.predict_routes.MOST_BESIDE", 3)
    service, _, worker = stood_in(tmp_path / "state")
    service._known(about("v2"))
    service.traffic.shadow("tickets", "v2", "/releases/v2")
    predicting, worker.seconds = Predicting(service), 0.05

    async def many() -> int:
        await asyncio.gather(*(predicting("tickets", ["0", "1"], 9.0, f"r{i}") for i in range(3)))
        most = predicting.beside
        await asyncio.gather(*service.background)
        return most

    assert asyncio.run(many()) == 2
    assert predicting.beside == 0
    assert [h["beside"] for h in worker.asked if h["version"] == "v2"] == [True]
