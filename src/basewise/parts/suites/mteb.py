"""MTEB's text classification tasks by name, "mteb/Banking77Classification", where the package mteb is installed.

The task's own train and test rows (Muennighoff et al. 2023), asked as all classification here: by a probe on 8 rows a label for what
embeds, in context for decoders. Each item is kept, so that scores have intervals and bases are paired; MTEB's own figure is the mean of
ten logistic regressions instead, and other kinds of tasks (retrieval, similarity …) are scored by MTEB itself: steps/mteb_model.
One subset of a multilingual task: "mteb/MassiveIntentClassification:en". Not part of "all": its data come over the network.
"""

from __future__ import annotations

import re
from typing import Any

from basewise.core.base import EMBED
from basewise.core.errors import BaseUnavailable, InputError, MissingExtra
from basewise.core.suite import BenchTask, Data, Item

FILES: tuple[str, ...] = ()
BY_NAME = True
SHOTS = 8
CLASSIFICATION = "Classification"


def tasks(data: Data) -> list[BenchTask]:
    """None without a name: MTEB has hundreds, and each fetches its rows."""
    return []


def named(name: str, data: Data) -> BenchTask:
    """The task "mteb/<name>" or "mteb/<name>:<subset>"; its rows come through MTEB's own loader and cache.

    Raises MissingExtra without the package, InputError for a name or a kind of task that cannot be asked, BaseUnavailable where the
    rows cannot be had.
    """
    title, _, subset = name.partition("/")[2].partition(":")
    found = get(title)
    if found.metadata.type != CLASSIFICATION or "text" not in found.metadata.modalities:
        raise InputError(
            f"{title} is of MTEB's kind {found.metadata.type}, bench asks text classification",
            f"let MTEB score it: python -m basewise.steps.mteb_model BASE {title}",
        )
    try:
        found.load_data()
    except (OSError, ValueError) as error:
        # the hub's client raises a dozen kinds of these two
        raise BaseUnavailable(
            f"the rows of {title} cannot be had ({str(error).splitlines()[0][:120]})",
            "connect to the hub or a mirror (HF_ENDPOINT)",
        ) from error
    splits = found.dataset
    if found.metadata.is_multilingual:
        subsets = list(found.hf_subsets)
        if subset not in subsets:
            raise InputError(
                f"{title} has {len(subsets)} subsets, one is asked at a time: {', '.join(subsets[:8])}",
                f"name one, such as mteb/{title}:{subsets[0]}",
            )
        splits = splits[subset]
    return _task(name, found, splits)


def get(title: str) -> Any:
    """MTEB's own task of this name."""
    try:
        import mteb
    except ImportError as error:
        raise MissingExtra.of("mteb", "mteb") from error
    try:
        return mteb.get_task(title)
    except KeyError as error:
        near = re.search(r"Did you mean: '([^']+)'", str(error))
        raise InputError(
            f"MTEB has no task {title!r}",
            f"did you mean mteb/{near[1]}?" if near else "see its list of tasks",
        ) from error


def _task(name: str, found: Any, splits: Any) -> BenchTask:
    text, label = found.input_column_name, found.label_column_name
    train, test = splits[found.train_split], splits[found.metadata.eval_splits[0]]
    said = (
        dict(zip(train[label], train["label_text"], strict=True))
        if "label_text" in train.column_names
        else {}
    )
    names = {value: _words(str(said.get(value, value))) for value in sorted(set(train[label]), key=str)}
    choices = tuple(f" {word}" for word in names.values())
    # names that sound alike are told apart as they are
    if len(set(choices)) < len(choices):
        choices = tuple(f" {said.get(value, value)}" for value in names)
    place = {value: i for i, value in enumerate(names)}

    def items(rows: Any) -> tuple[Item, ...]:
        return tuple(
            Item(context=f"Text: {t.strip()}\nLabel:", choices=choices, answer=place[v], text=t.strip())
            for t, v in zip(rows[text], rows[label], strict=True)
            if v in place
        )

    return BenchTask(
        name=name,
        items=items(test),
        about=f"MTEB, {len(choices)} labels",
        shots=SHOTS,
        pool=items(train),
        named=True,
        requires=frozenset({EMBED}),
    )


def _words(label: str) -> str:
    return re.sub(r"[_\W]+", " ", label).strip() or label
