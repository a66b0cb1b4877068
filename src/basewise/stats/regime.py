"""Where a model stands under the rules of the EU AI Act for general-purpose models, by compute: a reading aid, not advice.

Indicative thresholds of the Commission's guidelines (July 2025): general-purpose from 1e23 FLOP and able to generate, systemic risk
from 1e25, and who changes a model becomes its provider from one third of the compute that the original took.
"""

from __future__ import annotations

from dataclasses import dataclass

GENERAL_FLOP, SYSTEMIC_FLOP, MODIFIER_SHARE = 1e23, 1e25, 1 / 3
SUMMARY, COPYRIGHT, TECHNICAL, DOWNSTREAM = (
    "public summary of training content",
    "copyright policy",
    "technical documentation",
    "information for downstream providers",
)


@dataclass(frozen=True, kw_only=True)
class Regime:
    """`kind`: "not general-purpose" | "modifier" | "general-purpose" | "systemic risk"; `duties`: what must be there."""

    kind: str
    sentence: str
    duties: tuple[str, ...] = ()


def regime(
    training_flop: float, base_flop: float | None = None, generates: bool = True, open_weights: bool = False
) -> Regime:
    """What applies to `training_flop` FLOP spent here, on a base that took `base_flop` (None: trained from nothing, or not known).

    Raises ValueError for negative compute.
    """
    if training_flop < 0 or (base_flop is not None and base_flop < 0):
        raise ValueError(f"{training_flop:g} and {base_flop} FLOP came, no less than 0 was expected")
    whole = training_flop + (base_flop or 0.0)
    said = f"{training_flop:.3g} FLOP were spent here"
    if not generates or whole < GENERAL_FLOP:
        why = "it does not generate" if not generates else f"below {GENERAL_FLOP:g} FLOP"
        return Regime(kind="not general-purpose", sentence=f"{said}: {why}")
    if base_flop is not None and training_flop <= MODIFIER_SHARE * base_flop:
        return Regime(
            kind="not general-purpose",
            sentence=f"{said}, at most a third of the base's: its provider stays who it was",
        )
    if base_flop is not None:
        return Regime(
            kind="modifier",
            sentence=f"{said}, over a third of the base's: provider of the change",
            duties=_duties(open_weights),
        )
    if whole >= SYSTEMIC_FLOP:
        return Regime(
            kind="systemic risk", sentence=f"{said}, from {SYSTEMIC_FLOP:g} on", duties=_duties(False)
        )
    return Regime(
        kind="general-purpose", sentence=f"{said}, from {GENERAL_FLOP:g} on", duties=_duties(open_weights)
    )


def _duties(open_weights: bool) -> tuple[str, ...]:
    """Free and open models owe no documentation, but always the summary and the copyright policy."""
    return (SUMMARY, COPYRIGHT) if open_weights else (SUMMARY, COPYRIGHT, TECHNICAL, DOWNSTREAM)
