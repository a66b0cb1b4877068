"""What a release inherits from its base, data, adapter and teachers: obligations go down a graph, uses are denied or questioned.

A fine-tune, merge, quantisation, conversion or adapter is a derivative of its parents and takes over all they ask. A student
takes over what its teacher's terms ask of outputs. What was trained on data takes over attribution, share-alike (as a question) and
no-commercial (on the safe side: courts have not settled it). Not legal advice: it gives reasons, a person decides.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from basewise.core.errors import InputError
from basewise.core.gate import FAIL, PASS, WARN, Licensed, worst

ATTRIBUTION, NOTICE, SHARE_ALIKE = "attribution", "notice", "share-alike"
NO_COMMERCIAL, NO_DERIVATIVES, USE_LIMITS = "no-commercial", "no-derivatives", "use-restrictions"
NAMING, CAP, NO_TRAIN, UPDATES, SOURCE = (
    "naming",
    "user-cap",
    "no-training-of-others",
    "terms-may-change",
    "source-on-network-use",
)
DERIVED = ("finetune", "adapter", "merge", "quantise", "convert")
RELATIONS = (*DERIVED, "distilled", "trained-on", "uses", "")
OUTPUTS = {NAMING, CAP, NO_TRAIN, USE_LIMITS, UPDATES, NO_COMMERCIAL}
"""Obligations that can reach a student through outputs, where the licence says that it binds them."""
UNKNOWN = {"", "other", "unknown", "not stated", "unlicensed", "noassertion"}
OWN = "LicenseRef-own"


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a licence asks. `binds_outputs`: of models trained on its outputs too; `family`: whose share-alike it is."""

    asks: frozenset[str] = frozenset()
    binds_outputs: bool = False
    family: str = ""


def _terms(*asks: str, outputs: bool = False, family: str = "") -> Terms:
    return Terms(asks=frozenset(asks), binds_outputs=outputs, family=family)


_LLAMA = (NAMING, CAP, USE_LIMITS, NOTICE, ATTRIBUTION)
TABLE: dict[str, Terms] = {
    OWN: _terms(),
    "CC0-1.0": _terms(),
    "Unlicense": _terms(),
    "PDDL-1.0": _terms(),
    "MIT": _terms(NOTICE),
    "ISC": _terms(NOTICE),
    "BSD-2-Clause": _terms(NOTICE),
    "BSD-3-Clause": _terms(NOTICE),
    "Apache-2.0": _terms(NOTICE),
    "CC-BY-3.0": _terms(ATTRIBUTION),
    "CC-BY-4.0": _terms(ATTRIBUTION),
    "ODC-By-1.0": _terms(ATTRIBUTION),
    "CDLA-Permissive-2.0": _terms(NOTICE),
    "CC-BY-SA-3.0": _terms(ATTRIBUTION, SHARE_ALIKE, family="cc-by-sa"),
    "CC-BY-SA-4.0": _terms(ATTRIBUTION, SHARE_ALIKE, family="cc-by-sa"),
    "ODbL-1.0": _terms(ATTRIBUTION, SHARE_ALIKE, family="odbl"),
    "CDLA-Sharing-1.0": _terms(NOTICE, SHARE_ALIKE, family="cdla"),
    "LGPL-3.0-only": _terms(NOTICE, SHARE_ALIKE, family="gpl"),
    "GPL-2.0-only": _terms(NOTICE, SHARE_ALIKE, family="gpl-2"),
    "GPL-3.0-only": _terms(NOTICE, SHARE_ALIKE, family="gpl"),
    "AGPL-3.0-only": _terms(NOTICE, SHARE_ALIKE, SOURCE, family="gpl"),
    "MPL-2.0": _terms(NOTICE),
    "CC-BY-NC-4.0": _terms(ATTRIBUTION, NO_COMMERCIAL, outputs=True),
    "CC-BY-NC-SA-4.0": _terms(ATTRIBUTION, NO_COMMERCIAL, SHARE_ALIKE, outputs=True, family="cc-by-nc-sa"),
    "CC-BY-ND-4.0": _terms(ATTRIBUTION, NO_DERIVATIVES),
    "CC-BY-NC-ND-4.0": _terms(ATTRIBUTION, NO_COMMERCIAL, NO_DERIVATIVES, outputs=True),
    "LicenseRef-research-only": _terms(NO_COMMERCIAL, outputs=True),
    "LicenseRef-OpenRAIL-M": _terms(USE_LIMITS, NOTICE, outputs=True),
    "LicenseRef-BigScience-OpenRAIL-M": _terms(USE_LIMITS, NOTICE, outputs=True),
    "LicenseRef-Llama-2": _terms(*_LLAMA, NO_TRAIN, outputs=True),
    "LicenseRef-Llama-3": _terms(*_LLAMA, NO_TRAIN, outputs=True),
    "LicenseRef-Llama-3.1": _terms(*_LLAMA, outputs=True),
    "LicenseRef-Llama-3.2": _terms(*_LLAMA, outputs=True),
    "LicenseRef-Llama-3.3": _terms(*_LLAMA, outputs=True),
    "LicenseRef-Llama-4": _terms(*_LLAMA, outputs=True),
    "LicenseRef-Gemma": _terms(USE_LIMITS, UPDATES, NOTICE, outputs=True),
}
ALIASES = {
    "own": OWN,
    "public domain": "CC0-1.0",
    "proprietary": OWN,
    "openrail": "LicenseRef-OpenRAIL-M",
    "creativeml-openrail-m": "LicenseRef-OpenRAIL-M",
    "bigscience-openrail-m": "LicenseRef-BigScience-OpenRAIL-M",
    "bigscience-bloom-rail-1.0": "LicenseRef-BigScience-OpenRAIL-M",
    "research-only": "LicenseRef-research-only",
    "gemma": "LicenseRef-Gemma",
    "odc-by": "ODC-By-1.0",
    "odbl": "ODbL-1.0",
    "gpl-3.0": "GPL-3.0-only",
    "gpl-2.0": "GPL-2.0-only",
    "agpl-3.0": "AGPL-3.0-only",
    "lgpl-3.0": "LGPL-3.0-only",
    "apache 2.0": "Apache-2.0",
    **{f"llama{v}": f"LicenseRef-Llama-{v}" for v in ("2", "3", "3.1", "3.2", "3.3", "4")},
}
_LOWER = {key.lower(): key for key in TABLE} | ALIASES


def canonical(licence: str) -> str | None:
    """The name in TABLE, for SPDX ids in any case and the hub's own short names; None: unknown.

    Of "MIT or Apache-2.0" whoever takes it may choose: one that denies nothing, then the one that asks least.
    """
    plain = licence.strip().lower().removesuffix("-or-later")
    if plain in UNKNOWN:
        return None
    if " or " in plain:
        offered = [found for one in plain.split(" or ") if (found := canonical(one)) is not None]
        heavy = (NO_COMMERCIAL, NO_DERIVATIVES, SHARE_ALIKE)
        return min(
            offered,
            key=lambda name: (*(ask in TABLE[name].asks for ask in heavy), len(TABLE[name].asks)),
            default=None,
        )
    return _LOWER.get(plain) or _LOWER.get(f"{plain}-only")


def nearest(licence: str) -> str | None:
    """The licence in TABLE that a name which is none of them most likely means ("Apache 2", "apache2.0"); None: no such."""
    plain = licence.strip().lower()
    if plain in UNKNOWN or canonical(licence) is not None:
        return None
    bare = {_bare(name): known for name, known in _LOWER.items() if known != OWN}
    found = difflib.get_close_matches(_bare(plain), bare, n=1, cutoff=0.8)
    return bare[found[0]] if found else None


def _bare(name: str) -> str:
    """Letters and digits without the words that say nothing."""
    return re.sub(r"\b(?:the|licen[cs]e|licenseref|version|v)(?![a-z])|[^a-z0-9]", "", name)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the graph says about one artefact under one use.

    verdict: pass | warn (a person should read the reasons) | fail; `asks` {obligation: artefacts it comes from};
    `commercial`: whether commercial use is allowed, None while something is unknown; `expression`: SPDX expression of the
    licences that bind it.
    """

    verdict: str
    reasons: tuple[tuple[str, str], ...]
    asks: dict[str, tuple[str, ...]]
    commercial: bool | None
    expression: str
    unknown: tuple[str, ...] = ()


@dataclass
class _Reached:
    asks: dict[str, set[str]] = field(default_factory=dict)
    licences: set[str] = field(default_factory=set)
    families: dict[str, set[str]] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    reasons: list[tuple[str, str]] = field(default_factory=list)

    def take(self, other: _Reached, asks: Iterable[str]) -> None:
        """Inherit the named obligations of a parent, with what is unknown and denied there."""
        kept = set(asks)
        for ask, sources in other.asks.items():
            if ask in kept:
                self.asks.setdefault(ask, set()).update(sources)
        if SHARE_ALIKE in kept:
            for family, names in other.families.items():
                self.families.setdefault(family, set()).update(names)
        self.unknown |= other.unknown
        self.reasons += [r for r in other.reasons if r not in self.reasons]


def decide(
    artefacts: Sequence[Licensed],
    name: str,
    use: str = "commercial",
    service: bool = True,
    outgoing: str = "",
) -> Verdict:
    """What binds the artefact `name`. use: "commercial" | "research"; `service`: it answers over a network; `outgoing`:
    the licence it is to be given, "" for whatever fits. InputError for a parent that is not there, or a circle.
    """
    known = {a.name: a for a in artefacts}
    reached = _walk(known, name, ())
    asks = {ask: tuple(sorted(sources)) for ask, sources in sorted(reached.asks.items())}
    unknown = tuple(sorted(reached.unknown))
    reasons = [*reached.reasons, *_denials(asks, reached, use, outgoing), *_questions(asks, service)]
    reasons += [
        (FAIL, f"the licence of {source} is not known: a named person has to sign for it")
        for source in unknown
    ]
    reasons = list(dict.fromkeys(reasons))
    denied = NO_COMMERCIAL in asks
    return Verdict(
        verdict=worst([verdict for verdict, _ in reasons] or [PASS]),
        reasons=tuple(reasons),
        asks=asks,
        commercial=False if denied else None if unknown else True,
        expression=" AND ".join(sorted(reached.licences)) or OWN,
        unknown=unknown,
    )


def _walk(known: dict[str, Licensed], name: str, way: tuple[str, ...]) -> _Reached:
    if name in way:
        raise InputError(
            f"the licence graph goes in a circle: {' -> '.join([*way, name])}", "correct the parents"
        )
    if name not in known:
        raise InputError(
            f"the licence graph names {name!r}, which is not in it", "name every parent with its licence"
        )
    node, found = known[name], _Reached()
    if node.relation not in RELATIONS:
        raise InputError(
            f"{name} has the relation {node.relation!r}", f"it is one of {', '.join(filter(None, RELATIONS))}"
        )
    _own_terms(node, found)
    for parent in node.parents:
        above = _walk(known, parent, (*way, name))
        _inherit(node, known[parent], above, found)
    return found


def _own_terms(node: Licensed, found: _Reached) -> None:
    licence = canonical(node.licence)
    if licence is None and node.signed_by:
        licence = OWN
    if licence is None:
        if node.parents and not node.licence:
            # what is made here has no licence of its own yet: its parents decide
            return
        found.unknown.add(node.name)
        return
    terms = TABLE[licence]
    found.licences.add(licence)
    for ask in terms.asks:
        found.asks.setdefault(ask, set()).add(node.name)
    if terms.family:
        found.families.setdefault(terms.family, set()).add(node.name)


def _inherit(node: Licensed, parent: Licensed, above: _Reached, found: _Reached) -> None:
    """What goes from a parent to its child, by what the parent is and how the child came from it."""
    relation = "trained-on" if parent.what in ("data", "corpus") else node.relation
    relation = "distilled" if parent.what == "teacher" else relation
    if relation in DERIVED:
        found.take(above, above.asks)
        found.licences |= above.licences - {OWN}
        if NO_DERIVATIVES in above.asks:
            found.reasons.append(
                (FAIL, f"{parent.name} may not be changed, {node.name} is a derivative of it")
            )
    elif relation == "trained-on":
        found.take(above, {ATTRIBUTION, NO_COMMERCIAL})
        if SHARE_ALIKE in above.asks:
            found.reasons.append(
                (
                    WARN,
                    f"{parent.name} is share-alike: whether {node.name}, trained on it, must be too is an open question",
                )
            )
        if NO_DERIVATIVES in above.asks:
            found.reasons.append(
                (WARN, f"{parent.name} allows no derivatives: whether a model is one is an open question")
            )
    elif relation == "distilled":
        licence = canonical(parent.licence)
        bound = OUTPUTS if licence and TABLE[licence].binds_outputs else set()
        found.take(above, bound)
        if NO_TRAIN in above.asks and bound:
            found.reasons.append(
                (FAIL, f"the terms of {parent.name} forbid training other models on its outputs")
            )
    else:
        found.unknown |= above.unknown


def _denials(
    asks: dict[str, tuple[str, ...]], reached: _Reached, use: str, outgoing: str
) -> list[tuple[str, str]]:
    if use not in ("commercial", "research"):
        raise InputError(f"use {use!r} came", 'it is "commercial" or "research"')
    out = []
    if use == "commercial" and NO_COMMERCIAL in asks:
        out.append((FAIL, f"commercial use is denied by {', '.join(asks[NO_COMMERCIAL])}"))
    if len(reached.families) > 1:
        names = sorted({name for names in reached.families.values() for name in names})
        out.append((FAIL, f"share-alike terms that exclude one another bind it: {', '.join(names)}"))
    given = canonical(outgoing) if outgoing else None
    if outgoing and given is None:
        out.append((FAIL, f"the outgoing licence {outgoing!r} is not known"))
    if given and reached.families and TABLE[given].family not in reached.families:
        sources = sorted({name for names in reached.families.values() for name in names})
        out.append((FAIL, f"{', '.join(sources)} asks for the same licence, {given} is another"))
    if given and NO_COMMERCIAL in asks and NO_COMMERCIAL not in TABLE[given].asks:
        out.append(
            (FAIL, f"{given} would allow commercial use, which {', '.join(asks[NO_COMMERCIAL])} denies")
        )
    return out


def _questions(asks: dict[str, tuple[str, ...]], service: bool) -> list[tuple[str, str]]:
    said = {
        CAP: "more than 700 million monthly users need a licence of their own",
        NAMING: "the name must begin as the terms ask, and say what it was built with",
        UPDATES: "the terms can be changed by their owner at any time",
        USE_LIMITS: "its use restrictions must be passed on",
    }
    out = [(WARN, f"{', '.join(asks[ask])}: {text}") for ask, text in said.items() if ask in asks]
    if service and SOURCE in asks:
        out.append(
            (WARN, f"{', '.join(asks[SOURCE])}: who uses it over a network must be offered the source")
        )
    if SHARE_ALIKE in asks:
        out.append((WARN, f"{', '.join(asks[SHARE_ALIKE])}: it can only be handed on under the same licence"))
    return out
