"""Licences of base, data, adapter and teachers: what they ask together, and whether the declared use is allowed.

The graph and its rules are in `stats/licences.py`. What nobody knows the licence of fails until a named person signs for it:
`--data-licence own --by "A. Person"`, or `signed` in the policy.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from basewise.core.errors import InputError
from basewise.core.gate import PASS, WARN, CheckResult, Licensed, Subject, fact, worst
from basewise.stats.licences import RELATIONS, decide, nearest

SIGNED = "artefact | licence | A. Person"

THRESHOLDS: dict[str, tuple[Any, str]] = {
    "use": ("commercial", 'what it is for: "commercial" or "research"'),
    "service": (True, "whether it answers over a network"),
    "outgoing": ("", "the licence it is given; empty: whatever fits"),
    "data": ("", 'licence of the training rows; "own" needs signed_by'),
    "signed_by": ("", "who answers for the licence of the rows"),
    "signed": ([], 'others signed for: "artefact | licence | A. Person"'),
    "more": ([], 'further parents: "name | teacher, data or base | licence | relation"'),
}


def check(subject: Subject, limits: dict[str, Any]) -> CheckResult:
    """The verdict on the last artefact, which is the release itself, with every reason."""
    artefacts = graph(subject.artefacts, limits)
    verdict = decide(artefacts, artefacts[-1].name, limits["use"], limits["service"], limits["outgoing"])
    evidence = [
        {"name": a.name, "what": a.what, "licence": a.licence or "not known", "signed_by": a.signed_by}
        for a in artefacts[:-1]
    ]
    evidence += [fact(ask, list(sources)) for ask, sources in verdict.asks.items()]
    meant = {a.licence: near for a in artefacts if (near := nearest(a.licence))}
    evidence += [fact(f"nearest SPDX id to {given}", near) for given, near in meant.items()]
    unused = _unused(artefacts, limits)
    evidence += [fact("signed for, and not part of this release", name) for name in unused]
    said = "; ".join([*(text for _, text in verdict.reasons), *_misspelt(artefacts, meant)])
    allowed = {True: "allowed", False: "denied", None: "not known"}[verdict.commercial]
    return CheckResult(
        check="licence",
        verdict=worst([verdict.verdict, WARN if meant else PASS]),
        sentence=said
        or f"{verdict.expression}: {limits['use']} use is allowed, asked for: {', '.join(verdict.asks) or 'nothing'}",
        evidence=(*evidence, fact("commercial use", allowed), fact("expression", verdict.expression)),
        advice=_advice(verdict.unknown, meant, unused),
    )


def graph(artefacts: tuple[Licensed, ...], limits: dict[str, Any]) -> tuple[Licensed, ...]:
    """The artefacts with what the policy says about them; the release is the last."""
    *parents, release = artefacts
    parents = [_with_data(a, limits) if a.what == "data" else a for a in parents]
    for line in limits["signed"]:
        name, licence, person = _fields(line, 3, SIGNED)
        if not person:
            raise InputError(
                f"licence.signed for {name} names no person", "write: artefact | licence | A. Person"
            )
        parents = [replace(a, licence=licence, signed_by=person) if a.name == name else a for a in parents]
    for line in limits["more"]:
        name, what, licence, relation = _fields(line, 4, "name | what | licence | relation")
        if relation not in RELATIONS:
            raise InputError(
                f"licence.more has the relation {relation!r}", f"it is one of {', '.join(RELATIONS[:-1])}"
            )
        parents.append(Licensed(name=name, what=what, licence=licence))
        release = replace(release, parents=(*release.parents, name), relation=release.relation or relation)
    return (*parents, release)


def _unused(artefacts: tuple[Licensed, ...], limits: dict[str, Any]) -> list[str]:
    """Artefacts that somebody signed for and that are not here: one policy serves releases on several bases."""
    names = [_fields(line, 3, SIGNED)[0] for line in limits["signed"]]
    return [name for name in dict.fromkeys(names) if name not in {a.name for a in artefacts}]


def _misspelt(artefacts: tuple[Licensed, ...], meant: dict[str, str]) -> list[str]:
    """What a signed licence was taken for that looks like a known one in another spelling."""
    return [
        f"{a.licence!r} is taken for terms of its own that {a.signed_by} answers for, not for {meant[a.licence]}"
        for a in artefacts
        if a.licence in meant and a.signed_by
    ]


def _with_data(node: Licensed, limits: dict[str, Any]) -> Licensed:
    given, person = limits["data"], limits["signed_by"]
    if given.lower() in ("own", "proprietary") and not person:
        return replace(node, licence="")
    return replace(node, licence=given or node.licence, signed_by=person or node.signed_by)


def _fields(line: Any, count: int, form: str) -> list[str]:
    parts = [part.strip() for part in str(line).split("|")]
    if len(parts) != count:
        raise InputError(f"{line!r} is not of the form {form}", "correct the policy file")
    return parts


def _advice(unknown: tuple[str, ...], meant: dict[str, str], unused: list[str]) -> str:
    if meant:
        return "; ".join(f"write {near} if {given!r} means that" for given, near in meant.items())
    if not unknown:
        return ""
    if unused:
        return f"licence.signed names {', '.join(unused)}; what nobody signed for is {', '.join(unknown)}"
    data = [name for name in unknown if name.startswith("data:")]
    if data:
        return 'say what the rows are licensed under: --data-licence CC-BY-4.0, or own with --by "Your Name"'
    return f'sign in the policy: [licence] signed = ["{unknown[0]} | LICENCE | Your Name"]'
