"""One changed, added, removed or renamed byte is refused, before anything of the release is opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import basewise as bw
import released
import tamper_kinds
import tiny
from basewise.core.errors import BasewiseError, InputError, ReleaseChanged
from basewise.engine import signing
from basewise.steps import predict

ALL = {**tamper_kinds.KINDS, **tamper_kinds.SIGNATURES, **tamper_kinds.FORGED}


@pytest.fixture
def nothing_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, opening a predictor would be the end of the test."""
    for signed in (True, False):
        released.released(signed=signed)

    def opened(*_: object) -> None:
        raise AssertionError("the predictor was opened")

    monkeypatch.setattr(predict, "open_predictor", opened)


def test_there_are_enough_kinds() -> None:
    assert len(ALL) >= 30


@pytest.mark.usefixtures("nothing_opened")
@pytest.mark.parametrize("kind", ALL)
def test_a_signed_release_that_was_touched_is_refused(kind: str, tmp_path: Path) -> None:
    signing.trust(released.keys()[1])
    folder = released.copy_of(released.released(signed=True), tmp_path / "release")
    ALL[kind](folder)
    with pytest.raises(ReleaseChanged):
        signing.verify(folder)
    with pytest.raises(ReleaseChanged):
        bw.load(folder)


@pytest.mark.usefixtures("nothing_opened")
@pytest.mark.parametrize("kind", tamper_kinds.KINDS)
def test_an_unsigned_release_that_was_touched_is_refused(kind: str, tmp_path: Path) -> None:
    folder = released.copy_of(released.released(), tmp_path / "release")
    tamper_kinds.KINDS[kind](folder)
    with pytest.raises(ReleaseChanged):
        bw.load(folder)


def test_untouched_it_opens_signed_and_unsigned(tmp_path: Path) -> None:
    signing.trust(released.keys()[1])
    for signed in (True, False):
        folder = released.copy_of(released.released(signed=signed), tmp_path / f"release-{signed}")
        seal = signing.verify(folder)
        assert (seal.signed_by is not None) == signed
        assert bw.load(folder).predict(["invoice charge refund", "parcel courier van"]) == [
            "billing",
            "delivery",
        ]


def test_a_key_that_is_not_trusted_here_does_not_count(tmp_path: Path) -> None:
    folder = released.copy_of(released.released(signed=True), tmp_path / "release")
    with pytest.raises(ReleaseChanged, match="no key that is trusted here"):
        bw.load(folder)
    _, other, _ = signing.new_key(tmp_path / "other.pem")
    signing.trust(other)
    maker = signing.fingerprint(released.keys()[1])
    with pytest.raises(ReleaseChanged, match=rf"signed by {maker}, but by no key .* here \(1 are\)"):
        bw.load(folder)
    with pytest.raises(ReleaseChanged, match="does not hold"):
        signing.verify(folder, other)


def test_the_signature_of_another_release_does_not_fit(tmp_path: Path) -> None:
    folder = released.copy_of(released.released(signed=True), tmp_path / "one")
    other = released.copy_of(released.released(), tmp_path / "two")
    (other / "release.sig").write_bytes((folder / "release.sig").read_bytes())
    with pytest.raises(ReleaseChanged):
        signing.verify(other, released.keys()[1])


def test_an_expired_key_neither_signs_nor_verifies(tmp_path: Path) -> None:
    import datetime as dt

    private, public, _ = signing.new_key(tmp_path / "k.pem", days=1, today=dt.date(2020, 1, 1))
    with pytest.raises(ReleaseChanged, match="expired on 2020-01-02"):
        signing.usable(private)
    folder = released.copy_of(released.released(), tmp_path / "release")
    signing.sign(folder, private, today=dt.date(2020, 1, 2))
    assert signing.verify(folder, public, today=dt.date(2020, 1, 2)).signed_by
    with pytest.raises(ReleaseChanged, match="expired"):
        signing.verify(folder, public)


def test_of_several_trusted_keys_the_makers_tells_what_is_wrong(tmp_path: Path) -> None:
    import datetime as dt

    from basewise.steps.release import release

    private, public, name = signing.new_key(tmp_path / "maker.pem", days=1)
    options = released.signed_for()
    folder = tmp_path / "release"
    release(released.run_folder("words"), to=folder, key=private, options=options)
    for key in (public, signing.new_key(tmp_path / "other.pem")[1]):
        signing.trust(key)
    assert signing.verify(folder).signed_by == name
    with pytest.raises(ReleaseChanged, match="expired"):
        signing.verify(folder, today=dt.date.today() + dt.timedelta(days=2))


def test_an_unsigned_release_does_not_pass_for_a_signed_one() -> None:
    with pytest.raises(ReleaseChanged, match="unsigned"):
        signing.verify(released.released(), released.keys()[1])


def test_a_private_key_is_never_readable_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    place = os.replace
    monkeypatch.setattr(
        os, "replace", lambda a, b: (modes.append(os.stat(a).st_mode & 0o777), place(a, b))[1]
    )
    signing.new_key(tmp_path / "k.pem")
    assert modes[0] == 0o600 == (tmp_path / "k.pem").stat().st_mode & 0o777


def test_a_key_whose_last_day_is_no_day(tmp_path: Path) -> None:
    private, _, _ = signing.new_key(tmp_path / "k.pem")
    private.write_text(f"Expires: 2026-99-99\n{private.read_text('utf-8')}", "utf-8")
    with pytest.raises(InputError, match="the last day"):
        signing.usable(private)


def test_a_locked_key_signs_with_its_password_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(signing.PASSWORD, "a pässword")
    private, public, name = signing.new_key(tmp_path / "k.pem")
    assert "ENCRYPTED" in private.read_text("utf-8")
    folder = released.copy_of(released.released(), tmp_path / "release")
    signing.sign(folder, private)
    assert signing.verify(folder, public).signed_by == name
    for other in ("another", None):
        monkeypatch.setenv(signing.PASSWORD, other) if other else monkeypatch.delenv(signing.PASSWORD)
        with pytest.raises(InputError, match="no private key that can be used"):
            signing.usable(private)


@pytest.mark.parametrize("kind", ["rsa", "secp256k1"])
def test_a_key_of_a_kind_that_does_not_sign_is_refused_before_any_work(tmp_path: Path, kind: str) -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256K1())
    (tmp_path / "k.pem").write_bytes(
        key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    )
    with pytest.raises(InputError, match="no key of the curves secp256r1"):
        signing.usable(tmp_path / "k.pem")


def test_keys_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    for key in (tmp_path / "no.pem", tmp_path / "missing.pem"):
        with pytest.raises(InputError):
            signing.usable(key)
        with pytest.raises(BasewiseError):
            signing.fingerprint(key)
    with pytest.raises(InputError, match="is there already"):
        signing.new_key(tmp_path / "no.pem")


def test_the_library_itself_can_verify_what_was_signed(tmp_path: Path) -> None:
    from model_signing import verifying

    folder = released.released(signed=True)
    verifying.Config().use_elliptic_key_verifier(public_key=released.keys()[1]).verify(
        folder, folder / "release.sig"
    )


def test_the_command_says_it_in_a_line(tmp_path: Path) -> None:
    folder = released.copy_of(released.released(), tmp_path / "release")
    tamper_kinds.KINDS["last byte of the weights"](folder)
    tiny.refused(tiny.command("verify", folder), "words.safetensors", "changed")
    tiny.refused(tiny.command("verify", tmp_path / "nowhere"), "no folder")
    tiny.refused(tiny.command("predict", folder, tmp_path / "x.csv"), "changed")
