"""release: from a decision to a folder that carries its proof, or a refusal that says why.

The folder is built beside its place, signed, held to its digests and golden answers, and only then moved there (docs/decisions/0011).
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from basewise import __version__
from basewise.core.decision import Decision
from basewise.core.errors import InputError, ReleaseChanged, ReleaseRefused, RunError
from basewise.core.evidence import write_evidence
from basewise.core.files import Progress, explain_os_error, read_json, silent, write_json, write_text
from basewise.core.gate import CheckResult
from basewise.core.hashing import sha256_file
from basewise.core.manifest import AGAIN, write_manifest
from basewise.core.personal import redacted
from basewise.core.policy import Policy, policy_text
from basewise.core.registry import parts
from basewise.core.release import RECORD, Release
from basewise.core.taskfile import TASK
from basewise.engine.signing import sign, usable, verify
from basewise.steps import gate as gates
from basewise.steps.gate import Candidate
from basewise.steps.predict import GOLDEN, GOLDEN_BOUND
from basewise.steps.released import (
    base_of,
    conformal_of,
    controls_of,
    limitations_of,
    measures_of,
    score_of,
    training_of,
)

WEIGHTS = ("alone", "whole")


LICENCE_FILES = ("LICENSE", "LICENCE", "NOTICE", "USE_POLICY")
"""Beginnings of the names of files of a base that have to be passed on with its weights."""


@dataclass(frozen=True, kw_only=True)
class ReleaseOptions:
    """Choices of a release.

    override: {check: reason}, answered for by `by`; data_licence: SPDX id of the training rows, or "own"; weights: "alone" | "whole";
    against: run or release that runs today; told: called with each check's result; name: the folder's own when left out.
    """

    override: dict[str, str] = field(default_factory=dict)
    by: str = ""
    data_licence: str = ""
    weights: str = "alone"
    against: str | Path | None = None
    name: str = ""
    told: Callable[[CheckResult], None] = lambda result: None
    progress: Progress = silent


def release(
    run: str | Path | Decision,
    *,
    to: str | Path,
    policy: str | Path | None = None,
    key: str | Path | None = None,
    options: ReleaseOptions | None = None,
) -> Release:
    """Release the predictor of a run into the folder `to`, which must not exist yet.

    policy: TOML file of thresholds, the defaults when left out; key: private key that signs it. Raises ReleaseRefused with
    every reason when the gate fails; what the gate found lies in <run>/gate.json either way.
    """
    options, folder = options or ReleaseOptions(), Path(to)
    _check_place(folder, options)
    signer = usable(Path(key)) if key is not None else ""
    rules = _rules(Path(policy) if policy else None, options)
    candidate = gates.open_run(run)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise explain_os_error(error, folder) from error
    try:
        _copy_predictor(candidate, building, options.weights)
        subject = gates.subject_of(
            candidate, building, options.against or rules.limits["score"]["incumbent"] or None
        )
        results = gates.run_checks(subject, rules, options.told)
        write_json(candidate.run / "gate.json", {"when": _now(), "checks": gates.plain(results)})
        _refuse_if_failed(results)
        record = _record(
            candidate, results, rules, building, replace(options, name=options.name or folder.name)
        )
        record = replace(record, signed_by=signer).identified()
        _write(record, candidate, rules, building)
        if key is not None:
            sign(building, Path(key))
        check_built(building)
        os.chmod(building, 0o755)
        building.rename(folder)
    except OSError as error:
        raise explain_os_error(error, folder) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return Release.load(folder)


def _check_place(folder: Path, options: ReleaseOptions) -> None:
    if folder.exists():
        raise RunError(f"{folder} exists already, and a release is never written over", "give another --to")
    if options.weights not in WEIGHTS:
        raise InputError(f"weights {options.weights!r} came", f"give {' or '.join(WEIGHTS)}")
    if options.by == "" and (options.override or options.data_licence.lower() in ("own", "proprietary")):
        raise InputError("nobody's name stands behind this", 'give it: --by "Your Name"')


def _rules(path: Path | None, options: ReleaseOptions) -> Policy:
    """The policy with what the command line adds to it."""
    rules = gates.policy_of(path)
    if options.data_licence:
        rules.limits["licence"]["data"] = options.data_licence
        rules.limits["licence"]["signed_by"] = options.by or rules.limits["licence"]["signed_by"]
    for check, reason in options.override.items():
        rules = rules.with_override(check, reason, options.by)
    return rules


def _refuse_if_failed(results: list[CheckResult]) -> None:
    failed = [r for r in results if r.stops]
    if failed:
        why = " | ".join(f"{r.check}: {r.sentence}" for r in failed)
        advice = "; ".join(dict.fromkeys(r.advice for r in failed if r.advice))
        raise ReleaseRefused(
            f"not released, {len(failed)} of {len(results)} checks failed: {why}",
            advice or f'mend it, or answer for it: --override "{failed[0].check}=reason" --by "Your Name"',
        )


def _copy_predictor(candidate: Candidate, building: Path, weights: str) -> None:
    """predictor/, and base/ where everything is to be inside."""
    from basewise.steps.predict import predictor_folder

    shutil.copytree(predictor_folder(candidate.run), building / "predictor")
    base = candidate.predictor.base
    if weights == "whole" and base is not None:
        if base.random_seed is not None:
            raise InputError("a base of random weights cannot be put inside", "use --weights alone")
        (building / "base").mkdir()
        record = read_json(building / "predictor" / "predictor.json")
        # it lies beside the predictor now; where it was is nobody's affair
        record["base"]["locator"] = {}
        write_json(building / "predictor" / "predictor.json", record)
        for path in sorted(base.folder.iterdir()):
            kept = path.suffix in (".json", ".safetensors", ".txt", ".model", ".jinja")
            if path.is_file() and (kept or path.name.startswith(LICENCE_FILES)):
                shutil.copyfile(path, building / "base" / path.name)


def _record(
    candidate: Candidate,
    results: list[CheckResult],
    rules: Policy,
    building: Path,
    options: ReleaseOptions,
) -> Release:
    decision, predictor = candidate.decision, candidate.predictor
    files = {
        path.relative_to(building).as_posix(): sha256_file(path)
        for path in sorted(building.rglob("*"))
        if path.is_file()
    }
    overrides = [{**r.override, "when": _now()} for r in results if r.override]
    return Release(
        name=options.name,
        created=_now(),
        sentence=decision.sentence,
        method=predictor.record["method"],
        chosen=decision.chosen,
        base=base_of(predictor.record, building),
        classes=list(predictor.classes),
        inputs=list(predictor.inputs),
        target=candidate.task.target if candidate.task else str(decision.provenance.get("target", "")),
        threshold=predictor.threshold,
        promised_risk=decision.coverage.get("promised_risk"),
        conformal=conformal_of(candidate.trial, rules.limits["abstention"]["alpha"]),
        score=score_of(candidate),
        controls=controls_of(decision),
        measures=measures_of(candidate, results),
        licence=gates.licence_of(candidate, rules),
        gate=gates.plain(results),
        overrides=overrides,
        weights=options.weights,
        training=training_of(predictor.base),
        limitations=[redacted(line) for line in limitations_of(candidate, results)],
        provenance={
            **{
                k: decision.provenance.get(k)
                for k in ("task", "rows_digest", "bases", "versions", "rows", "train", "test", "split")
            },
            "decision_sha256": sha256_file(candidate.run / "decision.json"),
            "basewise": __version__,
            "verdict": decision.verdict,
        },
        files=files,
    )


def _write(record: Release, candidate: Candidate, rules: Policy, building: Path) -> None:
    """Record, task, evidence, golden rows, policy and every document, then the manifest over them."""
    record.save(building / RECORD)
    if (candidate.run / TASK).is_file():
        task = read_json(candidate.run / TASK)
        for finding in task["findings"]:
            finding |= {"rows": len(finding["rows"]), "message": redacted(finding["message"])}
        write_json(building / TASK, {**task, "source": Path(str(task["source"])).name})
    kept = [t for t in candidate.trials if t.name == candidate.decision.chosen or t.base is None]
    write_evidence(building / "evidence.parquet", kept)
    golden = {
        "texts": list(GOLDEN),
        "probabilities": candidate.predictor.record["golden"],
        "bound": GOLDEN_BOUND,
    }
    write_json(building / "golden.json", golden)
    write_text(building / "policy.toml", policy_text(rules, gates.thresholds()))
    for document in parts("documents").values():
        text = document.text(record)
        if text is not None:
            write_text(building / document.FILE, text)
    write_manifest(building)


def check_built(building: Path) -> None:
    """Open it as a stranger would before it gets its name: manifest, golden answers; the signature is checked on reading."""
    from basewise.core.manifest import check_manifest
    from basewise.steps.predict import open_predictor

    check_manifest(building)
    open_predictor(building / "predictor", building)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def verify_release(folder: str | Path, key: str | Path | None = None) -> dict[str, Any]:
    """{"release", "seal", "overrides", "warnings", "failed"} of a folder whose every byte is as released; ReleaseChanged otherwise.

    Nothing but digests is read before the seal holds; then the record, and at last the predictor gives its golden answers.
    """
    from basewise.steps.predict import open_predictor

    folder = Path(folder)
    seal = verify(folder, Path(key) if key else None)
    record = Release.load(folder)
    if record.identified().id != record.id:
        raise ReleaseChanged(
            f"{folder / RECORD} is another record than its version {record.id[:12]} names", AGAIN
        )
    open_predictor(folder / "predictor", folder)
    return {
        "release": record,
        "seal": seal,
        "overrides": record.overrides,
        "warnings": [line for line in record.gate if line["verdict"] in ("warn", "off")],
        "failed": [line for line in record.gate if line["verdict"] == "fail"],
    }
