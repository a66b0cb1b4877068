"""BLiMP: which of two sentences is grammatical, 67 paradigms (Warstadt et al., TACL 2020).

A row: good "What is George buying without lifting some pasta?", bad "What is George buying some pasta without lifting?".
The likelier whole sentence is the guess; chance is one half.
"""

from __future__ import annotations

from basewise.core.suite import BenchTask, Data, Item, columns_of

FILES = ("blimp/test.parquet",)


def tasks(data: Data) -> list[BenchTask]:
    """One task a paradigm; both sentences are scored after nothing."""
    rows = data.rows(FILES[0])
    columns_of(rows, FILES[0], ("paradigm", "good", "bad"))
    by_paradigm: dict[str, list[Item]] = {}
    for row in rows:
        item = Item(choices=(row["good"], row["bad"]), answer=0, text=row["good"])
        by_paradigm.setdefault(row["paradigm"], []).append(item)
    return [
        BenchTask(name=f"blimp/{name}", items=tuple(items), about=f"grammatical pairs: {name}", shotless=True)
        for name, items in by_paradigm.items()
    ]
