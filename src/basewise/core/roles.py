"""Roles of columns: which is the target, which are texts to read, and which name a group, a time or a row.

Guesses look at names and values and always say why; what the user names wins over every guess.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from basewise.core.errors import InputError, TargetError, UnknownName
from basewise.core.split import asked_split, test_side

ROLES = ("target", "input", "group", "time", "split", "id", "other")
SAMPLE_ROWS = 2000
TARGET_NAMES = (
    "label", "labels", "target", "class", "category", "y", "intent", "queue", "topic", "sentiment", "tag", "klasse",
    "kategorie", "label_text", "coarse_label", "outcome", "department", "type", "fine_label", "rating", "stars",
)  # fmt: skip
TEXT_NAMES = ("text", "sentence", "body", "message", "content", "description", "question", "review", "subject", "title",
              "comment", "query", "tweet", "document", "utterance", "betreff", "nachricht")  # fmt: skip
GROUP_WORDS = {
    "customer",
    "client",
    "user",
    "author",
    "account",
    "thread",
    "conversation",
    "patient",
    "session",
    "kunde",
    "group",
}
TIME_WORDS = {"time", "date", "timestamp", "created", "received", "datum", "updated", "at", "day"}
TEXT_VARIETY = 0.3
"""Different values a filled row above which a column can be a text: what stands in fewer is a kind or a name of one."""
LEAST_GROUPS, LARGEST_GROUP = 20, 0.1
"""A group is guessed where there are this many, none with a larger share of the rows: a country or a plan is none."""
ID_WORDS = {"id", "uuid", "guid", "index", "idx", "key", "nr", "number", "row", "no"}
SPLIT_VALUES = {"train", "test", "dev", "val", "valid", "validation", "training", "eval"}
DATE = re.compile(r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?$|^\d{1,2}[./]\d{1,2}[./]\d{4}\b")


@dataclass(frozen=True)
class Role:
    """What a column is, and why that is believed."""

    role: str
    reason: str


KEPT = Role("other", "kept for slices")


@dataclass(frozen=True)
class _Look:
    """What a sample of one column shows."""

    words: set[str]
    filled: int
    distinct: int
    largest: float
    mean_length: float
    mean_words: float
    dates: float
    numbers: float
    split_words: bool
    both_sides: bool


def asked_roles(
    inputs: Any, target: Any, group: Any, time: Any, split: Any
) -> tuple[dict[str, Any], str | None]:
    """(the columns of each role as named, the split): a split that names its column names a role too."""
    how, of_group, of_time = asked_split(_name_in(split))
    several = [inputs] if isinstance(inputs, (str, int)) or inputs is None else inputs
    given: dict[str, Any] = {"inputs": [name for name in map(_name_in, several) if name is not None]}
    given |= {"target": _name_in(target), "group": _name_in(group) or of_group}
    return {**given, "time": _name_in(time) or of_time}, how


def _name_in(name: Any) -> str | None:
    """A column's name as the table has it: a frame without a header numbers its columns."""
    if name is not None and not isinstance(name, (str, int)):
        raise InputError(f"a {type(name).__name__} came as the name of a column", "give one name")
    return None if name is None else str(name)


def guess_roles(
    columns: Mapping[str, Sequence[str | None]],
    *,
    inputs: Sequence[str] | str | None = None,
    target: str | None = None,
    group: str | None = None,
    time: str | None = None,
) -> dict[str, Role]:
    """{column: Role} for columns of strings (None: missing). Raises UnknownName for a name that is not there,
    TargetError or InputError when no target or no text column can be told.
    """
    wanted = [inputs] if isinstance(inputs, str) else list(inputs or [])
    given: dict[str | None, str] = {target: "target", group: "group", time: "time"}
    given.update(dict.fromkeys(wanted, "input"))
    _check_named([n for n in (target, group, time, *wanted) if n is not None], columns)
    looks = {
        name: _look(name, values[:: max(1, len(values) // SAMPLE_ROWS)]) for name, values in columns.items()
    }
    roles = {name: Role(given[name], "given") for name in columns if name in given}
    if target is None:
        name, reason = _guess_target(looks, roles)
        roles[name] = Role("target", reason)
    for name, look in looks.items():
        if name not in roles:
            roles[name] = _guess_other(name, look, group is None, time is None)
    if not wanted:
        _set_aside_other_names(columns, roles)
        _guess_inputs(looks, roles)
    return {name: roles[name] for name in columns}


def _check_named(named: list[str], columns: Mapping[str, Sequence[str | None]]) -> None:
    """UnknownName for a name that is no column, InputError for a column with two roles."""
    for name in named:
        if name not in columns:
            raise UnknownName.of("column", name, columns)
    if twice := {n for n in named if named.count(n) > 1}:
        raise InputError(f"the column {sorted(twice)[0]!r} is given two roles", "give each column one role")


def _look(name: str, values: Sequence[str | None]) -> _Look:
    filled = [v.strip() for v in values if v and v.strip()]
    n, counts, words = max(1, len(filled)), Counter(filled), {v.lower() for v in filled}
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return _Look(
        words=set(re.split(r"[^a-z0-9]+", spaced.lower())),
        filled=len(filled),
        distinct=len(counts),
        largest=max(counts.values(), default=0) / n,
        mean_length=sum(map(len, filled)) / n,
        mean_words=sum(v.count(" ") + 1 for v in filled) / n,
        dates=sum(bool(DATE.match(v)) for v in filled) / n,
        numbers=sum(is_number(v) for v in filled) / n,
        split_words=bool(filled) and words <= SPLIT_VALUES,
        both_sides=0 < len(test_side(words)) < len(words),
    )


def is_number(value: str) -> bool:
    """Whether a cell reads as a number."""
    try:
        float(value)
    except ValueError:
        return False
    return True


def _guess_target(looks: dict[str, _Look], roles: dict[str, Role]) -> tuple[str, str]:
    free = [n for n in looks if n not in roles]
    for wanted in TARGET_NAMES:
        for name in free:
            look = looks[name]
            if name.lower() == wanted and look.distinct > 1:
                return name, f"its name, and {look.distinct} different values in {look.filled} rows"
    few = [
        n
        for n in free
        if 2 <= looks[n].distinct <= max(2, min(200, looks[n].filled // 3))
        and looks[n].mean_words <= 4
        and looks[n].dates < 0.5
        and not looks[n].words & (GROUP_WORDS | TIME_WORDS | ID_WORDS)
        and not looks[n].split_words
    ]
    if len(few) == 1:
        look = looks[few[0]]
        return few[0], f"the only column with few values ({look.distinct} in {look.filled} rows)"
    options = few or [n for n in free if looks[n].distinct > 1]
    raise TargetError(
        f"cannot tell which column is the target among {', '.join(options[:6]) or 'the columns'}",
        "name it with target=",
    )


def _guess_other(name: str, look: _Look, guess_group: bool, guess_time: bool) -> Role:
    unique = look.filled > 20 and look.distinct >= 0.98 * look.filled
    if look.split_words and look.both_sides:
        return Role("split", "its values are train and test")
    if guess_time and (look.dates > 0.9 or (look.words & TIME_WORDS - {"at"} and look.numbers > 0.9)):
        return Role(
            "time", "its values are dates" if look.dates > 0.9 else "its name, and its values are numbers"
        )
    many = LEAST_GROUPS <= look.distinct < look.filled and look.largest <= LARGEST_GROUP
    if guess_group and look.words & GROUP_WORDS and many and look.mean_words < 3:
        return Role("group", f"its name, and {look.distinct} different values in {look.filled} rows")
    if look.words & ID_WORDS and look.mean_words < 2 and (unique or look.filled <= 20):
        return Role("id", "its name, and no value occurs twice")
    if unique and look.mean_words < 2 and look.mean_length < 40 and name.lower() not in TEXT_NAMES:
        return Role("id", "no value occurs twice")
    return KEPT


def _set_aside_other_names(columns: Mapping[str, Sequence[str | None]], roles: dict[str, Role]) -> None:
    """A column whose values stand one to one for those of the target is the answer under another name, no text to read. In place."""
    target = next(name for name, role in roles.items() if role.role == "target")
    step = max(1, len(columns[target]) // SAMPLE_ROWS)
    answers = columns[target][::step]
    for name, role in roles.items():
        if role.role != "other" or name.strip().lower() in TEXT_NAMES:
            continue
        pairs = {(a, v) for a, v in zip(answers, columns[name][::step], strict=False) if a and v}
        if 1 < len(pairs) == len({a for a, _ in pairs}) == len({v for _, v in pairs}) < len(answers):
            roles[name] = Role("other", f"another name of each {target!r}")


def _guess_inputs(looks: dict[str, _Look], roles: dict[str, Role]) -> None:
    """Text columns by name, or by length and variety; the longest alone where nothing is certain. In place."""
    free = [n for n in looks if roles[n].role == "id" or roles[n] == KEPT]
    texts = []
    for name in free:
        look = looks[name]
        varied = look.distinct > TEXT_VARIETY * look.filled
        prose = look.mean_words >= 3 and varied
        # A part of the name is not enough: label_text is the answer in words, content_type a kind.
        named = name.strip().lower() in TEXT_NAMES or (
            bool(look.words & set(TEXT_NAMES)) and "id" not in look.words and varied
        )
        known = named and look.numbers < 0.5 and look.distinct > 1
        if look.filled and (prose or known):
            reason = f"{look.mean_words:.0f} words a row" if prose else "its name"
            texts.append(name)
            roles[name] = Role("input", reason)
    if texts:
        return
    wordy = [n for n in free if looks[n].filled and looks[n].numbers < 0.5 and looks[n].dates < 0.5]
    if not wordy:
        raise InputError(
            "no column holds text", "name the text column with inputs (in Python, or in the file of --config)"
        )
    best = max(wordy, key=lambda n: (looks[n].mean_length, looks[n].distinct))
    roles[best] = Role("input", "the longest texts")
