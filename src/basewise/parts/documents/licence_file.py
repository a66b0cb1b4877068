"""LICENSE: the expression under which the release goes out, and where its texts stand.

Texts that a base brings lie beside its weights (`--weights whole`); those that SPDX lists are named by their address there.
"""

from __future__ import annotations

from basewise.core.release import Release

FILE = "LICENSE"


def text(release: Release) -> str:
    """Expression, addresses, and who signed where the terms are someone's own."""
    licence = release.licence.get("outgoing") or release.licence.get("expression") or "LicenseRef-own"
    lines = [f"SPDX-License-Identifier: {licence}", ""]
    for name in dict.fromkeys(licence.replace("(", " ").replace(")", " ").split()):
        if name in ("AND", "OR", "WITH"):
            continue
        if name.startswith("LicenseRef-"):
            lines.append(f"{name}: the terms of its owner; ask whoever gave you this release.")
        else:
            lines.append(f"{name}: https://spdx.org/licenses/{name}.html")
    lines += [
        "",
        f"Commercial use: {'allowed' if release.licence.get('commercial') else 'not allowed or not known'}.",
    ]
    return "\n".join(lines) + "\n"
