"""Classification by label names: seven public sets, in context for decoders, by probe for bases that only embed.

banking77, clinc150 (and whether what belongs to no intent is told apart), trec, subj, sst2, tweet_emotion, tweet_irony.
A prompt is the text and "Label:"; the choices are the labels as words. Demonstrations and the probe's rows come from the
train split, the items from the test split.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from basewise.core.base import EMBED
from basewise.core.suite import AUROC, BenchTask, Data, Item, columns_of

SHOTS = 8
NONE = "oos"
OUT = "clinc150/outofscope_test.parquet"


@dataclass(frozen=True, kw_only=True)
class Set:
    """A set: how a text and a label are said. `words`: labels whose names are no words, or no words that one would use."""

    about: str
    text: str = "Text"
    label: str = "Label"
    words: dict[str, str] = field(default_factory=dict)


SETS = {
    "banking77": Set(about="77 intents of bank customers", text="Message", label="Intent"),
    "clinc150": Set(about="150 intents of an assistant's users", text="Message", label="Intent"),
    "trec": Set(
        about="what kind of thing a question asks for",
        text="Question",
        label="Answer type",
        words={
            "class_0": "description",
            "class_1": "entity",
            "class_2": "abbreviation",
            "class_3": "person",
            "class_4": "location",
            "class_5": "number",
        },
    ),
    "subj": Set(about="opinion or plot", text="Sentence", label="Kind"),
    "sst2": Set(about="sentiment of film reviews", text="Review", label="Sentiment"),
    "tweet_emotion": Set(about="emotion of tweets", text="Tweet", label="Emotion"),
    "tweet_irony": Set(
        about="irony in tweets", text="Tweet", label="Tone", words={"irony": "ironic", "non_irony": "sincere"}
    ),
}
FILES = (*(f"{name}/{split}.parquet" for name in SETS for split in ("train", "test")), OUT)


def tasks(data: Data) -> list[BenchTask]:
    """A task a set, and one that asks whether messages outside clinc150's intents look less certain."""
    return [made for name, how in SETS.items() for made in _tasks(data, name, how)]


def _tasks(data: Data, name: str, how: Set) -> list[BenchTask]:
    train, test = (_rows(data, f"{name}/{split}.parquet") for split in ("train", "test"))
    labels = sorted({row["label"] for row in train})
    said = {label: how.words.get(label) or re.sub(r"[_\W]+", " ", label).strip() for label in labels}
    choices = tuple(f" {said[label]}" for label in labels)
    place = {label: i for i, label in enumerate(labels)}

    def item(row: dict[str, Any]) -> Item:
        context = f"{how.text}: {row['text'].strip()}\n{how.label}:"
        return Item(
            context=context, choices=choices, answer=place.get(row["label"], -1), text=row["text"].strip()
        )

    pool, items = tuple(map(item, train)), tuple(map(item, test))
    asked = BenchTask(
        name=f"classify/{name}",
        items=items,
        about=how.about,
        shots=SHOTS,
        pool=pool,
        named=True,
        requires=frozenset({EMBED}),
    )
    if name != "clinc150":
        return [asked]
    outside = tuple(map(item, _rows(data, OUT)))
    inside = items[:: max(1, len(items) // len(outside))][: len(outside)]
    told = BenchTask(
        name="classify/clinc150_out_of_scope",
        items=inside + outside,
        about="certainty inside against outside the 150 intents",
        measure=AUROC,
        shots=SHOTS,
        pool=pool,
        named=True,
        requires=frozenset({EMBED}),
    )
    return [asked, told]


def _rows(data: Data, name: str) -> list[dict[str, Any]]:
    rows = data.rows(name)
    columns_of(rows, name, ("text", "label"))
    return rows
