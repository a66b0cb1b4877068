"""Whether rows now differ from rows before: inputs by a classifier, outputs by two classical tests, one exact p-value for all.

Inputs: a ridge classifier on features and their squares tries to tell the two sets apart; its out-of-fold AUC is the statistic
(Lopez-Paz and Oquab 2017). Outputs: Kolmogorov-Smirnov on the top probability and chi-squared on the classes said (black-box shift
detection, Rabanser et al. 2019). All three are held against the same permutations of which row belongs to which set; the least of the
three p-values is again ranked among those of the permutations (Westfall and Young 1993), ties broken at random, so the joint
p-value is uniform, exactly, where nothing has changed. Permutations of a ridge classifier cost one matrix product: its out-of-fold
answers are linear in the labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PERMUTATIONS = 199
FOLDS = 5
RIDGE = 1.0
DIGITS = 9
"""Scores, all of order 1, are equal when they agree to so many digits: rows that are the same differ by rounding of products."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """`p`: joint; `p_values` of each test by name; `auc` of telling the two sets apart (0.5: cannot); rows of both."""

    p: float
    p_values: dict[str, float]
    auc: float | None
    before: int
    now: int


@dataclass(frozen=True)
class Said:
    """n answered rows: `labels` (n,) classes said, `confidence` (n,) top probabilities, `features` (n, F) or None."""

    labels: np.ndarray
    confidence: np.ndarray
    features: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: np.ndarray) -> Said:
        """Some rows."""
        features = None if self.features is None else self.features[index]
        return Said(self.labels[index], self.confidence[index], features)

    def then(self, other: Said) -> Said:
        """These rows and others behind them; features only where both have as many."""
        features = None
        if (
            self.features is not None
            and other.features is not None
            and self.features.shape[1] == other.features.shape[1]
        ):
            features = np.concatenate([self.features, other.features])
        return Said(
            np.concatenate([self.labels, other.labels]),
            np.concatenate([self.confidence, other.confidence]),
            features,
        )


def compare(before: Said, now: Said, rng: np.random.Generator, permutations: int = PERMUTATIONS) -> Drift:
    """Hold the rows `now` against those `before`; both need at least two rows."""
    both = before.then(now)
    member = np.zeros((permutations + 1, len(both)), np.float64)
    member[0, len(before) :] = 1
    for row in member[1:]:
        row[rng.permutation(len(both))[: len(now)]] = 1
    statistics = {"confidence": _ks(both.confidence, member), "classes": _chi2(both.labels, member)}
    auc = None
    if both.features is not None:
        aucs = _classifier_auc(both.features, member, rng)
        statistics["features"] = aucs
        auc = float(aucs[0])
    ranked = {name: _p_of_each(values) for name, values in statistics.items()}
    least = np.min(list(ranked.values()), axis=0)
    return Drift(
        p=_uniform_p(least, rng),
        p_values={name: float(p[0]) for name, p in ranked.items()},
        auc=auc,
        before=len(before),
        now=len(now),
    )


def _p_of_each(values: np.ndarray) -> np.ndarray:
    """(B + 1,) share of all statistics that are at least as large as each one, itself included."""
    order = np.sort(values)
    return (len(values) - np.searchsorted(order, values - 1e-12, side="left")) / len(values)


def _uniform_p(least: np.ndarray, rng: np.random.Generator) -> float:
    """Rank of the first value among all, small is extreme; ties broken at random, so that it is uniform on k / (B + 1)."""
    below, same = int((least < least[0] - 1e-12).sum()), int((np.abs(least - least[0]) <= 1e-12).sum())
    return (below + 1 + int(rng.integers(same))) / len(least)


def _ks(values: np.ndarray, member: np.ndarray) -> np.ndarray:
    """(B + 1,) largest gap between the distributions of the two sets; equal values count together."""
    order = np.argsort(values, kind="stable")
    last = np.append(np.diff(values[order]) > 0, True)
    inside = member[:, order]
    n = member[0].sum()
    ours = np.cumsum(inside, 1)[:, last] / n
    others = np.cumsum(1 - inside, 1)[:, last] / (len(values) - n)
    return np.abs(ours - others).max(1)


def _chi2(labels: np.ndarray, member: np.ndarray) -> np.ndarray:
    """(B + 1,) chi-squared distance of the classes of the two sets."""
    _, place = np.unique(labels, return_inverse=True)
    one_hot = np.eye(place.max() + 1)[place]
    total = one_hot.sum(0)
    share = member[0].sum() / len(labels)
    ours = member @ one_hot
    return ((ours - share * total) ** 2 / (share * total)).sum(1)


def _classifier_auc(features: np.ndarray, member: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(B + 1,) out-of-fold AUC of a ridge classifier for each assignment of rows to sets; folds do not look at the sets."""
    z = (features - features.mean(0)) / np.maximum(features.std(0), 1e-9)
    z = np.clip(z, -6, 6)
    x = np.concatenate([z, z * z - (z * z).mean(0), np.ones((len(z), 1))], 1)
    fold = rng.permutation(len(x)) % FOLDS
    targets = member.T - member[0].mean()
    scores = np.empty_like(targets)
    for f in range(FOLDS):
        train, test = x[fold != f], x[fold == f]
        gram = train.T @ train + RIDGE * np.sqrt(len(train)) * np.eye(x.shape[1])
        scores[fold == f] = test @ np.linalg.solve(gram, train.T @ targets[fold != f])
    return _aucs(scores.T, member)


def _aucs(scores: np.ndarray, member: np.ndarray) -> np.ndarray:
    """(B,) area under the curve of each row of scores for its own assignment; equal scores share their mean rank.

    Were they ranked by place, the rows of now, which stand last, would win every tie in the true assignment and in no other.
    """
    from scipy.stats import rankdata

    ranks = rankdata(scores.round(DIGITS), axis=1)
    n = member.sum(1)
    return ((ranks * member).sum(1) - n * (n + 1) / 2) / (n * (scores.shape[1] - n))
