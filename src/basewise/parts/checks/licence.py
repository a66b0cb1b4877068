"""Licences of base, data, adapter and teachers: what they ask together, and whether the declared use is allowed.

The graph and its rules are in `stats/licences.py`. What nobody knows the licence of fails until a named person signs for it:
`--data-licence own --by "A. Person"`, or `signed` in the policy.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from basewise.core.errors import InputError
from basewise.core.gate import CheckResult, Licensed, Subject, fact
from basewise.stats.licences import RELATIONS, decide

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
    said = "; ".join(text for _, text in verdict.reasons)
    allowed = {True: "allowed", False: "denied", None: "not known"}[verdict.commercial]
    return CheckResult(
        check="licence",
        verdict=verdict.verdict,
        sentence=said
        or f"{verdict.expression}: {limits['use']} use is allowed, asked for: {', '.join(verdict.asks) or 'nothing'}",
        evidence=(*evidence, fact("commercial use", allowed), fact("expression", verdict.expression)),
        advice=_advice(verdict.unknown),
    )


def graph(artefacts: tuple[Licensed, ...], limits: dict[str, Any]) -> tuple[Licensed, ...]:
    """The artefacts with what the policy says about them; the release is the last."""
    *parents, release = artefacts
    parents = [_with_data(a, limits) if a.what == "data" else a for a in parents]
    for line in limits["signed"]:
        name, licence, person = _fields(line, 3, "artefact | licence | A. Person")
        if name not in {a.name for a in parents}:
            raise InputError(
                f"licence.signed names {name!r}", f"artefacts are: {', '.join(a.name for a in parents)}"
            )
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


def _advice(unknown: tuple[str, ...]) -> str:
    if not unknown:
        return ""
    data = [name for name in unknown if name.startswith("data:")]
    if data:
        return 'say what the rows are licensed under: --data-licence CC-BY-4.0, or own with --by "Your Name"'
    return f'sign in the policy: [licence] signed = ["{unknown[0]} | LICENCE | Your Name"]'
