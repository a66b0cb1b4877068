"""Where a model stands under the rules of the EU AI Act for general-purpose models, by compute: a reading aid, not advice.

Indicative thresholds of the Commission's guidelines (July 2025): general-purpose from 1e23 FLOP and able to generate, systemic risk
from 1e25, and who changes a model becomes its provider from one third of the compute that the original took.
"""

from __future__ import annotations

from dataclasses import dataclass

GENERAL_FLOP, SYSTEMIC_FLOP, MODIFIER_SHARE = 1e23, 1e25, 1 / 3
THRESHOLDS = (
    (
        GENERAL_FLOP,
        "general-purpose model: the Commission's indicative threshold (Regulation 2024/1689, guidelines of July 2025)",
    ),
    (SYSTEMIC_FLOP, "systemic risk is presumed (Article 51(2))"),
)


@dataclass(frozen=True, kw_only=True)
class Regime:
    """`kind`: "not general-purpose" | "general-purpose" | "systemic risk"; `duties`: what must be there."""

    kind: str
    sentence: str
    duties: tuple[str, ...] = ()


def thresholds_passed(flop: float, base_flop: float | None = None) -> list[str]:
    """What a training run of so many FLOP passes; `base_flop`: the training of the base that this run goes on from."""
    passed = [f"above {limit:.0e} FLOP: {what}" for limit, what in THRESHOLDS if flop >= limit]
    if base_flop is not None and flop > MODIFIER_SHARE * base_flop:
        passed.append(
            "more than a third of the base's training compute: whoever modifies it so far is its provider"
        )
    return passed


def regime(training_flop: float, generates: bool = True) -> Regime:
    """What applies to a base into whose training `training_flop` FLOP went here.

    Raises ValueError for negative compute.
    """
    if training_flop < 0:
        raise ValueError(f"{training_flop:g} FLOP came, no less than 0 was expected")
    said = f"{training_flop:.3g} FLOP were spent here"
    if not generates or training_flop < GENERAL_FLOP:
        why = "it does not generate" if not generates else f"below {GENERAL_FLOP:g} FLOP"
        return Regime(kind="not general-purpose", sentence=f"{said}: {why}")
    systemic = training_flop >= SYSTEMIC_FLOP
    return Regime(
        kind="systemic risk" if systemic else "general-purpose",
        sentence=f"{said}, from {SYSTEMIC_FLOP if systemic else GENERAL_FLOP:g} on",
        duties=(
            "public summary of training content",
            "copyright policy",
            "technical documentation",
            "information for downstream providers",
        ),
    )
