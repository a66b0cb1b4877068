"""Evidence that holds at every look: the e-value of McNemar's discordant pairs.

Under "a is not better than b" a discordant pair falls to a with probability at most 1/2. Betting with a uniform mixture
over (1/2, 1) gives log E = (n+1) log 2 + log B(w+1, l+1) + log(1 - I_1/2(w+1, l+1)); by Ville's inequality E reaches
1/alpha with probability at most alpha, whatever the stopping rule.
"""

from __future__ import annotations

import numpy as np


def log_e_value(wins: np.ndarray | int, losses: np.ndarray | int) -> np.ndarray:
    """Natural log of the evidence that a beats b, from discordant pairs won and lost (any shapes); 0 without any."""
    from scipy.special import betaincc, betaln

    wins, losses = np.asarray(wins, float), np.asarray(losses, float)
    with np.errstate(divide="ignore"):  # hopeless: the log of no evidence is -inf
        upper = np.log(betaincc(wins + 1, losses + 1, 0.5))
    return (wins + losses + 1) * np.log(2) + betaln(wins + 1, losses + 1) + upper


def sign_test(wins: np.ndarray | int, losses: np.ndarray | int) -> np.ndarray:
    """P(at least so many wins among the discordant pairs) when either side is as likely: one-sided, exact, for one look."""
    from scipy.special import betainc

    wins, losses = np.asarray(wins, float), np.asarray(losses, float)
    return np.where(wins > 0, betainc(np.maximum(wins, 1), losses + 1, 0.5), 1.0)


def log_bar(arms: int, alpha: float = 0.05) -> float:
    """What a log e-value must reach so that no pair of `arms` arms is misjudged with more than probability alpha."""
    return float(np.log(max(1, arms * (arms - 1)) / alpha))


def eliminated(right: np.ndarray, alpha: float = 0.05) -> set[int]:
    """Arms of (K, n) outcomes (1 right, 0 wrong, NaN not scored) proven worse than another on rows both scored."""
    right = np.asarray(right, float)
    arms, bar = len(right), log_bar(len(right), alpha)
    out = set()
    for loser in range(arms):
        for winner in range(arms):
            both = ~np.isnan(right[loser]) & ~np.isnan(right[winner])
            gap = right[winner, both] - right[loser, both]
            if winner != loser and log_e_value(int((gap > 0).sum()), int((gap < 0).sum())) >= bar:
                out.add(loser)
                break
    return out
