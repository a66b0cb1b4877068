"""The parts of a release's record: score, controls, measures, sets, base and limits, from the decision and its evidence."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from basewise.core.base import Base
from basewise.core.decision import Decision
from basewise.core.evidence import Trial
from basewise.core.files import read_json
from basewise.core.gate import CheckResult, Json
from basewise.core.rundir import looks_of
from basewise.steps.gate import Candidate
from basewise.steps.measures import name_of

ALPHA = 0.1
PRETRAINED = "pretraining.json"
INTERVAL = ("estimate", "low", "high", "n")


def score_of(candidate: Candidate) -> Json:
    """Accuracy as an interval, and where it is from."""
    decision = candidate.decision
    score, where = decision.accuracy
    looks = looks_of(candidate.run, decision.test.get("digest"))
    return {**{k: score.get(k) for k in INTERVAL}, "where": where, "looks": looks.total}


def controls_of(decision: Decision) -> list[Json]:
    """Differences to the controls on the locked rows."""
    n = decision.test.get("n")
    by = "" if decision.metric == "accuracy" else f" ({name_of(decision.metric)})"
    return [
        {
            "name": gap["name"] + by,
            **{k: gap[k] for k in ("estimate", "low", "high")},
            "n": n,
            "p_holm": gap.get("p_holm"),
        }
        for gap in decision.test.get("differences", [])
    ]


def conformal_of(trial: Trial | None, alpha: float = ALPHA) -> Json:
    """The least probability of a class in the set at 1 - alpha, from held-out rows, and the band of the realised coverage."""
    from basewise.stats.conformal import calibration_rows, conformal_quantile, coverage_band

    if trial is None or len(trial.row_ids) < 20:
        return {}
    # one seed a row: repeats would count a row twice
    _, first = np.unique(trial.row_ids, return_index=True)
    truth = trial.probabilities[first, trial.labels[first]]
    groups = None if trial.groups is None else trial.groups[first]
    low, high = coverage_band(calibration_rows(truth, alpha, groups), alpha)
    return {
        "alpha": alpha,
        "least_probability": conformal_quantile(truth, alpha, groups),
        "n": len(first),
        "low": low,
        "high": high,
    }


def measures_of(candidate: Candidate, results: list[CheckResult]) -> list[Json]:
    """Every number with an interval that the documents repeat: accuracy, then what the checks measured."""
    score = score_of(candidate)
    out = [{"name": "accuracy", "slice": score["where"], **{k: score[k] for k in INTERVAL}}]
    out += [
        {"name": f"{result.check}: {line['name']}", "slice": "", **{k: line.get(k) for k in INTERVAL}}
        for result in results
        for line in result.evidence
        if "estimate" in line and "low" in line
    ]
    return out


def base_of(record: Json, building: Path) -> Json | None:
    """The base in a record of a predictor, and where its weights are."""
    base = record["base"]
    if base is None:
        return None
    inside = "base" if (building / "base").is_dir() else ""
    keys = (
        "key",
        "digest",
        "licence",
        "family",
        "parameters",
        "layers",
        "width",
        "context",
        "source",
        "training_data",
        "terms",
    )
    seed = base.get("random_seed")
    # random weights are no one's
    hub = "" if seed is not None else base.get("hub") or ""
    return {**{k: base.get(k) for k in keys}, "hub": hub, "random_seed": seed, "inside": inside}


def limitations_of(candidate: Candidate, results: list[CheckResult]) -> list[str]:
    """What a user of the release must not miss, in plain sentences."""
    decision, predictor = candidate.decision, candidate.predictor
    abstains = ", or abstains" if predictor.threshold is not None else ""
    out = [f"It knows {len(predictor.classes)} classes and gives every text one of them{abstains}."]
    if predictor.threshold is not None:
        covered = decision.coverage.get("covered", 0.0)
        out.append(
            f"It abstains below a top probability of {predictor.threshold:.3f}; above it (about {100 * covered:.0f} % of rows like"
            f" those it was tried on) it errs on at most {100 * decision.coverage['promised_risk']:.0f} %, with 95 % certainty."
        )
    else:
        out.append("No threshold could promise a risk, so it never abstains.")
    out += decision.notes[:10]
    out += [f"{r.check}: {r.sentence}" for r in results if r.verdict in ("warn", "fail", "off")]
    return out


def training_of(base: Base | None) -> Json:
    """What is known of the training of a base that was pretrained here (its pretraining.json); {} otherwise."""
    from basewise.stats.regime import regime

    path = base.folder / PRETRAINED if base is not None else None
    if base is None or path is None or not path.is_file():
        return {}
    said = read_json(path)
    corpus = said.get("corpus") or {}
    flop = float(said.get("flop") or 0.0)
    found = regime(flop, generates="generate" in base.provides)
    sources = corpus.get("sources", [])
    read = [source.get("train") or {} for source in sources]
    return {
        "tokens": sum(r.get("tokens", 0) for r in read) or None,
        "documents": sum(r.get("documents", 0) for r in read) or None,
        "seen": said.get("tokens"),
        "flop": flop,
        "recipe_digest": said.get("recipe_digest"),
        "corpus_digest": corpus.get("digest"),
        "regime": f"{found.kind}: {found.sentence}",
        "duties": list(found.duties),
        "corpora": [
            {
                "name": source.get("source") or source.get("name"),
                "licence": source.get("licence"),
                "licences": sorted(source.get("licences") or {}),
                "documents": train.get("documents"),
                "tokens": train.get("tokens"),
            }
            for source, train in zip(sources, read, strict=True)
        ],
    }
