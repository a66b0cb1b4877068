"""Pickled weights: good ones become equal safetensors, hostile, damaged and slow ones become one clear line and nothing else."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from basewise.core.base import Base
from basewise.core.errors import BasewiseError, UnsafeWeights
from basewise.core.registry import part
from basewise.engine.sandbox import WORKER, convert_all, convert_pickle
from basewise.engine.store import Store
from basewise.engine.weights import load_network, load_tokenizer
from basewise.steps import bases

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class Payload:
    """Pickles to a call of `function(*arguments)`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, Any]:
        return self.call


def payloads(witness: Path) -> dict[str, Payload]:
    """Ways to create the file `witness` while a pickle is read."""
    code = f"open({str(witness)!r}, 'w').close()"
    return {
        "os.system": Payload(os.system, f"touch {witness}"),
        "eval": Payload(eval, code),
        "exec": Payload(exec, code),
        "subprocess": Payload(subprocess.check_output, ["touch", str(witness)]),
        "torch.load": Payload(torch.load, str(witness)),
    }


def refused(source: Path, match: str, **limits: Any) -> None:
    """The conversion fails with one line and leaves nothing in the folder of its target."""
    target = source.parent / "made" / "model.safetensors"
    with pytest.raises(UnsafeWeights, match=match) as caught:
        convert_pickle(source, target, **limits)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert list(target.parent.iterdir()) == []


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as of old: configuration, tokeniser and pytorch_model.bin of a BERT of one narrow layer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("old")
    words = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "my", "card"])}
    inner = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(
        folder
    )
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=16, **sizes))
    model.config.architectures = ["BertModel"]
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_plain_tensors_come_through_equal(tmp_path: Path, zipped: bool) -> None:
    shared = torch.randn(3, 4)
    tensors = {
        "shared": shared,
        "again": shared,
        "transposed": shared.T,
        "row": shared[1],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "long": torch.arange(5),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
    }
    torch.save(tensors, tmp_path / "old.bin", _use_new_zipfile_serialization=zipped)
    convert_pickle(tmp_path / "old.bin", tmp_path / "new.safetensors")
    made = load_file(tmp_path / "new.safetensors")
    assert made.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert made[name].dtype == tensor.dtype and torch.equal(made[name], tensor), name
    assert {p.name for p in tmp_path.iterdir()} == {"old.bin", "new.safetensors"}


@pytest.mark.parametrize("kind", sorted(payloads(Path("x"))))
def test_a_payload_is_refused_and_does_not_run(tmp_path: Path, kind: str) -> None:
    witness = tmp_path / "witness"
    payload = payloads(witness)[kind]
    torch.save({"weight": torch.ones(2), "more": payload}, tmp_path / "bad.bin")
    refused(tmp_path / "bad.bin", "refused: it calls .*, which weights do not need; use a base")
    assert not witness.exists()


@pytest.mark.parametrize("where", range(5))
def test_a_payload_in_the_legacy_format_is_refused_wherever_it_hides(tmp_path: Path, where: int) -> None:
    witness = tmp_path / "witness"
    pickles: list[Any] = [MAGIC, PROTOCOL, {"little_endian": True}, {}, []]
    pickles[where] = [payloads(witness)["os.system"]]
    with open(tmp_path / "bad.bin", "wb") as file:
        for value in pickles:
            pickle.dump(value, file, protocol=2)
    refused(tmp_path / "bad.bin", "refused: it ")
    assert not witness.exists()


@pytest.mark.parametrize("protocol", [0, 4])
def test_a_bare_pickle_is_refused(tmp_path: Path, protocol: int) -> None:
    witness = tmp_path / "witness"
    (tmp_path / "bad.bin").write_bytes(pickle.dumps(payloads(witness)["eval"], protocol=protocol))
    refused(tmp_path / "bad.bin", "refused")
    assert not witness.exists()


def test_a_second_pickle_in_the_archive_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "bad.bin")
    with zipfile.ZipFile(tmp_path / "bad.bin", "a") as archive:
        archive.writestr("other/data.pkl", pickle.dumps(payloads(tmp_path / "witness")["eval"], protocol=2))
    refused(tmp_path / "bad.bin", "2 pickles in its archive")


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 and nothing", b"\x80\x02"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.bin").write_bytes(content)
    refused(tmp_path / "bad.bin", "refused: it is (damaged|a damaged|no file)")


def test_half_a_download_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(1000)}, tmp_path / "whole.bin")
    whole = (tmp_path / "whole.bin").read_bytes()
    (tmp_path / "bad.bin").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "bad.bin", "damaged archive")


@pytest.mark.slow
def test_what_holds_no_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2), "epoch\x1b[31m": 3}, tmp_path / "bad.bin")
    refused(tmp_path / "bad.bin", r"its entry .*\\x1b.* is a int, not a plain tensor")


@pytest.mark.slow
def test_a_small_file_of_a_huge_tensor_meets_a_limit(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(1).expand(1 << 40)}, tmp_path / "bad.bin")
    refused(tmp_path / "bad.bin", "needs more memory than it is given")
    torch.save({"weight": torch.ones(1).expand(1 << 24)}, tmp_path / "bad.bin")
    refused(tmp_path / "bad.bin", "its tensors are far larger than the file")


def test_time_and_memory_are_limited(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "slow.bin")
    refused(tmp_path / "slow.bin", "took more than 0.01 s", seconds=0.01)
    refused(tmp_path / "slow.bin", "needs more memory than it is given", memory_bytes=150 << 20)


ESCAPES = {
    "system": "os.system('touch witness')",
    "process": "import subprocess; subprocess.run(['touch', 'witness'])",
    "fork": "os.fork()",
    "write": "open('witness', 'w')",
    "remove": "os.remove('kept')",
    "native": "import ctypes; ctypes.CDLL('libc.so.6')",
    "socket": "import socket; socket.socket()",
    "raw socket": "import _socket; _socket.socket()",
}


@pytest.mark.parametrize("kind", ESCAPES)
def test_code_that_ran_in_spite_of_all_could_do_nothing_in_python(tmp_path: Path, kind: str) -> None:
    (tmp_path / "kept").touch()
    code = f"""
import os, runpy, sys
worker = runpy.run_path({str(WORKER)!r})
worker["leave_the_network"](); worker["no_sockets"](); worker["no_side_effects"]()
try:
    {ESCAPES[kind]}
except worker["Refused"] as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("it tried"), done
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")
def test_the_kernel_keeps_the_network_shut_where_it_can(tmp_path: Path) -> None:
    code = f"""
import runpy, socket
shut = runpy.run_path({str(WORKER)!r})["leave_the_network"]()
print(int(shut), [name for _, name in socket.if_nameindex()])
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    if done.stdout.startswith("0"):
        pytest.skip("this kernel allows no user namespaces here")
    assert done.stdout.strip() == "1 ['lo']"


@pytest.mark.slow
def test_a_folder_with_only_a_pickle_is_a_base(tiny: Path) -> None:
    before = sorted(p.name for p in tiny.iterdir())
    card = bases.find(str(tiny))
    assert "pickle" in card.note and card.family == "encoder"
    base = bases.pull(card)
    state = torch.load(tiny / "pytorch_model.bin", weights_only=True)
    model, tokenizer = load_network(base), load_tokenizer(base)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert tokenizer("my card")["input_ids"] == [4, 5]
    assert base.card.parameters == sum(t.numel() for t in state.values())
    assert base.folder.parent == Store.default().root / "converted"
    assert sorted(p.name for p in tiny.iterdir()) == before
    made = (base.folder / "model.safetensors").stat()
    assert bases.pull(card).digest == base.digest
    assert (base.folder / "model.safetensors").stat().st_mtime_ns == made.st_mtime_ns, "converted twice"
    assert base.digest in bases.check(str(tiny))


def test_the_network_is_never_opened_from_a_pickle(tiny: Path) -> None:
    with pytest.raises(UnsafeWeights, match="cannot be opened"):
        load_network(Base(card=bases.find(str(tiny)), folder=tiny, digest="0" * 64))


def test_a_hostile_folder_leaves_nothing_in_the_store(tiny: Path, tmp_path: Path) -> None:
    for path in tiny.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    torch.save({"w": payloads(tmp_path / "witness")["os.system"]}, tmp_path / "pytorch_model.bin")
    with pytest.raises(BasewiseError, match="refused"):
        bases.pull(str(tmp_path))
    assert not (tmp_path / "witness").exists()
    assert not list(Store.default().root.rglob("*.safetensors"))


def test_parts_become_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(source: Path, target: Path) -> None:
        save_file({name: torch.ones(2) for name in json.loads(source.read_text())}, target)

    monkeypatch.setattr("basewise.engine.sandbox.convert_pickle", convert)
    (tmp_path / "1").write_text('["a", "b"]')
    (tmp_path / "2").write_text('["c"]')
    convert_all([tmp_path / "1", tmp_path / "2"], tmp_path / "all.safetensors")
    assert load_file(tmp_path / "all.safetensors").keys() == {"a", "b", "c"}
    with pytest.raises(UnsafeWeights, match="repeats the tensor 'c'"):
        convert_all([tmp_path / "2", tmp_path / "2"], tmp_path / "all.safetensors")


@pytest.mark.slow
def test_a_hub_snapshot_with_only_a_pickle_is_converted(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = part("sources", "hub")
    asked: list[list[str]] = []

    def snapshot(repository: str, revision: str | None, patterns: list[str]) -> Path:
        asked.append(patterns)
        return tiny

    monkeypatch.setattr(hub, "_snapshot", snapshot)
    card = replace(bases.find(str(tiny)), key="a/b", source="hub", locator={"repository": "a/b"})
    base = hub.load(card, Store.default())
    assert asked == [hub.PATTERNS, ["pytorch_model*.bin"]]
    assert (base.folder / "model.safetensors").is_file() and not list(base.folder.glob("*.bin"))
