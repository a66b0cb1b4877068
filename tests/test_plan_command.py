"""`basewise plan` on the command line: a plan, its files, and one line for everything that cannot be planned."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tiny
import tiny_corpus
from basewise.stats.scaling import Law

RECIPE = """name = "small"
corpus = "no/such/corpus"
depth = 4
tokens = 2000000
batch_tokens = 16384
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(RECIPE)
    return path


def test_a_size_on_many_gpus(tmp_path: Path) -> None:
    answered = tiny.command("plan", "--size", "7B", "--hardware", "h100:64", "--to", tmp_path)
    assert answered.code == 0, answered.err
    for word in (
        "parameters",
        "memory a rank",
        "a step",
        "kWh",
        "$",
        "checkpoint every",
        "planned, not measured",
    ):
        assert word in answered.out
    value = json.loads((tmp_path / "plan.json").read_text())
    assert 0.8 < value["parameters"] / 7e9 < 1.25
    assert value["flop"] == pytest.approx(6 * value["parameters"] * value["wanted"]["tokens"], rel=0.25)
    assert value["steps"] >= 1
    assert "1e+23" not in answered.out or value["flop"] > 1e23


def test_thresholds_are_said() -> None:
    assert (
        "general-purpose"
        in tiny.command("plan", "--size", "7B", "--tokens", "15T", "--hardware", "h100:64").out
    )
    out = tiny.command("plan", "--size", "300M", "--hardware", "h100:8", "--base-flop", "1e18").out
    assert "provider" in out
    assert "no regulatory threshold" in tiny.command("plan", "--size", "300M", "--hardware", "h100:8").out


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (
            "slurm",
            (
                "#SBATCH --nodes=2",
                "#SBATCH --cpus-per-task=64",  # else one core for eight ranks
                'srun --cpus-per-task="$SLURM_CPUS_PER_TASK" torchrun',
                "--requeue",
                "--open-mode=append",
            ),
        ),
        ("skypilot", ("num_nodes: 2", "accelerators: H100:8", "SKYPILOT_NODE_RANK")),
        ("torchrun", ("torchrun --nnodes=2", "--max-restarts")),
    ],
)
def test_files_start_the_same_command(
    recipe: Path, tmp_path: Path, form: str, words: tuple[str, ...]
) -> None:
    answered = tiny.command("plan", recipe, "--hardware", "h100:16", "--emit", form, "--to", tmp_path / "out")
    assert answered.code == 0, answered.err
    written = next(p for p in (tmp_path / "out").iterdir() if p.name != "plan.json").read_text()
    for word in (*words, "-m basewise pretrain", str(recipe)):
        assert word in written


def test_the_ranks_that_a_refusal_names_are_enough() -> None:
    assert tiny.command("plan", "--size", "440B", "--hardware", "h100:128").code == 0
    tiny.refused(tiny.command("plan", "--size", "440B", "--hardware", "h100:64"), "use 128 ranks")


@pytest.mark.parametrize("name", ["on", "2024"])
def test_the_name_of_a_skypilot_task_is_a_text(recipe: Path, tmp_path: Path, name: str) -> None:
    import yaml

    text = recipe.read_text(encoding="utf-8").replace('name = "', f'name = "{name}" # ', 1)
    recipe.write_text(text, encoding="utf-8")
    answered = tiny.command("plan", recipe, "--hardware", "h100:16", "--emit", "skypilot", "--to", tmp_path)
    assert answered.code == 0, answered.err
    assert yaml.safe_load((tmp_path / f"{name}.sky.yaml").read_text())["name"] == name


def test_skypilot_asks_for_the_name_of_the_accelerator() -> None:
    from basewise.core.errors import InputError
    from basewise.steps.plan_emit import _accelerator

    assert _accelerator("NVIDIA H100 SXM") == "H100"
    with pytest.raises(InputError, match="titled 'card'"):
        _accelerator("card")


def test_here_is_planned_and_the_journal_gives_the_past_error(recipe: Path, tmp_path: Path) -> None:
    first = tiny.command("plan", recipe)
    assert first.code == 0, first.err
    assert "not known" in first.out
    from basewise.core.recipe import read_recipe
    from basewise.steps.plan import look_back

    look_back(read_recipe(recipe), 8192, 1, 2.0)
    look_back(read_recipe(recipe), 8192, 1, 2.0)
    then = tiny.command("plan", recipe, "--to", tmp_path).out
    assert "of 2 measured runs" in then
    step = json.loads((tmp_path / "plan.json").read_text())["chosen"]["step"]["total"]
    assert step == pytest.approx(2.0, rel=0.1), (
        "the same step on the same machine: the plan has learned from the runs"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), ("neither",)),
        (("--size", "7X"), ("350M",)),
        (("--size", "7B", "--hardware", "h101:8"), ("h100",)),
        (("--size", "7B", "--hardware", "h100:0"), ("0 ranks",)),
        (("--size", "440B", "--hardware", "h100:8"), ("at least", "use 128 ranks")),
        (("--size", "70B", "--hardware", "here:1"), ("at least", "hardware with more memory")),
        (("--size", "7B", "--hardware", "h100:-3"), ("-3 ranks",)),
        (("--size", "1T", "--hardware", "h100:4096"), ("not planned for", "from 3.8M to 440B")),
        (("--size", "1"), ("not planned for",)),
        (("--size", "1e400"), ("above 1e+18",)),
        (("--size", "7B", "--tokens", "1e30"), ("above 1e+18",)),
        (("one", "one", "--ladder", "1e15"), ("came twice",)),
        (("--size", "1B", "--tokens", "10", "--hardware", "h100:8"), ("fewer than one batch",)),
        (("--size", "1B", "--emit", "slurm", "--hardware", "h100:8"), ("without a recipe",)),
        (("--size", "1B", "--base-flop", "many"), ("many",)),
        (("no-such.toml",), ("cannot read the recipe",)),
        (("one", "--ladder", "1e15"), ("finished",)),
        (("--ladder", "1e15"), ("at least 6",)),
        (("--ladder", "-3"), ("-3",)),
    ],
)
def test_what_cannot_be_planned_is_one_line(words: tuple[str, ...], said: tuple[str, ...]) -> None:
    tiny.refused(tiny.command("plan", *words), *said)


@pytest.mark.parametrize(("objective", "network"), tiny_corpus.LEARNED)
def test_a_plan_counts_the_flop_that_the_run_counts(objective: str, network: str) -> None:
    """Masked and mixed runs attend to all tokens and tell a part of them."""
    from basewise.core.recipe import recipe_of
    from basewise.core.shapes import flop_per_token
    from basewise.engine import networks
    from basewise.steps.plan import shape_of

    sizes = {"depth": 2, "width": 64, "heads": 2, "context": 128, "steps": 3}
    recipe = recipe_of({"name": "a", "corpus": "b", "objective": objective, "network": network, **sizes})
    model = networks.build(recipe, 300, {"pad": 0, "bos": 1, "eos": 2, "mask": 3})
    run = networks.flop_per_token(model, recipe)
    assert flop_per_token(shape_of(recipe, 300)) == pytest.approx(run, rel=1e-9)


def test_a_contrastive_recipe_is_not_planned_as_a_language_model(recipe: Path) -> None:
    recipe.write_text(RECIPE + 'objective = "contrastive"\n')
    tiny.refused(tiny.command("plan", recipe), "contrastive is not planned for")


def test_a_size_that_no_decoder_has_is_told(tmp_path: Path) -> None:
    out = tiny.command("plan", "--size", "350M", "--hardware", "h100:8").out
    assert "the nearest size planned has 390.1 M parameters, +11% of what was asked" in out
    assert "nearest size" not in tiny.command("plan", "--size", "900M", "--hardware", "h100:8").out


def test_tokens_of_the_command_line_fill_a_batch_too(recipe: Path) -> None:
    tiny.refused(tiny.command("plan", recipe, "--tokens", "100"), "fewer than one batch")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"share": "45.0"}, "at most 1"),
        ({"share": "nan"}, "finite number"),
        ({"price_per_hour": "nan"}, "finite number"),
        ({"price_per_hour": "true"}, "finite number"),
        ({"peak_tflops": "inf"}, "finite number"),
        ({"memory_gb": "nan"}, "finite number"),
        ({"per_node": "0.5"}, "whole number"),
        ({"per_node": "8.7"}, "whole number"),
    ],
)
def test_hardware_that_cannot_be(recipe: Path, tmp_path: Path, changed: dict[str, str], said: str) -> None:
    from basewise.steps.plan_hardware import NUMBERS

    values = {**dict.fromkeys(NUMBERS, "1"), "memory_gb": "80", "per_node": "8", "source": '"a sheet"'}
    mine = tmp_path / "mine.toml"
    for more in ({}, changed):
        mine.write_text("[card]\n" + "".join(f"{k} = {v}\n" for k, v in {**values, **more}.items()))
        answered = tiny.command("plan", recipe, "--hardware", f"{mine}:card:8")
        if more:
            tiny.refused(answered, next(iter(changed)), said)
        else:
            assert answered.code == 0, answered.err


def test_a_batch_that_does_not_divide_and_a_form_that_is_none(recipe: Path, tmp_path: Path) -> None:
    tiny.refused(tiny.command("plan", recipe, "--hardware", "h100:7"), "cannot be divided")
    tiny.refused(tiny.command("plan", recipe, "--hardware", "h100:8", "--emit", "slurn"), "slurm")
    mine = tmp_path / "mine.toml"
    mine.write_text("[card]\nmemory_gb = 80\npeak_tflop = 1\n")
    tiny.refused(tiny.command("plan", recipe, "--hardware", f"{mine}:card:8"), "peak_tflops")
    mine.write_text("[card]\nmemory_gb = 80\n")
    tiny.refused(tiny.command("plan", recipe, "--hardware", f"{mine}:card:8"), "peak_tflops of card")


LAW = Law(floor=0.9, size_scale=60.0, size_power=0.35, data_scale=80.0, data_power=0.3)


def write_ladder(folder: Path, count: int = 12, law: Law = LAW) -> list[Path]:
    """Result files of runs that follow a known law."""
    runs = []
    for i in range(count):
        n, d = 10 ** (5.5 + 0.5 * (i % 4)), 10 ** (6.5 + 0.6 * (i // 4))
        interval = {"estimate": float(law.loss(n, d)), "low": 0.0, "high": 9.0, "n": 5}
        path = folder / f"run-{i}"
        path.mkdir()
        value = {
            "parameters": n,
            "tokens": d,
            "flop": 6 * n * d,
            "scores": {"bits_per_byte": {"all": interval}},
            "worth": [],
        }
        (path / "pretrain.json").write_text(json.dumps(value))
        runs.append(path)
    return runs


def test_a_ladder_foretells_and_refuses_too_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from basewise.stats import scaling

    monkeypatch.setattr(scaling.bootstrap, "__defaults__", (0, 0.0, 8))
    runs = write_ladder(tmp_path)
    largest = float(np.max([6 * 10**7 * 10**7.7]))
    answered = tiny.command("plan", *runs, "--ladder", f"{10 * largest:.3g}", "--to", tmp_path)
    assert answered.code == 0, answered.err
    for word in ("12 runs", "held out", "best", "labels saved: not said"):
        assert word in answered.out
    tiny.refused(tiny.command("plan", *runs, "--ladder", f"{40 * largest:.3g}"), "30 x")
    value = json.loads((tmp_path / "plan.json").read_text())
    assert abs(value["law"]["size_power"] - 0.35) < 0.02


@pytest.mark.slow
def test_a_ladder_whose_loss_hangs_on_tokens_alone_tells_no_best_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from basewise.stats import scaling

    monkeypatch.setattr(scaling.bootstrap, "__defaults__", (0, 0.0, 8))
    (tmp_path / "flat").mkdir()
    flat = write_ladder(tmp_path / "flat", law=Law(**{**vars(LAW), "size_scale": 0.0}))
    tiny.refused(tiny.command("plan", *flat, "--ladder", "1e15"), "does not fall with more parameters")
    # so little of it that some resamplings show none
    (tmp_path / "faint").mkdir()
    faint = write_ladder(tmp_path / "faint", law=Law(**{**vars(LAW), "size_scale": 0.3}))
    answered = tiny.command("plan", *faint, "--ladder", "1e15", "--to", tmp_path)
    assert answered.code == 0, answered.err
    best = json.loads((tmp_path / "plan.json").read_text())
    assert best["draws_without_size"] > 0
    assert best["best"]["parameters_band"][0] is None
    assert "[no bound, " in answered.out
    assert "of 8 resamplings of the runs tell no best size" in answered.out


def test_a_ladder_with_downstream_sets_foretells_labels_against_words_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Factors follow the loss against words; those against random weights, and those that say "at least", follow nothing."""
    from basewise.stats import scaling

    monkeypatch.setattr(scaling.bootstrap, "__defaults__", (0, 0.0, 8))
    runs = write_ladder(tmp_path)
    for i, run in enumerate(runs):
        value = json.loads((run / "pretrain.json").read_text())
        factor = float(np.exp(2.0 - value["scores"]["bits_per_byte"]["all"]["estimate"]))
        other = {"factor": 50.0 + i, "censored": False}
        value["worth"] = [
            {"labels_saved": {"words": {"factor": factor, "censored": False}, "random weights": other}},
            {"labels_saved": {"words": {"factor": 90.0 - i, "censored": True}, "random weights": other}},
        ]
        (run / "pretrain.json").write_text(json.dumps(value))
    answered = tiny.command("plan", *runs, "--ladder", "1e16", "--to", tmp_path)
    loss = json.loads((tmp_path / "plan.json").read_text())["best"]["loss"]
    assert f"labels saved against words at that loss: {np.exp(2.0 - loss):.2f} x [" in answered.out
