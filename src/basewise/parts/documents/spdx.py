"""SPDX 3.0.1 in JSON-LD: the release as an AI package, with its rows, base, maker and licence."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from basewise.core.release import Release

FILE = "spdx.json"
CONTEXT = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
CREATION = "_:creation"


def text(release: Release) -> str:
    """The document as JSON-LD."""
    return json.dumps({"@context": CONTEXT, "@graph": graph(release)}, indent=1, ensure_ascii=False) + "\n"


def graph(release: Release) -> list[dict[str, Any]]:
    """All elements; the first is what they share about their making."""
    made = release.created.replace("+00:00", "Z")
    model, agent, licence = _id(release, "model"), _id(release, "maker"), _id(release, "licence")
    elements: list[dict[str, Any]] = [
        _element(release, "maker", "SoftwareAgent", name=f"basewise {release.provenance.get('basewise')}"),
        _package(release, made, agent),
        *_files(release),
        *_parents(release, made, agent),
        {
            **_element(release, "licence", "simplelicensing_LicenseExpression"),
            "simplelicensing_licenseExpression": release.licence.get("outgoing")
            or release.licence.get("expression")
            or "NOASSERTION",
        },
    ]
    ids = [e["spdxId"] for e in elements]
    elements += [
        _relation(release, 0, model, "hasDeclaredLicense", [licence]),
        *_links(release, model, [e["spdxId"] for e in elements if e["type"] == "software_File"]),
    ]
    document = {
        **_element(release, "document", "SpdxDocument", name=release.name),
        "profileConformance": ["core", "software", "ai", "dataset", "simpleLicensing"],
        "rootElement": [model],
        "element": [*ids, *(e["spdxId"] for e in elements[len(ids) :])],
    }
    creation = {
        "type": "CreationInfo",
        "@id": CREATION,
        "specVersion": "3.0.1",
        "created": made,
        "createdBy": [agent],
    }
    return [creation, document, *elements]


def _id(release: Release, name: str) -> str:
    return (
        # names of tables hold blanks, addresses none
        f"urn:basewise:{release.id}:{quote(name, safe=':/')}"
    )


def _element(release: Release, key: str, kind: str, name: str = "") -> dict[str, Any]:
    value = {"type": kind, "spdxId": _id(release, key), "creationInfo": CREATION}
    return {**value, "name": name} if name else value


def _relation(release: Release, number: int, start: str, kind: str, to: list[str]) -> dict[str, Any]:
    return {
        **_element(release, f"relation-{number}", "Relationship"),
        "from": start,
        "relationshipType": kind,
        "to": to,
    }


def _package(release: Release, made: str, agent: str) -> dict[str, Any]:
    base = release.base or {}
    package = {
        **_element(release, "model", "ai_AIPackage", name=release.name),
        "summary": release.sentence,
        "releaseTime": made,
        "suppliedBy": agent,
        "software_packageVersion": release.id,
        "software_downloadLocation": f"urn:basewise:{release.id}",
        "software_primaryPurpose": "model",
        "ai_typeOfModel": [f"{base['family']} with {release.method}" if base else release.method],
        "ai_domain": ["text classification"],
        "ai_informationAboutTraining": f"{release.method} on {release.provenance.get('train')} rows"
        + (f" and {base['key']}" if base else ""),
        "ai_limitation": " ".join(release.limitations),
        "ai_autonomyType": "no",
        "ai_metric": [
            {
                "type": "DictionaryEntry",
                "key": m["name"] + (f" on {m['slice']}" if m["slice"] else ""),
                "value": f"{m['estimate']} [{m['low']}, {m['high']}], n = {m['n']}",
            }
            for m in release.measures
        ],
        "ai_useSensitivePersonalInformation": "noAssertion",
        "comment": "; ".join(f"{line['check']}: {line['verdict']}" for line in release.gate)
        + "".join(f"; {o['check']} overridden by {o['by']}: {o['reason']}" for o in release.overrides),
    }
    if release.threshold is not None:
        package["ai_metricDecisionThreshold"] = [
            {
                "type": "DictionaryEntry",
                "key": "abstains below this top probability",
                "value": str(release.threshold),
            }
        ]
    return package


def _files(release: Release) -> list[dict[str, Any]]:
    return [
        {
            **_element(release, f"file:{number}", "software_File", name=name),
            "verifiedUsing": [{"type": "Hash", "algorithm": "sha256", "hashValue": digest}],
        }
        for number, (name, digest) in enumerate(release.files.items())
    ]


def _parents(release: Release, made: str, agent: str) -> list[dict[str, Any]]:
    """Rows and bases as packages of their own."""
    out = []
    for node in release.licence.get("nodes", []):
        name, what = node["name"], node["what"]
        about = {"comment": f"licence: {node['licence'] or 'not known'}", "software_packageVersion": "1"}
        if what == "corpus":
            out.append(
                {
                    **_element(release, name, "software_Package", name=name),
                    **about,
                    "software_primaryPurpose": "data",
                }
            )
        elif what == "data":
            about["comment"] += (
                "; when the rows were gathered is not known, the times are those of this release"
            )
            digest = str(release.provenance.get("rows_digest"))
            kind = {
                "dataset_datasetType": ["text"],
                "software_primaryPurpose": "data",
                "software_packageVersion": digest,
            }
            more = {
                "builtTime": made,
                "originatedBy": [agent],
                "releaseTime": made,
                "software_downloadLocation": f"urn:basewise:rows:{digest}",
            }
            out.append(
                {**_element(release, name, "dataset_DatasetPackage", name=name), **about, **kind, **more}
            )
        elif what in ("base", "teacher"):
            digest = (release.base or {}).get("digest", "")
            package = {
                **_element(release, name, "software_Package", name=name),
                **about,
                "software_primaryPurpose": "model",
            }
            if digest and name == f"base:{(release.base or {})['key']}":
                package["verifiedUsing"] = [{"type": "Hash", "algorithm": "sha256", "hashValue": digest}]
            out.append(package)
    return out


def _links(release: Release, model: str, files: list[str]) -> list[dict[str, Any]]:
    out = []
    if files:
        out.append(_relation(release, 1, model, "contains", files))
    for number, node in enumerate(release.licence.get("nodes", [])[:-1], 2):
        kind = "trainedOn" if node["what"] in ("data", "corpus") else "descendantOf"
        if node["what"] in ("data", "corpus", "base", "teacher"):
            out.append(_relation(release, number, model, kind, [_id(release, node["name"])]))
    return out
