"""verdict: from the trials' rows to winner, tie or "no base helps", to the decision's sentence and to the leaderboard.

The leader's score is corrected for having been picked. Of the arms that these rows cannot tell from the leader the cheapest is
chosen, on few rows of those with the lowest log-loss. Where the leader or the cheapest of these is a control, no base is shown to help, and a control is chosen: a base that leads,
or is the cheapest of those tied with a base that leads, is chosen although a dearer control is tied with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from basewise.core.errors import BudgetError, RunError
from basewise.core.evidence import Trial
from basewise.engine.heads import log_loss
from basewise.stats import paired, selection
from basewise.steps.measures import classes_for, difference, interval_of, measured, name_of, scores_of
from basewise.steps.worth import ends

CONTROLS = ("majority", "words", "scratch")
MARGIN = 0.01
"""Difference in the metric that a user is taken not to mind (the indifference zone), when the rows are enough to see it."""

FEW_ROWS = 200
"""Rows under which the metric alone cannot tell arms apart."""
ONE_ERROR = 0.32
"""Two-sided p of a difference of one standard error."""
CLOSE = 0.01
"""Nats of log-loss that a user is taken not to mind."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The race's outcome under `metric`. `chosen`: the arm that is saved; `winner`: the corrected score of the leader, which may be
    another arm; `advised`: name of the arm that the rows speak for, where another was asked for; `aside`: names of arms that are as often
    right as the tied ones and give every row the same label. `rows`: ids of the rows all finalists predicted, `scores` (K, N) beside
    `finalists`, `groups` (N,) of the rows or None, `classes` (N,) their labels where the metric weighs classes alike."""

    verdict: str
    chosen: Trial
    leader: Trial
    tied: list[str]
    finalists: list[Trial]
    rows: np.ndarray
    scores: np.ndarray
    winner: dict[str, Any]
    probability_best: dict[str, float]
    groups: np.ndarray | None
    classes: np.ndarray | None
    metric: str
    advised: str = ""
    aside: list[str] = field(default_factory=list)

    def leads_by_luck(self, by: str = "") -> list[str]:
        """The line that few rows' log-loss decided against the arm that leads, `by` which metric; none where it did not."""
        if self.advised or self.leader.name in (*self.tied, *self.aside):
            return []
        ahead = (
            f"{self.leader.name} is ahead{by} on these {len(self.rows)} rows, by less than one standard error"
        )
        return [f"{ahead}; on so few log-loss tells more, and it speaks for {self.chosen.name}."]


def common_rows(trials: list[Trial]) -> np.ndarray:
    """Ids of the rows that every trial predicted, sorted."""
    rows = set(trials[0].row_ids.tolist())
    for trial in trials[1:]:
        rows &= set(trial.row_ids.tolist())
    return np.array(sorted(rows), dtype=np.int64)


def scores_on(trial: Trial, rows: np.ndarray, metric: str) -> np.ndarray:
    """(len(rows),) per-row scores of a trial on these rows, in their order."""
    places = trial.places(rows)
    return scores_of(metric, trial.probabilities[places], trial.labels[places])


def stand(trials: list[Trial], seed: int = 0, margin: float = MARGIN, metric: str = "accuracy") -> Standing:
    """Decide between the finished trials by a metric, rows in groups counting as many as they are worth; BudgetError with the reasons
    when there is none."""
    finalists = [t for t in trials if t.status == "finished" and len(t.row_ids)]
    if not finalists:
        reasons = "; ".join(f"{t.name}: {t.why or t.status}" for t in trials[:4]) or "nothing was tried"
        raise BudgetError(f"no arm was scored in full ({reasons})", "give a larger budget or other methods")
    rows = common_rows(finalists)
    scores = np.array([scores_on(t, rows, metric) for t in finalists])
    losses = np.array([_loss_on(t, rows) for t in finalists])
    order = np.lexsort((losses, -scores.mean(1)))
    finalists, scores, losses = [finalists[i] for i in order], scores[order], losses[order]
    groups = finalists[0].groups_of(rows)
    classes = classes_for(metric, finalists[0].labels[finalists[0].places(rows)])
    corrected = selection.corrected_winner(scores, seed=seed, clusters=groups, classes=classes)
    best = paired.probability_best(scores, seed=seed, clusters=groups, classes=classes)
    leader = finalists[0]
    close = _tied(scores, losses, margin, (groups, classes))
    tied = _telling(close, finalists, rows, groups)
    ahead = finalists[tied[0]]
    chosen_index = min(tied, key=lambda i: (_price(finalists[i]), i))
    verdict = "tie" if len(tied) > 1 else "winner"
    if any(in_full(t) for t in trials) and (
        finalists[chosen_index].method in CONTROLS or ahead.method in CONTROLS
    ):
        verdict = "no base helps"
        chosen_index = chosen_index if finalists[chosen_index].method in CONTROLS else tied[0]
    interval = corrected.interval
    return Standing(
        verdict=verdict,
        chosen=finalists[chosen_index],
        leader=leader,
        tied=[finalists[i].name for i in tied],
        aside=[finalists[i].name for i in close if i not in tied],
        finalists=finalists,
        rows=rows,
        scores=scores,
        winner={
            "name": leader.name,
            "naive": float(corrected.naive),
            "estimate": float(corrected.estimate),
            "low": float(interval.low),
            "high": float(interval.high),
            "n": len(rows),
            "optimism": float(corrected.optimism),
            "probability_best": float(best[0]),
        },
        probability_best={t.name: float(p) for t, p in zip(finalists, best, strict=True)},
        groups=groups,
        classes=classes,
        metric=metric,
    )


def in_full(trial: Trial) -> bool:
    """Whether this is an arm on a base, no control, that was scored to its end or until evidence ended it."""
    ended = trial.status in ("finished", "dropped") and not trial.late
    return bool(trial.base and trial.method not in CONTROLS and len(trial.row_ids) and ended)


def half_tried(trials: list[Trial]) -> list[str]:
    """Keys of the bases of which time ended an arm and none was tried in full: whether they would help is open."""
    late = {t.base for t in trials if t.base and t.method not in CONTROLS and t.late}
    return sorted(late - {t.base for t in trials if in_full(t)})


def speaks_of_rows(standing: Standing, trials: list[Trial]) -> Trial | None:
    """The arm by whose answers labels are doubted: the chosen one, or where that is majority, which knows no row, the best other one."""
    known = [t for t in (standing.chosen, *standing.finalists) if t.method != "majority"]
    others = [t for t in trials if t.method != "majority" and len(t.row_ids)]
    return next(iter(known or sorted(others, key=lambda t: -t.right.mean())), None)


def saving(
    standing: Standing, method: str, trials: list[Trial], notes: list[str], unfinished: bool
) -> Standing:
    """The standing with the arm of the method that was asked for as what is saved, whatever the rows speak for.

    BudgetError where it was not scored in full, since nothing is saved unproven; a run that was stopped gives its best so far.
    """
    asked = next((t for t in standing.finalists if t.method == method), None)
    if asked is None and not unfinished:
        why = next((f"{t.name}: {t.why or t.status}" for t in trials if t.method == method), " ".join(notes))
        if any(t.method == method and t.status == "failed" for t in trials):
            raise RunError(f"{method} failed ({why})", "mend that, or take another base or method")
        raise BudgetError(f"{method} was not scored in full ({why})", "give a larger budget or another base")
    if asked is None:
        notes.append(f"{method} was asked for and is not done; what was saved is {standing.chosen.name}.")
    if asked is None or asked is standing.chosen:
        return standing
    return replace(standing, chosen=asked, advised=standing.chosen.name)


def sentence(standing: Standing, test: dict[str, Any], saved: dict[str, Any], unfinished: bool) -> str:
    """The decision in one plain sentence."""
    score, where = _measured(standing, test)
    right = standing.metric == "accuracy"
    measure = "right on" if right else name_of(standing.metric)
    quality = f"{measure} {100 * score['estimate']:.1f} % [{100 * score['low']:.1f}, {100 * score['high']:.1f}] {where}"
    name = standing.chosen.name
    start = "So far: " if unfinished else ""
    if standing.advised:
        return f"{start}Saved as asked, {name}: {quality}; {_advice(standing)}."
    if standing.verdict == "no base helps":
        return f"{start}No base tried helps here: {name}, which needs none, {'is' if right else 'reaches'} {quality}."
    if standing.verdict == "tie":
        others = len(standing.tied) - 1
        text = f"{start}Take {name}: {quality}; it is the cheapest of {others + 1} that these rows cannot tell apart"
    else:
        text = f"{start}Take {name}: {quality}"
    if "words" in saved and saved["words"]["low"] > 1:
        factor = saved["words"]
        more = "at least " if factor["censored"] else "about "
        text += f"; where it has {factor['at']:.0f} labels, words alone would need {more}{factor['factor']:.1f} times as many"
        text += f" {ends(factor['low'], factor['high'])}"
    return text + "."


def _measured(standing: Standing, test: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The chosen arm's own score, and on what: only the leader was picked by its score, so only its score is corrected for that."""
    if test:
        return test["scores"][0], f"on {test['scores'][0]['n']} locked test rows"
    where = f"in cross-validation on {len(standing.rows)} rows"
    if standing.chosen is standing.leader:
        return standing.winner, f"{where}, corrected for the choice"
    place = [t.name for t in standing.finalists].index(standing.chosen.name)
    return interval_of(standing.scores[place], standing.groups, standing.classes), where


def _advice(standing: Standing) -> str:
    """What the rows say where another arm was asked for."""
    if standing.verdict == "no base helps":
        return f"no base tried helps here, for {standing.advised}, which needs none, does as well or better"
    if standing.chosen.name in standing.tied:
        return f"{standing.advised} is cheaper, and these rows cannot tell them apart"
    return f"these rows speak for {standing.advised}"


def _tied(
    scores: np.ndarray, losses: np.ndarray, margin: float, known: tuple[Any, Any] = (None, None)
) -> list[int]:
    """Arms that the rows cannot tell from the leader and that cost less than `margin` against it; on few rows as `_tied_on_few` says.

    Not being proven worse is not enough: an arm must also be within the margin in the metric. A control that is as often right is as
    good. known: groups and classes of the rows, as `difference` takes them.
    """
    if scores.shape[1] < FEW_ROWS:
        return _tied_on_few(scores, losses, known)
    adjusted = paired.holm(np.array([difference(scores[0], s, *known)["p"] for s in scores[1:]]))
    close = scores[0].mean() - scores[1:].mean(1) <= margin
    return [0, *(int(i) + 1 for i in np.flatnonzero((adjusted > 0.05) & close))]


def _tied_on_few(scores: np.ndarray, losses: np.ndarray, known: tuple[Any, Any]) -> list[int]:
    """Of the arms within a standard error of the leader those with the lowest log-loss, CLOSE to one another; the lowest first.

    A row more or less that is right is mostly luck there, and how sure every answer was tells more: with 40 rows the arm that is taken
    so is right more often on new rows than the leader is.
    """
    near = [i for i in range(len(scores)) if difference(scores[0], scores[i], *known)["p"] > ONE_ERROR]
    lowest = min(losses[i] for i in near)
    return sorted((i for i in near if losses[i] - lowest <= CLOSE), key=lambda i: (losses[i], i))


def _telling(
    tied: list[int], finalists: list[Trial], rows: np.ndarray, groups: np.ndarray | None
) -> list[int]:
    """The tied arms without those that give every row the same label, where another one is shown to know more (log-loss, 5 %).

    Where one class is rare such an arm is right as often as any and says nothing.
    """
    losses = {i: scores_on(finalists[i], rows, "log_loss") for i in tied}
    blind = {i for i in tied if says_one_thing(finalists[i], rows)}
    for i in tied:
        gap = [difference(losses[i], losses[j], groups) for j in sorted(blind)] if i not in blind else []
        if gap and all(g["estimate"] < 0 and g["p"] <= 0.05 / len(tied) for g in gap):
            return [j for j in tied if j not in blind]
    return tied


def says_one_thing(trial: Trial, rows: np.ndarray) -> bool:
    """Whether a trial gives all of these rows the same label."""
    answers = trial.probabilities[trial.places(rows)].argmax(1)
    return bool((answers == answers[0]).all())


def _loss_on(trial: Trial, rows: np.ndarray) -> float:
    inside = np.isin(trial.row_ids, rows)
    return log_loss(trial.probabilities[inside], trial.labels[inside])


def _price(trial: Trial) -> float:
    """What a tied arm costs to use: seconds a row, then to fit; rounded so that noise does not decide."""
    return round(np.log2(max(trial.cost.predict_seconds_per_row, 1e-6)), 0) + 1e-3 * np.log2(
        max(trial.cost.seconds, 1e-3)
    )


def leaderboard(trials: list[Trial], standing: Standing, cards: dict[str, Any]) -> list[dict[str, Any]]:
    """One entry a trial, finalists first in their order, as the decision's schema has it."""
    names = [t.name for t in standing.finalists]
    chosen = standing.scores[names.index(standing.chosen.name)]
    differences: dict[str, Any] = {}
    for trial, scores in zip(standing.finalists, standing.scores, strict=True):
        if trial.name != standing.chosen.name:
            differences[trial.name] = difference(chosen, scores, standing.groups, standing.classes)
    if differences:
        adjusted = paired.holm(np.array([d["p"] for d in differences.values()]))
        for value, p in zip(differences.values(), adjusted, strict=True):
            value["p_holm"] = float(p)
    rest = [t for t in trials if t.name not in names]
    rest.sort(key=lambda t: -_score(t, standing.metric).mean() if len(t.row_ids) else 1.0)
    return [_entry(t, differences.get(t.name), standing, cards) for t in [*standing.finalists, *rest]]


def _score(trial: Trial, metric: str) -> np.ndarray:
    return scores_of(metric, trial.probabilities, trial.labels)


def _entry(
    trial: Trial, gap: dict[str, Any] | None, standing: Standing, cards: dict[str, Any]
) -> dict[str, Any]:
    scored = len(trial.row_ids) > 0
    scores = _score(trial, standing.metric)
    by_fold = [float(scores[trial.fold == f].mean()) for f in np.unique(trial.fold)]
    card = cards.get(trial.base or "")
    return {
        "name": trial.name,
        "method": trial.method,
        "base": trial.base,
        "status": trial.status,
        "why": trial.why,
        "score": interval_of(scores, trial.groups, classes_for(standing.metric, trial.labels))
        if scored
        else None,
        "seeds": len(by_fold),
        "seed_spread": float(np.std(by_fold, ddof=1)) if len(by_fold) > 1 else None,
        "metrics": measured(trial.probabilities, trial.labels, trial.groups) if scored else {},
        "probability_best": standing.probability_best.get(trial.name),
        "difference": gap,
        "seconds": trial.cost.seconds if scored else None,
        "predicted_seconds": trial.predicted_cost.seconds,
        "memory_bytes": trial.cost.memory_bytes if scored else None,
        "predicted_memory_bytes": trial.predicted_cost.memory_bytes,
        "milliseconds_per_row": 1e3 * trial.cost.predict_seconds_per_row if scored else None,
        "size_bytes": card.download_bytes if card else 0,
        "licence": card.licence if card else "Apache-2.0",
        "n_train": trial.n_train,
        "choices": trial.choices,
    }
