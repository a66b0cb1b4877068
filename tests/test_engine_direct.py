"""Bases opened straight from their files: the same weights and token ids as through transformers, or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from basewise.core.base import Base
from basewise.engine import direct
from basewise.parts.sources import folder as folders
from tiny import base_folder, vocabulary

TEXTS = [
    "",
    " ",
    "a",
    "Cafe\u0301 CAFÉ naïve straße İstanbul",
    "tab\tnew\nline \x00 \u200b zero\ufffd",
    "[CLS] [MASK] and [SEP] or <mask> <s> </s> <pad> [UNK] <unk> x<mask>",
    "中文 字 and ｆｕｌｌ width",
    "y" * 120,
    "don't -- stop... @user #tag https://example.org/?q=1",
]


def kept(kind: str, place: Path, head: bool = False) -> Path:
    """A random encoder as transformers saves it; `head`: below a classifier, so that every name has a prefix."""
    import transformers as hf

    common = {
        "vocab_size": 40,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    config = {
        "bert": hf.BertConfig(**common),
        "roberta": hf.RobertaConfig(**common, pad_token_id=1),
        "xlm-roberta": hf.XLMRobertaConfig(**common, pad_token_id=1),
        "mpnet": hf.MPNetConfig(**common),
    }[kind]
    torch.manual_seed(1)
    kinds: Any = hf.AutoModelForSequenceClassification if head else hf.AutoModel
    kinds.from_config(config).save_pretrained(place)
    return place


def opened(place: Path) -> Base:
    vocab = place / "tokenizer.json"
    if not vocab.exists():
        base_folder(place / "words")
        vocab.write_bytes((place / "words" / "tokenizer.json").read_bytes())
    return Base(card=folders.card_of(place), folder=place, digest="0" * 64)


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "mpnet"])
@pytest.mark.parametrize("head", [False, True])
def test_weights_are_those_that_transformers_opens(tmp_path: Path, kind: str, head: bool) -> None:
    from basewise.engine.weights import load_network

    base = opened(kept(kind, tmp_path / "base", head))
    found = direct.weights(base)
    assert found is not None
    theirs = load_network(base)
    assert found.config.model_type == theirs.config.model_type
    for name, tensor in theirs.state_dict().items():
        if "position_ids" not in name:
            assert torch.equal(found.tensors[name], tensor), name


def change(place: Path, **stated: Any) -> None:
    path = place / "config.json"
    config = json.loads(path.read_text()) | stated
    path.write_text(json.dumps({k: v for k, v in config.items() if v != "gone"}))


@pytest.mark.parametrize(
    "stated",
    [
        {"auto_map": {"AutoModel": "code.Model"}},
        {"quantization_config": {"bits": 4}},
        {"hidden_act": "gone"},
        {"hidden_size": 32},
        {"num_hidden_layers": 3},
        {"vocab_size": 41},
        {"model_type": "distilbert"},
    ],
)
def test_what_is_not_sure_is_left_to_transformers(tmp_path: Path, stated: dict[str, Any]) -> None:
    base = opened(kept("bert", tmp_path / "base"))
    assert direct.weights(base) is not None
    change(base.folder, **stated)
    assert direct.weights(base) is None


def test_a_missing_or_damaged_file_is_left_to_transformers(tmp_path: Path) -> None:
    base = opened(kept("bert", tmp_path / "base"))
    path = base.folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["encoder.layer.1.output.dense.bias"]
    save_file(tensors, path)
    assert direct.weights(base) is None
    path.write_bytes(path.read_bytes()[:200])
    assert direct.weights(base) is None
    path.unlink()
    assert direct.weights(base) is None


def test_old_names_of_norms_and_other_precisions(tmp_path: Path) -> None:
    base = opened(kept("bert", tmp_path / "base"))
    found = direct.weights(base)
    assert found is not None
    path = base.folder / "model.safetensors"
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): t.half()
        for name, t in load_file(path).items()
    }
    save_file(old, path)
    again = direct.weights(base)
    assert again is not None
    for name, tensor in found.tensors.items():
        assert again.tensors[name].dtype == torch.float32
        assert torch.equal(again.tensors[name], tensor.half().float())


def wordpiece(place: Path, names: dict[str, str], lenient: str = "", **normal: Any) -> dict[str, Any]:
    """Write a tokenizer as such kinds have it; its JSON."""
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

    pieces = {**{n: i for i, n in enumerate(names.values())}}
    for piece in vocabulary():
        pieces.setdefault(piece, len(pieces))
    made = Tokenizer(models.WordPiece(pieces, unk_token=names["unk"]))
    made.normalizer = normalizers.BertNormalizer(**normal)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(
        [AddedToken(n, lstrip=n == lenient, normalized=False, special=True) for n in names.values()]
    )
    cls, sep = names["cls"], names["sep"]
    made.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}", special_tokens=[(cls, pieces[cls]), (sep, pieces[sep])]
    )
    place.mkdir(parents=True, exist_ok=True)
    made.save(str(place / "tokenizer.json"))
    (place / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
    found: dict[str, Any] = json.loads((place / "tokenizer.json").read_text(encoding="utf-8"))
    return found


SETTINGS: list[dict[str, Any]] = [
    {},
    {"do_lower_case": False},
    {"strip_accents": False},
    {"strip_accents": True, "do_lower_case": False},
    {"tokenize_chinese_chars": False},
    {"cls_token": "[BOS]"},
    {"unk_token": {"content": "[UNK]", "__type": "AddedToken"}},
    {"additional_special_tokens": ["[NEW]"]},
    {"bos_token": "[START]"},
    {"model_max_length": 16, "truncation_side": "left", "padding_side": "left"},
]


@pytest.mark.parametrize("kind", ["BertTokenizer", "BertTokenizerFast", "MPNetTokenizer"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("told", [True, False], ids=["told", "file as usual"])
def test_token_ids_are_those_of_transformers(
    tmp_path: Path, kind: str, settings: dict[str, Any], told: bool
) -> None:
    """`told`: the file does what the settings say. Where they part, transformers goes by the settings, so nothing is given."""
    from transformers import AutoTokenizer

    names = direct.SPECIAL[kind.removesuffix("Fast")]
    normal = {
        "lowercase": settings.get("do_lower_case", True),
        "strip_accents": settings.get("strip_accents"),
        "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
    }
    lenient = "<mask>" if kind.startswith("MPNet") else ""
    wordpiece(tmp_path, names, lenient, **(normal if told else {}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind, **settings}))
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "mpnet" if kind.startswith("MPNet") else "bert"})
    )
    found = direct.tokenizer(tmp_path)
    plain = settings.keys() <= {"model_max_length", "truncation_side", "padding_side", "unk_token"}
    named = {"cls_token", "additional_special_tokens", "bos_token"} & settings.keys()
    assert (found is not None) == ((told or plain) and not named)
    if found is not None:
        theirs = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True).backend_tokenizer
        theirs.no_truncation()
        for text in TEXTS:
            assert found.encode(text).ids == theirs.encode(text).ids, text


@pytest.mark.parametrize(
    "path",
    [
        ("model", "max_input_chars_per_word", 50),
        ("model", "continuing_subword_prefix", "@@"),
        ("pre_tokenizer", "type", "Whitespace"),
        ("normalizer", "clean_text", False),
    ],
)
def test_a_tokenizer_of_another_make_is_left_to_transformers(
    tmp_path: Path, path: tuple[str, str, Any]
) -> None:
    file = wordpiece(tmp_path, direct.SPECIAL["BertTokenizer"])
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    assert direct.tokenizer(tmp_path) is not None
    file[path[0]][path[1]] = path[2]
    (tmp_path / "tokenizer.json").write_text(json.dumps(file), encoding="utf-8")
    assert direct.tokenizer(tmp_path) is None


@pytest.mark.slow
def test_features_of_such_a_base_import_no_transformers(tmp_path: Path) -> None:
    place = base_folder(tmp_path / "base")
    program = (
        "import sys; from pathlib import Path; from basewise.engine.features import FeatureStore;"
        "from basewise.parts.sources import folder;"
        "from basewise.core.base import Base;"
        f"place = Path({str(place)!r}); base = Base(card=folder.card_of(place), folder=place, digest='0' * 64);"
        "features = FeatureStore(None).features(base, ['a b', 'c']);"
        "print(len(features), 'transformers' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip().endswith("False")


def test_weights_that_were_tuned_take_the_place_of_their_own(tmp_path: Path) -> None:
    found = direct.weights(opened(kept("bert", tmp_path / "base")))
    assert found is not None
    name = "encoder.layer.1.output.dense.bias"
    tuned = found.changed({name: torch.ones_like(found.tensors[name])})
    assert tuned.tensors[name].sum() == 16 and found.tensors[name].sum() == 0
    with pytest.raises(ValueError, match="lacks"):
        found.changed({"encoder.layer.9.output.dense.bias": torch.ones(16)})
