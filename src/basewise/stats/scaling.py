"""Scaling laws from a ladder of small runs: L(N, D) = E + A N^-a + B D^-b, with bands, a backtest and a limit.

Variable projection: for given exponents the rest is linear, so a grid over (a, b) with non-negative least squares inside finds
the whole fit without starting values; Huber's loss on log L (Hoffmann et al. 2022, approach 3) by reweighting. Parabolas in
log N, approach 2, are biased even on data without noise (arXiv 2603.22339). The bands resample whole runs, because the
published intervals of the original fit were implausibly narrow (Besiroglu et al. 2024).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOST_EXTRAPOLATION = 30.0
"""Times the largest compute of the ladder up to which a loss is predicted."""
LEAST_RUNS = 6
GRID = np.arange(0.05, 1.2001, 0.05)
HUBER = 1e-3
BOOTSTRAP = 200
FLOP_PER_PARAMETER_TOKEN = 6.0


@dataclass(frozen=True, kw_only=True)
class Law:
    """L(N, D) = floor + size_scale N^-size_power + data_scale D^-data_power, nats a token (or bits a byte, as fitted)."""

    floor: float
    size_scale: float
    size_power: float
    data_scale: float
    data_power: float

    def loss(self, n: np.ndarray | float, d: np.ndarray | float) -> np.ndarray:
        """Losses of runs with n parameters (those that multiply) and d tokens."""
        n, d = np.asarray(n, np.float64), np.asarray(d, np.float64)
        return self.floor + self.size_scale * n**-self.size_power + self.data_scale * d**-self.data_power

    @property
    def tells_size(self) -> bool:
        """Whether the loss hangs on parameters and on tokens: else no size is better than the smallest or the largest."""
        return self.size_scale > 0 and self.data_scale > 0

    def best(self, flop: float) -> tuple[float, float]:
        """(N, D) of the lowest loss with 6 N D = flop; closed form (Hoffmann et al. 2022, equation 4).

        Neither is below 1. Where only one of the two counts (`tells_size`), it gets everything.
        """
        a, b = self.size_power, self.data_power
        most = float(np.log(flop / FLOP_PER_PARAMETER_TOKEN))
        if self.size_scale <= 0:
            log_n = 0.0
        elif self.data_scale <= 0:
            log_n = most
        else:
            ratio = np.log(a * self.size_scale) - np.log(b * self.data_scale)
            log_n = float(np.clip((ratio + b * most) / (a + b), 0.0, most))
        return float(np.exp(log_n)), float(np.exp(most - log_n))


@dataclass(frozen=True)
class Band:
    """An estimate and the central 95 % of the bootstrap."""

    estimate: float
    low: float
    high: float


def fit(n: np.ndarray, d: np.ndarray, loss: np.ndarray) -> Law:
    """The law of k runs: (k,) parameters, tokens, losses. ValueError where they are too few or do not vary."""
    n, d, loss = (np.asarray(x, np.float64) for x in (n, d, loss))
    check_ladder(n, d, loss)
    found = _search(n, d, loss, GRID, GRID)
    for step in (0.01, 0.002):
        around = np.arange(-5, 6) * step
        found = _search(
            n,
            d,
            loss,
            np.clip(found.size_power + around, 0.01, 2),
            np.clip(found.data_power + around, 0.01, 2),
        )
    return found


def check_ladder(n: np.ndarray, d: np.ndarray, loss: np.ndarray) -> None:
    """ValueError in one line where no law can be fitted."""
    if len(loss) < LEAST_RUNS:
        raise ValueError(f"{len(loss)} runs came, at least {LEAST_RUNS} are needed for five unknowns")
    if not (np.isfinite(loss).all() and (loss > 0).all() and (n > 0).all() and (d > 0).all()):
        raise ValueError(
            "a run without a finite loss above zero, or without parameters or tokens, is in the ladder"
        )
    if len(np.unique(n)) < 3 or len(np.unique(d)) < 3:
        raise ValueError(
            f"{len(np.unique(n))} sizes and {len(np.unique(d))} numbers of tokens came, at least three of each are needed"
        )


def _search(n: np.ndarray, d: np.ndarray, loss: np.ndarray, a: np.ndarray, b: np.ndarray) -> Law:
    """The best law with exponents from the two grids."""
    best, kept = np.inf, None
    for alpha in np.unique(a):
        for beta in np.unique(b):
            value, coefficients = _inner(n, d, loss, float(alpha), float(beta))
            if value < best:
                best, kept = value, (alpha, beta, coefficients)
    assert kept is not None
    alpha, beta, (floor, size, data) = kept
    return Law(
        floor=float(floor), size_scale=float(size), size_power=float(alpha),
        data_scale=float(data), data_power=float(beta),
    )  # fmt: skip


def _inner(n: np.ndarray, d: np.ndarray, loss: np.ndarray, a: float, b: float) -> tuple[float, np.ndarray]:
    """(Huber's loss on log L, (E, A, B)): least squares relative to the loss, reweighted three times; none negative."""
    from scipy.optimize import nnls

    scales = np.array([1.0, float(np.median(n)) ** -a, float(np.median(d)) ** -b])
    columns = np.stack([np.ones_like(n), n**-a, d**-b], 1) / scales
    weight, coefficients = np.ones_like(loss), np.zeros(3)
    for _ in range(3):
        w = np.sqrt(weight) / loss
        coefficients, _rest = nnls(columns * w[:, None], loss * w)
        gap = np.log(np.maximum(columns @ coefficients, 1e-12)) - np.log(loss)
        weight = HUBER / np.maximum(np.abs(gap), HUBER)
    size = np.abs(gap)
    huber = np.where(size <= HUBER, 0.5 * size**2, HUBER * (size - 0.5 * HUBER)).sum()
    return float(huber), coefficients / scales


def bootstrap(
    n: np.ndarray, d: np.ndarray, loss: np.ndarray, seed: int = 0, noise: float = 0.0, draws: int = BOOTSTRAP
) -> list[Law]:
    """Laws of `draws` resamplings of whole runs; `noise`: sd that another seed moves a loss by, added to each.

    Exponents are searched around those of the full fit in two passes, which is what keeps 200 draws within seconds.
    """
    n, d, loss = (np.asarray(x, np.float64) for x in (n, d, loss))
    rng, full = np.random.default_rng(seed), fit(n, d, loss)
    laws: list[Law] = []
    while len(laws) < draws:
        rows = rng.integers(len(loss), size=len(loss))
        if len(np.unique(n[rows])) < 2 or len(np.unique(d[rows])) < 2:
            # no exponent could be seen in such a draw
            continue
        y = loss[rows] + noise * rng.standard_normal(len(rows))
        law = full
        for step in (0.08, 0.02):
            around = np.arange(-4, 5) * step
            law = _search(
                n[rows], d[rows], y,
                np.clip(law.size_power + around, 0.01, 2), np.clip(law.data_power + around, 0.01, 2),
            )  # fmt: skip
        laws.append(law)
    return laws


def band(estimate: float, values: np.ndarray) -> Band:
    """The central 95 % of the bootstrap around an estimate."""
    low, high = np.quantile(values, [0.025, 0.975])
    return Band(float(estimate), float(min(low, estimate)), float(max(high, estimate)))


def check_reach(flop: float, ladder: np.ndarray) -> float:
    """How many times beyond the largest run of the ladder; ValueError beyond MOST_EXTRAPOLATION."""
    times = float(flop / np.max(ladder))
    if times > MOST_EXTRAPOLATION:
        raise ValueError(
            f"{flop:.2g} FLOP is {times:.0f} x the largest run of the ladder, at most {MOST_EXTRAPOLATION:.0f} x is predicted"
        )
    return times


def backtest(n: np.ndarray, d: np.ndarray, loss: np.ndarray) -> list[dict[str, float]]:
    """The runs of the largest compute, predicted from the others: compute, times beyond them, true and predicted loss."""
    n, d, loss = (np.asarray(x, np.float64) for x in (n, d, loss))
    flop = FLOP_PER_PARAMETER_TOKEN * n * d
    held = flop >= flop.max() / 1.5
    try:
        law = fit(n[~held], d[~held], loss[~held])
    except ValueError:
        # too few are left: no backtest, which the caller says
        return []
    guessed = law.loss(n[held], d[held])
    return [
        {"flop": float(f), "times": float(f / flop[~held].max()), "loss": float(y), "predicted": float(g), "error": float(g / y - 1)}
        for f, y, g in zip(flop[held], loss[held], guessed, strict=True)
    ]  # fmt: skip


def labels_at(loss: np.ndarray, log_factor: np.ndarray, at: float, confidence: float = 0.95) -> Band | None:
    """log of the labels-saved factor at the loss `at`, by a line through k runs, with Student's interval of a new run.

    None where the losses do not vary. The line is a working assumption: the interval is wide where `at` lies far outside.
    """
    from scipy.stats import t

    x, y = np.asarray(loss, np.float64), np.asarray(log_factor, np.float64)
    spread = ((x - x.mean()) ** 2).sum()
    if len(x) < 3 or spread <= 1e-12:
        return None
    slope = ((x - x.mean()) * (y - y.mean())).sum() / spread
    guess = y.mean() + slope * (at - x.mean())
    rest = y - y.mean() - slope * (x - x.mean())
    sd = np.sqrt((rest**2).sum() / (len(x) - 2) * (1 + 1 / len(x) + (at - x.mean()) ** 2 / spread))
    half = float(t.ppf(0.5 + confidence / 2, len(x) - 2)) * float(sd)
    return Band(float(guess), float(guess - half), float(guess + half))
