"""The upper half trains as if the lower half ran each time: same outputs, same gradients, the model whole afterwards."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from basewise.engine import upper as module  # noqa: E402
from basewise.engine.tokens import pack  # noqa: E402
from basewise.engine.upper import UpperHalf  # noqa: E402

SIZES = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 48}


def network(kind: str) -> torch.nn.Module:
    """A random encoder of four narrow layers."""
    import transformers as t

    made = {
        "bert": lambda: t.BertModel(t.BertConfig(vocab_size=50, **SIZES), add_pooling_layer=False),
        "roberta": lambda: t.RobertaModel(
            t.RobertaConfig(vocab_size=50, max_position_embeddings=40, pad_token_id=1, **SIZES),
            add_pooling_layer=False,
        ),
        "mpnet": lambda: t.MPNetModel(t.MPNetConfig(vocab_size=50, **SIZES), add_pooling_layer=False),
    }
    torch.manual_seed(0)
    return made[kind]()


def rows() -> object:
    """Token ids of seven rows of unlike length."""
    draw = np.random.default_rng(0)
    return pack([draw.integers(5, 50, size=n) for n in (3, 9, 1, 14, 6, 6, 2)], np.zeros(7, bool))


def gradients(half: UpperHalf, tokens: object) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Means of some rows, and the gradient of their weighted sum for every weight that learns."""
    picked = np.array([3, 0, 5, 1, 3])
    means = half.means(tokens, picked, 20)
    half.model.zero_grad()
    (means * torch.linspace(-1, 1, means.numel()).view_as(means)).sum().backward()
    return means.detach(), {n: p.grad.clone() for n, p in half.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["bert", "roberta", "mpnet"])
@pytest.mark.parametrize("tuned", [1, 2])
def test_kept_states_change_nothing(kind: str, tuned: int) -> None:
    tokens = rows()
    half = UpperHalf(network(kind), tuned)
    plain, plain_gradients = gradients(half, tokens)
    half.remember(tokens, bf16=False)
    kept, kept_gradients = gradients(half, tokens)
    torch.testing.assert_close(kept, plain, atol=1e-5, rtol=1e-5)
    assert plain_gradients and plain_gradients.keys() == kept_gradients.keys()
    for name, value in plain_gradients.items():
        torch.testing.assert_close(kept_gradients[name], value, atol=1e-4, rtol=1e-4)
    below = [p for n, p in half.model.named_parameters() if "embeddings" in n or "layer.0." in n]
    assert below and not any(p.requires_grad for p in below)


def test_the_model_is_whole_again() -> None:
    tokens, half = rows(), UpperHalf(network("bert"), 2)
    ids = torch.arange(5, 17)[None]
    before = half.model(ids).last_hidden_state
    half.remember(tokens, bf16=False)
    half.forget()
    torch.testing.assert_close(half.model(ids).last_hidden_state, before)


def test_states_that_would_not_fit_are_computed_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, half = rows(), UpperHalf(network("bert"), 2)
    plain, _ = gradients(half, tokens)
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    half.remember(tokens, bf16=False)
    assert half._states is None
    torch.testing.assert_close(gradients(half, tokens)[0], plain)
