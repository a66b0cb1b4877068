"""Corpora: packing and reading, the tokenizer, what is removed and why, stops and resumes, and everything that can be wrong with one."""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basewise.core import registry
from basewise.core.corpus_recipe import CorpusRecipe, Source, named_sources, read_corpus_recipe
from basewise.core.documents import Columns, Document, cut, plain
from basewise.core.errors import InputError, MissingExtra, RunError, TableError
from basewise.core.personal import find_personal, replaced
from basewise.engine import bpe, corpus, vocabulary
from basewise.engine.packing import pack
from basewise.stats import minhash
from basewise.stats.contamination import longest_matches
from basewise.stats.duplicates import normalise
from basewise.stats.scrub import Evaluation, Known, personal_spans, without
from basewise.stats.words import Block, blocks
from basewise.steps.corpus import build
from tiny import command, refused

WORDS = [
    "river",
    "mountain",
    "history",
    "letter",
    "garden",
    "winter",
    "doctor",
    "machine",
    "window",
    "people",
    "number",
    "light",
    "water",
    "kitchen",
    "market",
    "engine",
    "paper",
    "road",
    "teacher",
    "village",
    "planet",
    "forest",
    "island",
    "question",
    "answer",
    "music",
    "silver",
    "cotton",
    "harbour",
    "bridge",
    "library",
    "morning",
    "evening",
    "summer",
    "colour",
]
STOP = ["the", "and", "of", "to", "that", "with", "have", "be", "in", "a"]


def prose(rng: np.random.Generator, words: int = 90) -> str:
    """Sentences of common words, long enough for the filters."""
    picked = [
        str(rng.choice(WORDS if i % 2 else STOP)) + (str(rng.choice(list("sedy"))) if i % 3 == 0 else "")
        for i in range(words)
    ]
    return ". ".join(" ".join(picked[i : i + 9]) for i in range(0, words, 9)) + "."


def documents(count: int, seed: int = 0, words: int = 90) -> list[str]:
    rng = np.random.default_rng(seed)
    return [prose(rng, words + int(rng.integers(0, 60))) for _ in range(count)]


def jsonl(path: Path, texts: list[str], **more: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": t, **more}) + "\n" for t in texts), encoding="utf-8")
    return path


def recipe_of(*places: Path, **more: object) -> CorpusRecipe:
    more = {"vocabulary": 300, "validation": 0.1, **more}
    return CorpusRecipe(sources=named_sources([str(p) for p in places]), **more)  # type: ignore[arg-type]


# --- packing and reading


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), max_size=40), st.integers(1, 17))
def test_every_token_is_in_exactly_one_place_and_no_row_is_padded(sizes: list[int], length: int) -> None:
    offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    packing = pack(offsets, length)
    places = packing.positions(np.arange(len(packing)))
    assert places.shape == (sum(sizes) // length, length)
    assert len(np.unique(places)) == places.size
    assert packing.left_over == sum(sizes) - places.size < length
    assert places.size == 0 or (places.min() >= 0 and places.max() < sum(sizes))


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(2, 12))
def test_rows_open_at_document_starts_while_there_are_any(sizes: list[int], length: int) -> None:
    offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    packing = pack(offsets, length)
    opens = packing.begin[packing.first[:-1]]
    whole = int((np.array(sizes) // length).sum())
    starts = np.isin(opens, offsets[:-1])
    assert set(opens[:whole][starts[:whole]]) == {
        o for o, s in zip(offsets, sizes, strict=False) if s >= length
    }
    packed = starts[whole:].tolist()
    assert packed == sorted(packed, reverse=True), "a continuation opened a row before a document did"


def test_a_document_that_fits_is_not_cut() -> None:
    packing = pack(np.cumsum([0, 6, 4, 7, 3, 5, 5]), 10)
    sizes = sorted(packing.size.tolist())
    assert sizes == [3, 4, 5, 5, 6, 7] and packing.left_over == 0


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> corpus.Corpus:
    """A corpus of two sources, one passed one and a half times."""
    folder = tmp_path_factory.mktemp("built")
    one, two = (
        jsonl(folder / "one.jsonl", documents(40, 1), licence="CC0-1.0"),
        jsonl(folder / "two.jsonl", documents(30, 2)),
    )
    sources = (
        Source(name="one", paths=(str(one),), weight=1.5),
        Source(name="two", paths=(str(two),), licence="MIT"),
    )
    return build(CorpusRecipe(sources=sources, vocabulary=300, validation=0.1), folder / "corpus")


def test_a_built_corpus_holds_every_document_once_and_reads_back_as_text(built: corpus.Corpus) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(built.tokenizer / "tokenizer.json"))
    start = built.special["start"]
    texts = []
    for shard in built.shards:
        assert shard.tokens.dtype == np.uint16
        for number in range(len(shard.offsets) - 1):
            ids = shard.document(number)
            assert ids[0] == start and start not in ids[1:]
            texts.append(tokenizer.decode(ids[1:].tolist()))
    assert sorted(texts) == sorted(documents(40, 1) + documents(30, 2))
    assert built.tokens() + built.tokens("validation") == sum(len(s.tokens) for s in built.shards)
    size = sum(int(built.token_bytes[s.tokens].sum()) for s in built.shards)
    assert size == sum(len(text.encode()) for text in texts)


def test_rows_of_both_sources_by_weight_and_the_same_order_everywhere(built: corpus.Corpus) -> None:
    rows, plain_rows = built.rows("train", 33), [built.rows("train", 33, s) for s in ("one", "two")]
    assert len(rows) == len(plain_rows[0]) + round(0.5 * len(plain_rows[0])) + len(plain_rows[1])
    taken = rows.take(np.arange(len(rows)))
    assert taken.shape == (len(rows), 33) and taken.dtype == np.int64 and taken.max() < built.vocabulary
    counts = np.unique(taken, axis=0, return_counts=True)[1]
    assert counts.max() == 2 and (counts == 2).sum() == round(0.5 * len(plain_rows[0]))
    again = corpus.open_corpus(built.folder, expect=built.digest).rows("train", 33)
    for step in (0, 3, len(rows)):
        assert np.array_equal(rows.batch(step, 5, seed=7), again.batch(step, 5, seed=7))
    assert not np.array_equal(rows.batch(0, 5, seed=7), rows.batch(0, 5, seed=8))
    assert sorted(rows.order(1).tolist()) == list(range(len(rows)))
    with pytest.raises(IndexError):
        rows.take(np.array([len(rows)]))


def test_a_batch_larger_than_the_corpus_names_what_fits(built: corpus.Corpus) -> None:
    rows = built.rows("train", 65)
    with pytest.raises(InputError, match=f"a batch of {len(rows)} rows"):
        rows.batch(0, len(rows) + 1, 0)
    with pytest.raises(InputError, match="fills no row of 1000000 tokens"):
        built.rows("train", 1_000_000).batch(0, 1, 0)
    with pytest.raises(InputError, match="at least 2"):
        built.rows("train", 1)
    with pytest.raises(InputError, match="did you mean 'one'"):
        built.rows("train", 33, "onn")


def test_the_manifest_accounts_for_every_document(built: corpus.Corpus) -> None:
    one, two = built.manifest["sources"]
    assert list(one["licences"]) == ["CC0-1.0"] and list(two["licences"]) == ["MIT"]
    assert one["train"]["documents"] + one["validation"]["documents"] == one["read"]["documents"] == 40
    assert one["validation"]["documents"] == 4 and two["validation"]["documents"] == 3
    assert built.manifest["totals"]["read"]["documents"] == 70


def test_transformers_opens_the_tokenizer(built: corpus.Corpus) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(built.tokenizer)
    ids = tokenizer("the river of 1984")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id == tokenizer.cls_token_id == built.special["start"]
    assert tokenizer.mask_token_id == built.special["mask"] and tokenizer.pad_token_id == built.special["pad"]
    assert tokenizer.decode(ids[1:]) == "the river of 1984" and len(tokenizer) == built.vocabulary
    digits = [tokenizer.decode([i]) for i in ids[-4:]]
    assert digits == list("1984"), "a digit is always a token of its own"


# --- tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> object:
    return bpe.train(
        [*documents(60, 3), "Straße naïve “quotes” 3½ m² Ⅷ ٣ e\u0301 — it's we'll 汉字 😀 x\u00a0y\n\n  z\t1"]
        * 2,
        700,
    )


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=("Cs",))) | st.text("aé 1½²\n\t'sIt’—😀𝟘𐐀Ⅷ_\u0301\u00a0"),
        max_size=5,
    )
)
def test_the_encoder_gives_what_the_tokenizer_gives(tokenizer: object, texts: list[str]) -> None:
    ids, begin = bpe.Encoder(tokenizer).encode(texts)
    wanted = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]  # type: ignore[attr-defined]
    assert [ids[a:b].tolist() for a, b in itertools.pairwise(begin)] == wanted


def test_the_name_of_a_special_token_is_text(tokenizer: object) -> None:
    """Also beside a character on whose class the two ways of cutting differ."""
    special = {tokenizer.token_to_id(name) for name in bpe.SPECIAL.values()}  # type: ignore[attr-defined]
    for text in ("a <|start|> b", "\U00010000 <|start|> b"):
        ids, _ = bpe.Encoder(tokenizer).encode([text])
        assert special.isdisjoint(ids.tolist())


def test_a_smaller_vocabulary_is_a_prefix_of_a_larger_one(tokenizer: object) -> None:
    small = bpe.smaller(tokenizer, 400)
    direct = bpe.train(
        [*documents(60, 3), "Straße naïve “quotes” 3½ m² Ⅷ ٣ e\u0301 — it's we'll 汉字 😀 x\u00a0y\n\n  z\t1"]
        * 2,
        400,
    )
    assert small.get_vocab() == direct.get_vocab()
    assert small.encode(documents(1, 9)[0]).ids == direct.encode(documents(1, 9)[0]).ids


def test_a_vocabulary_that_the_text_cannot_fill_says_what_it_supports() -> None:
    with pytest.raises(InputError, match=r"supports a vocabulary of 2[67][0-9] tokens, 5000"):
        bpe.check_size(bpe.train(["ab ab ab abc abc"], 5000), 5000)


def test_bigram_bits_are_a_distribution() -> None:
    rng = np.random.default_rng(0)
    train = rng.integers(0, 7, 400)
    # 7 and 8 were never seen
    for previous in range(9):
        pairs = np.array([[previous, token] for token in range(9)])
        bits = [vocabulary.bigram_bits(train, pair, 9)[1] for pair in pairs]
        assert np.isclose(np.sum(2.0 ** -np.array(bits)), 1)


# --- words, repeats, filters, scrubbing


@settings(deadline=None)
@given(st.lists(st.text("abcÄß e_1.,\n-é", max_size=30), max_size=6))
def test_words_are_those_of_normalise_wherever_they_stand(texts: list[str]) -> None:
    block = Block.of(texts)
    words = [normalise(text.replace("ß", "s")).split() for text in texts]
    assert np.diff(block.word_begin).tolist() == [len(w) for w in words]
    alone = {w: int(Block.of([w]).words[0]) for w in {w for ws in words for w in ws} if "s" not in w}
    flat = [w for ws in words for w in ws]
    assert all(int(n) == alone[w] for n, w in zip(block.words, flat, strict=True) if w in alone)
    assert len(set(alone.values())) == len(alone)


def test_the_same_words_in_other_clothes_have_the_same_key() -> None:
    block = Block.of(["The river, of TIME", "the\nriver of time!", "the of river time", ""])
    assert block.keys[0] == block.keys[1] and len(set(block.keys.tolist())) == 3


def test_near_repeats_are_found_and_others_are_not() -> None:
    rng = np.random.default_rng(5)
    bases = [[f"w{rng.integers(5000)}" for _ in range(200)] for _ in range(300)]
    near = [list(words) for words in bases]
    for words in near:
        words[int(rng.integers(20, 180))] = "changed"
        words[-6:] = ["another", "end", "of", "the", "same", "text"]
    texts = [" ".join(words) for words in (*bases, *near)]
    marks = np.concatenate([minhash.signatures(block) for block in blocks(texts)])
    found = minhash.near_repeated(minhash.band_keys(marks).T, marks, 0.75)
    true = []
    for a, b in zip(bases, near, strict=True):
        x, y = ({tuple(w[i : i + 5]) for i in range(196)} for w in (a, b))
        true.append(len(x & y) / len(x | y))
    assert min(true) > 0.85
    assert not found[:300].any(), "a document without an earlier like was dropped"
    assert found[300:].mean() >= 0.95
    cut_in_parts = minhash.near_repeated(minhash.band_keys(marks).T, marks, 0.75, part=64)
    assert np.array_equal(found, cut_in_parts)


def test_exact_repeats_in_parts_keep_the_first() -> None:
    keys = np.array([5, 3, 5, 9, 3, 5], np.uint64)
    for part in (2, 100):
        assert minhash.repeated(keys, part).tolist() == [False, False, True, False, True, True]


BAD = {
    "words": "the river of time and",
    "word_length": " ".join(["a b c the of"] * 20),
    "symbols": " ".join(["the river of time # and"] * 20),
    "letters": " ".join(["the 12 34 56 and 78"] * 20),
    "stop_words": " ".join(f"river{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(99)),
    "bullets": "\n".join(f"- the river number {chr(97 + i)} and the time of it" for i in range(20)),
    "unfinished_lines": "\n".join(
        f"the river number {chr(97 + i)} and the time of it ..." for i in range(20)
    ),
    "repeated_lines": "\n".join(["the river of time and the long winter of the year"] * 20),
    "repeated_words": " ".join(["the river of time and the long winter of the cold year"] * 20),
    "short_lines": "\n".join(f"the river {chr(97 + i)} and so" for i in range(20)),
    "placeholder": documents(1)[0] + " Lorem ipsum dolor.",
}


def test_there_is_an_example_of_what_each_filter_removes() -> None:
    assert set(BAD) == set(registry.keys("filters"))


@pytest.mark.parametrize("key", registry.keys("filters"))
def test_each_filter_removes_its_example_and_keeps_prose(key: str) -> None:
    part = registry.part("filters", key)
    value = part.measure(Block.of([*documents(4), BAD[key], ""]))
    assert value.shape == (6,)
    inside = (value >= part.LIMITS[0]) & (value <= part.LIMITS[1])
    assert inside[:4].all() and not inside[4], value
    assert part.measure(Block.of([])).shape == (0,)


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "a@b.org",
                "+49 30 1234567",
                "10.20.30.40",
                "4111 1111 1111 1111",
                "the river",
                "x" * 90,
                "7",
                "\n",
                "DE89 3704 0044 0532 0130 00",
            ]
        ),
        max_size=12,
    )
)
def test_scrubbing_by_surroundings_finds_what_the_whole_text_shows(pieces: list[str]) -> None:
    text = " ; ".join(pieces)
    wanted = sorted((k, a, b) for k, a, b in find_personal(text) if k != "ip")
    found = sorted((k, a, b) for k, a, b in personal_spans(Block.of([text])).get(0, []) if k != "ip")
    assert found == wanted
    assert "a@b.org" not in replaced(text, personal_spans(Block.of([text])).get(0, []))


def test_private_addresses_stay_and_public_ones_go() -> None:
    text = "Ask 192.168.10.20 or 93.184.216.34 for it."
    assert replaced(text, personal_spans(Block.of([text]))[0]) == "Ask 192.168.10.20 or [ip] for it."


def test_lines_with_evaluation_items_go_and_the_longest_match_is_told() -> None:
    item = "how long does the winter of the northern islands usually last this year"
    text = (
        "first line of it\nBefore: How long does the winter of the northern islands, usually last?\nlast line"
    )
    one = Evaluation.of("set", [item, "short one"])
    spans, grams = Known(one.grams).spans(block := Block.of(["nothing of it here", text]))
    assert list(spans) == [1] and without(block.texts[1], spans[1]) == "first line of it\nlast line"
    account = one.matched(grams)
    assert account == {"items": 2, "long_enough": 1, "matched": 1, "longest_match_words": 11}
    assert account["longest_match_words"] == longest_matches([item], [text])[0][0]


@settings(deadline=None)
@given(st.text())
def test_plain_text_stays_plain(text: str) -> None:
    once = plain(text)
    assert plain(once) == once and "\r" not in once and "\0" not in once


@settings(deadline=None)
@given(st.text("ab \n", max_size=200), st.integers(2, 30))
def test_a_cut_text_is_the_text(text: str, longest: int) -> None:
    parts = list(cut(text, longest))
    assert "".join(parts) == text and all(len(part) <= longest for part in parts)


# --- readers


def read_all(place: str) -> list[Document]:
    reader = next(part for part in registry.parts("readers").values() if part.takes(place))
    return list(reader.read(place, Columns()))


def test_readers_give_text_licence_and_origin(tmp_path: Path) -> None:
    import bz2
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = {"text": ["one", None, "three"], "license": ["MIT", "", None], "url": ["https://a.org/x", "", ""]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    wanted = [Document("one", "MIT", "https://a.org/x"), Document("three")]
    assert read_all(str(tmp_path / "a.parquet")) == wanted
    lines = "".join(json.dumps({k: v[i] for k, v in rows.items()}) + "\n\n" for i in range(3))
    for ending, packed in ((".gz", gzip.compress), (".bz2", bz2.compress)):
        (tmp_path / f"a.jsonl{ending}").write_bytes(packed(lines.encode()))
        assert read_all(str(tmp_path / f"a.jsonl{ending}")) == wanted
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + ("é " * 60 + "\n\n").encode() * 2000)
    parts = [document.text for document in read_all(str(tmp_path / "a.txt"))]
    assert len(parts) >= 1 and "".join(parts) == ("é " * 60 + "\n\n") * 2000


def test_what_is_no_text_is_refused_and_bytes_are_read_as_utf8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": pa.array([b"one", None, "zw\u00f6lf".encode()], pa.binary())}), path)
    assert read_all(str(path)) == [Document("one"), Document("zw\u00f6lf")]
    pq.write_table(pa.table({"text": pa.array([b"one"] * 300 + [b"\xff"], pa.binary())}), path)
    with pytest.raises(TableError, match=r"row 301 of .*a\.parquet is not UTF-8"):
        read_all(str(path))
    pq.write_table(pa.table({"text": [["a", "b"]]}), path)
    with pytest.raises(TableError, match=r"row 1 of .*a\.parquet is a list"):
        read_all(str(path))
    for value, kind in (({"en": "a"}, "an object"), (["a"], "a list"), (3, "a number"), (True, "true")):
        (tmp_path / "a.jsonl").write_text(f'{{"text": "one"}}\n{json.dumps({"text": value})}\n')
        with pytest.raises(TableError, match=rf"line 2 of .*a\.jsonl is {kind}"):
            read_all(str(tmp_path / "a.jsonl"))
    rows = iter([{"text": None}, {"text": ["a"]}])
    stream = types.SimpleNamespace(load_dataset=lambda name, **more: rows)
    monkeypatch.setitem(sys.modules, "datasets", stream)
    with pytest.raises(TableError, match=r"row 2 of datasets:a/b is a list"):
        read_all("datasets:a/b")


def test_files_in_capitals_are_read_and_those_passed_over_are_told(tmp_path: Path) -> None:
    import gzip

    texts = documents(12, 1)
    folder = tmp_path / "in"
    jsonl(folder / "a.jsonl", texts[:6])
    packed = "".join(json.dumps({"text": t}) + "\n" for t in texts[6:11]).encode()
    (folder / "B.JSONL.GZ").write_bytes(gzip.compress(packed))
    (folder / "C.TXT").write_text(texts[11], encoding="utf-8")
    (folder / "d.csv").write_text("text\nhello\n")
    (folder / ".hidden.csv").write_text("x")
    made = build(recipe_of(folder), tmp_path / "out")
    assert made.manifest["sources"][0]["read"]["documents"] == 12
    assert made.manifest["sources"][0]["passed_over"] == {".csv": 1}
    assert (
        "passed over in in: 1 files that no reader knows (.csv 1)"
        in command("corpus", "show", made.folder).out
    )


def test_an_evaluation_set_that_was_edited_makes_another_corpus(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", documents(12, 1))
    items = jsonl(tmp_path / "items.jsonl", ["the one two three four five six seven eight"])
    recipe = recipe_of(source, decontaminate=(str(items),))
    build(recipe, tmp_path / "out")
    build(recipe, tmp_path / "out")
    jsonl(items, ["the one two three four five six seven nines"])
    with pytest.raises(RunError, match="holds another run"):
        build(recipe, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see 2a02:ffff::beef there", "2a02:ffff::beef"),
        ("at 2a00:dead:beef:cafe:babe:face:feed:abba.", "2a00:dead:beef:cafe:babe:face:feed:abba"),
        ("we met at 12:30:45 and left at 18:05:00", ""),
        ("the key 3f:2a:bb:cc:dd:ee:ff:aa of a host", ""),
        ("card de:ad:be:ef:00:11, std::vector a::b::c", ""),
    ],
)
def test_addresses_with_few_digits_go_and_times_and_hashes_stay(text: str, found: str) -> None:
    spans = personal_spans(Block.of([text])).get(0, [])
    assert [text[a:b] for _, a, b in spans] == ([found] if found else [])


def test_streams_need_datasets_and_read_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"basewise\[corpus\]"):
        read_all("datasets:owner/name")
    seen = {}

    def load_dataset(name: str, **more: object) -> Iterator[dict[str, str]]:
        seen.update(name=name, **more)
        return iter([{"text": "one", "license": "MIT"}])

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    assert read_all("datasets:owner/name@validation") == [Document("one", "MIT")]
    assert seen == {"name": "owner/name", "split": "validation", "streaming": True}
    for kind, file in (("parquet", "a.parquet"), ("json", "a.jsonl.gz"), ("text", "a.txt")):
        assert read_all(f"datasets:{kind}={file}") == [Document("one", "MIT")], (
            "a file's ending made it no stream"
        )
        assert seen["name"] == kind and seen["data_files"] == file


# --- the build: stops, repeats, account


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a corpus but the record of the lock and the time it was begun."""
    files = {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != ".lock"
    }
    manifest = json.loads(files["manifest.json"])
    return files | {"manifest.json": json.dumps({**manifest, "begun": ""}).encode()}


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    from basewise.steps import corpus_clean

    monkeypatch.setattr(corpus_clean, "UNIT_CHARACTERS", 4000)


@pytest.mark.usefixtures("small_units")
def test_a_build_stopped_anywhere_ends_bit_for_bit_the_same(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "one.jsonl", [*documents(30, 4), *documents(3, 4)])
    recipe = recipe_of(source, near=0.8)
    calls: list[str] = []
    whole = build(recipe, tmp_path / "whole", lambda done, total, what: calls.append(what))
    assert len(set(calls)) == 4 and len(calls) > 12

    class Stop(Exception):
        pass

    for stop in (2, len(calls) // 2, len(calls) - 3):
        left = stop

        def progress(done: int, total: int, what: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Stop

        with pytest.raises(Stop):
            build(recipe, tmp_path / "stopped" / str(stop), progress)
        build(recipe, tmp_path / "stopped" / str(stop))
        assert content(tmp_path / "stopped" / str(stop)) == content(whole.folder), stop
    assert whole.manifest["totals"]["removed"]["repeated exactly"]["documents"] == 3


KILLED = """
import os, signal, sys
from pathlib import Path
from basewise.core.corpus_recipe import CorpusRecipe, named_sources
from basewise.steps import corpus, corpus_clean
corpus_clean.UNIT_CHARACTERS = 4000
left = int(sys.argv[3])
def progress(done, total, what):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
corpus.build(CorpusRecipe(sources=named_sources([sys.argv[1]]), vocabulary=300, validation=0.1), sys.argv[2], progress)
"""


@pytest.mark.parametrize(
    "moment", [6, pytest.param(2, marks=pytest.mark.slow), pytest.param(14, marks=pytest.mark.slow)]
)
@pytest.mark.usefixtures("small_units")
@pytest.mark.slow
def test_a_killed_build_goes_on(tmp_path: Path, moment: int) -> None:
    source = jsonl(tmp_path / "one.jsonl", documents(30, 4))
    arguments = [sys.executable, "-c", KILLED, str(source), str(tmp_path / "killed"), str(moment)]
    assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
    build(recipe_of(source), tmp_path / "killed")
    build(recipe_of(source), tmp_path / "whole")
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("harm", ["missing", "cut", "last missing"])
def test_a_damaged_unit_is_made_again_with_those_after_it(tmp_path: Path, harm: str) -> None:
    recipe = recipe_of(jsonl(tmp_path / "one.jsonl", documents(30, 4)))
    # in the middle of what follows the cleaning
    left = 14

    def progress(done: int, total: int, what: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(recipe, tmp_path / "hurt", progress)
    units = sorted((tmp_path / "hurt" / "work" / "units").glob("*.main.*.arrow"))
    assert len(units) > 3
    hurt = units[-1] if harm == "last missing" else units[1]
    if harm == "cut":
        hurt.write_bytes(hurt.read_bytes()[:-200])
    else:
        hurt.unlink()
    build(recipe, tmp_path / "hurt")
    build(recipe, tmp_path / "whole")
    assert content(tmp_path / "hurt") == content(tmp_path / "whole")


@pytest.mark.usefixtures("small_units")
def test_a_stream_that_changed_since_a_build_was_stopped_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but its texts tells that a stream is another one."""
    texts = documents(30, 4)
    stream = types.SimpleNamespace(load_dataset=lambda name, **more: iter([{"text": t} for t in texts]))
    monkeypatch.setitem(sys.modules, "datasets", stream)
    recipe = CorpusRecipe(sources=named_sources(["datasets:a/b"]), vocabulary=300)

    def stop(done: int, total: int, what: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(recipe, tmp_path / "corpus", stop)
    texts.insert(0, prose(np.random.default_rng(9)))
    with pytest.raises(RunError, match="the source b gives other texts than when this build began"):
        build(recipe, tmp_path / "corpus")
    del texts[0]
    assert build(recipe, tmp_path / "corpus").manifest["totals"]["read"]["documents"] == 30


def test_what_is_removed_scrubbed_and_matched_is_in_the_account(tmp_path: Path) -> None:
    texts = documents(20, 6)
    texts[3] += "\nWrite to someone@somewhere.org about it."
    item = "the harbour of the silver island is closed in winter every year"
    texts[5] += f"\n{item}\nand the end of it"
    jsonl(
        tmp_path / "in" / "data.jsonl",
        [
            *texts,
            texts[0].upper(),
            "the river is short, and so is this text of the winter",
            "der Fluss ist nicht da und die Stadt " * 9,
        ],
    )
    held = jsonl(tmp_path / "held.jsonl", [texts[1]])
    against = jsonl(tmp_path / "items.jsonl", [item])
    recipe = CorpusRecipe(
        sources=(Source(name="in", paths=(str(tmp_path / "in"),), held_out=(str(held),)),),
        vocabulary=300,
        languages=("en",),
        decontaminate=(str(against),),
    )
    made = build(recipe, tmp_path / "corpus")
    account = made.manifest["sources"][0]
    removed = {why: counts["documents"] for why, counts in account["removed"].items()}
    assert removed == {"language": 1, "words": 1, "repeated exactly": 2}, (
        "the held-out copy stays, the training one goes"
    )
    assert account["validation"]["documents"] == 1 and account["train"]["documents"] == 19
    assert account["scrubbed"] == {"contaminated lines": 1, "email": 1}
    assert made.manifest["decontaminated"][0]["longest_match_words"] == 12
    again = build(recipe, tmp_path / "corpus")
    assert again.digest == made.digest


def test_sources_without_documents_and_empty_documents_are_in_the_account(tmp_path: Path) -> None:
    jsonl(tmp_path / "one.jsonl", [*documents(9, 1), "", "\n\n", "\ufeff"])
    (tmp_path / "none.jsonl").touch()
    (tmp_path / "none.txt").touch()
    places = [tmp_path / name for name in ("one.jsonl", "none.jsonl", "none.txt")]
    shown = command("corpus", "build", *places, "--vocabulary", 300, "--to", tmp_path / "corpus")
    assert shown.code == 0, shown.err
    one, none, _ = corpus.open_corpus(tmp_path / "corpus").manifest["sources"]
    assert one["read"]["documents"] == 12 and one["removed"]["empty"]["documents"] == 3
    assert one["train"]["documents"] + one["validation"]["documents"] == 9
    assert none["read"]["documents"] == none["train"]["documents"] == none["validation"]["tokens"] == 0


def test_lines_of_a_document_that_goes_whole_are_not_counted_as_scrubbed(tmp_path: Path) -> None:
    item = "the harbour of the silver island is closed in winter every year"
    against = jsonl(tmp_path / "items.jsonl", [item])
    whole = f"{item}, write to a@b.org and to the others " * 9
    source = jsonl(tmp_path / "one.jsonl", [*documents(9, 1), whole])
    off = {"repeated_words": False}
    made = build(recipe_of(source, decontaminate=(str(against),), filters=off), tmp_path / "corpus")
    account = made.manifest["sources"][0]
    assert account["removed"]["contaminated"]["documents"] == 1 and account["scrubbed"] == {}


def test_a_build_killed_before_it_cleared_up_is_cleared_when_it_is_opened(tmp_path: Path) -> None:
    recipe = recipe_of(jsonl(tmp_path / "one.jsonl", documents(9, 1)))
    build(recipe, tmp_path / "corpus")
    jsonl(tmp_path / "corpus" / "work" / "units" / "one.main.000000.arrow", ["left"])
    build(recipe, tmp_path / "corpus")
    assert not (tmp_path / "corpus" / "work").exists()


# --- bad input


def test_bad_sources_are_one_clear_line(tmp_path: Path) -> None:
    def run(*words: object) -> object:
        return command("corpus", "build", *words, "--to", tmp_path / "out")

    refused(run(), "no source")
    refused(run(tmp_path / "nowhere.txt"), "is not there")
    (tmp_path / "empty").mkdir()
    refused(run(tmp_path / "empty"), "holds no file")
    (tmp_path / "none.txt").write_text("")
    refused(run(tmp_path / "none.txt"), "hold no document")
    (tmp_path / "picture.png").write_bytes(b"x")
    refused(run(tmp_path / "picture.png"), "no reader knows")
    (tmp_path / "bad.parquet").write_bytes(b"not parquet at all")
    refused(run(tmp_path / "bad.parquet"), "cannot read", "bad.parquet")
    (tmp_path / "bad.jsonl").write_text('{"text": "one"}\n{broken\n')
    refused(run(tmp_path / "bad.jsonl"), "line 2", "bad.jsonl")
    jsonl(tmp_path / "body.jsonl", []).write_text('{"body": "one"}\n')
    refused(run(tmp_path / "body.jsonl"), "no 'text'", "body")
    (tmp_path / "latin.txt").write_bytes("für alle".encode("latin-1"))
    refused(run(tmp_path / "latin.txt"), "not UTF-8")
    one = jsonl(tmp_path / "single.jsonl", documents(1))
    refused(run(one), "one document", "validation = 0")
    short = jsonl(tmp_path / "short.jsonl", ["the river is short, and so is this text of the winter"] * 2)
    refused(run(short), "removed by words 2")


def test_the_embedding_is_spread_over_bytes_not_characters() -> None:
    """A text of two bytes a character pays half as much a byte."""
    from basewise.steps.corpus_tokens import _sample

    learned, scored, size = _sample(lambda: iter([("é" * 10, 1), ("ab", 2)]))
    assert size == 22
    assert {*learned, *scored} == {"é" * 10, "ab"}


def test_the_bytes_of_tokens_are_held_by_a_digest(tmp_path: Path) -> None:
    """They divide bits per byte; corpora built before they had a digest open as they did."""
    made = build(recipe_of(jsonl(tmp_path / "a.jsonl", documents(12, 1))), tmp_path / "out")
    path = made.folder / "tokenizer" / "token_bytes.npy"
    np.save(path, np.load(path) + 1)
    refused(command("corpus", "show", made.folder), "token_bytes.npy", "digest does not hold")
    manifest = json.loads((made.folder / "manifest.json").read_text())
    del manifest["tokenizer"]["token_bytes_sha256"]
    (made.folder / "manifest.json").write_text(json.dumps(manifest))
    assert corpus.open_corpus(made.folder).digest == made.digest
    path.unlink()
    (made.folder / "tokenizer" / "tokenizer.json").unlink()
    refused(command("corpus", "show", made.folder), "cannot read the tokenizer")


@pytest.mark.parametrize("ending", ["", '\n{"text": "after"}\n'])
def test_a_line_without_end_is_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    import pyarrow as pa

    from basewise.core import rowfiles

    monkeypatch.setattr(rowfiles, "MOST_LINE", 3 << 20)
    path = tmp_path / "long.jsonl"
    with open(path, "w") as file:
        file.write('{"text": "before"}\n{"text": "')
        for _ in range(40):
            file.write("x " * (1 << 19))
        file.write('"}' + ending)
    taken: list[int] = []
    opened = pa.input_stream

    class Counting:
        def __init__(self, *given: Any, **more: Any) -> None:
            self.stream = opened(*given, **more)

        def __enter__(self) -> Counting:
            return self

        def __exit__(self, *_: object) -> None:
            self.stream.close()

        def read(self, size: int) -> bytes:
            taken.append(size)
            return bytes(self.stream.read(size))

    monkeypatch.setattr(pa, "input_stream", Counting)
    with pytest.raises(TableError, match=r"long\.jsonl, line 2: it is longer than 3 million characters"):
        read_all(str(path))
    assert sum(taken) <= 6 << 20


def test_too_large_and_too_small_vocabularies_are_refused(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", documents(10))
    refused(
        command("corpus", "build", source, "--to", tmp_path / "a", "--vocabulary", 50_000),
        "supports a vocabulary of",
        "50000",
    )
    refused(
        command("corpus", "build", source, "--to", tmp_path / "b", "--vocabulary", 100), "260 is the least"
    )


def test_recipes_with_unknown_keys_name_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    for text, words in (
        ("vocabulry = 3", ("vocabulry", "'vocabulary'")),
        ('[[sources]]\nname = "a"\npath = ["x"]', ("'path'", "'paths'")),
        ('[[sources]]\nname = "a"', ("no paths",)),
        ("[filters]\nword = false", ("'word'", "'words'")),
        ("[filters]\nwords = 3", ("words", "[least, most]")),
        ("validation = 1.5", ("validation is 1.5",)),
        ('vocabulary = "many"', ("'many'", "int")),
        ("near = ", ("cannot read the recipe",)),
        ('[[sources]]\nname = "a"\npaths = ["x"]\nweight = -1', ("weight",)),
        ('[[sources]]\nname = "a"\npaths = ["x"]\nweight = inf', ("weight of a is inf",)),
        ('sources = ["books"]', ("'books'", "[[sources]]")),
        ("vocabularies = []", ("vocabularies is empty",)),
    ):
        path.write_text(text)
        refused(command("corpus", "build", "--recipe", path, "--to", tmp_path / "out"), *words)


def test_the_recipe_that_comes_with_the_package_is_read() -> None:
    recipe = read_corpus_recipe(Path(__file__).parent.parent / "recipes" / "tiny-corpus.toml")
    assert [source.name for source in recipe.sources] == ["books", "textbooks", "technical"]
    assert all("shared" in place for source in recipe.sources for place in source.paths)


def test_two_builds_in_one_folder_are_refused(tmp_path: Path) -> None:
    from basewise.core.files import lock

    one, two = jsonl(tmp_path / "a.jsonl", documents(12, 1)), jsonl(tmp_path / "b.jsonl", documents(12, 2))
    build(recipe_of(one), tmp_path / "out")
    with pytest.raises(RunError, match="holds another run"):
        build(recipe_of(two), tmp_path / "out")
    with lock(tmp_path / "out" / ".lock"), pytest.raises(RunError, match="in use by another process"):
        build(recipe_of(one), tmp_path / "out")


@pytest.mark.parametrize("part", ["tokens", "documents"])
def test_a_shard_that_changed_or_cannot_be_read_is_refused(tmp_path: Path, part: str) -> None:
    made = build(recipe_of(jsonl(tmp_path / "a.jsonl", documents(12, 1))), tmp_path / "out")
    path = sorted((made.folder / "shards").glob(f"*.{part}.npy"))[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused(command("corpus", "show", made.folder), path.name, "digest does not hold")
    path.write_bytes(whole[:50])
    refused(command("corpus", "show", made.folder), path.name)
    path.unlink()
    refused(command("corpus", "show", made.folder), "cannot read the shard")
    path.write_bytes(whole)
    assert command("corpus", "show", made.folder).code == 0
    with pytest.raises(RunError, match="has changed since the run began"):
        corpus.open_corpus(made.folder, expect="0" * 64)
    refused(command("corpus", "show", tmp_path), "holds no finished corpus")


def test_a_tokenizer_that_is_not_the_corpus_s_own_is_refused(tmp_path: Path) -> None:
    """Its digest is part of the corpus: other merges would read the same tokens as another text."""
    made = build(recipe_of(jsonl(tmp_path / "a.jsonl", documents(12, 1))), tmp_path / "out")
    path = made.folder / "tokenizer" / "tokenizer.json"
    path.write_text(path.read_text() + " ")
    refused(command("corpus", "show", made.folder), path.name, "digest does not hold")
    path.unlink()
    refused(command("corpus", "show", made.folder), "cannot read the tokenizer")


def test_a_full_disk_is_a_line_and_the_build_goes_on_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, fsync, calls = jsonl(tmp_path / "a.jsonl", documents(12, 1)), os.fsync, itertools.count()

    def full(handle: int) -> None:
        if next(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    arguments = ("corpus", "build", source, "--to", tmp_path / "out", "--vocabulary", 300)
    refused(command(*arguments), "the disk is full")
    assert not list((tmp_path / "out").rglob("*.part"))
    assert command(*arguments).code == 0


def test_ctrl_c_ends_with_130_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from basewise.steps import corpus_tokens

    source = jsonl(tmp_path / "a.jsonl", documents(12, 1))
    arguments = ("corpus", "build", source, "--to", tmp_path / "out", "--vocabulary", 300)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(corpus_tokens, "tokenise", interrupted)
        answered = command(*arguments)
    assert answered.code == 130 and "goes on from here" in answered.err
    answered = command(*arguments)
    assert answered.code == 0 and "vocabulary: 300 tokens" in answered.out


def test_a_damaged_unit_is_named(tmp_path: Path) -> None:
    from basewise.steps.corpus_clean import read_unit

    path = tmp_path / "a.arrow"
    path.write_bytes(b"ARROW1 but no more")
    with pytest.raises(RunError, match="is damaged"):
        read_unit(path)


def test_an_evaluation_set_without_text_is_refused(tmp_path: Path) -> None:
    source, empty = jsonl(tmp_path / "a.jsonl", documents(12, 1)), jsonl(tmp_path / "b.jsonl", [])
    refused(command("corpus", "build", source, "--to", tmp_path / "out", "--against", empty), "has no text")
    with pytest.raises(TableError, match="cannot read"):
        read_all(str(tmp_path / "missing.jsonl"))
