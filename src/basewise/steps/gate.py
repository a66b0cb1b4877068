"""The gate: every check of parts/checks on what is about to be released, under a policy; nothing is written here.

A run gives the subject: its decision, the evidence of every arm, the saved predictor (which replays its golden rows when it is
opened), the rows where they still lie beside it, and the licence graph from base and data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from basewise.core.base import Base
from basewise.core.decision import Decision
from basewise.core.errors import RunError, UnknownName
from basewise.core.evidence import Trial, read_evidence
from basewise.core.gate import FAIL, OFF, WARN, CheckResult, Json, Licensed, Subject
from basewise.core.method import Writes
from basewise.core.personal import redacted
from basewise.core.policy import ON, Policy, Thresholds, read_policy
from basewise.core.registry import parts
from basewise.core.rundir import count_look
from basewise.core.task import Task
from basewise.core.taskfile import TASK, load_task
from basewise.steps.measures import difference
from basewise.steps.predict import Predictor, cache_folder, load

SAMPLE_LICENCE = "Apache-2.0"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A run that may become a release: its folder, decision, opened predictor, and its rows (None: not here)."""

    run: Path
    decision: Decision
    predictor: Predictor
    task: Task | None
    trials: tuple[Trial, ...] = field(default=())

    @property
    def trial(self) -> Trial | None:
        """The held-out rows of what was chosen."""
        return next((t for t in self.trials if t.name == self.decision.chosen), None)


def thresholds() -> Thresholds:
    """{check: {key: (default, meaning)}} of all checks that are installed."""
    return {key: module.THRESHOLDS for key, module in parts("checks").items()}


def policy_of(path: Path | None) -> Policy:
    """The policy of a file, or the defaults."""
    return read_policy(path, thresholds())


def open_run(run: str | Path | Decision) -> Candidate:
    """The run of a folder or a Decision; RunError where something that a release is made from is missing."""
    from basewise.engine.features import FeatureStore

    folder = Path(run.folder if isinstance(run, Decision) else run)
    if not folder.is_dir():
        raise UnknownName.of(
            "run folder", str(folder), [str(p.parent) for p in folder.parent.glob("*/decision.json")]
        )
    if not (folder / "decision.json").is_file():
        raise RunError(f"{folder} holds no decision", "give a run folder that `basewise choose` has finished")
    decision = Decision.load(folder / "decision.json")
    trials = (
        read_trials(folder / "evidence.parquet", decision) if (folder / "evidence.parquet").is_file() else ()
    )
    task = load_task(folder) if (folder / TASK).is_file() else None
    # the checks ask about the same rows again and again
    predictor = load(folder, FeatureStore(None))
    return Candidate(run=folder, decision=decision, predictor=predictor, task=task, trials=trials)


def read_trials(path: Path, decision: Decision) -> tuple[Trial, ...]:
    """The trials of an evidence file, with method and base as the leaderboard names them."""
    table = read_evidence(path)
    names = table.column("trial").cast("string").to_numpy(zero_copy_only=False)
    about = {line["name"]: line for line in decision.leaderboard}
    columns = sorted((c for c in table.column_names if c.startswith("p_")), key=lambda c: int(c[2:]))
    out = []
    for name in dict.fromkeys(names):
        rows = table.filter(names == name)
        line = about.get(str(name), {})
        out.append(
            Trial(
                method=line.get("method") or str(name).split(" + ")[-1],
                base=line.get("base"),
                row_ids=rows.column("row_id").to_numpy(),
                labels=rows.column("label").to_numpy().astype(np.int64),
                probabilities=np.stack([rows.column(c).to_numpy() for c in columns], 1).astype(float),
                fold=rows.column("fold").to_numpy(),
                seed=rows.column("seed").to_numpy(),
                groups=rows.column("group").to_numpy(),
                n_train=int(rows.column("n_train")[0].as_py()),
                choices=line.get("choices") or {},
            )
        )
    return tuple(out)


def subject_of(
    candidate: Candidate, files: Path, against: str | Path | None = None, seed: int = 0
) -> Subject:
    """What the checks look at; comparing with an incumbent on the locked rows is a look, and is counted."""
    from basewise.engine.features import FeatureStore

    predictor, decision = candidate.predictor, candidate.decision
    trial = candidate.trial
    writes = predictor.fitted if isinstance(predictor.fitted, Writes) else None
    return Subject(
        run=candidate.run,
        files=files,
        decision=decision,
        classes=predictor.classes,
        answer=predictor.fitted.probabilities,
        trial=trial,
        others=tuple(t for t in candidate.trials if t is not trial),
        task=candidate.task,
        base=predictor.base,
        features=FeatureStore(cache_folder()),
        artefacts=artefacts_of(candidate),
        incumbent=incumbent(candidate, against) if against else {},
        generate=writes.write if writes else None,
        score=writes.likely if writes else None,
        shown=writes.shown() if writes else None,
        seed=seed,
    )


def artefacts_of(candidate: Candidate) -> tuple[Licensed, ...]:
    """The licence graph: the rows, the base if its pretrained weights are used, and the release, which is the last.

    What a base that was pretrained here has read stands before it.
    """
    record, decision = candidate.predictor.record, candidate.decision
    source = str(decision.provenance.get("source", ""))
    from basewise.sample import path as sample_path

    data = f"data:{decision.provenance.get('task') or candidate.run.name}"
    ours = source in ("sample", str(sample_path()))
    out = [Licensed(name=data, what="data", licence=SAMPLE_LICENCE if ours else "")]
    base = record["base"]
    read: list[Licensed] = []
    if base and base.get("random_seed") is None:
        read = corpora_of(candidate.predictor.base)
        names = tuple(a.name for a in read)
        out.append(Licensed(name=f"base:{base['key']}", what="base", licence=base["licence"], parents=names))
    parents = tuple(a.name for a in out)
    relation = "finetune" if record["method"] in ("full", "contrast") else "adapter"
    last = Licensed(name="release", what="adapter", licence="", parents=parents, relation=relation)
    return (*read, *out, last)


def corpora_of(base: Base | None) -> list[Licensed]:
    """One artefact for each licence of each source that a base pretrained here has read."""
    from basewise.steps.released import training_of

    return [
        Licensed(name=f"corpus:{source['name']} ({licence})", what="corpus", licence=licence)
        for source in training_of(base).get("corpora", [])
        for licence in source["licences"] or ["not stated"]
    ]


def licence_of(candidate: Candidate, policy: Policy) -> Json:
    """The licence graph and its verdict as the record keeps them."""
    from basewise.core.registry import part
    from basewise.stats.licences import canonical, decide

    limits = policy.limits["licence"]
    nodes = part("checks", "licence").graph(artefacts_of(candidate), limits)
    found = decide(nodes, nodes[-1].name, limits["use"], limits["service"], limits["outgoing"])
    return {
        "expression": found.expression,
        "outgoing": canonical(limits["outgoing"]) or limits["outgoing"],
        "use": limits["use"],
        "commercial": found.commercial,
        "obligations": {ask: list(names) for ask, names in found.asks.items()},
        "nodes": [{k: v for k, v in asdict(n).items() if k != "parents"} for n in nodes],
        "edges": [
            [parent, node.name, "trained-on" if parent.startswith(("data:", "corpus:")) else node.relation]
            for node in nodes
            for parent in node.parents
        ],
        "reasons": [list(r) for r in found.reasons],
    }


def incumbent(candidate: Candidate, against: str | Path) -> Json:
    """The paired difference to the predictor that runs today, on the locked rows; {} without such rows."""
    task, ours = candidate.task, candidate.predictor
    if task is None or not (task.split == "test").any():
        raise RunError(
            f"{candidate.run} has no locked rows to compare with {against} on", "split again with test rows"
        )
    other = load(against)
    if set(other.classes) != set(ours.classes):
        raise RunError(f"{against} predicts other classes", "compare releases of the same task")
    # it would be asked about texts that it was never made for, and lose
    if other.inputs != ours.inputs:
        raise RunError(
            f"{against} reads {', '.join(other.inputs)} and this run {', '.join(ours.inputs)}, so they cannot be compared",
            "release without an incumbent, or compare with a release that reads the same columns",
        )
    rows = task.test()
    rows = rows.take(rows.labels >= 0)
    looks = count_look(candidate.run, task.test_digest(), f"release: against {against}")
    order = [other.classes.index(c) for c in ours.classes]
    mine = ours.fitted.probabilities(rows.texts).argmax(1) == rows.labels
    theirs = other.fitted.probabilities(rows.texts)[:, order].argmax(1) == rows.labels
    return {"name": Path(against).name, **difference(mine, theirs, rows.groups), "looks": looks.total}


def run_checks(
    subject: Subject, policy: Policy, told: Callable[[CheckResult], None] = lambda result: None
) -> list[CheckResult]:
    """Every check in turn. "warn" in the policy softens a failure, "off" is told and not hidden."""
    results = []
    for key, module in parts("checks").items():
        limits = dict(policy.limits.get(key, {}))
        on = limits.pop(ON, FAIL)
        if on == OFF:
            result = CheckResult(check=key, verdict=OFF, sentence="turned off by the policy")
        else:
            result = module.check(subject, limits)
            if on == WARN and result.verdict == FAIL:
                result = replace(
                    result, verdict=WARN, sentence=f"{result.sentence} (a failure, softened by the policy)"
                )
        result = _redacted(result)
        if result.verdict == FAIL and key in policy.overrides:
            result = replace(result, override=policy.overrides[key])
        told(result)
        results.append(result)
    return results


def _redacted(result: CheckResult) -> CheckResult:
    """Without personal data, which the value of a column can bring into the name of a slice or group, and that into the card."""
    lines = [
        {**line, "name": redacted(str(line["name"]))} if "name" in line else line for line in result.evidence
    ]
    said, advice = redacted(result.sentence), redacted(result.advice)
    return replace(result, evidence=tuple(lines), sentence=said, advice=advice)


def plain(results: list[CheckResult]) -> list[Json]:
    """The results as JSON lines of the record."""
    return [{**asdict(r), "evidence": list(r.evidence)} for r in results]
