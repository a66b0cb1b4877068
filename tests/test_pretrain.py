"""pretrain from a recipe to a base: the way to the end, exact resume, cooldowns, the card, the page, and bad input."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
import tiny_corpus
from basewise.core.errors import BasewiseError, InputError, OutOfMemory, RunError, UnknownName
from basewise.core.files import read_json
from basewise.core.recipe import read_recipe, recipe_of
from basewise.core.registry import part
from basewise.steps import pretrain as steps
from basewise.steps.pretrain import Options, pretrain


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_corpus.corpus(tmp_path_factory.mktemp("corpus") / "built")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "base" / "model.safetensors")


def equal(one: Path, two: Path) -> bool:
    """Whether two runs ended with the same bits."""
    a, b = weights(one), weights(two)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Stop(Exception):
    """The run is cut off."""


def cut_off_at(step: int) -> Options:
    def progress(done: int, total: int, what: str) -> None:
        if done == step:
            raise Stop

    return Options(progress=progress)


# ---------------------------------------------------------------- to the end


@pytest.mark.parametrize(("objective", "network"), tiny_corpus.LEARNED)
def test_a_run_goes_to_its_end_and_the_base_opens_in_plain_transformers(
    corpus: Path, tmp_path: Path, objective: str, network: str
) -> None:
    from transformers import AutoModel, AutoTokenizer

    recipe = tiny_corpus.recipe(corpus, objective=objective, network=network, samples=("bala come",), steps=8)
    result = pretrain(recipe, to=tmp_path / "run")
    assert result.steps == 8
    assert result.tokens == 8 * 128
    assert np.isfinite(result.loss)
    assert set(result.bases) == ({"base", "encoder"} if objective == "mixed" else {"base"})
    measures = {"next_token": {"bits_per_byte", "nats_per_token", "samples"}, "masked": {"masked_nats"}}
    wanted = measures.get(objective, {"bits_per_byte", "nats_per_token", "samples", "masked_nats"})
    assert wanted == set(result.scores)
    for key in wanted - {"samples"}:
        assert set(result.scores[key]) == {"round", "random", "all"}
        score = result.scores[key]["all"]
        assert score["low"] < score["estimate"] < score["high"]
        assert score["n"] == 12
    for folder in result.bases.values():
        model = AutoModel.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        assert AutoTokenizer.from_pretrained(folder, local_files_only=True)("bala come").input_ids
        assert sum(p.numel() for p in model.parameters()) > 0
    lines = [json.loads(text) for text in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 9))
    again = pretrain(recipe, to=tmp_path / "run")
    assert again.loss == result.loss, "a finished run is read, not run again"


@pytest.mark.slow
def test_a_sentence_encoder_on_top_of_a_mixed_base(tmp_path: Path) -> None:
    """Rows of six letters each: two spans of a row share its letters, so the pairs can be told, and better than before."""
    from transformers import AutoModel

    from basewise.engine.feed import Setting
    from basewise.steps.pretrain_data import open_corpus

    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    rows = ["".join(rng.choice(rng.choice(letters, 6, replace=False), 17)) for _ in range(300)]
    (tmp_path / "text.txt").write_text("".join(rows), encoding="utf-8")
    text = tmp_path / "text.txt"
    first = pretrain(tiny_corpus.recipe(text, objective="mixed", steps=6), to=tmp_path / "first")
    more = {"objective": "contrastive", "steps": 80, "rate": 0.01, "rate_head": 0.01, "batch_tokens": 512}
    recipe = tiny_corpus.recipe(text, name="on-top", start=first.bases["base"], **more)
    said: list[str] = []
    result = pretrain(recipe, to=tmp_path / "run", options=Options(announce=said.append))
    opened, objective, losses = open_corpus(recipe, tmp_path), part("objectives", "contrastive"), []
    for start in (first.bases["base"], result.bases["base"]):
        network = objective.build(tiny_corpus.recipe(text, start=start, **more), opened)
        batch = objective.prepare(opened.rows.take(np.arange(200)), 0.0, np.random.default_rng(1), Setting())
        losses.append(float(objective.loss(network, batch, np.arange(200)).detach()) / 200)
    assert losses[1] < 0.8 * losses[0]
    folder = result.bases["base"]
    model = AutoModel.from_pretrained(folder, trust_remote_code=False, local_files_only=True).eval()
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 9]])
    states = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    assert not torch.equal(states[0, 0], states[1, 0]), "the first token sees the last"
    assert read_json(Path(result.bases["base"]) / "card.json")["family"] == "encoder"
    assert not [line for line in said if "memory" in line], "a step is one piece, and nothing ran out"


@pytest.mark.slow
def test_images_are_learned_from_by_their_hidden_patches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from transformers import ViTMAEModel

    from basewise.steps import pretrain_data

    rng = np.random.default_rng(0)
    ramp = np.tile(np.arange(16) * 12, (60, 3, 16, 1)) + rng.integers(0, 3, (60, 3, 16, 16))
    monkeypatch.setattr(pretrain_data, "decoded", lambda content: ramp.astype(np.uint8)[: len(content)])
    pq.write_table(pa.table({"image": [b"x"] * 60}), tmp_path / "pictures.parquet")
    changed = {"objective": "patches", "network": "vit", "context": 64, "batch_tokens": 64 * 16, "rate": 0.01}
    recipe = tiny_corpus.recipe(tmp_path / "pictures.parquet", steps=40, **changed)
    result = pretrain(recipe, to=tmp_path / "run")
    lines = [json.loads(text) for text in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert result.loss < 0.8 * lines[0]["loss"]
    model = ViTMAEModel.from_pretrained(result.bases["base"], local_files_only=True)
    assert model.config.patch_size == 2
    with pytest.raises(InputError, match="learns from text"):
        pretrain(tiny_corpus.recipe(tmp_path / "pictures.parquet"), to=tmp_path / "other")


@pytest.mark.parametrize(("side", "share"), [(32, 0.0), (8, 0.5)])
def test_the_flop_of_images_are_those_that_torch_counts(side: int, share: float) -> None:
    """The encoder sees the patches that are left, the decoder all of them."""
    from types import SimpleNamespace

    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    patches = part("objectives", "patches")
    count = patches.patches_of(side)
    changed = {"objective": "patches", "network": "vit", "width": 64, "mask_first": share}
    recipe = tiny_corpus.recipe(Path("x.parquet"), context=count, **changed)
    network = patches.build(recipe, SimpleNamespace(shape={"side": side}))
    rng = np.random.default_rng(0)
    batch = patches.prepare(rng.integers(0, 255, (2, 3, side, side)).astype(np.uint8), 0.0, rng, None)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        patches.loss(network, batch, np.arange(2)).backward()
    counted = counter.get_total_flops() / 2 / count
    assert patches.flop_per_token(network, recipe) == pytest.approx(counted, rel=1e-3)


def test_images_that_leave_nothing_to_see_or_to_draw_are_refused() -> None:
    """One patch alone trains to nan; a context that is not the number of patches miscounts the tokens."""
    from types import SimpleNamespace

    patches = part("objectives", "patches")
    for side, context, share, words in (
        (2, 1, 0.0, "of 1 patches of an image of 2 pixels 0 would be seen and 1 hidden"),
        (4, 4, 0.0, "1 would be seen and 3 hidden"),
        (16, 64, 0.999, "0 would be seen and 64 hidden"),
        (16, 16, 0.0, "context is 16, and images of 16 pixels are cut into 64 patches"),
    ):
        changed = {"objective": "patches", "network": "vit", "mask_first": share}
        recipe = tiny_corpus.recipe(Path("x.parquet"), context=context, **changed)
        with pytest.raises(InputError, match=words):
            patches.build(recipe, SimpleNamespace(shape={"side": side}))


def test_pictures_of_16_bits_are_scaled_not_clipped() -> None:
    image = pytest.importorskip("PIL.Image")
    import io

    from basewise.steps.pretrain_data import decoded

    def packed(values: np.ndarray, form: str) -> bytes:
        file = io.BytesIO()
        image.fromarray(values).save(file, form)
        return file.getvalue()

    ramp = (np.arange(16) * 4369).astype(np.uint16).reshape(4, 4)
    found = decoded([packed(ramp, "PNG"), packed(ramp.astype(np.int32), "TIFF")])
    assert found.shape == (2, 3, 4, 4)
    assert (found == (np.arange(16) * 17).reshape(4, 4)).all()
    for bad in (ramp.astype(np.float32), ramp.astype(np.int32) * 100):
        with pytest.raises(InputError, match="whose white is not known"):
            decoded([packed(bad, "TIFF")])


@pytest.mark.slow
def test_what_a_base_of_images_is_worth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bright and dark pictures: base, random twin and pixels are scored on the same rows, and the page says how they did."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from basewise.steps import pretrain_data, worth

    def decoded(content: list[bytes]) -> np.ndarray:
        return np.stack([np.frombuffer(one, np.uint8).reshape(3, 16, 16) for one in content])

    monkeypatch.setattr(pretrain_data, "decoded", decoded)
    monkeypatch.setattr(worth, "SIZES", 3)
    rng = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 40)):
        labels = [("bright", "dark")[i % 2] for i in range(count)]
        low = [120 if label == "bright" else 0 for label in labels]
        made = [rng.integers(v, v + 120, (3, 16, 16), dtype=np.uint8).tobytes() for v in low]
        (tmp_path / "set").mkdir(exist_ok=True)
        pq.write_table(pa.table({"image": made, "label": labels}), tmp_path / "set" / f"{split}.parquet")
    changed = {"objective": "patches", "network": "vit", "context": 64, "batch_tokens": 64 * 16, "rate": 0.01}
    changed["downstream"] = (str(tmp_path / "set"),)
    recipe = tiny_corpus.recipe(tmp_path / "set" / "train.parquet", steps=8, **changed)
    result = pretrain(recipe, to=tmp_path / "run")
    (one,) = result.worth
    assert one["n"] == one["accuracy"]["base"]["n"] == 40
    assert set(one["labels_saved"]) == set(one["lead"]) == {"random weights", "pixels"}
    assert one["accuracy"]["pixels"]["estimate"] > 0.9, "their brightness gives them away"
    page = (tmp_path / "run" / "pretrain.html").read_text(encoding="utf-8")
    assert "With 60 labelled images a probe reaches" in page


@pytest.mark.slow
def test_training_learns_what_can_be_learned(corpus: Path, tmp_path: Path) -> None:
    result = pretrain(tiny_corpus.recipe(corpus, steps=150), to=tmp_path / "run")
    nats = {source: value["estimate"] for source, value in result.scores["nats_per_token"].items()}
    uniform = np.log(len(tiny_corpus.WORDS))
    assert nats["round"] < 1.0, "the words that go round are known"
    assert uniform - 0.1 < nats["random"] < uniform + 1.0, "the others cannot be"


def test_the_held_out_score_is_that_of_plain_transformers(corpus: Path, tmp_path: Path) -> None:
    """Bits per byte recomputed from the saved base, token by token, without our loss."""
    from transformers import AutoModelForCausalLM

    from basewise.steps.pretrain_data import open_corpus

    recipe = tiny_corpus.recipe(corpus, steps=5, context=64)
    result = pretrain(recipe, to=tmp_path / "run")
    model = AutoModelForCausalLM.from_pretrained(result.bases["base"], local_files_only=True).eval()
    nats = octets = 0.0
    for documents in open_corpus(recipe, tmp_path).held_out:
        for ids in documents.ids:
            with torch.no_grad():
                logits = model(torch.from_numpy(ids)[None]).logits[0, :-1]
            nats += float(
                torch.nn.functional.cross_entropy(logits, torch.from_numpy(ids)[1:], reduction="sum")
            )
            octets += 5.0 * (len(ids) - 1)
    assert result.scores["bits_per_byte"]["all"]["estimate"] == pytest.approx(
        nats / np.log(2) / octets, rel=1e-5
    )


def test_a_text_file_is_read_by_characters(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 200, encoding="utf-8")
    recipe = tiny_corpus.recipe(tmp_path / "text.txt", samples=("the cat",), steps=60)
    result = pretrain(recipe, to=tmp_path / "run")
    assert result.scores["nats_per_token"]["all"]["estimate"] < 1.5
    assert result.scores["samples"][0].startswith("the cat")


def test_the_result_registers_as_a_base_that_verbs_use(corpus: Path, tmp_path: Path) -> None:
    from basewise.core.task import Examples
    from basewise.steps import bases
    from basewise.steps.jobs import Arm, Job, run

    result = pretrain(tiny_corpus.recipe(corpus, objective="mixed", name="own"), to=tmp_path / "run")
    answered = tiny.command("bases", "add", result.bases["encoder"])
    assert answered.code == 0, answered.err
    card = bases.find("own-encoder")
    assert card.family == "encoder"
    assert "round (CC0-1.0)" in card.training_data
    assert f"{result.tokens:,} tokens" in card.training_data
    assert "FLOP" in card.note
    base = bases.pull("own-encoder")
    texts = tuple(f"bala come {w}" for w in tiny_corpus.WORDS)
    labels = np.arange(len(texts)) % 2
    rows = Examples(texts, labels, np.arange(len(texts)), np.arange(len(texts)), ("a", "b"))
    outcome = run(
        Job(arm=Arm(method="probe", base=base), train=rows, texts=texts, features=tmp_path / "features")
    )
    assert not outcome.error
    assert outcome.probabilities.shape == (len(texts), 2)


@pytest.mark.slow
def test_worth_is_measured_where_the_recipe_asks(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from basewise.steps import pretrain_worth, worth

    monkeypatch.setattr(pretrain_worth, "DRAWS", 2)
    monkeypatch.setattr(worth, "SIZES", 3)
    rng = np.random.default_rng(0)
    for split, count in (("train", 80), ("test", 40)):
        labels = [("up", "down")[i % 2] for i in range(count)]
        words = [rng.choice(tiny_corpus.WORDS[15 * (label == "up") :][:15], 6) for label in labels]
        (tmp_path / "set").mkdir(exist_ok=True)
        table = pa.table({"text": [" ".join(w) for w in words], "label": labels})
        pq.write_table(table, tmp_path / "set" / f"{split}.parquet")
    recipe = tiny_corpus.recipe(corpus, objective="mixed", downstream=(str(tmp_path / "set"),), steps=6)
    result = pretrain(recipe, to=tmp_path / "run")
    (one,) = result.worth
    assert one["n"] == 40
    assert set(one["labels_saved"]) == {"random weights", "words"}
    for saved in one["labels_saved"].values():
        assert saved["low"] <= saved["factor"]
        assert saved["sentence"]
    page = (tmp_path / "run" / "pretrain.html").read_text(encoding="utf-8")
    assert "What the base is worth" in page
    assert 'http-equiv="refresh"' not in page


# ---------------------------------------------------------------- resume


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
def test_an_interrupted_run_ends_bit_for_bit_where_the_whole_one_does(
    corpus: Path, tmp_path: Path, optimiser: str
) -> None:
    recipe = tiny_corpus.recipe(corpus, objective="mixed", optimiser=optimiser, rate=0.01, steps=14)
    whole = pretrain(recipe, to=tmp_path / "whole")
    for step in (3, 6, 11):
        with pytest.raises(Stop):
            pretrain(recipe, to=tmp_path / "cut", options=cut_off_at(step))
    said: list[str] = []
    cut = pretrain(recipe, to=tmp_path / "cut", options=Options(announce=said.append))
    assert said == ["going on from step 8"]
    assert (cut.loss, cut.scores) == (whole.loss, whole.scores)
    assert equal(tmp_path / "whole", tmp_path / "cut")
    lines = (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 15))


def test_a_run_whose_last_loss_is_not_finite_is_shown(tmp_path: Path) -> None:
    line = {"step": 7, "total": 9, "tokens": 896, "loss": None, "tokens_per_second": 1000.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    (tmp_path / "recipe.json").touch()
    answered = tiny.command("show", tmp_path)
    assert answered.code == 0, answered.err
    assert "step 7 of 9, 896 tokens, loss not finite" in answered.out
    assert json.loads(tiny.command("show", tmp_path, "--json").out) == line
    tiny.refused(tiny.command("show", tmp_path, "--json", "--live"), "--live and --json")


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_exactly(corpus: Path, tmp_path: Path) -> None:
    """kill -9 of the real command at three moments, one of them while it writes."""
    recipe = tiny_corpus.recipe(corpus, steps=60, checkpoint_every=5, context=16)
    path = tiny_corpus.write_recipe(tmp_path / "recipe.toml", recipe)
    pretrain(read_recipe(path), to=tmp_path / "whole")
    command = [
        sys.executable,
        "-m",
        "basewise.cli.main",
        "pretrain",
        str(path),
        "--to",
        str(tmp_path / "cut"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    folder = tmp_path / "cut" / "checkpoints"
    for goal in (5, 20, 35):
        child = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while child.poll() is None and not list(folder.glob(f"*step-{goal:08d}*")):
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
        child.wait()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stderr
    assert equal(tmp_path / "whole", tmp_path / "cut")


def test_a_run_that_is_stopped_waits_for_the_checkpoint_that_is_being_written(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from basewise.engine import checkpoint

    inner = checkpoint.write

    def slow(*given: object) -> Path:
        time.sleep(0.3)
        return inner(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint, "write", slow)
    with pytest.raises(Stop):
        pretrain(tiny_corpus.recipe(corpus), to=tmp_path / "cut", options=cut_off_at(9))
    assert (tmp_path / "cut" / "checkpoints" / "step-00000008" / "state.json").is_file()


def test_a_truncated_checkpoint_falls_back_to_the_one_before_and_says_so(
    corpus: Path, tmp_path: Path
) -> None:
    recipe = tiny_corpus.recipe(corpus)
    pretrain(recipe, to=tmp_path / "whole")
    with pytest.raises(Stop):
        pretrain(recipe, to=tmp_path / "cut", options=cut_off_at(10))
    newest = tmp_path / "cut" / "checkpoints" / "step-00000008" / "optimiser.safetensors"
    newest.write_bytes(newest.read_bytes()[:100])
    said: list[str] = []
    pretrain(recipe, to=tmp_path / "cut", options=Options(announce=said.append))
    assert "the checkpoint of step 8 is damaged" in said[0]
    assert said[1] == "going on from step 7", "the last one before the rates fall"
    assert equal(tmp_path / "whole", tmp_path / "cut")


def test_a_cooldown_branches_from_a_stable_checkpoint(corpus: Path, tmp_path: Path) -> None:
    recipe = tiny_corpus.recipe(corpus, steps=20, cooldown=0.5, keep=1)
    pretrain(recipe, to=tmp_path / "run")
    there = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert there == ["step-00000011", "step-00000020"], "the last stable one stays"
    result = pretrain(tmp_path / "run", cooldown_from=11)
    assert result.steps == 13
    lines = (tmp_path / "run" / "cooldown-00000011" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["factor"] for line in lines] == [1.0, 0.5]
    with pytest.raises(InputError, match=r"already falling at step 20; stable checkpoints: 11"):
        pretrain(tmp_path / "run", cooldown_from=20)
    with pytest.raises(InputError, match="steps that are there: 11, 20"):
        pretrain(tmp_path / "run", cooldown_from=7)


def test_a_cosine_run_goes_on_and_is_read_again(corpus: Path, tmp_path: Path) -> None:
    """recipe.json holds every default, also the cooldown that a cosine schedule does not take."""
    recipe = tiny_corpus.recipe(corpus, schedule="cosine")
    pretrain(recipe, to=tmp_path / "whole")
    with pytest.raises(Stop):
        pretrain(recipe, to=tmp_path / "cut", options=cut_off_at(6))
    result = pretrain(tmp_path / "cut")
    assert equal(tmp_path / "whole", tmp_path / "cut")
    assert pretrain(tmp_path / "cut").loss == pretrain(recipe, to=tmp_path / "cut").loss == result.loss
    with pytest.raises(InputError, match="schedule cosine has none"):
        pretrain(tmp_path / "cut", cooldown_from=4)


# ---------------------------------------------------------------- bad input


def test_a_recipe_with_unknown_or_contradictory_keys(tmp_path: Path) -> None:
    good = {"name": "a", "corpus": "b", "steps": 10}
    assert recipe_of(good).steps == 10
    for changed, error, words in (
        ({"contxt": 5}, UnknownName, "did you mean 'context'"),
        ({"network": "qwen"}, UnknownName, "network"),
        ({"tokens": 5}, InputError, "tokens and steps came"),
        ({"steps": 0}, InputError, "neither tokens, steps nor epochs"),
        ({"depth": "four"}, InputError, "a whole number was expected"),
        ({"depth": 0}, InputError, "depth must be above zero"),
        ({"seed": -1}, InputError, "cannot be negative"),
        ({"width": 100, "heads": 3}, InputError, "no multiple of 3 heads"),
        ({"width": 6, "heads": 2}, InputError, "is odd"),
        ({"width": 36, "heads": 4, "network": "encoder", "objective": "masked"}, InputError, "is odd"),
        ({"network": "gpt2", "tied": False}, InputError, "share one matrix"),
        (
            {"objective": "contrastive", "network": "encoder", "batch_tokens": 511},
            InputError,
            "batch_tokens = 512",
        ),
        ({"seed": 2**63}, InputError, "seed is 9223372036854775808"),
        ({"batch_tokens": 100}, InputError, "less than one row"),
        ({"schedule": "cosine", "cooldown": 0.2}, InputError, "which has none"),
        ({"optimiser": "adamw"}, InputError, "without a rate"),
        ({"mask_first": 0.3}, InputError, "masks nothing"),
        ({"causal_share": 0.3}, InputError, "causal_share came with"),
        ({"objective": "mixed", "causal_share": 1.0}, InputError, "a share below 1"),
        ({"objective": "mixed", "causal_share": -0.1}, InputError, "cannot be negative"),
        ({"cooldown": 1.5}, InputError, "a share of the run"),
        ({"seconds": "soon"}, BasewiseError, "cannot read the time budget"),
        ({"name": ""}, InputError, "has no name"),
        ({"name": "../elsewhere"}, InputError, "letters, digits, dots and dashes"),
        ({"name": "/elsewhere"}, InputError, "letters, digits, dots and dashes"),
        ({"name": "a\nb"}, InputError, "letters, digits, dots and dashes"),
        ({"rate": float("nan")}, InputError, "rate in the recipe is nan"),
        ({"steps": 0, "epochs": float("inf")}, InputError, "epochs in the recipe is inf"),
        ({"optimiser": "adamw", "rate": float("inf")}, InputError, "rate in the recipe is inf"),
        ({"clip": float("inf")}, InputError, "clip in the recipe is inf"),
        ({"optimiser": "adamw", "rate": 1e30}, InputError, r"rate in the recipe is 1e\+30, above 10"),
    ):
        with pytest.raises(error, match=words):
            recipe_of({**good, **changed})
    (tmp_path / "broken.toml").write_text("name = ", encoding="utf-8")
    with pytest.raises(InputError, match="cannot read the recipe"):
        read_recipe(tmp_path / "broken.toml")


def test_a_run_of_less_than_one_batch_is_refused() -> None:
    few = tiny_corpus.recipe(Path("x"), steps=0, tokens=100)
    with pytest.raises(
        InputError, match=r"tokens = 100 is less than one batch of 128 tokens; .*batch_tokens = 96"
    ):
        few.steps_for(50)
    part_of_one = tiny_corpus.recipe(Path("x"), steps=0, epochs=0.1)
    with pytest.raises(InputError, match=r"epochs = 0\.1 of 50 rows is less than one batch of 128 tokens"):
        part_of_one.steps_for(50)
    assert part_of_one.steps_for(80) == 1


RECIPES = [p for p in (Path(__file__).parent.parent / "recipes").glob("*.toml") if "corpus" not in p.stem]


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_a_committed_recipe_is_whole_and_states_cost_hardware_and_what_to_expect(path: Path) -> None:
    recipe = read_recipe(path)
    steps.check_recipe(recipe)
    assert recipe.cost
    assert recipe.hardware
    assert recipe.expect
    assert recipe.name == path.stem


def test_what_stands_beside_a_run_may_change_without_making_it_another(corpus: Path) -> None:
    recipe = tiny_corpus.recipe(corpus)
    for beside in ({"licence": "MIT"}, {"cost": "much"}, {"keep": 9}, {"samples": ("a",)}):
        assert tiny_corpus.recipe(corpus, **beside).digest() == recipe.digest()
    assert tiny_corpus.recipe(corpus, seed=1).digest() != recipe.digest()


def test_objective_and_network_must_go_together(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="objective masked cannot train network decoder"):
        pretrain(tiny_corpus.recipe(corpus, objective="masked"), to=tmp_path / "run")
    with pytest.raises(UnknownName, match="unknown objective 'maskd'"):
        pretrain(tiny_corpus.recipe(corpus, objective="maskd"), to=tmp_path / "run")


def test_corpora_that_cannot_be_learned_from(tmp_path: Path) -> None:
    for content, words in (
        ("", "is empty"),
        ("a short text", "no row of 16 tokens"),
        ("abc " * 30, "is the most that fits"),
    ):
        (tmp_path / "text.txt").write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match=words):
            pretrain(tiny_corpus.recipe(tmp_path / "text.txt"), to=tmp_path / "run")
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
    with pytest.raises(InputError, match="there is no corpus"):
        pretrain(tiny_corpus.recipe(tmp_path / "nowhere"), to=tmp_path / "run")


def test_a_corpus_that_changed_since_the_run_began(corpus: Path, tmp_path: Path) -> None:
    copy = tmp_path / "corpus"
    shutil.copytree(corpus, copy)
    recipe = tiny_corpus.recipe(copy)
    with pytest.raises(Stop):
        pretrain(recipe, to=tmp_path / "run", options=cut_off_at(6))
    shard = copy / "shards" / "round-train.tokens.npy"
    content = shard.read_bytes()
    shard.write_bytes(content[:-2] + b"\x05\x00")
    with pytest.raises(RunError, match="digest does not hold"):
        pretrain(recipe, to=tmp_path / "run")
    shutil.rmtree(copy)
    tiny_corpus.corpus(copy, seed=1)
    with pytest.raises(RunError, match="has changed since this run began"):
        pretrain(recipe, to=tmp_path / "run")


def test_two_runs_in_one_folder(corpus: Path, tmp_path: Path) -> None:
    from basewise.core.files import lock

    recipe = tiny_corpus.recipe(corpus)
    with pytest.raises(Stop):
        pretrain(recipe, to=tmp_path / "run", options=cut_off_at(6))
    with pytest.raises(RunError, match="holds another run"):
        pretrain(tiny_corpus.recipe(corpus, seed=1), to=tmp_path / "run")
    with lock(tmp_path / "run" / ".lock"), pytest.raises(RunError, match="in use by another process"):
        pretrain(recipe, to=tmp_path / "run")


def test_a_loss_that_is_not_finite_from_the_first_step(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = part("objectives", "next_token")
    inner = module.loss
    monkeypatch.setattr(module, "loss", lambda *given: inner(*given) * float("nan"))
    with pytest.raises(BasewiseError, match="not a finite number from the first step on; use a lower rate"):
        pretrain(tiny_corpus.recipe(corpus), to=tmp_path / "run")


def test_a_run_whose_weights_break_down_saves_no_base(corpus: Path, tmp_path: Path) -> None:
    """Endless steps give weights that are not finite, too late for the loop to see it."""
    said: list[str] = []
    recipe = tiny_corpus.recipe(corpus, steps=4, checkpoint_every=2, optimiser="adamw", rate=float("inf"))
    with pytest.raises(
        BasewiseError, match=r"broke down: the .* after step 4 are not finite; .*lower the rate"
    ):
        pretrain(recipe, to=tmp_path / "run", options=Options(announce=said.append))
    assert not (tmp_path / "run" / "pretrain.json").exists()
    assert not (tmp_path / "run" / "base").exists()


def test_a_last_loss_that_is_not_finite_is_enough_where_nothing_is_scored() -> None:
    from types import SimpleNamespace

    from basewise.steps.pretrain_base import check_finite

    network, folder = torch.nn.Linear(2, 2), Path("nowhere")
    made = SimpleNamespace(loss=1.0, scores={}, steps=4)
    check_finite(made, network, "take", folder)
    with pytest.raises(
        BasewiseError, match="the last loss after step 4 is not finite; no checkpoint is good"
    ):
        check_finite(made, network, "not finite", folder)
    made.scores = {"bits_per_byte": {"all": {"estimate": 2.0, "low": None, "high": None, "n": 1}}}
    check_finite(made, network, "not finite", folder)
    made.scores["bits_per_byte"]["all"]["estimate"] = float("nan")
    with pytest.raises(BasewiseError, match="the loss or scores"):
        check_finite(made, network, "take", folder)
    with torch.no_grad():
        network.weight[0, 0] = float("nan")
    with pytest.raises(BasewiseError, match="the weights"):
        check_finite(made, network, "take", folder)


def test_a_run_that_ends_before_a_step_was_written_down_has_its_loss(corpus: Path, tmp_path: Path) -> None:
    """Of very many planned steps only every so many are written down, and time ends this run before the first of them."""
    result = pretrain(tiny_corpus.recipe(corpus, steps=100_000, seconds="0.001s"), to=tmp_path / "run")
    assert result.steps < 20 and 0 < result.loss < 10


def test_a_checkpoint_holds_finite_weights_only(corpus: Path, tmp_path: Path) -> None:
    from basewise.engine.loop import Seen, State
    from basewise.steps.pretrain_watch import PretrainWatch

    said: list[str] = []
    recipe = tiny_corpus.recipe(corpus, checkpoint_every=2)
    watch = PretrainWatch(
        recipe=recipe,
        corpus=None,  # type: ignore[arg-type]
        folder=tmp_path,
        network=None,
        flop_per_token=1.0,
        peak=1.0,
        announce=said.append,
    )
    seen = {"total": 12, "loss": 1.0, "norm": 1.0, "factor": 1.0, "seconds": 1.0, "budget": 0}
    bad = State({"w": torch.tensor([1.0, float("inf")])}, {}, 2, torch.get_rng_state())
    watch.after(Seen(step=2, verdict="take", drawn=2, **seen), lambda: bad)
    watch.writer.close()
    assert "no checkpoint is kept" in said[0]
    assert not list((tmp_path / "checkpoints").glob("step-*"))


def test_no_memory_proposes_what_fits(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = part("objectives", "next_token")
    inner, most = module.loss, [2]

    def tight(network, batch, places):
        if len(places) > most[0]:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate")
        return inner(network, batch, places)

    monkeypatch.setattr(module, "loss", tight)
    said: list[str] = []
    pretrain(tiny_corpus.recipe(corpus), to=tmp_path / "run", options=Options(announce=said.append))
    assert "write tokens_at_once = 32" in said[0]
    obeyed = tiny_corpus.recipe(corpus, tokens_at_once=32)
    assert pretrain(obeyed, to=tmp_path / "run").steps == 12, "the same run, in smaller pieces"
    most[0] = 0
    with pytest.raises(OutOfMemory, match="one row of 16 tokens"):
        pretrain(tiny_corpus.recipe(corpus, seed=3), to=tmp_path / "other")


def test_a_set_that_is_not_there_is_said_before_the_training(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no downstream set nowhere"):
        pretrain(tiny_corpus.recipe(corpus, downstream=("nowhere",)), to=tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
    done = pretrain(tiny_corpus.recipe(corpus), to=tmp_path / "run")
    again = pretrain(tiny_corpus.recipe(corpus, downstream=("nowhere",)), to=tmp_path / "run")
    assert again == done, "a finished run is looked up without them"


def test_a_folder_begun_when_other_keys_counted_is_gone_on_with(corpus: Path, tmp_path: Path) -> None:
    recipe = tiny_corpus.recipe(corpus)
    with pytest.raises(Stop):
        pretrain(recipe, to=tmp_path / "run", options=cut_off_at(6))
    (tmp_path / "run" / "job.json").write_text(json.dumps({"identity": "an older digest"}))
    said: list[str] = []
    pretrain(recipe, to=tmp_path / "run", options=Options(announce=said.append))
    assert said == ["going on from step 4"]
    with pytest.raises(RunError, match="holds another run"):
        pretrain(tiny_corpus.recipe(corpus, seed=9), to=tmp_path / "run")


def test_another_number_of_processes_is_told(corpus: Path, tmp_path: Path) -> None:
    recipe = tiny_corpus.recipe(corpus)
    with pytest.raises(Stop):
        pretrain(recipe, to=tmp_path / "run", options=cut_off_at(6))
    record = tmp_path / "run" / "checkpoints" / "step-00000004" / "state.json"
    value = read_json(record)
    value["facts"]["ranks"] = 2
    record.write_text(json.dumps(value), encoding="utf-8")
    said: list[str] = []
    pretrain(recipe, to=tmp_path / "run", options=Options(announce=said.append))
    assert "saved by 2 processes and goes on with 1" in said[0]


def test_a_full_disk_while_saving_the_last_checkpoint(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from basewise.engine import checkpoint

    def full(*_args: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.tempfile, "mkdtemp", full)
    said: list[str] = []
    with pytest.raises(RunError, match="the disk is full"):
        pretrain(tiny_corpus.recipe(corpus), to=tmp_path / "run", options=Options(announce=said.append))
    assert "a checkpoint could not be written" in said[0]
    assert "training goes on" in said[0]
    monkeypatch.undo()
    assert pretrain(tiny_corpus.recipe(corpus), to=tmp_path / "run").steps == 12


def test_logs_that_are_not_there(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown log 'wandb'"):
        pretrain(tiny_corpus.recipe(corpus, log=("wandb",)), to=tmp_path / "run")


@pytest.mark.parametrize(
    ("stop", "state"), [(None, "FINISHED"), (KeyboardInterrupt, "KILLED"), (Stop, "FAILED")]
)
def test_logs_are_closed_however_a_run_ends(
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: type[BaseException] | None,
    state: str,
) -> None:
    """Stand-ins for the two libraries; one of them cannot be closed, which costs neither the other nor the base."""
    import sys
    from types import ModuleType

    asked: list[Any] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            asked.append(("tensorboard", Path(folder).name))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            asked.append((name, step))

        def flush(self) -> None:
            pass

        def close(self) -> None:
            asked.append("closed")
            raise OSError("the disk is gone")

    board, flow = ModuleType("torch.utils.tensorboard"), ModuleType("mlflow")
    board.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    flow.set_experiment = lambda _name: None  # type: ignore[attr-defined]
    flow.start_run = lambda run_name: None  # type: ignore[attr-defined]
    flow.log_metrics = lambda values, step: asked.append(("mlflow", step))  # type: ignore[attr-defined]
    flow.end_run = lambda *, status: asked.append(status)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    monkeypatch.setitem(sys.modules, "mlflow", flow)

    def progress(done: int, total: int, what: str) -> None:
        if stop is not None and done == 2:
            raise stop

    said: list[str] = []
    recipe = tiny_corpus.recipe(corpus, steps=3, log=("tensorboard", "mlflow"))
    options = Options(progress=progress, announce=said.append)
    with pytest.raises(stop) if stop else contextlib.nullcontext():
        pretrain(recipe, to=tmp_path / "run", options=options)
    assert asked[-2:] == ["closed", state]
    assert ("mlflow", 1) in asked and ("loss", 1) in asked
    assert "a log could not be closed: the disk is gone" in said
    assert (tmp_path / "run" / "pretrain.json").exists() == (stop is None)


def test_a_log_that_goes_away_and_a_disk_that_is_full_cost_no_step(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from basewise.steps import pretrain_sinks, pretrain_watch

    written: list[int] = []

    def write(line: dict[str, Any]) -> None:
        if line["step"] == 3:
            raise OSError("the server is gone")
        written.append(line["step"])

    monkeypatch.setattr(pretrain_sinks, "_mlflow", lambda _: pretrain_sinks.Sink(write, lambda _: None))
    append, tried = pretrain_watch._append, iter(range(1, 100))

    def full_for_a_while(path: Path, lines: bytes) -> None:
        if next(tried) in (2, 3):
            raise OSError(errno.ENOSPC, "No space left on device")
        append(path, lines)

    monkeypatch.setattr(pretrain_watch, "_append", full_for_a_while)
    said: list[str] = []
    recipe = tiny_corpus.recipe(corpus, steps=5, log=("mlflow",))
    pretrain(recipe, to=tmp_path / "run", options=Options(announce=said.append))
    assert written == [1, 2] and any("goes on without it: the server is gone" in line for line in said)
    assert sum("metrics wait" in line for line in said) == 1
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5]


def test_a_line_of_metrics_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    from basewise.steps.pretrain_watch import _append

    path = tmp_path / "metrics.jsonl"
    _append(path, b"x" * 90)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    keep = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError):
            _append(path, b"y" * 90)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, keep)
    assert path.read_bytes() == b"x" * 90


def test_the_command_prints_scores_and_mends_errors(corpus: Path, tmp_path: Path) -> None:
    path = tiny_corpus.write_recipe(tmp_path / "recipe.toml", tiny_corpus.recipe(corpus))
    answered = tiny.command("pretrain", path, "--to", tmp_path / "run")
    assert answered.code == 0, answered.err
    assert "bits per byte, all:" in answered.out
    tiny.refused(tiny.command("pretrain", tmp_path / "none.toml"), "cannot read the recipe")
    tiny.refused(tiny.command("pretrain", path, "--cooldown-from", "3"), "give the run folder")


def test_the_page_while_the_run_goes_on(corpus: Path, tmp_path: Path) -> None:
    recipe = tiny_corpus.recipe(corpus, name="<b>x</b>", evaluate_every=2, samples=("bala",))
    with pytest.raises(Stop):
        pretrain(recipe, to=tmp_path / "run", options=cut_off_at(6))
    page = (tmp_path / "run" / "pretrain.html").read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' in page
    assert "running" in page
    assert "<b>x</b>" not in page
    for words in ("Loss by step", "Held out by step", "Tokens per second by step", "It writes"):
        assert words in page, words
    assert "<script" not in page


def test_metrics_are_read_on_from_where_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from basewise.web import pretrain as page

    parsed: list[str] = []
    inner = json.loads
    monkeypatch.setattr(page.json, "loads", lambda text: parsed.append(text) or inner(text))
    path = tmp_path / "metrics.jsonl"

    def line(step: int, note: str = "") -> str:
        return json.dumps({"step": step, "note": note or "x" * 40}) + "\n"

    def steps() -> list[int]:
        parsed.clear()
        return [entry["step"] for entry in page.read_metrics(path)]

    assert steps() == []
    path.write_text("".join(line(i) for i in range(100)) + '{"step": 10')
    assert steps() == list(range(100))
    with path.open("a") as file:
        file.write("0}\n" + line(101)[:-1])
    assert steps() == list(range(102))
    assert len(parsed) < 6, "what was read before is not read again"
    page.read_metrics(path).clear()
    path.write_text("".join(line(i) for i in range(50)))
    assert steps() == list(range(50)), "a run that went back to a checkpoint"
    path.write_text("".join(line(i) for i in range(40)) + "".join(line(i, "other") for i in range(40, 120)))
    assert steps() == list(range(120)), "cut and grown past where it was"
    path.unlink()
    assert steps() == []


def test_the_page_is_served_on_the_loopback_and_follows_the_run(corpus: Path, tmp_path: Path) -> None:
    import threading
    import urllib.error
    import urllib.request

    from basewise.web.pretrain import server

    recipe = tiny_corpus.recipe(corpus, checkpoint_every=1)
    with pytest.raises(Stop):
        pretrain(recipe, to=tmp_path / "run", options=cut_off_at(4))
    with server(tmp_path / "run") as page:
        thread = threading.Thread(target=page.serve_forever)
        thread.start()
        try:
            where = f"http://127.0.0.1:{page.server_address[1]}"
            with urllib.request.urlopen(f"{where}/") as answer:
                first = answer.read().decode()
            pretrain(recipe, to=tmp_path / "run")
            with urllib.request.urlopen(f"{where}/") as answer:
                second = answer.read().decode()
            with pytest.raises(urllib.error.HTTPError, match="404") as refused:
                urllib.request.urlopen(f"{where}/recipe.json")
            refused.value.close()
        finally:
            page.shutdown()
            thread.join()
    assert "running" in first
    assert "finished" in second
    answered = tiny.command("show", tmp_path / "run")
    assert answered.code == 0, answered.err
    assert "bits per byte, all:" in answered.out
    tiny.refused(tiny.command("show", tmp_path, "--live"), "not the folder of a pretraining run")


def test_the_seam_for_many_processes(corpus: Path, tmp_path: Path) -> None:
    """Two halves of every step, taken by two feeds over the same weights, are the whole step."""
    from basewise.steps.pretrain_data import open_corpus

    recipe = tiny_corpus.recipe(corpus)
    opened = open_corpus(recipe, tmp_path)
    halves = [steps.assemble(recipe, opened, (rank, 2)) for rank in (0, 1)]
    whole = steps.assemble(recipe, opened)
    rows = [next(iter(made.feed)) for made in (*halves, whole)]
    assert [len(r) for r in rows] == [4, 4, 8]
    losses = [
        float(made.feed.loss(r).detach()) / len(r) for made, r in zip((*halves, whole), rows, strict=True)
    ]
    assert np.mean(losses[:2]) == pytest.approx(losses[2], rel=1e-5)
