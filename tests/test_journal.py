"""A scoring job with a journal: killed in the middle it goes on, and its numbers are bit for bit those of one go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny_decoders
from basewise.core.rundir import RunDir
from basewise.engine import journal
from basewise.engine.causal import Causal

GROUP = 40
JOB = """
import sys
from pathlib import Path
import numpy as np
import torch
import tiny_decoders
from basewise.core.rundir import RunDir
from basewise.engine import journal
from basewise.engine.causal import Causal
from test_journal import GROUP, requests

journal.GROUP_NODES = GROUP
torch.set_num_threads(int(sys.argv[3]))  # what is kept is kept for one number of threads
causal = Causal(tiny_decoders.decoder(Path(sys.argv[1]), "llama", max_position_embeddings=200), "fp32")
with RunDir.open(Path(sys.argv[2]), "job") as run:
    class Slow:
        saved = staticmethod(run.saved)
        def keep(self, *what):
            run.keep(*what)
            print("kept", flush=True)
            sys.stdin.readline()  # wait here to be killed
    causal.score_tokens(requests(), journal=Slow())
"""


def requests() -> list[tuple[list[int], list[int]]]:
    """A shared beginning of 60 tokens, 30 questions on it, two choices each, in random order."""
    draw = np.random.default_rng(5)
    stem = draw.integers(1, 120, 60).tolist()
    made = []
    for _ in range(30):
        question = stem + draw.integers(1, 120, int(draw.integers(3, 12))).tolist()
        made += [(question, draw.integers(1, 120, int(draw.integers(1, 4))).tolist()) for _ in range(2)]
    return [made[i] for i in draw.permutation(len(made))]


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Causal:
    folder = tmp_path_factory.mktemp("llama")
    return Causal(tiny_decoders.decoder(folder, "llama", max_position_embeddings=200), "fp32")


def test_groups_give_the_numbers_of_one_job(
    causal: Causal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "GROUP_NODES", GROUP)
    plain = causal.score_tokens(requests())
    with RunDir.open(tmp_path, "job") as run:
        found = causal.score_tokens(requests(), journal=run)
    np.testing.assert_allclose(found.log_probability, plain.log_probability, atol=1e-4)
    np.testing.assert_array_equal(found.greedy, plain.greedy)
    assert len(list((tmp_path / "journal").iterdir())) > 4
    assert found.unique == plain.unique and found.computed <= 1.3 * found.unique


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_bit_for_bit(
    causal: Causal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "GROUP_NODES", GROUP)
    with RunDir.open(tmp_path / "whole", "job") as run:
        whole = causal.score_tokens(requests(), journal=run)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    worker = subprocess.Popen(
        [
            sys.executable,
            "-c",
            JOB,
            str(tmp_path / "base"),
            str(tmp_path / "killed"),
            str(torch.get_num_threads()),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    assert worker.stdin is not None and worker.stdout is not None
    for _ in range(2):
        assert worker.stdout.readline().strip() == "kept"
        worker.stdin.write("\n")
        worker.stdin.flush()
    assert worker.stdout.readline().strip() == "kept"
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    worker.stdin.close()
    worker.stdout.close()
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "killed" / "journal").iterdir()}
    assert len(kept) == 3
    computed = []
    with RunDir.open(tmp_path / "killed", "job") as run:

        class Counted:
            saved = staticmethod(run.saved)

            def keep(self, name: str, *what: object) -> None:
                computed.append(name)
                run.keep(name, *what)  # type: ignore[arg-type]

        again = causal.score_tokens(requests(), journal=Counted())
    np.testing.assert_array_equal(again.log_probability, whole.log_probability)
    np.testing.assert_array_equal(again.greedy, whole.greedy)
    assert not {f"{name}.npz" for name in computed} & set(kept)
    assert {p.name for p in (tmp_path / "killed" / "journal").iterdir()} == {
        p.name for p in (tmp_path / "whole" / "journal").iterdir()
    }


def test_another_precision_or_pass_is_another_job(
    causal: Causal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "GROUP_NODES", GROUP)
    budget = causal.budget
    with RunDir.open(tmp_path, "job") as run:
        causal.score_tokens(requests(), journal=run)
        before = len(list((tmp_path / "journal").iterdir()))
        monkeypatch.setattr(causal, "budget", 64)
        causal.score_tokens(requests(), journal=run)
    assert causal.budget != budget
    assert len(list((tmp_path / "journal").iterdir())) == 2 * before


@pytest.mark.parametrize("harm", ["cut", "flipped"])
def test_a_damaged_job_counts_as_not_run(tmp_path: Path, harm: str) -> None:
    with RunDir.open(tmp_path / "run", "one") as run_folder:
        run_folder.keep("job", {"numbers": np.arange(1_000)}, {"seconds": 1.0})
        (path,) = (tmp_path / "run" / "journal").glob("*.npz")
        whole = bytearray(path.read_bytes())
        whole[len(whole) // 3] ^= 0xFF
        path.write_bytes(whole if harm == "flipped" else whole[: len(whole) // 2])
        assert run_folder.saved("job") is None
        assert not path.exists()
