"""Signing a release with a key of one's own, offline, and verifying it before anything in it is opened.

The signature is OpenSSF model-signing's (a DSSE envelope over an in-toto statement of every file's digest, EC P-256), so
its own command line verifies it too. A key carries its last day as text before the PEM block. Trusted public keys lie in
<home>/keys/trusted/.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basewise.core.errors import InputError, MissingExtra, ReleaseChanged, RunError
from basewise.core.files import home, write_text
from basewise.core.manifest import AGAIN, SIGNATURE, check_manifest
from basewise.core.release import Release, is_release

EXPIRES = re.compile(r"^Expires: (\d{4}-\d\d-\d\d)\s*$", re.MULTILINE)
PASSWORD = "BASEWISE_KEY_PASSWORD"
CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""What model-signing signs with."""
MOST_SIGNATURE_BYTES = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class Seal:
    """What verifying found: how many files, and by which key they were signed (None: unsigned)."""

    files: int
    signed_by: str | None = None

    def __str__(self) -> str:
        return f"signed by {self.signed_by}" if self.signed_by else "unsigned"


def new_key(path: Path, days: int = 730, today: dt.date | None = None) -> tuple[Path, Path, str]:
    """(private key file, public key file, fingerprint); both name their last day. Refuses to write over a key."""
    _, serialization, ec = _cryptography()
    path = Path(path)
    public_path = path.with_suffix(".pub.pem") if path.suffix == ".pem" else Path(f"{path}.pub.pem")
    for taken in (path, public_path):
        if taken.exists():
            raise InputError(
                f"{taken} is there already", "give another name; a lost key cannot be made again"
            )
    if days < 1:
        raise InputError(f"a key for {days} days came", "give at least 1 day")
    key = ec.generate_private_key(ec.SECP256R1())
    secret = os.environ.get(PASSWORD, "").encode()
    locked = serialization.BestAvailableEncryption(secret) if secret else serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    last = (today or dt.date.today()) + dt.timedelta(days=days)
    # at no moment readable to others
    write_text(path, f"Expires: {last}\n{private.decode()}", mode=0o600)
    write_text(public_path, f"Expires: {last}\n{public.decode()}")
    return path, public_path, fingerprint(public_path)


def trust(public_key: Path) -> str:
    """Trust a public key on this machine; its fingerprint."""
    name = fingerprint(public_key)
    write_text(home() / "keys" / "trusted" / f"{name}.pem", Path(public_key).read_text("utf-8"))
    return name


def distrust(name: str) -> None:
    """Take a key back."""
    (home() / "keys" / "trusted" / f"{name}.pem").unlink(missing_ok=True)


def trusted() -> list[Path]:
    """The public keys trusted on this machine."""
    return sorted((home() / "keys" / "trusted").glob("*.pem"))


def fingerprint(public_key: Path) -> str:
    """First 16 hex digits of the sha256 of the key itself (its DER form)."""
    return _short(_public(Path(public_key)))


def _short(public: Any) -> str:
    _, serialization, _ = _cryptography()
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()[:16]


def fingerprint_of_private(private_key: Path) -> str:
    """The fingerprint of the public half of a private key; InputError when it cannot be opened, or not sign a release."""
    _, serialization, ec = _cryptography()
    secret = os.environ.get(PASSWORD, "").encode() or None
    try:
        key = serialization.load_pem_private_key(_read(Path(private_key)).encode(), secret)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{private_key} is no private key that can be used: {error}",
            f"make one with: basewise keys new (a locked one needs {PASSWORD})",
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in CURVES:
        raise InputError(
            f"{private_key} is no key of the curves {', '.join(CURVES)}", "make one with: basewise keys new"
        )
    return _short(key.public_key())


def last_day(key: Path) -> dt.date | None:
    """The day after which a key is no longer used; None where it names none."""
    found = EXPIRES.search(_read(Path(key)))
    try:
        return dt.date.fromisoformat(found[1]) if found else None
    except ValueError as error:
        raise InputError(f"the last day of the key {key}: {error}", "get the key again") from error


def usable(private_key: Path, today: dt.date | None = None) -> str:
    """The fingerprint of a private key that may sign today; an error before any work is done with one that may not."""
    _require()
    _check_day(Path(private_key), today)
    return fingerprint_of_private(private_key)


def sign(folder: Path, private_key: Path, today: dt.date | None = None) -> None:
    """Write release.sig over every other file of the folder."""
    usable(private_key, today)
    from model_signing import signing

    # it says str and hands it on to where only bytes are taken
    secret: Any = os.environ.get(PASSWORD, "").encode() or None
    config = signing.Config().use_elliptic_key_signer(private_key=private_key, password=secret)
    with _quiet():
        config.set_hashing_config(_hashing()).sign(folder, folder / SIGNATURE)


def verify(folder: Path, key: Path | None = None, today: dt.date | None = None) -> Seal:
    """The seal of a release folder: every file is as listed, and as signed by `key` or by one trusted here.

    ReleaseChanged for anything else; a folder without a signature is "unsigned", unless a key was given.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}", "give a release folder")
    if not is_release(folder):
        raise RunError(f"{folder} is no release", "make one with: basewise release RUN --to DIR")
    files = check_manifest(folder)
    signature = folder / SIGNATURE
    if not signature.exists():
        if key is not None:
            raise ReleaseChanged(f"{folder} is unsigned, but a key was given", "get the signed release")
        if said := Release.load(folder).signed_by:
            raise ReleaseChanged(f"{folder} was signed by {said}, and its signature is gone", AGAIN)
        return Seal(files=files)
    if not signature.is_file() or signature.stat().st_size > MOST_SIGNATURE_BYTES:
        raise ReleaseChanged(f"{signature} is no signature", "copy the release again")
    failures: dict[str, ReleaseChanged] = {}
    for candidate in [Path(key)] if key is not None else trusted():
        name = fingerprint(candidate)
        try:
            _check_day(candidate, today)
            _verify(folder, candidate)
            return Seal(files=files, signed_by=name)
        except ReleaseChanged as error:
            failures[name] = error
    said = Release.load(folder).signed_by
    # of several trusted keys only the one that the release names can tell what is wrong
    if failure := next(iter(failures.values())) if key is not None else failures.get(said):
        raise failure
    raise ReleaseChanged(
        f"{folder} is signed by {said or 'a key'}, but by no key that is trusted here ({len(failures)} are)",
        "if you know whose it is: basewise keys trust PUBLIC.pem, or verify with --key PUBLIC.pem",
    )


def _verify(folder: Path, key: Path) -> None:
    _require()
    from model_signing import verifying

    _public(key)
    try:
        with _quiet():
            config = verifying.Config().use_elliptic_key_verifier(public_key=key)
            config.set_hashing_config(_hashing()).verify(folder, folder / SIGNATURE)
    except Exception as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise ReleaseChanged(
            f"the signature of {folder} does not hold: {why}", "get the release again from its maker"
        ) from error


def _hashing() -> Any:
    """Every file counts, those of git too; only the signature itself is left out."""
    from model_signing import hashing

    config = hashing.Config().use_file_serialization(hashing_algorithm="sha256", allow_symlinks=False)
    return config.set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def _check_day(key: Path, today: dt.date | None) -> None:
    last = last_day(key)
    if last is not None and (today or dt.date.today()) > last:
        raise ReleaseChanged(
            f"the key {key} expired on {last}", "make and trust a new one, and sign the release again"
        )


def _read(key: Path) -> str:
    try:
        return key.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the key {key}: {error}", "make one with: basewise keys new") from error


def _public(path: Path) -> Any:
    """The EC public key in a file."""
    exceptions, serialization, ec = _cryptography()
    try:
        key = serialization.load_pem_public_key(_read(path).encode())
    except (ValueError, exceptions) as error:
        raise InputError(
            f"{path} holds no public key: {error}", "give the .pub.pem that `basewise keys new` wrote"
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise InputError(f"{path} is no elliptic-curve key", "make one with: basewise keys new")
    return key


def _cryptography() -> tuple[Any, Any, Any]:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise MissingExtra.of("cryptography", "release") from error
    return UnsupportedAlgorithm, serialization, ec


def _require() -> None:
    try:
        with _quiet():
            import model_signing  # noqa: F401 - it needs pyOpenSSL without saying so
    except ImportError as error:
        raise MissingExtra.of(error.name or "model-signing", "release") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Deprecations inside the library are nothing a user of ours could mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
