"""Pretraining's parts: chunked cross-entropy, networks that plain transformers reopens, Muon, schedules, the feed, guards, checkpoints."""

from __future__ import annotations

import dataclasses
import errno
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_corpus
from basewise.core.errors import BasewiseError, InputError, RunError
from basewise.core.registry import part
from basewise.engine import checkpoint, cross_entropy, loop
from basewise.engine.feed import Feed, Setting, Windows, check_enough
from basewise.engine.networks import IGNORED, build, save, save_as_encoder
from basewise.engine.optim import Together, cosine, for_pretraining, warm_stable_decay

SPECIAL = {"pad": 3, "bos": 0, "eos": 1, "mask": 2}
VOCABULARY = 100


def network(kind: str, seed: int = 0, **changed):
    objective = {"decoder": "next_token", "gpt2": "next_token"}.get(kind, "masked")
    recipe = tiny_corpus.recipe(Path("nowhere"), network=kind, objective=objective, seed=seed, **changed)
    return build(recipe, VOCABULARY, SPECIAL), recipe


def awake(model: torch.nn.Module) -> None:
    """No matrix is zero, so that every weight matters."""
    with torch.no_grad(), loop.seeded(5):
        for parameter in model.parameters():
            if not bool(parameter.any()):
                parameter.normal_(0, 0.05)


# ---------------------------------------------------------------- cross-entropy


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(2, 30), st.booleans(), st.integers(0, 5))
def test_chunks_give_the_loss_and_gradients_of_the_whole(
    n: int, vocabulary: int, biased: bool, seed: int
) -> None:
    with loop.seeded(seed), pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_entropy, "CHUNK_ELEMENTS", 3 * vocabulary)
        states = torch.randn(n, 8, requires_grad=True)
        weight = torch.randn(vocabulary, 8, requires_grad=True)
        bias = torch.randn(vocabulary, requires_grad=True) if biased else None
        targets = torch.randint(0, vocabulary, (n,))
        leaves = [x for x in (states, weight, bias) if x is not None]
        ours = cross_entropy.summed(states, weight, targets, bias)
        found = torch.autograd.grad(2.0 * ours, leaves)
        logits = states @ weight.T + (bias if bias is not None else 0.0)
        theirs = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
        wanted = torch.autograd.grad(2.0 * theirs, leaves)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        each = cross_entropy.each(states, weight, targets, bias)
        torch.testing.assert_close(each.sum(), theirs, rtol=1e-5, atol=1e-5)


def test_logits_are_never_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    inner = cross_entropy._losses

    def spy(states, weight, bias, targets):
        seen.append(len(states) * len(weight))
        return inner(states, weight, bias, targets)

    monkeypatch.setattr(cross_entropy, "_losses", spy)
    monkeypatch.setattr(cross_entropy, "CHUNK_ELEMENTS", 1000)
    cross_entropy.summed(torch.randn(95, 4), torch.randn(100, 4), torch.zeros(95, dtype=torch.long))
    assert len(seen) == 10
    assert max(seen) <= 1000


# ---------------------------------------------------------------- networks


@pytest.mark.parametrize("kind", ["decoder", "gpt2", "encoder", "bert"])
def test_a_saved_network_opens_in_plain_transformers_with_the_same_logits(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    model, _ = network(kind)
    awake(model)
    model.eval()
    ids = torch.randint(4, VOCABULARY, (3, 16))
    targets = torch.randint(4, VOCABULARY, (3, 16))
    save(model.model, None, tmp_path)
    masked = kind in ("encoder", "bert")
    theirs = (AutoModelForMaskedLM if masked else AutoModelForCausalLM).from_pretrained(
        tmp_path, trust_remote_code=False, local_files_only=True
    )
    with torch.no_grad():
        ours = model.model(input_ids=ids).logits
        again = theirs.eval()(input_ids=ids).logits
        torch.testing.assert_close(again, ours, rtol=0, atol=0)
        wanted = torch.nn.functional.cross_entropy(again.flatten(0, 1), targets.flatten(), reduction="sum")
        torch.testing.assert_close(model(ids, targets, causal=not masked), wanted, rtol=1e-5, atol=1e-3)


def test_the_mixed_network_is_saved_as_decoder_and_as_encoder(tmp_path: Path) -> None:
    from transformers import AutoModel, AutoModelForCausalLM

    model, _ = network("decoder")
    awake(model)
    model.eval()
    save(model.model, None, tmp_path / "base")
    save_as_encoder(tmp_path / "base", tmp_path / "encoder")
    ids = torch.randint(4, VOCABULARY, (2, 12))
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % VOCABULARY
    both = torch.ones_like(ids)
    with torch.no_grad():
        for folder, causal in ((tmp_path / "base", True), (tmp_path / "encoder", False)):
            kind = AutoModelForCausalLM if causal else AutoModel
            theirs = kind.from_pretrained(folder, trust_remote_code=False, local_files_only=True).eval()
            theirs = theirs.base_model if causal else theirs
            found = theirs(input_ids=ids, attention_mask=both).last_hidden_state
            torch.testing.assert_close(found, model.states(ids, causal=causal), rtol=1e-5, atol=1e-5)
            first = theirs(input_ids=changed, attention_mask=both).last_hidden_state[:, 0]
            assert torch.equal(first, found[:, 0]) is causal, "the last token is seen from the first, or not"


@pytest.mark.parametrize("kind", ["decoder", "gpt2", "encoder", "bert"])
def test_only_the_targets_count(kind: str) -> None:
    model, _ = network(kind)
    awake(model)
    model.eval()
    ids = torch.randint(4, VOCABULARY, (3, 16))
    targets = torch.full((3, 16), IGNORED)
    targets[:, 5] = 7
    each = model.token_losses(ids, targets)
    assert each.shape == (3,)
    torch.testing.assert_close(model(ids, targets).detach(), each.sum(), rtol=1e-5, atol=1e-5)


def test_every_weight_has_one_optimiser_and_one_rate() -> None:
    for kind in ("decoder", "gpt2", "encoder", "bert"):
        model, recipe = network(kind)
        optimiser = for_pretraining(model, recipe)
        assert isinstance(optimiser, Together)
        held = [id(p) for group in optimiser.param_groups for p in group["params"]]
        assert sorted(held) == sorted(id(p) for p in model.parameters())
        muon = optimiser.members[0].param_groups[0]["params"]
        names = {id(p): name for name, p in model.named_parameters()}
        assert muon, kind
        assert not [names[id(p)] for p in muon if "embed" in names[id(p)] or "wte" in names[id(p)]]


def test_schedules() -> None:
    rates = [warm_stable_decay(step, 100, 10, 0.5) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:50] == [1.0] * 41
    assert rates[75] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.02)
    slope = [cosine(step, 100, 10) for step in range(101)]
    assert slope[10] == pytest.approx(1.0)
    assert slope[100] == pytest.approx(0.1)
    assert sorted(slope[10:], reverse=True) == slope[10:]


# ---------------------------------------------------------------- feed and accumulation


def feed(objective: str, kind: str, rows: int = 8, seed: int = 0, share=(0, 1)):
    model, _recipe = network(kind, seed=seed)
    awake(model)
    ids = np.random.default_rng(seed).integers(4, VOCABULARY, 17 * 23)
    setting = Setting(vocabulary=VOCABULARY, mask=2, special=(0, 1, 2, 3))
    return model, Feed(
        rows=Windows(ids, 17),
        per_step=rows,
        seed=seed,
        objective=part("objectives", objective),
        setting=setting,
        model=model,
        done=lambda drawn: drawn / 10,
        share=share,
    )


@pytest.mark.parametrize(
    ("objective", "kind"),
    [("next_token", "decoder"), ("next_token", "gpt2"), ("masked", "encoder"), ("mixed", "decoder")],
)
@pytest.mark.parametrize("tokens", [16, 48, 80])
def test_accumulated_gradients_equal_the_full_batch(objective: str, kind: str, tokens: int) -> None:
    """48 and 80 tokens leave a last partial window: 8 rows of 16 in threes and in fives."""
    model, batches = feed(objective, kind)
    rows = next(iter(batches))
    lengths = np.full(len(rows), 16)
    found, losses = [], []
    for budget in (0, tokens):
        model.zero_grad()
        losses.append(loop.accumulate(batches.loss, rows, lengths, budget, False, "cpu"))
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    scale = max(float(g.abs().max()) for g in found[0].values())
    for name, gradient in found[0].items():
        assert float((gradient - found[1][name]).abs().max()) <= 1e-6 * max(scale, 1.0), name


@pytest.mark.parametrize(("objective", "kind"), [("masked", "encoder"), ("mixed", "decoder")])
def test_ranks_share_a_step(objective: str, kind: str) -> None:
    """The mean over ranks of their gradients is the gradient of one process, and all run the network equally often."""
    model, whole = feed(objective, kind)
    loop.accumulate(whole.loss, next(iter(whole)), np.full(8, 16), 0, False, "cpu")
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    summed: dict[str, torch.Tensor] = {}
    runs = []
    for rank in range(4):
        model, part_ = feed(objective, kind, share=(rank, 4))
        runs.append(0)
        model.register_forward_hook(lambda *_: runs.append(runs.pop() + 1))
        rows = next(iter(part_))
        assert len(rows) == 2
        loop.accumulate(part_.loss, rows, np.full(2, 16), 32, False, "cpu")
        for name, p in model.named_parameters():
            if p.grad is not None:
                summed[name] = summed.get(name, 0) + p.grad / 4
    assert len(set(runs)) == 1 and runs[0] > 0, (
        "a rank that runs the network less often leaves the others waiting"
    )
    for name, gradient in wanted.items():
        torch.testing.assert_close(summed[name], gradient, rtol=1e-4, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 23), st.integers(0, 4), st.integers(0, 30))
def test_batches_are_a_function_of_their_number(rows: int, seed: int, number: int) -> None:
    ids = np.arange(23 * 17)
    one = Feed(Windows(ids, 17), rows, seed, None, Setting(), None, lambda d: 0.0)  # type: ignore[arg-type]
    two = Feed(Windows(ids, 17), rows, seed, None, Setting(), None, lambda d: 0.0)  # type: ignore[arg-type]
    for earlier in range(number):
        two.index(earlier)
    np.testing.assert_array_equal(one.index(number), two.index(number))
    epochs = np.concatenate([one.index(n) for n in range(23)])
    np.testing.assert_array_equal(np.bincount(epochs, minlength=23), np.full(23, rows))


def test_too_little_text_says_what_fits() -> None:
    with pytest.raises(InputError, match="batch_tokens = 32 is the most that fits"):
        check_enough(Windows(np.zeros(40, np.int64), 17), 4, 16)
    with pytest.raises(InputError, match="no row of 16 tokens"):
        check_enough(Windows(np.zeros(9, np.int64), 17), 4, 16)
    with pytest.raises(InputError, match="cannot be shared evenly"):
        feed("next_token", "decoder", rows=7, share=(0, 2))


def test_masks_hide_the_share_they_should_and_no_special_token() -> None:
    from basewise.parts.objectives import _masks

    rng = np.random.default_rng(0)
    ids = rng.integers(0, VOCABULARY, (200, 64))
    setting = Setting(vocabulary=VOCABULARY, mask=2, special=(0, 1, 2, 3))
    inputs, targets = _masks.hide(ids, 0.25, rng, setting)
    hidden = targets != IGNORED
    assert hidden.sum(1).tolist() == [16] * 200
    np.testing.assert_array_equal(targets[hidden], ids[hidden])
    np.testing.assert_array_equal(inputs[~hidden], ids[~hidden])
    assert not np.isin(ids[hidden], (0, 1, 2, 3)).any()
    assert (inputs[hidden] == 2).mean() == pytest.approx(0.8, abs=0.03)
    assert _masks.rate(0.0, setting) == pytest.approx(0.35)
    assert _masks.rate(1.0, setting) == pytest.approx(0.15)
    with pytest.raises(InputError, match="no mask token"):
        _masks.hide(ids, 0.25, rng, Setting(vocabulary=VOCABULARY))


# ---------------------------------------------------------------- guards


class Kept(loop.Watch):
    """Keeps a state every step and gives the first one back."""

    def __init__(self, at: int) -> None:
        self.at, self.state, self.seen, self.returned = at, None, [], 0

    def after(self, seen, state):
        self.seen.append(seen)
        if seen.step == self.at and self.state is None:
            self.state = state()
        return False

    def back(self):
        self.returned += 1
        return self.state


def linear(bad):
    """A linear model whose loss on call number n is multiplied by bad(n)."""
    with loop.seeded(0):
        model = torch.nn.Linear(4, 2)
        x, y = torch.randn(16, 4), torch.randint(0, 2, (16,))
    calls = []

    def loss(rows):
        calls.append(1)
        at = torch.from_numpy(rows)
        return torch.nn.functional.cross_entropy(model(x[at]), y[at], reduction="sum") * bad(len(calls))

    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    optimiser.param_groups[0]["rate"] = 0.01
    return model, optimiser, loss, calls


def run_linear(bad, watch, steps=60, spike=6.0):
    model, optimiser, loss, calls = linear(bad)
    plan = loop.Plan(steps=steps, tokens=0, spike=spike, schedule=lambda done, total: 1.0)
    source = loop.epochs(np.ones(16, np.int64), 16, np.random.default_rng(0))
    outcome = loop.train(model, optimiser, source, loss, np.ones(16, np.int64), plan, watch=watch)
    return model, outcome, calls


def test_a_spike_is_not_learned_from() -> None:
    watch = Kept(at=1)
    _, outcome, _ = run_linear(lambda n: 50.0 if n == 45 else 1.0, watch)
    assert [seen.step for seen in watch.seen if seen.verdict == "spike"] == [45]
    assert outcome.steps == 60
    assert watch.returned == 0


def test_losses_that_stay_bad_roll_the_run_back_and_go_on_with_other_rows() -> None:
    watch = Kept(at=40)
    _, outcome, calls = run_linear(lambda n: float("nan") if 45 <= n < 55 else 1.0, watch)
    assert watch.returned == 1
    assert outcome.steps == 60
    # five skipped and counted, the sixth goes back to 40, four more are skipped and counted
    assert len(calls) == 60 + 50 - 40
    assert watch.seen[-1].drawn == len(calls), "rows go on after a roll-back"


def test_losses_that_are_never_finite_stop_the_run() -> None:
    with pytest.raises(BasewiseError, match="from the first step on"):
        run_linear(lambda n: float("nan"), Kept(at=10**9))
    with pytest.raises(BasewiseError, match="not a finite number"):
        run_linear(lambda n: float("nan") if n > 20 else 1.0, Kept(at=10))


def test_high_losses_that_are_the_datas_are_learned_from_in_the_end() -> None:
    watch = Kept(at=40)
    _, outcome, _ = run_linear(lambda n: 50.0 if n > 44 else 1.0, watch, steps=60)
    assert outcome.steps == 60
    assert watch.returned == loop.MOST_RETURNS
    assert watch.seen[-1].verdict == "take"


def test_a_run_that_was_shortened_may_grow_again_while_its_rates_are_flat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine that is busy for 20 steps of a second and then free: 0.1 s a step. No clock but this one."""
    now = [0.0]
    monkeypatch.setattr(loop.time, "perf_counter", lambda: now[0])
    plan = loop.Plan(
        steps=1000, seconds=100.0, schedule=lambda done, total: warm_stable_decay(done, total, 1, 0.4)
    )
    run = loop._Run(plan, plan.steps, 0)
    totals = []
    while run.step < run.total:
        now[0] += 1.0 if run.step < 20 else 0.1
        run.step += 1
        run.shorten()
        totals.append(run.total)
    assert totals[15] == 100
    assert run.step > 300
    assert now[0] == pytest.approx(100.0, abs=3.0)
    falling = next(step for step in range(run.step) if plan.schedule(step, totals[step]) < 1.0 and step > 1)
    assert totals[falling:] == sorted(totals[falling:], reverse=True), (
        "what has begun to fall is not lengthened"
    )


def test_a_run_that_goes_on_falls_from_where_it_was() -> None:
    """The steps that its seconds hold are known from before: not the planned ones until the pace is measured again."""
    plan = loop.Plan(
        steps=1000, seconds=100.0, schedule=lambda done, total: warm_stable_decay(done, total, 1, 0.4)
    )
    state, _, _ = state_of(107)
    run = loop._Run(plan, plan.steps, 0)
    run.resume(dataclasses.replace(state, total=110))
    assert (run.step, run.total) == (107, 110)
    assert run.factor() < 0.1
    run.resume(dataclasses.replace(state, total=100))
    assert run.total == 107, "what has been done is not undone"


# ---------------------------------------------------------------- checkpoints


def state_of(step: int) -> tuple[loop.State, torch.nn.Module, torch.optim.Optimizer]:
    model, recipe = network("decoder")
    optimiser = for_pretraining(model, recipe)
    ids = torch.randint(4, VOCABULARY, (2, 16))
    model(ids, ids).backward()
    optimiser.step()
    return loop.snapshot(model, optimiser, step), model, optimiser


def test_a_checkpoint_gives_back_every_bit(tmp_path: Path) -> None:
    state, model, optimiser = state_of(7)
    checkpoint.write(tmp_path, dataclasses.replace(state, total=9), {"stays": True})
    again, facts = checkpoint.read(tmp_path / "step-00000007")
    assert again.total == 9
    assert facts == {"stays": True}
    assert again.step == 7
    loop.restore(model, optimiser, again)
    now = loop.snapshot(model, optimiser, 7)
    for name, value in state.model.items():
        assert torch.equal(now.model[name], value), name
    one, two = {}, {}
    assert checkpoint.flatten(now.optimiser, one) == checkpoint.flatten(state.optimiser, two)
    assert all(torch.equal(one[name], two[name]) for name in two)
    assert torch.equal(again.random, state.random)


@pytest.mark.parametrize("record", ["{}", "[]", '{"digests": {}}'])
def test_a_record_that_is_none_is_a_damaged_checkpoint(tmp_path: Path, record: str) -> None:
    path = checkpoint.write(tmp_path, state_of(4)[0], {})
    (path / "state.json").write_text(record, encoding="utf-8")
    with pytest.raises(RunError, match="cannot read the checkpoint"):
        checkpoint.read(path)


@pytest.mark.parametrize("file", ["model.safetensors", "optimiser.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_checkpoint_is_passed_over_and_that_is_said(tmp_path: Path, file: str, damage: str) -> None:
    state, _, _ = state_of(4)
    checkpoint.write(tmp_path, state, {})
    checkpoint.write(tmp_path, loop.State(state.model, state.optimiser, 8, state.random), {})
    path = tmp_path / "step-00000008" / file
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        middle = len(content) // 2
        path.write_bytes(
            content[:middle] if damage == "cut" else content[:middle] + b"\x00\xff" + content[middle + 2 :]
        )
    said: list[str] = []
    found = checkpoint.latest(tmp_path, said.append)
    assert found is not None
    assert found[0].step == 4
    assert len(said) == 1
    assert "step 8 is damaged" in said[0]


def test_the_writer_keeps_the_newest_and_those_that_stay(tmp_path: Path) -> None:
    state, _, _ = state_of(1)
    (tmp_path / ".step-00000009.killed").mkdir()
    writer = checkpoint.Writer(tmp_path, 2, print)
    for step in range(1, 7):
        writer.put(loop.State(state.model, state.optimiser, step, state.random), {"stays": step == 2})
    writer.close()
    assert checkpoint.steps_there(tmp_path) == [2, 5, 6]
    assert not list(tmp_path.glob(".*")), "nothing half written is left"
    with pytest.raises(InputError, match="steps that are there: 2, 5, 6"):
        checkpoint.at_step(tmp_path, 3)


def test_a_full_disk_is_told_and_the_last_good_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    state, _, _ = state_of(1)
    said: list[str] = []
    writer = checkpoint.Writer(tmp_path, 3, said.append)
    writer.put(state, {})
    writer.join()

    def full(*_args, **_more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    writer.put(loop.State(state.model, state.optimiser, 2, state.random), {})
    writer.put(loop.State(state.model, state.optimiser, 3, state.random), {})
    assert "the disk is full" in said[0]
    assert "the last good one is of step 1" in said[0]
    with pytest.raises(RunError, match="the disk is full"):
        writer.close()
    assert checkpoint.steps_there(tmp_path) == [1]
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("bf16", [False, True])
def test_the_lean_decoder_learns_what_the_stock_one_learns(causal: bool, bf16: bool) -> None:
    """Losses and gradients of both, in fp32 to rounding; in bf16 no farther from fp32 than the stock network's are."""
    from transformers.models.qwen3 import modeling_qwen3

    model, _ = network("decoder")
    awake(model)
    ids, targets = (torch.randint(4, VOCABULARY, (5, 24)) for _ in range(2))

    def gradients(precise: bool) -> dict[str, torch.Tensor]:
        model.train().zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
            loss = model(ids, targets, causal)
        loss.backward()
        found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        return {"loss": loss.detach(), **found}

    lean = gradients(not bf16)
    exchanged = [module for module in model.modules() if type(module).__name__.startswith("Lean")]
    assert {type(module).__name__ for module in exchanged} == {"LeanAttention", "LeanNorm"}
    for module in exchanged:
        module.__class__ = getattr(modeling_qwen3, type(module).__mro__[1].__name__)
    model.model.set_attn_implementation("sdpa")
    stock, exact = gradients(not bf16), gradients(True)
    for name, wanted in exact.items():
        size = float(wanted.norm()) + 1e-12
        far = float((lean[name] - wanted).norm()) / size
        usual = float((stock[name] - wanted).norm()) / size
        assert far <= (1.5 * usual + 5e-3 if bf16 else 2e-5), name


@pytest.mark.parametrize(
    "odd", [{"attention_dropout": 0.1}, {"num_key_value_heads": 1}, {"attention_bias": True}], ids=str
)
def test_attention_that_pretraining_does_not_build_stays_the_stock_one(odd: dict[str, object]) -> None:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from basewise.engine.lean_training import lean

    shape = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Qwen3Config(
        **{"num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 48, **shape, **odd}
    )
    block = lean(Qwen3ForCausalLM(config)).model.layers[0]
    assert type(block.self_attn).__name__ == "Qwen3Attention"
    assert type(block.input_layernorm).__name__ == "LeanNorm"


def test_muon_orthogonalises_together_as_one_by_one() -> None:
    from basewise.engine.muon import orthogonal, together

    shapes = [(8, 8), (8, 24), (24, 8), (8, 8), (5, 3)]
    matrices = [torch.randn(shape) for shape in shapes]
    for made, matrix in zip(together(matrices, torch.float64), matrices, strict=True):
        torch.testing.assert_close(made, orthogonal(matrix, torch.float64), rtol=1e-9, atol=1e-9)
        assert made.shape == matrix.shape


# ---------------------------------------------------------------- starting from a base


def test_a_start_that_does_not_belong_to_recipe_or_corpus(tmp_path: Path) -> None:
    import json

    from basewise.steps.pretrain_start import with_sizes_of_start

    base, own, other = tmp_path / "base", tmp_path / "own", tmp_path / "other"
    for folder, content in ((base, "{}"), (own, "{}"), (other, "{ }")):
        folder.mkdir()
        (folder / "tokenizer.json").write_text(content)
    config = {"model_type": "bert", "num_hidden_layers": 3, "hidden_size": 64, "num_attention_heads": 4}
    (base / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 32}))
    left = {"network": "bert", "objective": "masked", "start": str(base), "depth": 4, "width": 0, "heads": 0}
    found = with_sizes_of_start(tiny_corpus.recipe(Path("x"), **left), own)
    assert (found.depth, found.width, found.heads) == (3, 64, 4), "what is left out is the base's"
    assert with_sizes_of_start(found, own) == found
    for changed, tokenizer, words in (
        ({"network": "encoder"}, own, "is a bert, and network 'encoder' is modernbert"),
        ({"network": "vit"}, None, "is a bert, and network 'vit' is none"),
        ({"depth": 2}, own, "depth is 2, and the base .* has 3"),
        ({"width": 32}, own, "width is 32, and the base .* has 64"),
        ({"heads": 2}, own, "heads is 2, and the base .* has 4"),
        ({"context": 64}, own, "context is 64, and the base .* has 32 positions"),
        ({}, other, "has learned another tokenizer"),
        ({"start": str(own)}, own, "holds no base"),
    ):
        with pytest.raises(InputError, match=words):
            with_sizes_of_start(tiny_corpus.recipe(Path("x"), **{**left, **changed}), tokenizer)
