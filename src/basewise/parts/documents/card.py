"""The model card: README.md with the metadata of the Hugging Face hub, written from the record.

Intervals stand in the text, for the hub's own fields have none. Overrides are said before the score.
"""

from __future__ import annotations

from typing import Any

from basewise.core.gate import Json, count
from basewise.core.release import Release

FILE = "README.md"
HUB_LICENCES = {
    "Apache-2.0": "apache-2.0",
    "MIT": "mit",
    "BSD-3-Clause": "bsd-3-clause",
    "CC0-1.0": "cc0-1.0",
    "CC-BY-4.0": "cc-by-4.0",
    "CC-BY-SA-4.0": "cc-by-sa-4.0",
    "CC-BY-NC-4.0": "cc-by-nc-4.0",
    "GPL-3.0-only": "gpl-3.0",
    "AGPL-3.0-only": "agpl-3.0",
}


def text(release: Release) -> str:
    """The whole file."""
    return f"---\n{metadata(release)}---\n\n{body(release)}"


def metadata(release: Release) -> str:
    """The YAML block, by huggingface_hub's own writer."""
    from huggingface_hub import EvalResult, ModelCardData

    licence = release.licence.get("outgoing") or release.licence.get("expression", "")
    known = HUB_LICENCES.get(licence)
    named: dict[str, Any] = (
        {} if known else {"license_name": _slug(licence or "own"), "license_link": "LICENSE"}
    )
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type=_slug(str(release.provenance.get("task") or release.name)),
            dataset_name=str(release.provenance.get("task") or release.name),
            dataset_split=str(score.get("where", "")),
            metric_type="accuracy",
            metric_value=round(float(score["estimate"]), 4),
            metric_name=f"accuracy [{score['low']:.3f}, {score['high']:.3f}], n = {score['n']}",
        )
        for score in [release.score]
        # a release can be overridden without one
        if score.get("estimate") is not None
    ]
    # the hub takes any other name for a model of its own; the text has our key
    hub = (release.base or {}).get("hub")
    data = ModelCardData(
        license=known or "other",
        **named,
        library_name="basewise",
        pipeline_tag="text-classification",
        tags=["basewise", release.method, *(["overridden"] if release.overrides else [])],
        base_model=[hub] if hub else None,
        base_model_relation=("finetune" if release.method in ("full", "contrast") else "adapter")
        if hub
        else None,
        metrics=["accuracy"],
        model_name=release.name,
        eval_results=results or None,
    )
    return data.to_yaml() + "\n"


def body(release: Release) -> str:
    """The text: what it is, how good, how proven, what it may be used for, what it cannot do."""
    parts = [
        f"# {release.name}\n\n{release.sentence}\n",
        _use(release),
        *_overrides(release),
        _score(release),
        _gate(release),
    ]
    parts += [_licence(release), _limits(release), _origin(release)]
    return "\n".join(parts)


def _use(release: Release) -> str:
    shown = ", ".join(release.classes[:20]) + (" …" if len(release.classes) > 20 else "")
    inputs = ", ".join(release.inputs)
    row = "{" + ", ".join(f'"{name}": "…"' for name in release.inputs) + "}"
    shape = '"a text"' if len(release.inputs) == 1 else row
    return (
        f"It reads {inputs} and gives one of {len(release.classes)} classes of `{release.target}`: {shown}.\n\n"
        f'```python\nimport basewise as bw\n\npredictor = bw.load("{release.name}")\nprint(predictor.predict([{shape}]))\n```\n'
    )


def _overrides(release: Release) -> list[str]:
    if not release.overrides:
        return []
    lines = [
        f"- **{o['check']}** failed and was let through by {o['by']} on {o['when'][:10]}: {o['reason']}"
        for o in release.overrides
    ]
    return ["## Overridden checks\n\n" + "\n".join(lines) + "\n"]


def _score(release: Release) -> str:
    rows = "\n".join(
        f"| {_cell(m['name'])} | {m['slice']} | {_number(m['estimate'])} | {_number(m['low'])} to {_number(m['high'])} | {m['n']} |"
        for m in release.measures
    )
    looks = release.score.get("looks")
    told = f"\nThe locked test rows were looked at {count(looks, 'time')}.\n" if looks else ""
    return f"## Measured\n\n| what | on | estimate | 95 % interval | rows |\n|---|---|---|---|---|\n{rows}\n{told}"


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _gate(release: Release) -> str:
    rows = "\n".join(
        f"| {line['check']} | {_mark(line)} | {_cell(line['sentence'])} |" for line in release.gate
    )
    return f"## Gate\n\n| check | result | why |\n|---|---|---|\n{rows}\n"


def _mark(line: Json) -> str:
    return f"{line['verdict']}, overridden" if line.get("override") else str(line["verdict"])


def _cell(value: str) -> str:
    return " ".join(value.split()).replace("|", "\\|")


def _licence(release: Release) -> str:
    found = release.licence
    asks = "\n".join(f"- {ask}: {', '.join(names)}" for ask, names in found.get("obligations", {}).items())
    nodes = "\n".join(
        f"- {n['name']}: {n['licence'] or 'by its parents'}"
        + (f", signed for by {n['signed_by']}" if n["signed_by"] else "")
        for n in found.get("nodes", [])
    )
    return (
        f"## Licence\n\n{found.get('expression', '')}, for {found.get('use', '')} use.\n\n{nodes}\n\n{asks}\n"
    )


def _limits(release: Release) -> str:
    return "## Limits\n\n" + "\n".join(f"- {_cell(line)}" for line in release.limitations) + "\n"


def _origin(release: Release) -> str:
    base = release.base
    lines = [
        f"Version {release.id[:12]}, made {release.created} with basewise {release.provenance.get('basewise')}."
    ]
    if base:
        where = (
            "inside this folder"
            if base["inside"]
            else "not inside: the same weights are needed where it runs"
        )
        lines.append(
            f"Base {base['key']} (sha256 {base['digest']}), {where}. Trained on: {base['training_data']}."
        )
    lines.append(f"Signed by key {release.signed_by}." if release.signed_by else "Unsigned.")
    return "## Origin\n\n" + "\n".join(lines) + "\n"


def _slug(value: str) -> str:
    return "".join(c if c.isalnum() or c in ".-" else "-" for c in value.lower()).strip("-") or "unknown"
