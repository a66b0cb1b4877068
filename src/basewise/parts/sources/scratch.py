"""The same network as another base, with random weights: `scratch:<base>`, the control."""

from __future__ import annotations

from dataclasses import replace

from basewise.core.base import Base, Card
from basewise.core.files import Progress, silent
from basewise.core.hashing import digest_json
from basewise.core.registry import part

PREFIX = "scratch:"


def cards() -> list[Card]:
    """None of its own: every base has one."""
    return []


def card_of(other: Card) -> Card:
    """The card of the random twin of a base."""
    return replace(
        other,
        key=PREFIX + other.key,
        source="scratch",
        locator={"card": other.to_dict()},
        weights_sha256=None,
        hub="",
        training_data="none: random weights",
    )


def load(card: Card, store: object, progress: Progress = silent) -> Base:
    """The other base's folder with a seed; the digest names both."""
    other = Card.from_dict(card.locator["card"])
    base = part("sources", other.source).load(other, store, progress)
    return Base(card=card, folder=base.folder, digest=digest_json(["scratch", base.digest, 0]), random_seed=0)
