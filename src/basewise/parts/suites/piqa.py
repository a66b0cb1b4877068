"""PIQA: which of two ways reaches an everyday goal (Bisk et al., AAAI 2020).

A row: question "dresser", choices "replace drawer with bobby pin ", "finish, woodgrain with  bobby pin ", answer 1. The
template is lm-evaluation-harness' own, so that scores are comparable.
"""

from __future__ import annotations

from basewise.core.suite import BenchTask, Data, Item, columns_of

FILES = ("piqa/test.parquet",)
TEMPLATE = "Question: {question}\nAnswer:"


def tasks(data: Data) -> list[BenchTask]:
    """One task, zero demonstrations."""
    rows = data.rows(FILES[0])
    columns_of(rows, FILES[0], ("question", "choices", "answer"))
    items = tuple(
        Item(
            context=TEMPLATE.format(question=row["question"]),
            choices=tuple(f" {choice}" for choice in row["choices"]),
            answer=int(row["answer"]),
            text=f"{row['question']} {row['choices'][int(row['answer'])]}",
        )
        for row in rows
    )
    return [BenchTask(name="piqa/piqa", items=items, about="physical commonsense, two choices")]
