"""NOTICE: whom to name, and what has to be passed on with the release."""

from __future__ import annotations

from basewise.core.release import Release

FILE = "NOTICE"


def text(release: Release) -> str:
    """One paragraph an artefact, then what is asked."""
    lines = [f"{release.name} {release.id[:12]}", ""]
    for node in release.licence.get("nodes", [])[:-1]:
        person = f" (signed for by {node['signed_by']})" if node["signed_by"] else ""
        lines.append(
            f"This release was made from {node['name']}, licence {node['licence'] or 'not known'}{person}."
        )
    base = release.base
    if base:
        lines.append(
            f"The weights of {base['key']} have the sha256 {base['digest']}; trained on: {base['training_data']}."
        )
    lines += ["", "Asked for by these licences:"]
    lines += [
        f"- {ask}: {', '.join(names)}" for ask, names in release.licence.get("obligations", {}).items()
    ] or ["- nothing"]
    lines += [f"- {text}" for _, text in release.licence.get("reasons", [])]
    return "\n".join(lines) + "\n"
