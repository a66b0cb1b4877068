"""The causal engine against transformers one by one: every architecture, packing, order and budget to 1e-4."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_decoders
from basewise.core.errors import InputError, OutOfMemory, UnknownName
from basewise.engine import paths, scoring
from basewise.engine.causal import Causal, rolling_windows
from basewise.engine.trie import build, plan, stop_of
from basewise.steps.bases import pull

KINDS = ("gpt2", "llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3", "olmo2", "gptneox")


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Causal]:
    """Every architecture opened in fp32, made when first asked for."""

    class Lazy(dict):  # type: ignore[type-arg]
        def __missing__(self, kind: str) -> Causal:
            self[kind] = Causal(tiny_decoders.decoder(tmp_path_factory.mktemp(kind), kind), "fp32")
            return self[kind]

    return Lazy()


@pytest.fixture(scope="session")
def plain(opened: dict[str, Causal]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What transformers gives for `job()` by architecture, computed when first asked for."""

    class Lazy(dict):  # type: ignore[type-arg]
        def __missing__(self, kind: str) -> tuple[np.ndarray, np.ndarray]:
            self[kind] = one_by_one(opened[kind], job())
            return self[kind]

    return Lazy()


def one_by_one(causal: Causal, requests: list[tuple[list[int], list[int]]]) -> tuple[np.ndarray, np.ndarray]:
    """transformers' own model, one request at a time: (summed log-probabilities, all likeliest)."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        causal.base.folder, dtype=torch.float32, attn_implementation="eager"
    )
    sums, greedy = [], []
    for before, after in requests:
        ids = torch.tensor([[*before, *after]])
        with torch.inference_mode():
            logs = torch.log_softmax(model.eval()(ids[:, :-1]).logits[0].double(), -1)[-len(after) :]
        picked = logs[torch.arange(len(after)), torch.tensor(after)]
        sums.append(float(picked.sum()))
        greedy.append(bool((logs.argmax(-1) == torch.tensor(after)).all()))
    return np.array(sums), np.array(greedy)


def job(seed: int = 0, questions: int = 5) -> list[tuple[list[int], list[int]]]:
    """A shared stem, questions on it, choices of one to four tokens; and some requests that share nothing."""
    draw = np.random.default_rng(seed)

    def some(low: int, high: int) -> list[int]:
        return [int(t) for t in draw.integers(1, tiny_decoders.VOCABULARY, int(draw.integers(low, high)))]

    stem = some(12, 13)
    made = []
    for _ in range(questions):
        question = stem + some(3, 12)
        made += [(question, some(1, 5)) for _ in range(4)]
    made += [(some(1, 9), some(1, 5)) for _ in range(4)]
    return [*made, made[0], (made[0][0], made[0][1][:1])]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("budget", [1, 7, 40, 4096])
def test_equal_to_transformers(
    kind: str, budget: int, opened: dict[str, Causal], plain: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    causal, requests = opened[kind], job()
    assert causal.packed
    causal.budget = budget
    found = causal.score_tokens(requests)
    sums, greedy = plain[kind]
    np.testing.assert_allclose(found.log_probability, sums, atol=1e-4)
    np.testing.assert_array_equal(found.greedy, greedy)
    np.testing.assert_array_equal(found.tokens, [len(after) for _, after in requests])
    assert found.computed == found.unique


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_long_paths_are_grouped_right(kind: str, tmp_path: Path) -> None:
    """Chains longer than a group, branches in the middle of groups, and a kept path longer than a group."""
    base = tiny_decoders.decoder(tmp_path, kind, max_position_embeddings=600)
    causal, draw = Causal(base, "fp32"), np.random.default_rng(3)
    stem = draw.integers(1, 90, 330).tolist()
    requests = [
        (stem[:cut] + draw.integers(1, 90, extra).tolist(), draw.integers(1, 90, 3).tolist())
        for cut, extra in (
            (330, 40),
            (330, 150),
            (200, 130),
            (10, 30),
            (330, 5),
            (331, 1),
            (0, 140),
            (128, 128),
        )
    ]
    sums, _ = one_by_one(causal, requests)
    for budget in (100, 300, 1536):
        causal.budget = budget
        np.testing.assert_allclose(causal.score_tokens(requests).log_probability, sums, atol=1e-4)


def test_an_architecture_that_cannot_be_packed_is_scored_one_by_one(tmp_path: Path) -> None:
    causal = Causal(tiny_decoders.decoder(tmp_path, "bloom"), "fp32")
    assert not causal.packed
    found = causal.score_tokens(job())
    np.testing.assert_allclose(found.log_probability, one_by_one(causal, job())[0], atol=1e-4)
    assert found.computed > found.unique


@pytest.mark.parametrize("kind", ["phi3", "llama4"])
def test_what_changes_beyond_a_length_is_not_packed(kind: str, tmp_path: Path) -> None:
    """Positions of "longrope" follow the length of the whole text, and chunks begin anew: both beyond the check's few tokens."""
    causal, draw = Causal(tiny_decoders.decoder(tmp_path, kind), "fp32"), np.random.default_rng(5)
    assert not causal.packed and causal.context == 96
    stem = draw.integers(1, 90, 60).tolist()
    requests = [(stem[:cut], draw.integers(1, 90, n).tolist()) for cut in (5, 19, 23, 24, 60) for n in (1, 4)]
    # another's context, read as part of a longer text
    requests.append((stem[:23], stem[23:28]))
    sums, _ = one_by_one(causal, requests)
    np.testing.assert_allclose(causal.score_tokens(requests).log_probability, sums, atol=1e-4)
    np.testing.assert_allclose(causal.score_tokens(requests[::-1]).log_probability, sums[::-1], atol=1e-4)


def test_a_window_that_only_the_mask_holds_is_not_packed(tmp_path: Path) -> None:
    """Qwen2-MoE hands its window to the mask and not to the attention; the check's few tokens stay within it."""
    causal, draw = Causal(tiny_decoders.decoder(tmp_path, "qwen2moe"), "fp32"), np.random.default_rng(7)
    assert not causal.packed
    stem = draw.integers(1, 90, 45).tolist()
    requests = [(stem[:cut], draw.integers(1, 90, 3).tolist()) for cut in (8, 19, 21, 45)]
    sums, _ = one_by_one(causal, requests)
    np.testing.assert_allclose(causal.score_tokens(requests).log_probability, sums, atol=1e-4)


SEQUENCES = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=14), min_size=1, max_size=12)


@given(SEQUENCES, st.integers(1, 30), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_any_trie_at_any_packing(sequences: list[list[int]], budget: int, random: object) -> None:
    """Masks alone: through passes and groups each node sees exactly its ancestors and itself, at the right distance."""
    cuts = [random.randint(1, len(s)) for s in sequences]  # type: ignore[attr-defined]
    afters = [[*s[n:], random.randint(1, 3)] for s, n in zip(sequences, cuts, strict=True)]  # type: ignore[attr-defined]
    trie = build([s[:n] for s, n in zip(sequences, cuts, strict=True)], afters)
    prefixes = {tuple(s[:n]) for s in sequences for n in range(1, len(s) + 1)}
    assert len(trie) == len(prefixes)
    spelled = [tuple(trie.tokens[np.append(trie.path(v), v)].tolist()) for v in range(len(trie))]
    assert set(spelled) == prefixes
    for node, token, request in zip(trie.query_node, trie.query_token, trie.query_request, strict=True):
        assert spelled[node] == tuple(sequences[request][: len(spelled[node])])
        assert token == afters[request][len(spelled[node]) - cuts[request]]
    assert len(trie.query_node) == sum(map(len, afters))
    chain = trie.chain()
    assert all(s[:chain] == sequences[0][:chain] for s in sequences) and chain <= min(cuts) - 1
    kept: list[int] = []
    start = 0
    while start < len(trie):
        stop = stop_of(trie, start, budget, 5)
        this = plan(trie, start, stop)
        assert len(np.unique(trie.query_node[trie.queries(start, stop)])) <= 5
        covered = []
        for group in this.groups:
            keys = [
                *kept[: group.past],
                *(start + group.inside),
                *range(start + group.start, start + group.stop),
            ]
            for offset, row in enumerate(range(start + group.start, start + group.stop)):
                seen = [k for k, ok in zip(keys, group.allowed[offset], strict=True) if ok]
                assert seen == [*trie.path(row), row]
                distances = [
                    d for d, ok in zip(group.distance[offset], group.allowed[offset], strict=True) if ok
                ]
                assert distances == list(range(len(seen) - 1, -1, -1))
                covered.append(row)
        assert covered == list(range(start, stop))
        kept = [*kept[: this.keep_past], *(start + this.keep)]
        assert kept == list(trie.path(stop))
        start = stop


@given(st.integers(0, 10_000), st.integers(1, 60))
@settings(max_examples=15, deadline=None)
def test_neither_order_nor_budget_moves_a_score(seed: int, budget: int) -> None:
    causal = _llama()
    requests = job(seed, 3)
    causal.budget = 4096
    whole = causal.score_tokens(requests)
    order = np.random.default_rng(seed).permutation(len(requests))
    causal.budget = budget
    shuffled = causal.score_tokens([requests[i] for i in order])
    np.testing.assert_allclose(shuffled.log_probability, whole.log_probability[order], atol=1e-4)


_made: list[Causal] = []


def _llama() -> Causal:
    """One decoder for the property test, which may not take a fixture that is not reset."""
    if not _made:
        import tempfile

        _made.append(Causal(tiny_decoders.decoder(Path(tempfile.mkdtemp()), "llama"), "fp32"))
    return _made[0]


def test_boundaries(opened: dict[str, Causal]) -> None:
    causal = opened["llama"]
    tokens = causal.encode("the film was good")
    assert causal.encode_pair("the film was", " good") == (
        tokens[: len(causal.encode("the film was"))],
        tokens[len(causal.encode("the film was")) :],
    )
    assert causal.encode_pair("the film was ", "good") == causal.encode_pair("the film was", " good")
    assert causal.encode_pair("", "good") == ([0], causal.encode("good"))
    assert causal.encode_pair("", "<|end|>good")[0] == [0]
    assert causal.encode_pair("  ", "good") == ([], causal.encode("  good"))
    mixed = [
        ("", "good"),
        ("the film ", "was"),
        ("the film", " was"),
        ("  ", "red"),
        ("the film", "s"),
        ("good\n", "bad"),
    ]
    assert causal._pairs(mixed) == [causal.encode_pair(*pair) for pair in mixed]
    marked = [*mixed, ("<|end|>the", " film")]
    assert causal._pairs(marked) == [causal.encode_pair(*pair) for pair in marked]
    a, b = causal.score([("the film was ", "good"), ("the film was", " good")]).log_probability
    assert a == b


def test_a_context_of_white_space_has_the_beginning_token_before_what_is_scored(tmp_path: Path) -> None:
    """As lm-evaluation-harness: the context without its end, encoded with special tokens, is <s>."""
    causal = Causal(tiny_decoders.spm_decoder(tmp_path), "fp32")
    requests = [("  ", "yes"), ("\n", "yes"), ("the ", "yes")]
    pairs = [causal.encode_pair(*request) for request in requests]
    assert pairs[0] == ([1], causal.encode("  yes")[1:]) and pairs[1] == ([1], causal.encode("\nyes")[1:])
    assert causal._pairs(requests) == pairs
    assert causal.score(requests[:1]).tokens[0] == len(causal.encode("  yes", special=False))


def test_too_long_contexts_lose_their_left_end(opened: dict[str, Causal]) -> None:
    causal = opened["gpt2"]
    draw = np.random.default_rng(0)
    long = draw.integers(1, 90, 3 * tiny_decoders.CONTEXT).tolist()
    after = [5, 6, 7]
    cut = [*long, *after][-(tiny_decoders.CONTEXT + 1) :]
    found = causal.score_tokens([(long, after)]).log_probability
    np.testing.assert_allclose(found, one_by_one(causal, [(cut[:-3], after)])[0], atol=1e-4)
    with pytest.raises(InputError, match="more than"):
        causal.score_tokens([([1], long)])
    with pytest.raises(InputError, match="adds no token"):
        causal.score([("good", "")])


def test_rolling(opened: dict[str, Causal]) -> None:
    causal = opened["llama"]
    texts = ["the film was good", "", "x" * 150]
    found = causal.rolling(texts)
    assert found[1] == 0
    for text, value in zip(texts, found, strict=True):
        windows = rolling_windows(causal.encode(text), causal.prefix_token, causal.context)
        assert [t for _, scored in windows for t in scored] == causal.encode(text)
        if windows:
            np.testing.assert_allclose(value, one_by_one(causal, windows)[0].sum(), atol=1e-4)
    assert rolling_windows([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], -1, 4) == [
        ([-1], [0, 1, 2, 3]),
        ([3], [4, 5, 6, 7]),
        ([5, 6, 7], [8, 9]),
    ]


def test_a_shared_beginning_is_not_computed_again(tmp_path: Path) -> None:
    causal, draw = (
        Causal(tiny_decoders.decoder(tmp_path, "gemma3", max_position_embeddings=300), "fp32"),
        np.random.default_rng(1),
    )
    stem = draw.integers(1, 90, 120).tolist()

    def asked(n: int, size: int) -> list[tuple[list[int], list[int]]]:
        return [
            (stem[:n] + draw.integers(1, 90, 5).tolist(), draw.integers(1, 90, 2).tolist())
            for _ in range(size)
        ]

    for n, size, known in (
        (120, 3, 0),
        (120, 4, 120),
        (120, 1, 120),
        (80, 2, 80),
        (120, 2, 120),
        (20, 2, 0),
        (120, 2, 120),
    ):
        requests = asked(n, size)
        found = causal.score_tokens(requests)
        assert found.unique - found.computed == known
        np.testing.assert_allclose(found.log_probability, one_by_one(causal, requests)[0], atol=1e-4)


def test_memory_that_runs_out_halves_the_pass(
    opened: dict[str, Causal], monkeypatch: pytest.MonkeyPatch
) -> None:
    causal, requests = opened["llama"], job()
    causal.budget = 4096
    whole = causal.score_tokens(requests)
    forward = type(causal.decoder).forward

    def small(self, ids, positions, rows, state):  # type: ignore[no-untyped-def]
        if len(ids) > 9:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")
        return forward(self, ids, positions, rows, state)

    monkeypatch.setattr(type(causal.decoder), "forward", small)
    found = causal.score_tokens(requests)
    np.testing.assert_allclose(found.log_probability, whole.log_probability, atol=1e-4)
    assert causal.budget <= 9
    assert found.computed == found.unique
    monkeypatch.setattr(type(causal.decoder), "forward", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(OutOfMemory, match="one token"):
        causal.score_tokens(requests)
    causal.budget = 4096


def test_logits_are_asked_for_in_bounded_rows(
    opened: dict[str, Causal], monkeypatch: pytest.MonkeyPatch
) -> None:
    causal, requests = opened["gpt2"], [([1], list(range(1, 50)))]
    causal.budget = 4096
    whole = causal.score_tokens(requests).log_probability
    monkeypatch.setattr(scoring, "most_rows", lambda _vocabulary: 3)
    np.testing.assert_allclose(causal.score_tokens(requests).log_probability, whole, atol=1e-4)


def test_an_encoder_that_was_saved_as_a_decoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="both directions; use a decoder"):
        Causal(tiny_decoders.decoder(tmp_path, "bert"), "fp32")


@pytest.mark.parametrize(("kind", "context"), [("mamba", 2048), ("mpt", 96), ("llama", 64)])
def test_the_context_is_that_of_the_configuration_or_the_usual_one(
    kind: str, context: int, tmp_path: Path
) -> None:
    tiny_decoders.decoder(tmp_path, kind)
    base = pull(str(tmp_path))
    assert base.card.context == context and Causal(base, "fp32").context == context


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    from dataclasses import replace

    base = tiny_decoders.decoder(tmp_path, "llama")
    with pytest.raises(UnknownName, match="precision"):
        Causal(base, "fp64")
    with pytest.raises(OutOfMemory, match="do not hold"):
        Causal(base, "fp32", memory_bytes=1000)
    assert Causal(base, "fp32", memory_bytes=600_000).budget < 1536
    encoder = replace(base, card=replace(base.card, provides=frozenset({"embed"})))
    with pytest.raises(InputError, match="no causal language model"):
        Causal(encoder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    with pytest.raises(InputError, match="no tokenizer"):
        Causal(base)


@pytest.mark.parametrize("scaling", [None, 0.3])
def test_products_in_bf16_are_the_fused_attention(scaling: float | None) -> None:
    """Groups of a pass one after the other in the same memory, shared keys, masks with holes."""
    draw = torch.Generator().manual_seed(0)
    trie = build([[1, 2, 3], [1, 2, 4], [1, 5]], [[6, 7, 8, 9]] * 3)
    groups = [plan(trie, 0, len(trie)).groups[0], plan(trie, 3, len(trie)).groups[0]]
    scratch = paths.Scratch(plan(trie, 0, len(trie)))
    how = paths.How(scaling, {})
    for group in groups:
        rows, keys = group.allowed.shape
        query, key, value = (
            torch.randn(1, heads, n, 8, generator=draw).bfloat16()
            for heads, n in ((6, rows), (2, keys), (2, keys))
        )
        mask = (
            torch.zeros(rows, keys).masked_fill_(~torch.from_numpy(group.allowed), float("-inf")).bfloat16()
        )
        assert scratch.fits(query, how)
        found = scratch.attention(query, key, value, mask, how)
        exact = paths.attention(query.float(), key.float(), value.float(), mask.float(), how)
        assert float((found.float() - exact).abs().max()) < 0.03
    assert not scratch.fits(query.float(), how)
    assert not scratch.fits(query, paths.How(None, {"softcap": 5.0}))


def test_bf16_is_near_and_auto_settles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from basewise.core.method import Machine
    from basewise.engine import device

    fast = Machine(cores=2, memory_bytes=8 << 30, fp32_peak=1e11, bf16_peak=3e11)
    monkeypatch.setattr(device, "machine", lambda: fast)
    base = tiny_decoders.decoder(tmp_path, "llama")
    near, exact = Causal(base, "bf16"), Causal(base, "fp32")
    gap = near.score_tokens(job()).log_probability - exact.score_tokens(job()).log_probability
    assert 0 < np.abs(gap).max() < 2
    first = Causal(base, "auto").precision
    assert first in ("bf16", "fp32")
    assert Causal(base, "auto").precision == first


def test_a_short_context_with_learned_positions_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from basewise.engine import fidelity

    monkeypatch.setattr(fidelity, "candidate", lambda *_: "bf16")
    causal = Causal(tiny_decoders.decoder(tmp_path, "gpt2", n_positions=32), "auto")
    assert causal.context == 32 and causal.precision in ("bf16", "fp32")


def test_the_exact_twin_keeps_to_the_same_memory(opened: dict[str, Causal]) -> None:
    """A limit under which fp32 takes smaller passes than its own."""
    base = opened["llama"].base
    limit = next(
        m for m in (2e6, 4e6, 8e6, 16e6) if Causal(base, "fp32", m).budget < Causal(base, "fp32").budget
    )
    assert Causal(base, "bf16", limit).exact.budget == Causal(base, "fp32", limit).budget


def test_a_faster_precision_picks_what_fp32_picks(opened: dict[str, Causal]) -> None:
    near, exact = Causal(opened["llama"].base, "bf16"), opened["llama"]
    requests = [(f"the old house {i}", f" {w}") for i in range(12) for w in ("stands", "is red", "fell down")]
    counts = [3] * 12
    a, b = near.pick(requests, counts), exact.pick(requests, counts)
    shape = (12, 3)
    np.testing.assert_array_equal(
        a.log_probability.reshape(shape).argmax(1), b.log_probability.reshape(shape).argmax(1)
    )
    # some were scored again
    assert a.computed > near.score(requests).computed
