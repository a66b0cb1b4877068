"""Bases by their files: unsound weights refused, the hub at a revision, shards, GGUF files, random twins."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tiny
from basewise.core.errors import (
    BaseUnavailable,
    InputError,
    UnsafeWeights,
)
from basewise.engine import store as stores
from basewise.engine.safetensor_checks import check_safetensors
from basewise.engine.store import Store
from basewise.parts.sources import gguf
from basewise.steps import bases
from loopback import (
    COMMIT,
    Site,
    command,
    hub,
    left_in,
    model_files,
    one_line,
    weights,
)


def _file(header: object, body: bytes, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def _tensor(first: int, last: int, shape: list[object], dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


DAMAGED = {
    "empty": b"",
    "eight bytes": bytes(8),
    "header longer than the file": _file({}, b"", 10_000),
    "header of 2^63 bytes": _file({}, b"", 2**63),
    "header cut": _file({"a": _tensor(0, 4, [1])}, bytes(4), 20),
    "no JSON": _file(b"\xff\xfe{}", b""),
    "header is a list": _file([1, 2], b""),
    "header is a text": _file("ab", b""),
    "header nests deeply": _file(b"[" * 100_000, b""),
    "tensor is a number": _file({"a": 1}, b""),
    "overlapping offsets": _file({"a": _tensor(0, 8, [2]), "b": _tensor(4, 12, [2])}, bytes(12)),
    "hole between": _file({"a": _tensor(0, 4, [1]), "b": _tensor(8, 12, [1])}, bytes(12)),
    "offsets backwards": _file({"a": _tensor(8, 0, [2])}, bytes(8)),
    "offsets past the end": _file({"a": _tensor(0, 400, [100])}, bytes(8)),
    "bytes left over": _file({"a": _tensor(0, 4, [1])}, bytes(12)),
    "shape says more": _file({"a": _tensor(0, 4, [100])}, bytes(4)),
    "shape overflows": _file({"a": _tensor(0, 4, [2**40, 2**40])}, bytes(4)),
    "negative shape": _file({"a": _tensor(0, 4, [-1, -1])}, bytes(4)),
    "shape of texts": _file({"a": _tensor(0, 4, ["1"])}, bytes(4)),
    "shape of truths": _file({"a": _tensor(0, 4, [True])}, bytes(4)),
    "unknown type": _file({"a": _tensor(0, 4, [1], "OBJECT")}, bytes(4)),
    "a name twice": _file(b'{"a":1,"a":2}', b""),
    "a pickle": b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00cposix\nsystem\n",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_unsound_weights_are_refused_before_they_are_loaded(kind: str, tmp_path: Path) -> None:
    path = tmp_path / stores.WEIGHTS
    path.write_bytes(DAMAGED[kind])
    with pytest.raises(UnsafeWeights, match="not a sound safetensors file"):
        check_safetensors(path)


def test_a_folder_with_unsound_weights_is_refused(tmp_path: Path) -> None:
    for name, content in {"config.json": b"{}", "tokenizer.json": b"{}"}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / stores.WEIGHTS).write_bytes(DAMAGED["overlapping offsets"])
    with pytest.raises(UnsafeWeights):
        bases.pull(str(tmp_path))
    (tmp_path / stores.WEIGHTS).write_bytes(weights())
    assert bases.pull(str(tmp_path)).card.parameters == 9607
    (tmp_path / "config.json").write_text('{"auto_map": {"AutoModel": "evil.py"}}')
    with pytest.raises(UnsafeWeights, match="auto_map"):
        bases.pull(str(tmp_path))


def test_sound_files_pass_whatever_their_order(tmp_path: Path) -> None:
    path = tmp_path / stores.WEIGHTS
    header = {"__metadata__": {"format": "pt"}, "b": _tensor(4, 12, [2]), "a": _tensor(0, 4, [1])}
    path.write_bytes(
        _file(header | {"none": _tensor(0, 0, [0]), "one": _tensor(12, 13, [], "U8")}, bytes(13))
    )
    assert check_safetensors(path) == 4


# --- the hub -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Site]:
    """A hub on loopback with one model at two revisions, asked by the hub's own client in a process of its own."""
    with hub() as opened:
        for seed, commit in enumerate(COMMIT.values()):
            opened.files |= {f"{commit}/{name}": content for name, content in model_files(seed).items()}
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setenv("HF_ENDPOINT", opened.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield opened


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.slow
def test_a_hub_model_at_its_revision_resumed_after_a_cut(
    mirror: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    mirror.cuts[stores.WEIGHTS] = 1
    done = command("pull", "some/model@v1")
    assert done.returncode == 0, done.stderr
    old, new = (_sha256(mirror.files[f"{COMMIT[r]}/{stores.WEIGHTS}"]) for r in ("v1", "main"))
    assert "fetching some/model@v1: 0 MB, licence apache-2.0, from hub" in done.stdout
    assert f"some/model@v1 is here: sha256 {old}" in done.stdout
    assert mirror.count(f"{COMMIT['v1']}/{stores.WEIGHTS}") == 2
    assert f"sha256 {new}" in command("pull", "some/model").stdout, "another revision is another base"
    assert left_in(Store.default().root) == sorted([old, new])
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    again = command("check", "some/model@v1")
    assert f"some/model@v1: sha256 {old}, whole" in again.stdout, again.stderr
    one_line(
        command("pull", "some/other"),
        "some/other cannot be fetched",
        "HF_ENDPOINT",
        "here now: basewise-tiny",
    )


@pytest.mark.slow
def test_a_hub_line_that_is_always_cut_is_one_line(mirror: Site) -> None:
    mirror.cuts[stores.WEIGHTS] = 99
    one_line(command("pull", "some/model"), "cannot be fetched", "peer closed connection")
    assert left_in(Store.default().root) == []


def test_shards_of_a_hub_model_become_one_file_and_damage_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save

    from basewise.parts.sources import hub as source

    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for name, content in model_files().items():
        if name != stores.WEIGHTS:
            (snapshot / name).write_bytes(content)
    for i in (1, 2):
        content = save({f"part{i}": np.full((3, 2), i, np.float32)})
        (snapshot / f"model-0000{i}-of-00002.safetensors").write_bytes(content)
    monkeypatch.setattr(source, "_snapshot", lambda *_: snapshot)
    locator = {"repository": "some/shards", "revision": COMMIT["v1"]}
    card = replace(
        bases.find("minilm-l6"), key="some/shards", source="hub", weights_sha256=None, locator=locator
    )
    base = bases.pull(card)
    joined = load_file(base.folder / stores.WEIGHTS)
    assert {name: float(value[0, 0]) for name, value in joined.items()} == {"part1": 1.0, "part2": 2.0}
    assert not list(base.folder.glob("model-*"))
    (snapshot / "model-00002-of-00002.safetensors").write_bytes(DAMAGED["hole between"])
    moved = replace(card, locator={**locator, "revision": COMMIT["main"]})
    with pytest.raises(UnsafeWeights, match="not a sound safetensors file"):
        bases.pull(moved)
    assert left_in(Store.default().root) == [base.digest]


def test_a_damaged_file_in_the_clients_cache_is_fetched_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub

    snapshot = tmp_path / COMMIT["v1"]
    snapshot.mkdir()
    for name, content in model_files().items():
        (snapshot / name).write_bytes(content)
    (snapshot / stores.WEIGHTS).write_bytes(weights(seed=1))  # sound, and not what the hub promised
    asked: list[bool] = []

    def download(repository: str, *, revision: str, allow_patterns: list[str], force_download: bool) -> str:
        asked.append(force_download)
        if force_download:
            (snapshot / stores.WEIGHTS).write_bytes(weights())
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    card = replace(
        bases.find("minilm-l6"),
        key="some/model",
        source="hub",
        weights_sha256=_sha256(weights()),
        locator={"repository": "some/model", "revision": COMMIT["v1"]},
    )
    assert bases.pull(card).digest == _sha256(weights())
    assert asked == [False, True]

    def gone(*_: object, **__: object) -> str:
        raise OSError("no route to the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", gone)
    assert bases.find("some/model") == card, "what lies in the store is known by its name without the hub"
    with pytest.raises(BaseUnavailable, match=r"here now: .*some/model"):
        bases.pull("some/other")


def test_a_hub_that_is_down_for_a_moment_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub

    from basewise.parts.sources import hub as source

    class Down(Exception):
        response = SimpleNamespace(status_code=503, headers={"Retry-After": "7"})

    slept: list[float] = []
    answers: list[Any] = [Down("busy"), Down("busy"), str(tmp_path)]

    def download(*_: object, **__: object) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(source.time, "sleep", slept.append)
    assert source._snapshot("some/model", None, []) == tmp_path and slept == [7.0, 7.0]
    answers += [Down("busy")] * 3
    with pytest.raises(BaseUnavailable, match="busy"):
        source._snapshot("some/model", None, [])


# --- folders that are not what they seem -------------------------------------------------------------------------------


def _folder_of(tmp_path: Path, **changed: bytes) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir(exist_ok=True)
    for name, content in (model_files() | changed).items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (b"[1]", "holds a list"),
        (b"\xff\xfe", "cannot be read"),
        (b'{"model_type": "t5", "is_encoder_decoder": true}', "an encoder and a decoder in one"),
    ],
)
def test_a_configuration_that_no_base_has_is_one_line(config: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(BaseUnavailable, match=said):
        bases.find(str(_folder_of(tmp_path, **{"config.json": config})))


def test_an_adapter_is_no_base(tmp_path: Path) -> None:
    folder = _folder_of(tmp_path, **{"adapter_config.json": b"{}"})
    (folder / "config.json").unlink()
    with pytest.raises(BaseUnavailable, match="it is an adapter"):
        bases.find(str(folder))


def test_layers_and_width_go_by_other_names_too(tmp_path: Path) -> None:
    card = bases.find(str(_folder_of(tmp_path, **{"config.json": b'{"n_layers": 6, "dim": 768}'})))
    assert (card.layers, card.width) == (6, 768)


def test_weights_in_parts_are_joined_and_a_missing_part_is_told(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save

    folder = _folder_of(tmp_path)
    whole = load_file(folder / stores.WEIGHTS)
    (folder / stores.WEIGHTS).unlink()
    for i, (name, value) in enumerate(sorted(whole.items()), start=1):
        (folder / f"model-0000{i}-of-00002.safetensors").write_bytes(save({name: value}))
    base = bases.pull(str(folder))
    joined = load_file(base.folder / stores.WEIGHTS)
    assert joined.keys() == whole.keys() and all((joined[n] == whole[n]).all() for n in whole)
    assert base.folder.parent.name == "converted" and base.card.parameters == 9607
    (folder / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(UnsafeWeights, match="1 parts of its weights"):
        bases.pull(str(folder))


def test_weights_of_another_network_are_refused_not_drawn_anew(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    from basewise.engine.weights import load_network

    folder = tiny.base_folder(tmp_path / "base")
    whole = load_file(folder / stores.WEIGHTS)
    save_file({f"module.{name}": value for name, value in whole.items()}, folder / stores.WEIGHTS)
    with pytest.raises(UnsafeWeights, match="lack embeddings"):
        load_network(bases.pull(str(folder)))
    save_file(whole, folder / stores.WEIGHTS)
    load_network(bases.pull(str(folder)))
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "fancynet"}))
    with pytest.raises(UnsafeWeights, match="fancynet"):
        load_network(bases.pull(str(folder)))


def test_a_tokenizer_of_another_base_is_one_line(tmp_path: Path) -> None:
    from basewise.engine.encoder import Encoder, open_network
    from basewise.engine.layers import View
    from basewise.engine.tokens import pack

    network = open_network(bases.pull(str(tiny.base_folder(tmp_path / "base"))), "fp32")
    with pytest.raises(InputError, match="numbers up to 99999"):
        Encoder(network).encode(pack([[1, 99_999]], np.zeros(1, bool)), [View(1)])


# --- GGUF files and random twins ---------------------------------------------------------------------------------------

VOCABULARY = ["<unk>", "<s>", "</s>", *(chr(c) for c in range(97, 123)), "Ġ", "th", "the", "Ġthe"]
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def _llama(seed: int = 7) -> Any:
    """A tiny random Llama of transformers."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(VOCABULARY), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5, tie_word_embeddings=True,
        )  # fmt: skip
        return LlamaForCausalLM(config).eval()


def _tensor_of(name: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    """A weight under its GGUF name; llama.cpp pairs the halves of a head's rows for its rotary embedding."""
    if name in ("model.embed_tokens.weight", "model.norm.weight"):
        return ("token_embd" if "embed" in name else "output_norm") + ".weight", value
    _, _, layer, rest = name.removesuffix(".weight").split(".", 3)
    heads = {"self_attn.q_proj": 4, "self_attn.k_proj": 2}.get(rest)
    if heads:
        value = value.reshape(heads, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
    return f"blk.{layer}.{NAMES[rest]}.weight", np.ascontiguousarray(value)


def _write_gguf(path: Path, model: Any) -> None:
    from gguf import GGUFWriter

    writer = GGUFWriter(str(path), "llama")
    writer.add_block_count(2)
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(len(VOCABULARY))
    writer.add_license("apache-2.0")
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(VOCABULARY)
    writer.add_token_types([3] * 3 + [1] * (len(VOCABULARY) - 3))
    writer.add_token_merges(["t h", "th e", "Ġ the"])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, value in model.state_dict().items():
        if name != "lm_head.weight":
            writer.add_tensor(*_tensor_of(name, value.numpy().astype(np.float32)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _states(network: Any) -> list[np.ndarray]:
    import torch

    with torch.inference_mode():
        out = network(torch.tensor([[1, 5, 6, 9, 30, 31, 32, 4]]), output_hidden_states=True)
    return [state.numpy() for state in out.hidden_states]


@pytest.mark.parametrize("how", ["here", pytest.param("in its own process", marks=pytest.mark.slow)])
def test_a_gguf_file_gives_the_hidden_states_of_the_model_it_came_from(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gguf")
    from basewise.engine import gguf_convert
    from basewise.engine.weights import load_network, load_tokenizer

    # the process of its own costs the import of torch and transformers again
    if how == "here":
        monkeypatch.setattr(gguf_convert, "convert", gguf_convert._run)
    model = _llama()
    _write_gguf(tmp_path / "tiny.gguf", model)
    base = bases.pull(str(tmp_path / "tiny.gguf"))
    assert base.card.licence == "apache-2.0"
    assert base.card.parameters == sum(p.numel() for p in model.parameters())
    network, tokenizer = load_network(base), load_tokenizer(base)
    for ours, theirs in zip(_states(network), _states(model.model), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert tokenizer("the the")["input_ids"][-2:] == [31, 32]
    (tmp_path / "tiny.gguf").unlink()
    assert Store.default().find(base.card) is not None, "later loads read the store"


def test_a_damaged_gguf_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    path = tmp_path / "odd.gguf"
    _write_gguf(path, _llama())
    content = path.read_bytes()
    for damaged in (b"", b"GGUF", content[:200], content[: len(content) // 2], b"\x80\x04" + content[2:]):
        path.write_bytes(damaged)
        with pytest.raises(BaseUnavailable, match="not a GGUF file that can be read") as caught:
            gguf.card_of(path)
        assert "\n" not in str(caught.value)
    # the number of tensors lies
    path.write_bytes(content[:8] + b"\xff" * 8 + content[16:])
    with pytest.raises(BaseUnavailable):
        gguf.card_of(path)


def test_the_random_twin_of_a_base_is_the_same_each_time(tmp_path: Path) -> None:
    import torch

    from basewise.engine.weights import load_network

    _llama().save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(model_files()["tokenizer.json"])
    twin, base = bases.pull(f"scratch:{tmp_path}"), bases.pull(str(tmp_path))
    assert twin.digest != base.digest and twin.digest == bases.pull(f"scratch:{tmp_path}").digest
    before = torch.get_rng_state()
    first, again = (load_network(twin).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before), "drawing weights must not move the caller's generator"
    other = load_network(replace(twin, random_seed=1)).state_dict()
    trained = load_network(base).state_dict()
    matrix = "layers.0.mlp.up_proj.weight"
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert first.keys() == trained.keys()
    assert not torch.equal(first[matrix], other[matrix])
    assert not torch.equal(first[matrix], trained[matrix])
    assert "whole" in bases.check(f"scratch:{tmp_path}")
