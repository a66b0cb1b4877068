"""CycloneDX 1.7 bill of materials: the only one of the forms that has a place for confidence intervals.

Revision, hashes and format can be checked against bytes and are marked "verified"; the rest is what the record declares.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from basewise.core.release import Release

FILE = "bom.cdx.json"


def text(release: Release) -> str:
    """The document, ordered as the record is."""
    return json.dumps(document(release), indent=1, ensure_ascii=False) + "\n"


def document(release: Release) -> dict[str, Any]:
    """The bill of materials: the model as its subject; base, rows and libraries as components."""
    parts = _components(release)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.7.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.7",
        "serialNumber": f"urn:uuid:{uuid.UUID(release.id[:32])}",
        "version": 1,
        "metadata": {
            "timestamp": release.created,
            "tools": {
                "components": [
                    {
                        "type": "application",
                        "name": "basewise",
                        "version": str(release.provenance.get("basewise")),
                    }
                ]
            },
            "component": _model(release),
            "properties": _properties(release),
        },
        "components": parts,
        "dependencies": [
            {"ref": "model", "dependsOn": [part["bom-ref"] for part in parts]},
            *({"ref": part["bom-ref"]} for part in parts),
        ],
    }


def _model(release: Release) -> dict[str, Any]:
    licence = release.licence.get("outgoing") or release.licence.get("expression")
    out: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": release.name,
        "version": release.id,
        "description": release.sentence,
        "modelCard": _card(release),
        "components": [
            {
                "type": "file",
                "bom-ref": f"file:{name}",
                "name": name,
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }
            for name, digest in release.files.items()
        ],
    }
    if licence:
        out["licenses"] = [{"expression": licence}]
    return out


def _card(release: Release) -> dict[str, Any]:
    base = release.base or {}
    parameters: dict[str, Any] = {
        "approach": {"type": "supervised"},
        "task": "text classification",
        "modelArchitecture": f"{base['key']} + {release.method}" if base else release.method,
        "datasets": [
            {"ref": node["name"]} for node in release.licence.get("nodes", []) if node["what"] == "data"
        ],
        "inputs": [{"format": "text"}],
        "outputs": [{"format": "class with probability"}],
    }
    if base:
        parameters["architectureFamily"] = (
            f"transformer {base['family']}" if base["family"] != "static" else "static token vectors"
        )
    return {
        "modelParameters": parameters,
        "quantitativeAnalysis": {"performanceMetrics": [_metric(m) for m in release.measures]},
        "considerations": {
            "useCases": [
                f"giving a text one of the classes of {release.target}: {', '.join(release.classes[:20])}"
            ],
            "technicalLimitations": release.limitations,
            "ethicalConsiderations": [
                {
                    "name": f"{o['check']} failed",
                    "mitigationStrategy": f"let through by {o['by']}: {o['reason']}",
                }
                for o in release.overrides
            ],
        },
    }


def _metric(measure: dict[str, Any]) -> dict[str, Any]:
    where = f"{measure['slice']}, n = {measure['n']}" if measure["slice"] else f"n = {measure['n']}"
    return {
        "type": measure["name"],
        "value": str(measure["estimate"]),
        "slice": where,
        "confidenceInterval": {"lowerBound": str(measure["low"]), "upperBound": str(measure["high"])},
    }


def _components(release: Release) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    licences = {node["name"]: node for node in release.licence.get("nodes", [])}
    for name, node in licences.items():
        if node["what"] == "data":
            about = f"{release.provenance.get('rows')} rows; digest {release.provenance.get('rows_digest')}"
            out.append(
                {
                    "type": "data",
                    "bom-ref": name,
                    "name": name,
                    "description": about,
                    "data": [{"type": "dataset", "name": name}],
                }
            )
        elif node["what"] == "corpus":
            kinds = [{"type": "dataset", "name": name}]
            out.append({"type": "data", "bom-ref": name, "name": name, "data": kinds})
        elif node["what"] in ("base", "teacher"):
            out.append(
                {"type": "machine-learning-model", "bom-ref": name, "name": name.partition(":")[2] or name}
            )
        if out and out[-1]["bom-ref"] == name and node["licence"]:
            out[-1]["licenses"] = [{"license": {"name": node["licence"]}}]
    if release.base:
        for part in out:
            if part["bom-ref"] == f"base:{release.base['key']}":
                part["hashes"] = [{"alg": "SHA-256", "content": release.base["digest"]}]
    versions = release.provenance.get("versions") or {}
    out += [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{n}@{v}",
            "name": n,
            "version": str(v),
            "purl": f"pkg:pypi/{n.lower()}@{v}",
        }
        for n, v in versions.items()
        if n != "basewise"
    ]
    return out


def _properties(release: Release) -> list[dict[str, str]]:
    """Gate and overrides, which no field of the form has a place for."""
    out = [{"name": f"basewise:gate:{line['check']}", "value": line["verdict"]} for line in release.gate]
    out += [
        {"name": f"basewise:override:{o['check']}", "value": f"{o['by']} on {o['when']}: {o['reason']}"}
        for o in release.overrides
    ]
    out.append({"name": "basewise:signed_by", "value": release.signed_by or "unsigned"})
    out.append(
        {
            "name": "basewise:verified",
            "value": "version, hashes and format are checked against bytes; the rest is declared",
        }
    )
    return out
