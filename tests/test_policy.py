"""A policy file: defaults, unknown names, types, overrides with a name and an end."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

import tiny
from basewise.core.errors import InputError, UnknownName
from basewise.core.policy import default_policy, policy_text, read_policy
from basewise.steps.gate import thresholds

KNOWN = {
    "score": {"least": (0.0, "the floor"), "beat_controls": (True, "")},
    "licence": {"data": ("", ""), "signed": ([], "")},
}


def read(tmp_path: Path, text: str, today: dt.date | None = None):  # type: ignore[no-untyped-def]
    path = tmp_path / "policy.toml"
    path.write_text(text, "utf-8")
    return read_policy(path, KNOWN, today)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[calibration]\nmost = 8", "from 0 to 1, such as 0.08"),
        ("[abstention]\nrisk = -0.05", "from 0 to 1"),
        ("[privacy]\nexposure = -1", "0 or more, such as 10"),
        ("[leakage]\nlooks = -1", "0 or more, such as 3"),
    ],
)
def test_a_share_in_percent_and_a_number_below_0_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError, match=words):
        read_policy(path, thresholds())


def test_what_is_printed_is_read_back(tmp_path: Path) -> None:
    for known in (KNOWN, thresholds()):
        policy = default_policy(known)
        path = tmp_path / "all.toml"
        path.write_text(policy_text(policy, known), "utf-8")
        assert read_policy(path, known) == policy


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    policy = read(tmp_path, '[score]\nleast = 1\non = "warn"\n')
    assert policy.limits["score"] == {"on": "warn", "least": 1.0, "beat_controls": True}
    assert policy.limits["licence"] == default_policy(KNOWN).limits["licence"]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("[scor]\nleast = 1", UnknownName, "score"),
        ("[score]\nleats = 1", UnknownName, "least"),
        ("[score]\nleast = 'a'", InputError, "float"),
        ("[score]\nleast = nan", InputError, "nan"),
        ("[score]\nleast = inf", InputError, "inf"),
        ("[score]\nbeat_controls = 1", InputError, "bool"),
        ("[licence]\nsigned = 'a'", InputError, "list"),
        ("score = 1", InputError, r"\[score\]"),
        ('[score]\non = "maybe"', InputError, '"warn"'),
        ("[score", InputError, "no TOML"),
        ("\x00", InputError, "no TOML"),
        ('[[override]]\ncheck = "scores"\nreason = "a"\nby = "b"', UnknownName, "score"),
        ('[[override]]\ncheck = "score"\nreason = "a"', InputError, "name"),
        ('[[override]]\ncheck = "score"\nby = "b"', InputError, "reason"),
        ('[[override]]\ncheck = "score"\nreason = " "\nby = "b"', InputError, "reason"),
        ('[[override]]\ncheck = "score"\nwhy = "a"', UnknownName, "reason"),
        ('[[override]]\ncheck = "score"\nreason = "a"\nby = "b"\nuntil = "soon"', InputError, "date"),
        (
            '[[override]]\ncheck = "score"\nreason = "a"\nby = "b"\nuntil = 2027-01-31T10:00:00',
            InputError,
            "date",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_fix(
    tmp_path: Path, text: str, error: type, words: str
) -> None:
    with pytest.raises(error, match=words):
        read(tmp_path, text)


def test_an_override_ends_on_its_day(tmp_path: Path) -> None:
    text = '[[override]]\ncheck = "score"\nreason = "a"\nby = "b"\nuntil = 2026-11-30\n'
    policy = read(tmp_path, text, dt.date(2026, 11, 30))
    assert policy.overrides["score"]["until"] == "2026-11-30"
    assert read(tmp_path, policy_text(policy, KNOWN), dt.date(2026, 11, 30)) == policy
    assert "score" not in read(tmp_path, policy_text(policy, KNOWN), dt.date(2026, 12, 1)).overrides
    assert "score" not in read(tmp_path, text, dt.date(2026, 12, 1)).overrides


def test_the_command_prints_every_check_and_refuses_a_bad_file(tmp_path: Path) -> None:
    answered = tiny.command("policy")
    assert answered.code == 0
    for check in thresholds():
        assert f"[{check}]" in answered.out
    (tmp_path / "p.toml").write_text("[licens]\n")
    tiny.refused(tiny.command("policy", tmp_path / "p.toml"), "licence")
    tiny.refused(tiny.command("policy", tmp_path / "missing.toml"), "no policy file")
