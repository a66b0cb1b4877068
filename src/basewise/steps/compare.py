"""diff: what changed between two releases: base, method, score on shared rows, thresholds, licence, gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.evidence import read_evidence
from basewise.core.release import Release
from basewise.engine.signing import verify
from basewise.steps.measures import difference

FACTS = (
    "kind",
    "method",
    "target",
    "inputs",
    "classes",
    "threshold",
    "promised_risk",
    "weights",
    "signed_by",
)


def diff(one: str | Path, other: str | Path) -> dict[str, Any]:
    """{"changed": [{"what", "from", "to"}], "score": paired difference (other minus one) | None, "why"}; both are verified first.

    The score is paired where both releases predicted the same rows of the same table; else `why` says why it is not.
    """
    folders = [Path(one), Path(other)]
    for folder in folders:
        verify(folder)
    a, b = (Release.load(folder) for folder in folders)
    score, why = _paired(a, b, folders)
    return {"from": a.id, "to": b.id, "changed": _changes(a, b), "score": score, "why": why}


def _changes(a: Release, b: Release) -> list[dict[str, Any]]:
    pairs: list[tuple[str, Any, Any]] = [(name, getattr(a, name), getattr(b, name)) for name in FACTS]
    base = [(r.base or {}) for r in (a, b)]
    pairs += [(f"base {key}", base[0].get(key), base[1].get(key)) for key in ("key", "digest", "licence")]
    pairs.append(
        ("conformal set from", a.conformal.get("least_probability"), b.conformal.get("least_probability"))
    )
    pairs += [
        (f"licence {key}", a.licence.get(key), b.licence.get(key))
        for key in ("expression", "commercial", "obligations")
    ]
    verdicts = [{line["check"]: line["verdict"] for line in r.gate} for r in (a, b)]
    pairs += [
        (f"gate {check}", verdicts[0].get(check), verdicts[1].get(check))
        for check in sorted({*verdicts[0], *verdicts[1]})
    ]
    pairs.append(("overrides", _said(a), _said(b)))
    pairs.append(("accuracy", _score(a), _score(b)))
    pairs += [
        (name, a.provenance.get(name), b.provenance.get(name)) for name in ("rows_digest", "rows", "basewise")
    ]
    return [{"what": name, "from": before, "to": after} for name, before, after in pairs if before != after]


def _said(release: Release) -> list[str]:
    return [f"{o['check']} by {o['by']}: {o['reason']}" for o in release.overrides]


def _score(release: Release) -> str:
    score = release.score
    return (
        f"{score['estimate']:.3f} [{score['low']:.3f}, {score['high']:.3f}] of {score['n']} {score['where']}"
    )


def _paired(a: Release, b: Release, folders: list[Path]) -> tuple[dict[str, Any] | None, str]:
    if a.provenance.get("rows_digest") != b.provenance.get("rows_digest"):
        return None, "they were made from other rows, so their scores cannot be paired"
    if a.classes != b.classes:
        return None, "they predict other classes"
    rights = [r for folder, release in zip(folders, (a, b), strict=True) if (r := _right(folder, release))]
    if len(rights) < 2:
        return None, "one of them carries no evidence"
    ids = np.intersect1d(list(rights[0]), list(rights[1]))
    if not len(ids):
        return None, "no held-out row is in both"
    ours, theirs = (np.array([right[int(i)][0] for i in ids]) for right in rights)
    return difference(theirs, ours, np.array([rights[0][int(i)][1] for i in ids])), ""


def _right(folder: Path, release: Release) -> dict[int, tuple[bool, int]] | None:
    """{row: (right in most seeds, its group)} of the released way."""
    path = folder / "evidence.parquet"
    if not path.is_file():
        return None
    table = read_evidence(path)
    names = table.column("trial").cast("string").to_numpy(zero_copy_only=False)
    rows = table.filter(names == release.chosen)
    ids, groups = (rows.column(name).to_pylist() for name in ("row_id", "group"))
    total: dict[int, list[bool]] = {}
    for i, right in zip(ids, rows.column("right").to_pylist(), strict=True):
        total.setdefault(i, []).append(bool(right))
    group = dict(zip(ids, groups, strict=True))
    return {i: (float(np.mean(v)) > 0.5, group[i]) for i, v in total.items()} or None
