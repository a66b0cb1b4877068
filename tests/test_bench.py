"""bench end to end on tiny bases and tiny sets: numbers by hand, resuming, curves, contamination, comparison, bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
import tiny_decoders
import tiny_sets
from basewise.core.benchmark import Benchmark, read_items
from basewise.core.errors import InputError
from basewise.core.rundir import RunDir
from basewise.core.suite import Data
from basewise.engine import journal
from basewise.steps import bench_ask
from basewise.steps.bench import BenchOptions, bench
from basewise.steps.bench_items import find_tasks
from test_report import harmless

SCORED = [
    "blimp",
    "piqa",
    "bbh/navigate",
    "bbh/snarks",
    "classify/sst2",
    "classify/clinc150_out_of_scope",
    "bias",
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders: sets, two decoders of two sizes, one that reads little, an encoder."""
    import torch

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("world")
    tiny_sets.write(root / "sets")
    tiny_decoders.decoder(root / "small", "llama", seed=1, max_position_embeddings=1024)
    tiny_decoders.decoder(
        root / "large", "llama", seed=2, max_position_embeddings=1024, intermediate_size=512
    )
    tiny_decoders.decoder(root / "short", "llama", seed=3)
    tiny.base_folder(root / "encoder")
    return {path.name: str(path) for path in root.iterdir()}


def run(world: dict[str, str], to: Path, names: list[str], suites: list[str], **more: Any) -> Benchmark:
    options = BenchOptions(data=world["sets"], **more.pop("options", {}))
    return bench([world[name] for name in names], suites, to=to, options=options, **more)


@pytest.fixture(scope="module")
def whole(world: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Benchmark, Path]:
    """A run of the small decoder over SCORED that went to its end, and its folder: to look at, not to change."""
    to = tmp_path_factory.mktemp("whole") / "run"
    return run(world, to, ["small"], SCORED), to


def test_scores_are_those_of_the_engine_asked_by_hand(
    world: dict[str, str], whole: tuple[Benchmark, Path]
) -> None:
    from basewise.steps.bases import find, pull

    result, folder = whole
    causal = bench_ask.open_causal(pull(find(world["small"])))
    for name in ("piqa/piqa", "blimp/wh_island"):
        task = find_tasks([name], Data(Path(world["sets"])))[0]
        right = []
        for item in task.items:
            scores = causal.score([(item.context, choice) for choice in item.choices]).log_probability
            right.append(int(scores.argmax()) == item.answer)
        cell = next(c for c in result.cells if c["task"] == name)
        assert cell["score"]["estimate"] == pytest.approx(np.mean(right))
        assert cell["score"]["n"] == len(right)
        assert cell["score"]["low"] <= cell["score"]["estimate"] <= cell["score"]["high"]
    rows = read_items(folder / "items.parquet")
    assert len(rows) == sum(c["score"]["n"] for c in result.cells)
    for cell in result.cells:
        mine = [r["score"] for r in rows if r["task"] == cell["task"]]
        assert np.mean(mine) == pytest.approx(cell["score"]["estimate"]), "every number comes from the rows"
    demonstrated = next(c for c in result.cells if c["task"] == "bbh/navigate")
    assert demonstrated["shots"] == 3 and demonstrated["score"]["n"] == 24 - 3


def test_the_run_folder_and_its_page(world: dict[str, str], tmp_path: Path) -> None:
    result = run(world, tmp_path / "run", ["small", "encoder"], [*SCORED, "wikitext"])
    assert {"bench.json", "bench.html", "items.parquet", "journal"} <= {
        p.name for p in (tmp_path / "run").iterdir()
    }
    page = harmless((tmp_path / "run" / "bench.html").read_text(encoding="utf-8"))
    for words in ("small", "encoder", "wh_island", "by probe", "bits per byte", "Holm"):
        assert words in page.text
    probed = [c for c in result.cells if c["base"] == "encoder"]
    assert {c["task"] for c in probed} == {"classify/sst2", "classify/clinc150_out_of_scope"}
    assert {c["way"] for c in probed} == {"probe"}
    assert any("encoder cannot score" in line["why"] for line in result.skipped)
    bits = next(c for c in result.cells if c["task"] == "wikitext/wikitext2")
    assert bits["score"]["estimate"] > 1 and bits["over_chance"] is None
    again = Benchmark.load(tmp_path / "run" / "bench.json")
    assert again.cells == json.loads(json.dumps(result.cells))


@pytest.mark.slow
def test_a_paired_table_is_antisymmetric_and_corrected(world: dict[str, str], tmp_path: Path) -> None:
    one = run(world, tmp_path / "a", ["small", "large"], ["blimp", "piqa"])
    other = run(world, tmp_path / "b", ["large", "small"], ["blimp", "piqa"])
    for left, right in zip(one.differences, other.differences, strict=True):
        assert left["estimate"] == pytest.approx(-right["estimate"])
        assert left["p"] == pytest.approx(right["p"]) and left["p_holm"] >= left["p"]
        assert (left["a"], left["b"]) == (right["b"], right["a"]) == ("small", "large")
        assert left["smallest_gap"] > 0
    single = [d for d in one.differences if d["task"] and d["suite"] == "blimp"]
    mean = next(d for d in one.differences if d["task"] is None and d["suite"] == "blimp")
    assert mean["estimate"] == pytest.approx(np.mean([d["estimate"] for d in single]))


def test_what_was_answered_is_not_asked_again(
    world: dict[str, str],
    whole: tuple[Benchmark, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    plain = bench_ask.Asker.answer

    def counted(self: Any, question: Any, *more: Any) -> Any:
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(question.draw.task.name)
        return plain(self, question, *more)

    monkeypatch.setattr(bench_ask.Asker, "answer", counted)
    part = run(world, tmp_path / "run", ["small"], SCORED)
    assert part.status == "unfinished" and len(part.cells) == 3
    assert any("goes on" in note for note in part.notes)
    first = list(asked)
    asked.clear()
    monkeypatch.setattr(
        bench_ask.Asker, "answer", lambda self, q, *m: (asked.append(q.draw.task.name), plain(self, q, *m))[1]
    )
    done = run(world, tmp_path / "run", ["small"], SCORED)
    assert done.status == "finished" and not set(first) & set(asked)
    keys = ("task", "shots", "score", "over_chance", "over_majority", "also")
    assert [{k: c[k] for k in keys} for c in done.cells] == [{k: c[k] for k in keys} for c in whole[0].cells]
    asked.clear()
    assert run(world, tmp_path / "run", ["small"], SCORED).cells == json.loads(json.dumps(done.cells))
    assert not asked, "a finished run is returned at once"


def test_of_a_task_that_was_stopped_the_finished_groups_are_not_scored_again(
    world: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "GROUP_NODES", 40)
    whole = run(world, tmp_path / "whole", ["small"], ["piqa"])
    kept: list[str] = []
    keep, saved = RunDir.keep, RunDir.saved

    def stopped(self: RunDir, name: str, *more: Any) -> None:
        if len(kept) == 2:
            raise KeyboardInterrupt
        kept.append(name)
        keep(self, name, *more)

    monkeypatch.setattr(RunDir, "keep", stopped)
    # nothing was answered whole
    with pytest.raises(KeyboardInterrupt):
        run(world, tmp_path / "run", ["small"], ["piqa"])
    read: list[str] = []

    def noted(self: RunDir, name: str) -> Any:
        if (found := saved(self, name)) is not None:
            read.append(name)
        return found

    monkeypatch.setattr(RunDir, "keep", keep)
    monkeypatch.setattr(RunDir, "saved", noted)
    done = run(world, tmp_path / "run", ["small"], ["piqa"])
    assert read == kept and len(kept) == 2
    assert [c["score"] for c in done.cells] == [c["score"] for c in whole.cells]


def test_ctrl_c_before_anything_is_answered_leaves_no_result(
    world: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench_ask.Asker, "answer", stop)
    said = tiny.command(
        "bench", world["small"], "--suite", "piqa", "--data", world["sets"], "--to", tmp_path / "r"
    )
    assert said.code == 130 and not (tmp_path / "r" / "bench.json").exists()


@pytest.mark.slow
def test_curves_are_paired_and_the_trend_over_size_has_an_interval(
    world: dict[str, str], tmp_path: Path
) -> None:
    result = run(
        world, tmp_path / "run", ["small", "large"], ["bbh/navigate", "bbh/snarks", "blimp"], shots=(0, 2, 4)
    )
    assert {c["shots"] for c in result.cells if c["task"] == "blimp/wh_island"} == {0}
    counts = {(c["base"], c["shots"]): c["score"]["n"] for c in result.cells if c["task"] == "bbh/navigate"}
    assert set(counts.values()) == {20} and len(counts) == 6
    curve = next(c for c in result.curves if c["base"] == "small")
    assert [p["shots"] for p in curve["points"]] == [0, 2, 4] and curve["tasks"] == 2
    least, most = curve["points"][0]["estimate"], curve["points"][-1]["estimate"]
    assert curve["gain"]["estimate"] == pytest.approx(most - least)
    line = next(s for s in result.scale if s["suite"] == "bbh" and s["shots"] == 4)
    sizes = {b["name"]: np.log10(b["parameters"]) for b in result.bases}
    means = {
        base: np.mean([c["score"]["estimate"] for c in result.cells if c["base"] == base and c["shots"] == 4])
        for base in ("small", "large")
    }
    rise = (means["large"] - means["small"]) / (sizes["large"] - sizes["small"])
    assert line["estimate"] == pytest.approx(rise)
    for trend in result.scale:
        assert trend["low"] is None or trend["low"] < trend["estimate"] < trend["high"]
    assert any(trend["low"] is not None for trend in result.scale)
    assert any(s["shots"] == "gain" for s in result.scale)
    assert "per tenfold parameters over 2 bases" in line["sentence"]


def test_answers_to_the_same_prompts_are_counted_once(world: dict[str, str]) -> None:
    """Asked with 4, 8 and 32 demonstrations where 3 fit: one point of the curve, one test in the family."""
    from basewise.core.benchmark import Answers
    from basewise.steps.bench_tables import Cell, cell_table, curve_table

    task = find_tasks(["bbh/navigate"], Data(Path(world["sets"])))[0]
    right, draw, n = np.array([item.answer for item in task.items]), np.random.default_rng(0), len(task.items)
    logs, cells = {k: draw.normal(size=(n, 2)) for k in (0, 3)}, []
    for shots in (0, 4, 8, 32):
        fitted = min(shots, 3)
        answers = Answers(
            base="short", task=task.name, shots=shots, way="asked", digests=tuple(i.digest for i in task.items),
            clusters=tuple(i.cluster for i in task.items), right=right, logs=logs[fitted], sizes=np.ones((n, 2)),
            note="3 demonstrations" if shots > 3 else "", shown=fitted if shots > 3 else None,
        )  # fmt: skip
        cells.append(Cell.of(answers, task))
    (curve,) = curve_table(cells)
    assert [point["shots"] for point in curve["points"]] == [0, 3]
    lines, once = cell_table(cells), cell_table(cells[:2])
    assert [line["shots"] for line in lines] == [0, 4, 8, 32]
    for line, other in zip(lines, [once[0], once[1], once[1], once[1]], strict=True):
        assert line["over_chance"]["p_holm"] == other["over_chance"]["p_holm"]
    assert [line["note"].count("counted once") for line in lines] == [0, 0, 1, 1]


def test_prompts_that_do_not_fit_lose_demonstrations_or_are_left_out(
    world: dict[str, str], tmp_path: Path
) -> None:
    result = run(world, tmp_path / "run", ["short"], ["bbh/navigate", "recall/passkey_50", "blimp"], limit=4)
    assert all(c["task"].startswith(("blimp", "bbh")) for c in result.cells)
    why = next(line["why"] for line in result.skipped if line["task"] == "recall/passkey_50")
    assert "tokens longer than the 64 that short reads" in why
    cut = [c for c in result.cells if c["task"] == "bbh/navigate"]
    assert not cut or "demonstrations" in cut[0]["note"]


def test_contamination_finds_what_is_in_the_corpus(world: dict[str, str], tmp_path: Path) -> None:
    sets = Data(Path(world["sets"]))
    task = find_tasks(["piqa"], sets)[0]
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "a.txt").write_text(
        "before " + " ... ".join(i.text.upper() for i in task.items[:6]), encoding="utf-8"
    )
    result = run(world, tmp_path / "run", ["small"], ["piqa", "blimp"], options={"corpus": corpus})
    found = {t["task"]: t for t in result.contamination["tasks"]}
    assert found["piqa/piqa"]["matched"] == 6
    assert found["blimp/wh_island"]["matched"] == 0 and found["blimp/wh_island"]["short"] == 24
    line = next(c for c in result.contamination["cells"] if c["task"] == "piqa/piqa")
    assert line["without"]["n"] == 18 and line["all"]["n"] == 24
    share = 6 / 24
    assert line["all"]["estimate"] - line["without"]["estimate"] == pytest.approx(
        share * line["gap"]["estimate"]
    )
    assert "Contamination" in (tmp_path / "run" / "bench.html").read_text(encoding="utf-8")
    (corpus / "b.txt").write_text(" ... ".join(i.text for i in task.items[6:9]), encoding="utf-8")
    again = run(world, tmp_path / "run", ["small"], ["piqa", "blimp"], options={"corpus": corpus})
    assert {t["task"]: t for t in again.contamination["tasks"]}["piqa/piqa"]["matched"] == 9, (
        "a corpus that grew"
    )


def test_the_items_do_not_depend_on_how_many_are_shown(world: dict[str, str]) -> None:
    from basewise.steps.bench_items import draw

    (task,) = find_tasks(["piqa"], Data(Path(world["sets"])))
    drawn = [{i.digest for i in draw(task, shots, 12, 0).task.items} for shots in (0, 1, 2)]
    assert len(drawn[0]) == 12
    assert all(len(drawn[0] - other) <= 2 for other in drawn[1:]), "only those that are shown give way"


def test_what_failed_is_asked_again(
    world: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from basewise.core.errors import OutOfMemory
    from basewise.steps.bench_ask import Asker

    answer = Asker.answer

    def fails(self: Asker, question: Any, *more: Any) -> Any:
        if question.draw.task.name == "piqa/piqa":
            raise OutOfMemory("memory ran out", "close something")
        return answer(self, question, *more)

    monkeypatch.setattr(Asker, "answer", fails)
    first = run(world, tmp_path / "run", ["small"], ["piqa", "blimp"])
    assert [(line["task"], line["failed"]) for line in first.skipped] == [("piqa/piqa", True)]
    monkeypatch.setattr(Asker, "answer", answer)
    second = run(world, tmp_path / "run", ["small"], ["piqa", "blimp"])
    assert not second.skipped and "piqa/piqa" in {t["name"] for t in second.tasks}


@pytest.mark.slow
def test_two_runs_are_compared_item_by_item(world: dict[str, str], tmp_path: Path) -> None:
    from basewise.steps.bench_compare import compare_runs

    both = run(world, tmp_path / "both", ["small", "large"], ["blimp", "piqa", "bias"])
    run(world, tmp_path / "one", ["small"], ["blimp", "piqa", "bias"])
    run(world, tmp_path / "two", ["large"], ["blimp", "piqa"], limit=10)
    found = compare_runs(tmp_path / "one", tmp_path / "two")
    assert any("left out" in note for note in found["notes"])
    assert {d["n"] for d in found["differences"] if d["task"] == "piqa/piqa"} == {10}
    run(world, tmp_path / "three", ["large"], ["blimp", "piqa", "bias"])
    found = compare_runs(tmp_path / "one", tmp_path / "three")
    (piqa, task) = (d for d in found["differences"] if d["suite"] == "piqa")
    assert all(piqa[key] == task[key] for key in ("estimate", "low", "high", "p")), "the mean of one task"
    here = {d["task"]: d for d in both.differences if d["task"]}
    for line in found["differences"]:
        if line["task"]:
            for key in ("estimate", "low", "high", "p", "n"):
                assert line[key] == pytest.approx(here[line["task"]][key])
    said = tiny.command(
        "bench", "--compare", tmp_path / "one", tmp_path / "three", "--to", tmp_path / "c.json"
    )
    assert said.code == 0 and "items in common" in said.out
    assert json.loads((tmp_path / "c.json").read_text())["differences"]


def test_runs_at_several_shots_are_compared_at_each(world: dict[str, str], tmp_path: Path) -> None:
    """The same items with more demonstrations are no further items of a suite's mean."""
    from basewise.steps.bench_compare import compare_runs

    for name, base in (("one", "small"), ("two", "large")):
        run(world, tmp_path / name, [base], ["piqa"], shots=[0, 1])
    found = compare_runs(tmp_path / "one", tmp_path / "two")
    whole, single = (
        {d["shots"][0]: d for d in found["differences"] if bool(d["task"]) == kind} for kind in (False, True)
    )
    assert whole.keys() == single.keys() == {0, 1} and found["sentence"].startswith("1 tasks")
    for shots, line in whole.items():
        assert all(line[key] == single[shots][key] for key in ("estimate", "low", "high", "p", "n"))
    said = tiny.command("bench", "--compare", tmp_path / "one", tmp_path / "two")
    assert "1 shots" in said.out and "0 shots" in said.out


def test_the_command_prints_tables_and_where_the_report_is(world: dict[str, str], tmp_path: Path) -> None:
    words = ["bench", world["small"], world["encoder"], "--suite", "classify/sst2,piqa", "--limit", "6"]
    said = tiny.command(*words, "--data", world["sets"], "--to", tmp_path / "run")
    assert said.code == 0, said.err
    assert "classify/sst2" in said.out and "(probe)" in said.out and "bench.html" in said.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["small", "--suite", "blmp"], ["unknown suite 'blmp'", "'blimp'"]),
        (["small", "--suite", "bbh/navgate"], ["unknown task", "'bbh/navigate'"]),
        (["small", "--suite", "piqa", "--limit", "0"], ["limit of 0"]),
        (["small", "--suite", "piqa", "--shots", "a"], ["'a'", "whole numbers"]),
        (["small", "--suite", "piqa", "--shots", "-1"], ["-1"]),
        (["small", "--suite", "bbh/navigate", "--shots", "500"], ["none is left", "--shots"]),
        (["encoder", "--suite", "blimp"], ["encoder can embed", "needs a base that can score"]),
        (["nobody-knows-this", "--suite", "piqa"], ["unknown base"]),
        (["small", "--suite", "piqa", "--corpus", "/no/such/corpus"], ["no corpus"]),
        (["small", "small", "--compare"], ["holds no benchmark"]),
        (["small", "--compare"], ["two were expected"]),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], told: list[str], world: dict[str, str], tmp_path: Path
) -> None:
    named = [world.get(word, word) for word in words]
    data = [] if "--compare" in words else ["--data", world["sets"], "--to", tmp_path / "run"]
    tiny.refused(tiny.command("bench", *named, *data), *told)


def test_missing_data_is_one_line(world: dict[str, str], tmp_path: Path) -> None:
    said = tiny.command("bench", world["small"], "--suite", "piqa", "--data", tmp_path)
    tiny.refused(said, "piqa/test.parquet", "--data")


def test_two_bases_of_one_name_are_refused(world: dict[str, str], tmp_path: Path) -> None:
    tiny_decoders.decoder(tmp_path / "small", "llama")
    with pytest.raises(InputError, match="two bases go by the name small"):
        bench([world["small"], str(tmp_path / "small")], ["piqa"], options=BenchOptions(data=world["sets"]))


def test_measures_by_hand() -> None:
    from basewise.core.benchmark import Answers
    from basewise.core.suite import AUROC, BITS, CALIBRATED, PER_BYTE, BenchTask, Item
    from basewise.steps.bench_scores import plain_answer, scores

    logs = np.array([[-1.0, -3.0], [-1.0, -2.0], [-1.0, -1.5]])
    given = Answers(
        base="b", task="t/t", shots=0, way="asked", digests=("0", "1", "2"), clusters=("", "", ""),
        right=np.array([0, 1, 1]), logs=logs, sizes=np.array([[1.0, 9.0]] * 3),
    )  # fmt: skip
    items = tuple(Item(choices=(" a", " b"), answer=a) for a in (0, 1, 1))
    task = BenchTask(name="t/t", items=items, about="", named=True)
    assert scores(given, task).tolist() == [1, 0, 0]
    assert scores(given, task, PER_BYTE).tolist() == [0, 1, 1]
    assert (
        scores(given, task, CALIBRATED).tolist()[0] == 1 and scores(given, task, CALIBRATED).tolist()[2] == 1
    )
    whole = replace(
        given, logs=np.log(2) * np.array([[-8.0], [-4.0], [-12.0]]), sizes=np.array([[4.0], [2.0], [2.0]])
    )
    assert scores(whole, replace(task, measure=BITS)).mean() == pytest.approx(24 / 8)
    scope = replace(given, right=np.array([0, 1, -1]))
    assert scores(scope, replace(task, measure=AUROC)).mean() == pytest.approx(1.0)
    assert plain_answer("  Nine  \n lives. ") == plain_answer("nine lives")


@pytest.mark.slow
def test_one_item_a_task_is_enough(world: dict[str, str], tmp_path: Path) -> None:
    result = run(world, tmp_path / "run", ["small", "encoder"], ["all"], limit=1)
    long = [line["task"] for line in result.skipped if line["base"] == "small"]
    assert all(name.startswith("recall/") for name in long), "a token here is a letter"
    assert len({c["task"] for c in result.cells}) == len(result.tasks) > 20
    outside = next(c for c in result.cells if c["task"] == "classify/clinc150_out_of_scope")
    assert outside["score"]["n"] == 2
    assert all(0 <= c["score"]["estimate"] <= 1 for c in result.cells if "wikitext" not in c["task"])
    harmless((tmp_path / "run" / "bench.html").read_text(encoding="utf-8"))
    tiny_console(result)


def tiny_console(result: Benchmark) -> None:
    """The terminal's view of the worst case prints."""
    import io

    from rich.console import Console

    from basewise.cli.bench import show_benchmark

    out = io.StringIO()
    show_benchmark(result, Console(file=out, width=80, highlight=False))
    assert max(map(len, out.getvalue().splitlines())) <= 80


@pytest.mark.real
def test_a_decoder_and_an_encoder_in_one_table(sets: Path, tmp_path: Path) -> None:
    result = bench(
        ["smollm2-135m", "wordllama-256"],
        ["blimp/determiner_noun_agreement_1", "classify/trec", "recall/passkey_100"],
        limit=40,
        to=tmp_path / "run",
        options=BenchOptions(data=sets),
    )
    cells = {(c["base"], c["task"]): c for c in result.cells}
    for key in (
        ("smollm2-135m", "blimp/determiner_noun_agreement_1"),
        ("smollm2-135m", "recall/passkey_100"),
        ("wordllama-256", "classify/trec"),
    ):
        gap = cells[key]["over_chance"]
        assert gap["low"] > 0 and gap["p_holm"] < 0.05, key
    pair = next(d for d in result.differences if d["task"] == "classify/trec")
    assert pair["n"] == 40 and pair["low"] <= pair["estimate"] <= pair["high"]
    page = (tmp_path / "run" / "bench.html").read_text(encoding="utf-8")
    assert "by probe" in page and str(sets) not in page


def test_the_gain_from_demonstrations_is_over_the_same_bases() -> None:
    """A base that ran without demonstrations only would turn its own slope into a gain."""
    from types import SimpleNamespace

    from basewise.steps.bench_tables import scale_table

    def cell(base: str, suite: str, shots: int, right: int) -> Any:
        return SimpleNamespace(
            group=(suite, "accuracy"),
            task=SimpleNamespace(name=f"{suite}/t", better="high"),
            answers=SimpleNamespace(base=base, way="asked", shots=shots),
            shown=shots,
            scores=(np.arange(50) < right).astype(float),
            clusters=np.arange(50),
        )

    sizes = {"a": 1e8, "b": 1e9, "c": 1e10}
    cells = [cell(b, "one", k, 20) for b, k in (("a", 0), ("b", 0), ("c", 0), ("a", 8), ("b", 8))]
    cells += [cell(b, "two", k, 20 + k) for b in "abc" for k in (0, 8)]
    cells += [cell(b, "three", 0, 20) for b in "ab"]
    lines = [line for line in scale_table(cells, sizes) if line["shots"] == "gain"]
    assert [(line["suite"], line["bases"]) for line in lines] == [("two", ["a", "b", "c"])]


def test_the_gap_that_items_see_is_not_above_what_they_can_show() -> None:
    from basewise.stats.benchmarks import smallest_mean_gap, smallest_paired_gap

    one = np.zeros(20)
    one[0] = 1
    assert smallest_mean_gap([4], [0.2]) is None and smallest_mean_gap([1, 1], [0.2, 0.2]) is None
    assert smallest_paired_gap([one], [np.arange(20)]) == pytest.approx(0.313, abs=1e-3), "five of 20 decide"
    assert smallest_paired_gap([np.zeros(20)], [np.arange(20)]) is None
    assert 0.1 < smallest_paired_gap([one, one], [np.arange(20)] * 2) < 0.313
