"""Evidence that holds at every look: the e-value of McNemar's discordant pairs.

Under "a is not better than b" a discordant pair falls to a with probability at most 1/2. Betting with a uniform mixture
over (1/2, 1) gives log E = (n+1) log 2 + log B(w+1, l+1) + log(1 - I_1/2(w+1, l+1)); by Ville's inequality E reaches
1/alpha with probability at most alpha, whatever the stopping rule.
"""

from __future__ import annotations

import numpy as np


def log_e_value(wins: np.ndarray | float, losses: np.ndarray | float) -> np.ndarray:
    """Natural log of the evidence that a beats b, from discordant pairs won and lost (any shapes); 0 without any."""
    from scipy.special import betaincc, betaln

    wins, losses = np.asarray(wins, float), np.asarray(losses, float)
    # hopeless: the log of no evidence is -inf
    with np.errstate(divide="ignore"):
        upper = np.log(betaincc(wins + 1, losses + 1, 0.5))
    return (wins + losses + 1) * np.log(2) + betaln(wins + 1, losses + 1) + upper


def sign_test(wins: np.ndarray | float, losses: np.ndarray | float) -> np.ndarray:
    """P(at least so many wins among the discordant pairs) when either side is as likely: one-sided, exact, for one look."""
    from scipy.special import betainc

    wins, losses = np.asarray(wins, float), np.asarray(losses, float)
    return np.where(wins > 0, betainc(np.maximum(wins, 1), losses + 1, 0.5), 1.0)


def log_bar(arms: int, alpha: float = 0.05) -> float:
    """What a log e-value must reach: all pairs of `arms` arms together are then misjudged with at most alpha."""
    return float(np.log(max(2, arms) ** 2 / alpha))


def proven_worse(wins: float, losses: float, arms: int, looks: int, alpha: float = 0.05) -> bool:
    """Whether the side with `losses` may be dropped from a race of `arms` arms with `looks` looks at each pair.

    The e-value spends at most half of alpha on the best arm; the sign test, corrected for rivals and looks, the other half,
    and decides sooner. So where rows are independent the best arm is lost with probability alpha at most. Rows that share the luck of
    one training are not: a race asks stats/luck as well. Measured with and without luck by benchmarks/honesty.py.
    """
    level = alpha / (2 * max(1, arms - 1) * looks)
    return bool(log_e_value(wins, losses) >= log_bar(arms, alpha) or sign_test(wins, losses) <= level)
