"""Many processes are one: FSDP2 on two gloo ranks takes the steps of one process; its checkpoints are read by 1, 2 and 3.

Started by torchrun as a user would (tests/rank_worker.py is what each rank does), so these take some seconds each and are marked slow, but for
the arithmetic that needs no second process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from basewise.core.errors import InputError, RunError
from basewise.engine import distributed
from basewise.engine.distributed import Ranks, read_ranks, told
from basewise.engine.muon import Muon

HERE = Path(__file__).resolve().parent
TOLERANCE = 1e-5


def start(folder: Path, job: dict[str, Any], ranks: int = 1) -> subprocess.CompletedProcess[str]:
    """The worker on so many ranks; its output."""
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    worker = [str(HERE / "rank_worker.py"), str(path)]
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    )
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *launcher, *worker],
        env=variables,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def losses(folder: Path, ranks: int, **job: Any) -> np.ndarray:
    """(steps, 2) losses and gradient norms."""
    done = start(folder, {**job, "to": str(folder / "losses.json")}, ranks)
    assert done.returncode == 0, done.stderr[-2000:]
    return np.array(json.loads((folder / "losses.json").read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("muon", ["", "float32"], ids=["adamw", "muon"])
def test_two_ranks_take_the_steps_of_one_process(tmp_path: Path, muon: str) -> None:
    one = losses(tmp_path, 1, steps=50, batch=8, muon=muon)
    two = losses(tmp_path, 2, steps=50, batch=8, muon=muon, pieces=2)
    assert one[-1, 0] < 0.6 * one[0, 0], "nothing was learned, so equality would say nothing"
    assert np.abs(one - two).max() < TOLERANCE


@pytest.mark.slow
def test_a_checkpoint_of_two_ranks_is_read_by_one_and_by_three(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    losses(tmp_path, 2, steps=5, batch=9, muon="float32", save=str(saved))
    goes_on = {"steps": 4, "batch": 9, "muon": "float32", "load": str(saved)}
    found = [losses(tmp_path, ranks, **goes_on) for ranks in (1, 2, 3)]
    straight = losses(tmp_path, 1, steps=9, batch=9, muon="float32")[5:]
    for each in found:
        assert np.abs(each - straight).max() < TOLERANCE
    (next(saved.glob("shard-00002-*"))).write_bytes(b"damaged")
    done = start(tmp_path, goes_on)
    assert done.returncode == 2
    assert "damaged" in done.stderr


@pytest.mark.slow
def test_a_lost_rank_ends_the_others_with_a_line_that_says_how_to_go_on(tmp_path: Path) -> None:
    done = start(tmp_path, {"steps": 500, "batch": 8, "die": [1, 3]}, ranks=2)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if "error: rank 0 of 2" in line]
    assert said, done.stderr[-2000:]
    assert "goes on from the last checkpoint" in said[0]


RECIPE = """name = "tiny"
corpus = "{corpus}"
depth = 2
width = 32
heads = 2
context = 16
steps = 12
batch_tokens = 96
tokens_at_once = 96
precision = "fp32"
evaluate_every = 6
checkpoint_every = 6
warmup_steps = 2
optimiser = "adamw"
rate = 0.003
"""


def pretrain(folder: Path, to: str, ranks: int) -> subprocess.CompletedProcess[str]:
    """`basewise pretrain` as its own processes."""
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    )
    command = [
        sys.executable,
        *launcher,
        "-m",
        "basewise",
        "pretrain",
        str(folder / "r.toml"),
        "--to",
        str(folder / to),
    ]
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=900, check=False)


def metrics(folder: Path) -> np.ndarray:
    """Losses of the steps that were written down."""
    return np.array(
        [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    )


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", ['"adamw"\nrate = 0.003', '"muon"'], ids=["adamw", "muon"])
def test_ranks_with_rows_of_different_kinds_take_the_steps_of_one_process(
    tmp_path: Path, optimiser: str
) -> None:
    """Two of six rows are causal: on most steps one rank has none of them, or none of the others. Muon's fp32 is the recipe's."""
    write_text(tmp_path)
    recipe = RECIPE.format(corpus=tmp_path / "t.txt").replace("steps = 12", 'steps = 6\nobjective = "mixed"')
    recipe = recipe.replace('"adamw"\nrate = 0.003', optimiser)
    (tmp_path / "r.toml").write_text(recipe)
    for to, ranks in (("one", 1), ("two", 2)):
        done = pretrain(tmp_path, to, ranks)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert len(two) == 6
    assert np.abs(one - two).max() < TOLERANCE


def write_text(folder: Path) -> None:
    """t.txt: sentences of thirteen words drawn at random."""
    draw = np.random.default_rng(0)
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "ran", "after", "dogs", "who", "like", "milk"]
    (folder / "t.txt").write_text("\n".join(" ".join(draw.choice(words, 8)) + "." for _ in range(120)))


@pytest.mark.slow
def test_pretrain_runs_under_torchrun_and_goes_on_with_other_ranks(tmp_path: Path) -> None:
    write_text(tmp_path)
    (tmp_path / "r.toml").write_text(RECIPE.format(corpus=tmp_path / "t.txt"))
    for to, ranks in (("one", 1), ("two", 2)):
        done = pretrain(tmp_path, to, ranks)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("12 steps") == 1, "only the first rank speaks"
    one, two = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert len(two) == 12
    assert np.abs(one - two).max() < TOLERANCE
    (tmp_path / "two" / "pretrain.json").unlink()
    for path in (tmp_path / "two" / "checkpoints").glob("step-*12"):
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    done = pretrain(tmp_path, "two", 3)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "saved by 2 processes and goes on with 3" in done.stderr
    assert np.abs(metrics(tmp_path / "two") - one).max() < TOLERANCE


# ---------------------------------------------------------------- one process


@pytest.mark.parametrize(("world", "count"), [(1, 5), (2, 8), (3, 8), (4, 4)])
def test_shares_cover_a_batch_once(world: int, count: int) -> None:
    shares = [Ranks(rank=r, world=world).share(count) for r in range(world)]
    rows = [i for part in shares for i in range(part.start, part.stop)]
    assert rows == list(range(count))
    sizes = [part.stop - part.start for part in shares]
    assert max(sizes) - min(sizes) <= 1


def test_a_batch_smaller_than_the_ranks_is_refused() -> None:
    with pytest.raises(InputError, match="4 ranks"):
        Ranks(rank=0, world=4).share(3)


def test_variables_that_do_not_fit_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_ranks("cpu") == Ranks()
    for name, value in (("RANK", "2"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="RANK=2"):
        read_ranks("cpu")
    monkeypatch.setenv("RANK", "1")
    assert read_ranks("cpu") == Ranks(rank=1, world=2)


def test_what_a_collective_says_becomes_a_way_to_go_on() -> None:
    with pytest.raises(RunError, match="lost another rank"), told(Ranks(rank=0, world=2)):
        raise RuntimeError("[enforce fail] Connection closed by peer [127.0.0.1]:4312")
    with pytest.raises(RuntimeError, match="shapes"), told(Ranks(rank=0, world=2)):
        raise RuntimeError("shapes do not match")


def test_muon_on_one_process_is_torchs_own_and_by_shares_the_same() -> None:
    found = []
    for kind, more in ((torch.optim.Muon, {}), (Muon, {}), (Muon, {"dtype": torch.float64})):
        torch.manual_seed(0)
        matrices = [torch.nn.Parameter(torch.randn(8, 24)), torch.nn.Parameter(torch.randn(24, 8))]
        optimiser = kind(matrices, lr=0.1, momentum=0.9, weight_decay=0.1, **more)
        for _ in range(3):
            for p in matrices:
                p.grad = torch.randn_like(p)
            optimiser.step()
        found.append([p.detach().clone() for p in matrices])
    for theirs, ours, exact in zip(*found, strict=True):
        assert torch.equal(theirs, ours)
        assert (theirs - exact).abs().max() < 0.02, "bf16 against float64, three steps of rate 0.1"


def test_clip_gives_the_norm_before() -> None:
    p = torch.nn.Parameter(torch.zeros(4))
    p.grad = torch.full((4,), 2.0)
    assert float(distributed.clip([p], 1.0)) == pytest.approx(4.0)
    assert float(p.grad.norm()) == pytest.approx(1.0, rel=1e-4)
