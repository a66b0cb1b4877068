"""bases: what bases there are, which are here, under which licence; fetch, add and check them.

A base is named by its key, a hub id ("owner/model" or "owner/model@revision"), a folder, a GGUF file, or "scratch:" before
any of these for the same network with random weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from basewise.core.base import EMBED, FILL, GENERATE, SCORE, TRAIN, Base, Card
from basewise.core.errors import BaseUnavailable, InputError, LicenceRefused, UnknownName
from basewise.core.files import Progress, home, read_json, silent, write_json
from basewise.core.registry import part, parts
from basewise.engine import gguf_convert
from basewise.engine.store import Store

FAMILIES = ("encoder", "decoder", "static")
ABILITIES = {EMBED, FILL, GENERATE, SCORE, TRAIN}
KEY, DIGEST = re.compile(r"[^\W_][^\n\r\t:]*"), re.compile(r"[0-9a-f]{64}")


def own_cards() -> list[Card]:
    """Cards that the user added."""
    return [Card.from_dict(read_json(path)) for path in sorted((home() / "bases").glob("*.json"))]


def listing() -> list[Card]:
    """All known bases, the user's own first, each key once."""
    cards = [*own_cards(), *(card for module in parts("sources").values() for card in module.cards())]
    return list({card.key: card for card in reversed(cards)}.values())[::-1]


def find(name: str) -> Card:
    """The card of a name; UnknownName with the nearest keys when nothing answers to it."""
    name = str(name)
    known = {card.key: card for card in listing()}
    if name in known:
        return known[name]
    scratch = part("sources", "scratch")
    if name.startswith(scratch.PREFIX):
        return scratch.card_of(find(name.removeprefix(scratch.PREFIX)))
    path = Path(name).expanduser()
    if path.is_dir():
        return part("sources", "folder").card_of(path)
    if path.suffix == ".gguf" and path.is_file():
        return part("sources", "gguf").card_of(path)
    repository = name.partition("@")[0]  # a revision may hold more of them: refs/pr/1
    if repository.count("/") == 1 and not path.exists() and not name.startswith((".", "~", "/")):
        try:
            return part("sources", "hub").card_of(name)
        except BaseUnavailable:
            if (kept := Store.default().cards().get(name)) and here(kept):
                return kept
            raise
    raise UnknownName.of("base", name, known)


def here(card: Card) -> bool:
    """Whether the base is on this machine: its source says so, or it lies in the store."""
    card = _drawn_from(card)
    if _lacking(card):
        return False
    own = getattr(part("sources", card.source), "here", None)
    return bool(own(card)) if own else Store.default().find(card) is not None


def _lacking(card: Card) -> list[str]:
    """What the source of a card would look for in its locator, and is not there."""
    return [key for key in getattr(part("sources", card.source), "LOCATOR", ()) if key not in card.locator]


def _drawn_from(card: Card) -> Card:
    """The base that a random twin is drawn from; any other base itself."""
    return Card.from_dict(card.locator["card"]) if card.source == "scratch" else card


def pull(
    name: str | Card,
    progress: Progress = silent,
    accept_terms: bool = False,
    announce: Callable[[str], None] | None = None,
) -> Base:
    """The base on this machine, fetched first when it is not; size and licence are announced before a download."""
    try:
        card = name if isinstance(name, Card) else find(name)
        return _bring(card, progress, accept_terms, announce)
    except BaseUnavailable as error:
        known = {card.key: card for card in (*listing(), *Store.default().cards().values())}
        present = [key for key, card in known.items() if here(card)]
        raise type(error)(error.message, f"{error.fix} (here now: {', '.join(present) or 'none'})") from error


def _bring(
    card: Card, progress: Progress, accept_terms: bool, announce: Callable[[str], None] | None
) -> Base:
    """The terms, the announcement, the source. A base that is here has had its terms accepted on this machine."""
    present = here(card)
    if card.terms and not accept_terms and not present:
        raise LicenceRefused(
            f"{card.key} comes under the {card.terms}, which a person must accept",
            f"read them, then run: basewise bases pull {card.key} --accept-terms",
        )
    if not present and card.locator.get("form") == "gguf":
        # before megabytes are announced and fetched that could not be opened
        gguf_convert.require()
    if announce and not present:
        size = f"{card.download_bytes / 1e6:.0f} MB" if card.download_bytes else "size not stated"
        announce(f"fetching {card.key}: {size}, licence {card.licence}, from {card.source}")
    return part("sources", card.source).load(card, Store.default(), progress)


def add(card: Card) -> None:
    """Keep a card of the user's own; it then goes by its key. What cannot be is refused here: every verb reads all cards."""
    if wrong := _mistyped(card):
        raise InputError(f"the {wrong[0]} of the card cannot be {wrong[1]!r}", wrong[2])
    part("sources", card.source)
    sizes = (card.parameters, card.layers, card.width, card.download_bytes, card.context)
    if not card.key or card.family not in FAMILIES or any(type(n) is not int or n < 0 for n in sizes):
        raise InputError(
            f"the card of {card.key!r} has a family or a size that cannot be",
            f"family is one of {', '.join(FAMILIES)}; parameters, layers, width, download_bytes and context are whole numbers",
        )
    if lacking := _lacking(card):
        raise InputError(
            f"the locator of {card.key} has no {', '.join(lacking)}, by which the source {card.source} finds a base",
            f'write it into the card, such as "locator": {{"{lacking[0]}": "…"}}',
        )
    write_json(home() / "bases" / f"{card.key.replace('/', '--')}.json", card.to_dict())


def _mistyped(card: Card) -> tuple[str, Any, str] | None:
    """(field, value, what it has to be) of the first field that is not of its kind."""
    for name in ("key", "source", "family", "licence", "training_data", "terms", "note", "hub"):
        if not isinstance(value := getattr(card, name), str):
            return name, value, "write a string"
    if card.key and not KEY.fullmatch(card.key):
        return "key", card.key, "begin with a letter or a digit, without a colon, on one line"
    if unknown := sorted(set(map(str, card.provides)) - ABILITIES):
        return "provides", unknown[0], f"name some of {', '.join(sorted(ABILITIES))}"
    if not isinstance(card.locator, dict):
        return "locator", card.locator, "write an object"
    for name in ("folder", "path", "repository"):
        if not isinstance(value := card.locator.get(name, ""), str):
            return f"locator's {name}", value, "write a string"
    if card.weights_sha256 is not None and not DIGEST.fullmatch(str(card.weights_sha256)):
        return "weights_sha256", card.weights_sha256, "write 64 hexadecimal digits, or null"
    return None


def check(name: str) -> str:
    """Read every byte of a base that is here again; its digest in words, or UnsafeWeights.

    A random twin has no bytes of its own: those of the base it was drawn from are read.
    """
    card = _drawn_from(find(name))
    if not here(card):
        raise BaseUnavailable(f"{card.key} is not here", f"fetch it with: basewise bases pull {card.key}")
    digest = Store.default().check(pull(card, accept_terms=True))
    compared = (
        "whole; nothing earlier to compare it with"
        if card.source == "folder" and not card.weights_sha256
        else "whole and unchanged"
    )
    return f"{card.key}: sha256 {digest}, {compared}"


def describe(card: Card) -> dict[str, Any]:
    """What `bases show` prints."""
    return {
        "key": card.key,
        "kind": f"{card.family}, {card.layers} layers x {card.width}, {card.parameters / 1e6:.1f} M weights",
        "provides": ", ".join(sorted(card.provides)),
        "reads": f"{card.context} tokens",
        "licence": card.licence + (f" ({card.terms}, to be accepted)" if card.terms else ""),
        "download": f"{card.download_bytes / 1e6:.0f} MB from {card.source}",
        "published sha256": card.weights_sha256 or "known after the first fetch",
        "trained on": card.training_data,
        "note": card.note,
        "here": "yes" if here(card) else "no",
    }
