"""Demonstrations picked for each text: which, in which order, at what price, and that a saved predictor still picks the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_decoders
from basewise.core.base import Base
from basewise.core.method import Context
from basewise.core.registry import part
from basewise.core.task import Examples
from basewise.engine import nearest, shots
from basewise.engine.causal import Causal
from basewise.engine.nearest import SHOWN, Pool
from basewise.engine.probe import unit
from basewise.engine.prompting import build_prompt, default_template

PROMPT = part("methods", "prompt")


def pool(labels: np.ndarray, seed: int = 0, classes: int = 2) -> Pool:
    rows = np.random.default_rng(seed).normal(size=(len(labels), 6)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Pool(
        tuple((i,) for i in range(len(labels))), labels, rows, np.zeros(6), "all", -(-SHOWN // classes)
    )


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(2, 5))
@settings(max_examples=40, deadline=None)
def test_the_nearest_stand_last_and_no_class_takes_more_than_its_places(
    seed: int, count: int, classes: int
) -> None:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, count)
    found = pool(labels, seed, classes)
    texts = draw.normal(size=(3, 6))
    banned = draw.random((3, count)) < 0.2
    likeness = unit(texts) @ found.rows.T
    for i, picked in enumerate(found.near(texts, banned)):
        assert len(picked) == len(set(picked)) <= SHOWN
        assert not banned[i, picked].any()
        assert np.bincount(labels[picked], minlength=1).max(initial=0) <= found.places
        assert (np.diff(likeness[i, picked]) >= 0).all(), "the nearest is last"
        left = [j for j in range(count) if j not in picked and not banned[i, j]]
        full = np.bincount(labels[picked], minlength=classes) >= found.places
        if len(picked) < SHOWN:
            assert all(full[labels[j]] for j in left), "places were left free"


def some(each: int) -> Examples:
    texts = [
        f"the {color} film was {name} {i}"
        for i in range(each)
        for color, name in (("red", "good"), ("blue", "bad"))
    ]
    order = np.arange(len(texts))
    return Examples(tuple(texts), order % 2, order, order, ("good", "bad"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_decoders.decoder(tmp_path_factory.mktemp("near"), "llama", max_position_embeddings=384)


def test_scores_behind_a_texts_own_rows_are_those_of_the_whole_text(base: Base) -> None:
    causal, rows, words = Causal(base, "fp32"), some(6), ("good", "bad")
    template = default_template(words)
    bare = build_prompt(causal, template, words, [])
    features = np.random.default_rng(0).normal(size=(len(rows), 4))
    made, keep = nearest.pool_of(causal, template, words, rows, features, "layer2")
    assert len(keep) == len(rows) and made.places == SHOWN // 2
    texts, near = ["the red text", "no"], [[3, 0], [5, 2, 7]]
    found = nearest.near_scores(causal, bare, made, texts, near)
    whole = [
        (
            template.instruction
            + "".join(template.shown(rows.texts[i], words[rows.labels[i]]) for i in picked)
            + f"Text: {text}\nLabel:",
            f" {word}",
        )
        for text, picked in zip(texts, near, strict=True)
        for word in words
    ]
    np.testing.assert_allclose(found.reshape(-1), causal.score(whole).log_probability, atol=1e-4)


def fitted(base: Base, rows: Examples, **more: Any) -> Any:
    return PROMPT.fit(rows, base, Context(precision="fp32", **more))


def test_it_is_tried_only_with_seconds_to_spare_and_says_what_it_costs(base: Base) -> None:
    hurried = fitted(base, some(12))
    assert hurried.choices["demonstrations"] == "fixed"
    assert (
        "not tried: about" in hurried.choices["nearest"]
        and "0.0 s are to spare" in hurried.choices["nearest"]
    )
    free = fitted(base, some(12), spare=1e6, answers=50)
    assert "log-loss" in free.choices["nearest"] and "x the tokens a row" in free.choices["nearest"]
    assert free.choices["nearest"].startswith("taken") == (free.choices["demonstrations"] == "nearest")


def test_a_saved_predictor_picks_the_same_rows(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = shots.settle_prompt

    # fixed demonstrations that are worth nothing, so that nearest ones are taken
    def poor(
        *given: Any,
    ) -> Any:
        settled = honest(*given)
        return replace(settled, losses=settled.losses + 50.0)

    monkeypatch.setattr(shots, "settle_prompt", poor)
    made = fitted(base, some(12), spare=1e6)
    assert made.choices["demonstrations"] == "nearest" and made.choices["nearest"].startswith("taken")
    texts = ["the red film", "the blue text was bad", "", "word " * 500]
    first = made.probabilities(texts)
    np.testing.assert_allclose(first.sum(1), 1, atol=1e-9)
    made.save(tmp_path)
    again = PROMPT.load(tmp_path, base, Context(precision="fp32"))
    np.testing.assert_allclose(again.probabilities(texts), first, atol=1e-6)
    np.testing.assert_allclose(made.probabilities(texts[::-1])[::-1], first, atol=1e-5)
    assert made.probabilities([]).shape == (0, 2)
    assert not np.allclose(first[0], first[1]), "a text is answered by its own words and rows"


def test_a_row_never_sees_its_own_group_when_it_is_judged(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = some(12)
    rows = replace(rows, groups=np.arange(len(rows)) // 4)
    seen: list[Any] = []
    honest = Pool.near

    def watched(self: Pool, features: np.ndarray, banned: np.ndarray | None = None) -> list[list[int]]:
        found = honest(self, features, banned)
        if banned is not None:
            seen.extend(
                (int(np.flatnonzero(line)[0]), picked) for line, picked in zip(banned, found, strict=True)
            )
        return found

    monkeypatch.setattr(Pool, "near", watched)
    fitted(base, rows, spare=1e6)
    assert seen
    for own, picked in seen:
        assert rows.groups[own] not in rows.groups[picked]
