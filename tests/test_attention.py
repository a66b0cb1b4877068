"""Attention for training: the losses and gradients of torch's own, through transformers, with padding, causal masks and grouped keys."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from basewise.engine.attention import NAME, train_attention  # noqa: E402


def network(kind: str):
    import transformers as t

    torch.manual_seed(1)
    shape = {
        "vocab_size": 50,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
    }
    if kind == "bert":
        drop = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        return t.BertModel(t.BertConfig(**shape, **drop), add_pooling_layer=False)
    return t.LlamaModel(t.LlamaConfig(num_key_value_heads=2, **shape))


def learnt(model, inputs, bf16: bool) -> dict[str, torch.Tensor]:
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        states = model(**inputs).last_hidden_state
    kept = states.float() * inputs["attention_mask"][..., None]
    (kept * torch.linspace(-1, 1, kept.shape[-1])).pow(2).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_it_learns_as_torchs_own(kind: str, padded: bool) -> None:
    model = network(kind).eval()
    ids = torch.randint(0, 50, (5, 11))
    mask = torch.ones_like(ids)
    if padded:
        mask[1, 4:] = mask[3, 1:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    exact, stock = learnt(model, inputs, False), learnt(model, inputs, True)
    assert train_attention(model).config._attn_implementation == NAME
    ours, plain = learnt(model, inputs, True), learnt(model, inputs, False)
    for name, wanted in exact.items():
        size = float(wanted.norm()) + 1e-3
        torch.testing.assert_close(plain[name], wanted, rtol=1e-4, atol=1e-4 * size)
        far, usual = (float((found[name] - wanted).norm()) / size for found in (ours, stock))
        assert far <= 1.5 * usual + 1e-2, name


def test_the_kept_shares_are_used_and_a_saved_network_does_not_name_them(tmp_path, monkeypatch) -> None:
    from basewise.engine import attention

    used = []
    kept = attention.attend
    monkeypatch.setattr(attention, "attend", lambda *a: used.append(a[0].shape) or kept(*a))
    model = train_attention(network("bert"))
    ids = torch.randint(0, 50, (2, 7))
    learnt(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, True)
    assert used == [(2, 4, 7, 8)] * 2
    model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text(encoding="utf-8")
