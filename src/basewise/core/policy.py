"""A policy: the thresholds of the gate in a TOML file that a team keeps under version control.

[score]
least = 0.8            # a key of the check `score`
on = "warn"            # every check: a failure stops ("fail"), is only shown ("warn"), or is not looked for ("off")

[[override]]           # lets one failed check through, visibly
check = "slices"
reason = "the weak queue is read by people"
by = "A. Person"
until = 2027-01-31     # optional
"""

from __future__ import annotations

import datetime as dt
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from basewise.core.errors import InputError, UnknownName
from basewise.core.gate import FAIL, OFF, WARN

Thresholds = Mapping[str, Mapping[str, tuple[Any, str]]]
"""{check: {key: (default, meaning)}}"""
ON = "on"
OVERRIDE_KEYS = {"check", "reason", "by", "until"}


@dataclass(frozen=True, kw_only=True)
class Policy:
    """`limits`: {check: {key: value}} for every check, `on` among them; `overrides`: {check: {"reason", "by", "until"}}."""

    limits: dict[str, dict[str, Any]]
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)

    def with_override(self, check: str, reason: str, by: str, until: dt.date | None = None) -> Policy:
        """The same with one more override, which may have a last day; InputError without a reason or a name."""
        if check not in self.limits:
            raise UnknownName.of("check", check, self.limits)
        if not reason.strip() or not by.strip():
            raise InputError(
                f"an override of {check!r} came without a {'name' if reason.strip() else 'reason'}",
                'give both: --override "CHECK=reason" --by "Your Name"',
            )
        entry = {"check": check, "reason": reason.strip(), "by": by.strip()}
        if until is not None:
            entry["until"] = until.isoformat()
        return Policy(limits=self.limits, overrides={**self.overrides, check: entry})


def default_policy(known: Thresholds) -> Policy:
    """Every check with its own defaults."""
    return Policy(
        limits={check: {ON: FAIL, **{k: v for k, (v, _) in keys.items()}} for check, keys in known.items()}
    )


def read_policy(path: Path | None, known: Thresholds, today: dt.date | None = None) -> Policy:
    """The defaults with what the file says; unknown checks and keys name the nearest one."""
    policy = default_policy(known)
    if path is None:
        return policy
    try:
        value = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"there is no policy file {path}", "print one with: basewise policy > policy.toml"
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            f"{path} is no TOML file: {error}", "print one with: basewise policy > policy.toml"
        ) from error
    overrides = value.pop("override", [])
    for check, keys in value.items():
        if check not in known:
            raise UnknownName.of("check", check, known)
        if not isinstance(keys, dict):
            raise InputError(f"{check!r} in {path} is no table", f"write [{check}] and its keys below it")
        for key, given in keys.items():
            policy.limits[check][key] = _checked(check, key, given, known)
    for entry in overrides if isinstance(overrides, list) else [overrides]:
        policy = _with_entry(policy, entry, path, today or dt.date.today())
    return policy


def _checked(check: str, key: str, given: Any, known: Thresholds) -> Any:
    if key == ON:
        if given not in (FAIL, WARN, OFF):
            raise InputError(f"{check}.on is {given!r}", f'it is "{FAIL}", "{WARN}" or "{OFF}"')
        return given
    if key not in known[check]:
        raise UnknownName.of(f"key of the check {check}", key, [*known[check], ON])
    default = known[check][key][0]
    if isinstance(default, float) and type(given) is int:
        given = float(given)
    if type(given) is not type(default):
        raise InputError(
            f"{check}.{key} is {given!r}, a {type(default).__name__} such as {default!r} was expected",
            "correct the policy file",
        )
    if isinstance(given, float) and not math.isfinite(given):
        raise InputError(f"{check}.{key} is {given!r}", "give a number: nothing is above or below this one")
    if (
        isinstance(given, float) and default <= 1 and not 0 <= given <= 1
    ):  # 8 for 8 % would let everything through
        raise InputError(f"{check}.{key} is {given:g}", f"give a share from 0 to 1, such as {default:g}")
    if isinstance(given, (int, float)) and given < 0:
        raise InputError(f"{check}.{key} is {given:g}", f"give 0 or more, such as {default:g}")
    return given


def _with_entry(policy: Policy, entry: Any, path: Path, today: dt.date) -> Policy:
    """An [[override]] of the file; one that has run out is left out, so its check stops again."""
    if not isinstance(entry, dict):
        raise InputError(
            f"override in {path} is no table", "write [[override]] with check, reason and by below it"
        )
    for key in entry:
        if key not in OVERRIDE_KEYS:
            raise UnknownName.of("key of [[override]]", key, OVERRIDE_KEYS)
    until = entry.get("until")
    # a datetime is a date too, and not comparable with one
    if until is not None and type(until) is not dt.date:
        raise InputError(
            f"until = {until!r} in {path} is no date", "write it as until = 2027-01-31, without quotes"
        )
    check, reason, by = (str(entry.get(k, "")) for k in ("check", "reason", "by"))
    policy_with = policy.with_override(check, reason, by, until)
    return policy_with if until is None or until >= today else policy


def policy_text(policy: Policy, known: Thresholds) -> str:
    """The policy as TOML with what each key means; `read_policy` gives it back."""
    lines = ["# The gate of basewise: what a release must pass. `on` is fail, warn or off."]
    for check, keys in policy.limits.items():
        lines += ["", f"[{check}]"]
        for key, value in keys.items():
            meaning = known[check][key][1] if key != ON else ""
            lines.append(f"{key} = {_toml(value)}" + (f"  # {meaning}" if meaning else ""))
    for check, entry in policy.overrides.items():
        lines += ["", "[[override]]", f"check = {_toml(check)}"]
        lines += [f"{key} = {_toml(entry[key])}" for key in ("reason", "by")]
        lines += [f"until = {entry['until']}"] if "until" in entry else []
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, float) else repr(value)
