"""Writes the sample anew from its phrases, byte for byte: `python -m basewise.sample.make [FOLDER]`.

A message is put together from phrases that were written by hand and then roughened as people's typing is. The faults go in
last, each noted in planted.json, so that the audit can be held against what is really there.
"""

from __future__ import annotations

import csv
import io
import json
import random
import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from basewise.core.files import write_text
from basewise.sample import FOLDER

SEED = 20
ROWS = 1_000
CUSTOMERS = 420
FIRST_DAY, DAYS = date(2026, 1, 5), 299
NEAR, EXACT, WRONG, EMAILS, PHONES = 25, 8, 30, 15, 12
ALIKE = 0.7
"""Messages of which this share of 5-grams is the same are not both kept: only planted duplicates are duplicates."""
SHARES = {
    "delivery": 1.5,
    "login": 1.4,
    "app error": 1.3,
    "billing": 1.3,
    "connection": 1.2,
    "privacy": 0.5,
    "sales question": 0.7,
}
COLUMNS = ("ticket_id", "customer", "date", "channel", "text", "queue", "routing_code")
CHANNELS = ("form", "e-mail", "app", "chat")
NEAR_KEYS = {
    "a": "s",
    "e": "r",
    "i": "o",
    "o": "p",
    "t": "r",
    "n": "m",
    "s": "d",
    "r": "t",
    "l": "k",
    "c": "v",
}
EDITS = ("Please.", "Thanks!", "Hello?", "Any news?", "Again.")
MAIL = "{name}.{surname}{digit}@example.{end}"
NAMES = ("anna", "bela", "carl", "dora", "emil", "finn", "gita", "hugo", "ines", "jona")
SURNAMES = ("ashby", "brock", "corwin", "dale", "elden", "frost", "gale", "harrow")
CONTACTS = (
    "You can reach me at {}.",
    "My contact is {} by the way.",
    "Please answer to {}",
    "({})",
    "Best reach me on {} .",
)
PHONE_FORMS = ("+44 20 7946 0{}", "07700 900 {}", "(020) 7946 0{}", "555-0{}", "+1 202 555 0{}")


@dataclass
class Desk:
    """The messages so far and the faults in them; `grams` holds the 5-grams of each message of a queue."""

    phrases: dict[str, Any]
    rng: random.Random
    rows: list[dict[str, str]] = field(default_factory=list)
    planted: dict[str, Any] = field(default_factory=dict)
    grams: dict[str, list[set[str]]] = field(default_factory=dict)

    def fill(self, phrase: str) -> str:
        """The phrase with a word drawn for each slot."""
        return re.sub(r"\{(\w+)\}", lambda found: self.rng.choice(self.phrases["words"][found[1]]), phrase)

    def message(self, queue: str) -> str:
        """One message: what is said, often more, and now and then the politeness around it."""
        own, anyone, rng = self.phrases["queue"][queue], self.phrases["any"], self.rng
        parts = [rng.choice(own["say"])]
        if rng.random() < 0.12:
            parts.append(rng.choice(own["say"]))
        if rng.random() < 0.6:
            parts.insert(rng.choice((0, 1, 1, 1)), rng.choice(own["more"]))
        if rng.random() < 0.4:
            parts.insert(rng.randint(0, len(parts)), rng.choice(anyone["aside"]))
        if rng.random() < 0.35:
            parts.insert(0, rng.choice(anyone["opener"]))
        if rng.random() < 0.35:
            parts.append(rng.choice(anyone["closing"]))
        return self.roughened(self.fill(" ".join(dict.fromkeys(parts))))

    def roughened(self, text: str) -> str:
        """Typed as people type: some all in small letters, without full stops, with a slip or two."""
        rng, kind = self.rng, self.rng.random()
        if kind < 0.16:
            text = text.lower()
        elif kind < 0.19:
            text = text.upper()
        elif kind < 0.25:
            text = text.replace(".", "!!" if rng.random() < 0.4 else "...")
        if rng.random() < 0.12:
            text = text.replace(".", "").replace("'", "")
        for _ in range(rng.choice((0, 0, 0, 0, 1, 1, 2))):
            text = slip(text, rng)
        return text

    def is_new(self, queue: str, text: str) -> bool:
        """Whether the message is unlike all others of its queue; remembered if so."""
        mine = shingles(text)
        for other in self.grams.setdefault(queue, []):
            common = len(mine & other)
            if common > ALIKE * (len(mine) + len(other) - common):
                return False
        self.grams[queue].append(mine)
        return True

    def add(self, queue: str, text: str) -> int:
        """Append a row and give its position."""
        rng = self.rng
        row = {
            "customer": f"C{rng.randint(1, CUSTOMERS):04d}",
            "date": (FIRST_DAY + timedelta(days=rng.randint(0, DAYS - 1))).isoformat(),
            "channel": rng.choice(CHANNELS),
            "text": text,
            "queue": queue,
        }
        self.rows.append(row)
        return len(self.rows) - 1


def shingles(text: str) -> set[str]:
    """5-grams of the words, without case and signs."""
    plain = " ".join(re.findall(r"\w+", text.casefold()))
    return {plain[i : i + 5] for i in range(max(1, len(plain) - 4))}


def slip(text: str, rng: random.Random) -> str:
    """One slip of the fingers: two letters swapped, one lost, one doubled, or the key beside it."""
    places = [i for i in range(1, len(text) - 1) if text[i].isalpha() and text[i + 1].isalpha()]
    if not places:
        return text
    i = rng.choice(places)
    a, b = text[i], text[i + 1]
    new = rng.choice((b + a, b, a + a + b, NEAR_KEYS.get(a, a) + b))
    return text[:i] + new + text[i + 2 :]


def make() -> tuple[list[dict[str, str]], dict[str, Any]]:
    """The rows in the order of their tickets, and the faults planted in them by position."""
    phrases = tomllib.loads((FOLDER / "phrases.toml").read_text("utf-8"))
    desk = Desk(phrases, random.Random(SEED))
    queues = list(phrases["queue"])
    weights = [SHARES.get(queue, 1.0) for queue in queues]
    foreign = [desk.add(queue, desk.fill(text)) for queue, text in phrases["foreign"]["rows"]]
    long_one = desk.add("app error", _pasted_log(desk.rng))
    while len(desk.rows) < ROWS - NEAR - EXACT:
        queue = desk.rng.choices(queues, weights)[0]
        text = desk.message(queue)
        if desk.is_new(queue, text):
            desk.add(queue, text)
    plain = [i for i in range(len(desk.rows)) if i not in {*foreign, long_one}]
    _contacts(desk, plain)
    pairs = _duplicates(desk, plain)
    copies = {i for pair in [*pairs["near_duplicates"], *pairs["exact_duplicates"]] for i in pair}
    wrong = _wrong_labels(desk, [i for i in plain if i not in copies], queues)
    desk.planted |= pairs | {"wrong_labels": wrong, "foreign": foreign, "long_text": [long_one]}
    return _in_order(desk, queues)


def _pasted_log(rng: random.Random) -> str:
    """Somebody pasted a whole log into the form."""
    lines = [
        f"2026-03-{rng.randint(1, 28):02d} {rng.randint(0, 23):02d}:{rng.randint(0, 59):02d} "
        f"{rng.choice(('WARN', 'INFO', 'ERROR'))} {rng.choice(('sync', 'camera', 'view', 'push'))} "
        f"{rng.choice(('timed out', 'retry', 'no frame', 'restarted', 'queue full'))} ({rng.randint(1, 9999)})"
        for _ in range(450)
    ]
    return "The app closes by itself, here is everything it wrote:\n" + "\n".join(lines)


def _contacts(desk: Desk, plain: list[int]) -> None:
    """E-mail addresses and phone numbers, of domains and ranges that are reserved for examples."""
    rng, chosen = desk.rng, desk.rng.sample(plain, EMAILS + PHONES)
    for k, i in enumerate(chosen):
        if k < EMAILS:
            what = MAIL.format(
                name=rng.choice(NAMES),
                surname=rng.choice(SURNAMES),
                digit=rng.randint(1, 99),
                end=rng.choice(("com", "org", "net")),
            )
        else:
            what = rng.choice(PHONE_FORMS).format(rng.randint(100, 199))
        desk.rows[i]["text"] += " " + rng.choice(CONTACTS).format(what)
    desk.planted |= {"emails": sorted(chosen[:EMAILS]), "phones": sorted(chosen[EMAILS:])}


def _duplicates(desk: Desk, plain: list[int]) -> dict[str, list[list[int]]]:
    """Messages sent again, as they were or hardly changed, from another day and often another customer."""
    rng = desk.rng
    long_enough = [i for i in plain if len(desk.rows[i]["text"]) > 70]
    chosen = rng.sample(long_enough, NEAR + EXACT)
    pairs: dict[str, list[list[int]]] = {"near_duplicates": [], "exact_duplicates": []}
    for k, i in enumerate(chosen):
        text, queue = desk.rows[i]["text"], desk.rows[i]["queue"]
        if k < NEAR:
            changed = slip(text, rng) if rng.random() < 0.5 else f"{text} {rng.choice(EDITS)}"
            while shingles(changed) == shingles(text):
                changed = slip(text, rng)
            pairs["near_duplicates"].append([i, desk.add(queue, changed)])
        else:
            pairs["exact_duplicates"].append([i, desk.add(queue, text)])
    return pairs


def _wrong_labels(desk: Desk, free: list[int], queues: list[str]) -> list[int]:
    """Messages that somebody filed in another queue by mistake."""
    chosen = sorted(desk.rng.sample(free, WRONG))
    for i in chosen:
        desk.rows[i]["queue"] = desk.rng.choice([q for q in queues if q != desk.rows[i]["queue"]])
    return chosen


def _in_order(desk: Desk, queues: list[str]) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """Rows by date with ticket ids and routing codes (two a queue, so they give it away); positions follow."""
    order = sorted(range(len(desk.rows)), key=lambda i: (desk.rows[i]["date"], i))
    place = {old: new for new, old in enumerate(order)}
    rows = []
    for new, old in enumerate(order):
        row = desk.rows[old]
        code = f"R{100 + 10 * queues.index(row['queue']) + desk.rng.randint(0, 1)}"
        rows.append({"ticket_id": f"T{24_000 + 3 * new}", **row, "routing_code": code})
    moved: dict[str, Any] = {}
    for kind, found in desk.planted.items():
        pairs = found and isinstance(found[0], list)
        moved[kind] = sorted(sorted(place[i] for i in f) if pairs else place[f] for f in found)
    return rows, moved | {"leaking_column": "routing_code"}


def write(folder: Path = FOLDER) -> None:
    """tickets.csv and planted.json in `folder`."""
    rows, planted = make()
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / "tickets.csv", text.getvalue())
    write_text(folder / "planted.json", _json(planted.items()) + "\n")


def _json(items: Iterable[tuple[str, Any]]) -> str:
    """One line a fault."""
    return "{\n" + ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in items) + "\n}"


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:2]))
