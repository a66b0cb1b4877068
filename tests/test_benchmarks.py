"""The benchmarks' own arithmetic: fair draws, sums that count what is missing as missing, claims stated up front."""

from __future__ import annotations

import ast
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(FOLDER))

import all_labels  # noqa: E402
import choice  # noqa: E402
import common  # noqa: E402
import few_labels  # noqa: E402
import prompting  # noqa: E402
import run_all  # noqa: E402

ROWS = common.Rows([f"text {i}" for i in range(90)], ["abc"[i % 3] for i in range(90)])


@pytest.mark.parametrize("name", run_all.benchmarks())
def test_a_benchmark_states_its_claim_and_can_be_smoked(name: str) -> None:
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source)), name
    assert "smoke" in source, f"{name} cannot run for a moment only"


def test_draws_are_fair_and_the_same_again() -> None:
    drawn = common.draw(ROWS, 5, 1)
    assert Counter(drawn.labels) == {"a": 5, "b": 5, "c": 5}
    assert len(set(drawn.texts)) == 15
    assert drawn == common.draw(ROWS, 5, 1)
    assert drawn != common.draw(ROWS, 5, 2)
    assert len(common.draw(ROWS, 50, 1)) == 90


def test_a_sample_is_without_replacement() -> None:
    assert len(set(common.sample(ROWS, 40, 0).texts)) == 40
    assert common.sample(ROWS, None, 0) is ROWS


def _cell(name: str, shots: int, who: str, accuracy: float, seconds: float) -> dict:
    return {
        "key": {"set": name, "shots": shots, "draw": 0, "who": who},
        "accuracy": accuracy,
        "seconds": seconds,
    }


def test_few_labels_counts_cells_and_never_a_failure_as_a_win() -> None:
    cells = []
    for name, ours in (("trec", 0.7), ("sst2", 0.6)):
        cells += [
            _cell(name, 8, "setfit", 0.65, 90),
            _cell(name, 8, "probe", 0.6, 3),
            _cell(name, 8, "choose", ours, 30),
        ]
    cells.append({"key": {"set": "subj", "shots": 8, "draw": 0, "who": "choose"}, "error": "stopped"})
    found = few_labels.summary(cells)
    assert found["cells"] == 2
    assert found["cells_at_least_setfit"] == 1
    assert found["gain_over_setfit"] == pytest.approx(0.0)
    assert found["time_share_of_setfit"] == pytest.approx(1 / 3)
    assert found["met"]["and on at least 10 of 12 cells"] is None


def test_all_labels_measures_against_the_best_rival() -> None:
    scores = {"words": 0.9, "probe": 0.8, "trainer": 0.85, "choose": 0.894}
    cells = [
        {"key": {"set": "trec", "who": who, "draw": 0}, "accuracy": a, "seconds": 1.0, "chosen": "words"}
        for who, a in scores.items()
    ]
    found = all_labels.summary(cells)
    assert found["worst_loss"] == pytest.approx(0.006)
    assert found["met"] == {"never more than half a point below the best": False}


def test_choice_measures_regret_and_the_share_of_compute() -> None:
    cells = [
        {"key": {"who": "arm words"}, "accuracy": 0.8, "seconds": 10.0},
        {"key": {"who": "arm full minilm-l6"}, "accuracy": 0.9, "seconds": 90.0},
        {"key": {"who": "arm lora minilm-l6"}, "error": "stopped"},
        {"key": {"who": "choose"}, "accuracy": 0.885, "seconds": 15.0, "chosen": "probe minilm-l6"},
    ]
    line = choice.case_line({"set": "trec"}, cells)
    assert line is not None
    assert line["regret"] == pytest.approx(0.015)
    assert line["share"] == pytest.approx(0.15)
    assert choice.summary([line])["met"]["median regret at most 1 point"] is False
    assert choice.case_line({"set": "trec"}, cells[:3]) is None


def test_the_journal_goes_on_and_runs_failures_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    answers = iter([{"accuracy": 0.5}, {"error": "no"}, {"accuracy": 0.7}])
    first = common.Journal("toy", smoke=False)
    first.cell({"n": 1}, lambda: next(answers))
    first.cell({"n": 2}, lambda: next(answers))
    again = common.Journal("toy", smoke=False)
    assert again.cell({"n": 1}, lambda: pytest.fail("ran again"))["accuracy"] == 0.5
    assert again.cell({"n": 2}, lambda: next(answers))["accuracy"] == 0.7
    assert len(again.path.read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.slow
def test_a_broken_worker_is_an_answer(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps({}), encoding="utf-8")
    answer = common.run_worker("peer_setfit.py", {"folder": "none"}, seconds=60)
    assert "error" in answer


def _asked(name: str, draw: int, plain: list[int], batch: list[int]) -> dict:
    right = {"uncalibrated": plain, "batch": batch, "chosen": batch}
    key = {"set": name, "draw": draw, "who": "asked"}
    return {"key": key, "right": right, "classes": 2, "seconds": 1.0}


def test_prompting_pairs_its_answers_and_counts_rows_and_draws() -> None:
    sets = [*common.SETS, "tweet_irony"]
    cells = [_asked(name, d, [0, 1] * 50, [1, 1, 0, 1] * 25) for name in sets for d in range(3)]
    found = prompting.summary(cells, [])
    assert found["gains"]["batch"]["estimate"] == pytest.approx(0.25)
    assert found["gains"]["batch"]["n"] == 7 * 3 * 100
    assert found["met"]["calibrated beats uncalibrated on at least 5 of 7"] is True
    assert found["met"]["by 5 points on average"] is True
    assert found["met"]["where the probe wins, choose picks it"] is None, "no pick was measured"
    apart = [_asked("sst2", d, [0] * 100, [int(d == 0)] * 100) for d in range(3)]
    line = prompting.summary(apart, [])["rows"][0]["batch_gain"]
    assert line["low"] < 0 < line["high"], "one lucky draw of three is no proof, however many rows"
    assert prompting.summary(cells[:3], [])["met"]["by 5 points on average"] is None, "one set is not seven"
    assert prompting.summary([{"key": {"set": "sst2"}, "error": "x"}], [])["met"] is None


def test_prompting_asks_for_the_probe_only_where_it_is_shown_to_win() -> None:
    def pick(prompt: float, probe: float, chosen: str) -> dict:
        return {
            "key": {"set": "trec"},
            "arms": {"prompt": prompt, "probe": probe},
            "n": 300,
            "chosen": chosen,
        }

    wrong, open_, right = prompting.pick_lines(
        [
            pick(0.5, 0.8, "smollm2-135m + prompt"),
            pick(0.7, 0.72, "smollm2-135m + prompt"),
            pick(0.5, 0.8, "smollm2-135m + probe"),
        ]
    )
    assert wrong["probe_wins"] and not wrong["as_it_should"]
    assert not open_["probe_wins"] and open_["as_it_should"]
    assert right["as_it_should"]


def test_prompting_shows_the_classes_in_turn() -> None:
    order = prompting.in_turn(ROWS.labels, (0, 90))
    assert Counter(ROWS.labels[i] for i in order[:9]) == {"a": 3, "b": 3, "c": 3}
    assert sorted(order.tolist()) == list(range(90))
