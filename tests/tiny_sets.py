"""Tiny sets in the place of the public ones, with their columns: every suite can be read and asked offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

ADJECTIVES, NOUNS = ("red", "blue", "good", "bad"), ("film", "label", "text", "question")
LABELS = {
    "banking77": ["card_arrival", "card_linking", "top_up"],
    "clinc150": ["translate", "timer", "transfer"],
    "trec": [f"class_{i}" for i in range(6)],
    "subj": ["objective", "subjective"],
    "sst2": ["negative", "positive"],
    "tweet_emotion": ["anger", "joy", "optimism", "sadness"],
    "tweet_irony": ["irony", "non_irony"],
}
SETS = (
    "blimp/test",
    "piqa/test",
    "bbh/test",
    "crows_pairs/test",
    "bbq/test",
    "wikitext2/test",
    "clinc150/outofscope_test",
    *(f"{name}/{split}" for name in LABELS for split in ("train", "test")),
)


def phrase(draw: np.random.Generator) -> str:
    return f"the {draw.choice(ADJECTIVES)} {draw.choice(NOUNS)} was {draw.choice(ADJECTIVES)} {draw.integers(1000)}"


def rows(name: str, count: int, draw: np.random.Generator) -> list[dict[str, Any]]:
    """`count` rows of one set, or of each task in it."""
    made: list[dict[str, Any]] = []
    base = name.partition("/")[0]
    for i in range(count):
        text, other = phrase(draw), phrase(draw)
        if name == "blimp/test":
            made += [{"paradigm": p, "good": text, "bad": other} for p in ("wh_island", "passive_1")]
        elif name == "piqa/test":
            made.append({"question": text, "choices": ["good film", "bad text"], "answer": i % 2})
        elif name == "bbh/test":
            made.append(
                {
                    "task": "navigate",
                    "input": f"{text}\nOptions:\n- Yes\n- No",
                    "target": ("Yes", "No")[i % 2],
                }
            )
            made.append(
                {
                    "task": "snarks",
                    "input": f"{text}\nOptions:\n(A) red\n(B) blue",
                    "target": f"({'AB'[i % 2]})",
                }
            )
            made.append({"task": "word_sorting", "input": text, "target": f"{i} {other}"})
            made.append({"task": "web_of_lies", "input": text, "target": ("Yes", "No")[i % 2]})
        elif name == "crows_pairs/test":
            made += [
                {
                    "more_stereotypical": text,
                    "less_stereotypical": other,
                    "bias_type": kind,
                    "direction": "stereo",
                }
                for kind in ("age", "race-color")
            ]
        elif name == "bbq/test":
            made.append(
                {
                    "category": "Age",
                    "context": phrase(np.random.default_rng(i // 2)),
                    "question": f"who was {i}?",
                    "choices": ["red", "blue", "no answer"],
                    "answer": i % 3,
                    "context_condition": ("ambig", "disambig")[i // 2 % 2],
                    "polarity": "neg",
                }
            )
        elif base == "wikitext2":
            made.append(
                {"text": "".join(f" = {phrase(draw)} = \n \n {phrase(draw)} . \n \n" for _ in range(4))}
            )
        else:
            label = "oos" if "outofscope" in name else LABELS[base][i % len(LABELS[base])]
            made.append({"text": text, "label": label})
    return made


def write(folder: Path, count: int = 24) -> Path:
    """All sets under `folder`; the folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for k, name in enumerate(SETS):
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows(name, count, np.random.default_rng(k))), path)
    return folder
