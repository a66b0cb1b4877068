"""BIG-Bench Hard: 27 reasoning tasks, answered from listed options or in free text (Suzgun et al. 2022).

Options in the question ("(A) …", "- Yes") are scored as choices by their names; where none are listed, a task whose answers
are two or three fixed words is scored over those, and the others (sorting, counting, arithmetic, brackets) are generated.
"""

from __future__ import annotations

import re
from typing import Any

from basewise.core.base import GENERATE as GENERATES
from basewise.core.base import SCORE
from basewise.core.suite import CHOICE, GENERATE, BenchTask, Data, Item, columns_of

FILES = ("bbh/test.parquet",)
TEMPLATE = "Q: {input}\nA:"
SHOTS = 3
FEW_WORDS = 3
_LETTERED = re.compile(r"^\(([A-Z])\) ", re.M)
_DASHED = re.compile(r"^- (.+?)\s*$", re.M)


def options(text: str) -> tuple[str, ...]:
    """The names of the options that a question lists after its last "Options:"; none when it lists none."""
    listed = text.rpartition("Options:\n")[2] if "Options:\n" in text else ""
    return tuple(f"({letter})" for letter in _LETTERED.findall(listed)) or tuple(_DASHED.findall(listed))


def tasks(data: Data) -> list[BenchTask]:
    """Every task of the file, each with three demonstrations out of its own items."""
    rows = data.rows(FILES[0])
    columns_of(rows, FILES[0], ("task", "input", "target"))
    by_task: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_task.setdefault(row["task"], []).append(row)
    return [_task(name, found) for name, found in by_task.items()]


def _task(name: str, rows: list[dict[str, Any]]) -> BenchTask:
    answers = sorted({row["target"] for row in rows})
    fixed = tuple(answers) if len(answers) <= FEW_WORDS else ()
    items = []
    for row in rows:
        choices = options(row["input"]) or fixed
        context = TEMPLATE.format(input=row["input"].strip())
        if not choices:
            items.append(Item(context=context, target=row["target"].strip(), text=row["input"]))
        elif row["target"] in choices and len(choices) > 1:
            # other rows lost options, or name one that is none
            spoken = tuple(f" {choice}" for choice in choices)
            items.append(
                Item(context=context, choices=spoken, answer=choices.index(row["target"]), text=row["input"])
            )
    chosen = all(item.choices for item in items)
    kept = tuple(item for item in items if bool(item.choices) == chosen)
    return BenchTask(
        name=f"bbh/{name}",
        items=kept,
        about=f"reasoning: {name}" + ("" if chosen else ", answered in free text"),
        kind=CHOICE if chosen else GENERATE,
        shots=SHOTS,
        named=chosen,
        most_tokens=max([8, *(len(item.target) // 2 for item in kept)]),
        requires=frozenset({SCORE} if chosen else {SCORE, GENERATES}),
    )
