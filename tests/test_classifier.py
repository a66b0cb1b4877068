"""`Classifier` behaves as scikit-learn expects: clone, pipeline, cross-validation, grid search, and its own checks."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

import basewise as bw
import tiny
from basewise.core.errors import InputError

ROWS = tiny.rows(60)
TEXTS = [row["text"] for row in ROWS]
LABELS = np.array([row["queue"] for row in ROWS])


@pytest.fixture
def classifier() -> bw.Classifier:
    return bw.Classifier(base="none", method="words")


def test_it_learns_and_keeps_the_labels_as_they_were(classifier: bw.Classifier) -> None:
    fitted = classifier.fit(TEXTS, LABELS)
    assert fitted is classifier
    assert list(fitted.classes_) == sorted(set(LABELS))
    assert fitted.score(TEXTS, LABELS) > 0.9
    probabilities = fitted.predict_proba(TEXTS[:5])
    assert probabilities.shape == (5, 3)
    assert np.allclose(probabilities.sum(1), 1)
    numbers = clone(classifier).fit(TEXTS, np.arange(60) % 3 * 10)
    assert set(numbers.predict(TEXTS)) <= {0, 10, 20}


def test_clone_keeps_the_settings_and_nothing_else(classifier: bw.Classifier) -> None:
    again = clone(classifier.fit(TEXTS, LABELS))
    assert again.get_params() == classifier.get_params()
    with pytest.raises(NotFittedError):
        again.predict(TEXTS)


def test_pipeline_cross_validation_and_grid_search(classifier: bw.Classifier) -> None:
    lower = FunctionTransformer(lambda texts: [t.lower() for t in texts])
    assert make_pipeline(lower, classifier).fit(TEXTS, LABELS).score(TEXTS, LABELS) > 0.9
    assert len(cross_val_score(classifier, np.array(TEXTS, object), LABELS, cv=3)) == 3
    search = GridSearchCV(classifier, {"method": ["words", "majority"]}, cv=3)
    assert search.fit(np.array(TEXTS, object), LABELS).best_params_ == {"method": "words"}


def test_a_column_of_a_frame_is_texts(classifier: bw.Classifier) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS)
    fitted = classifier.fit(frame["text"], frame["queue"])
    assert list(fitted.predict(frame[["text"]])) == list(fitted.predict(TEXTS))


def test_tables_of_one_column_are_texts(classifier: bw.Classifier) -> None:
    import polars as pl
    import pyarrow as pa

    labels = list(classifier.fit(pl.DataFrame({"text": TEXTS}), LABELS).predict(TEXTS))
    for same in (
        pa.table({"text": TEXTS}),
        pl.DataFrame({"text": TEXTS}),
        pa.array(TEXTS),
        np.array(TEXTS)[:, None],
    ):
        assert list(classifier.predict(same)) == labels
    with pytest.raises(InputError, match="2 columns"):
        classifier.predict(pl.DataFrame(ROWS).select("text", "queue"))
    with pytest.raises(InputError, match="a dict came"):
        classifier.predict({"text": TEXTS})


def test_labels_in_a_column_are_flattened_and_a_matrix_is_refused(classifier: bw.Classifier) -> None:
    with pytest.warns(DataConversionWarning, match="column-vector"):
        fitted = clone(classifier).fit(TEXTS, LABELS[:, None])
    assert fitted.classes_.shape == (3,)
    with pytest.raises(ValueError, match=r"1d array, got an array of shape \(60, 3\)"):
        classifier.fit(TEXTS, np.eye(3, dtype=int)[np.arange(60) % 3])


def test_half_a_character_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.quick(monkeypatch)
    base = tiny.base_folder(tmp_path / "tiny-bert")
    broken = [f"{text} \ud83d" for text in TEXTS]
    fitted = bw.Classifier(base=str(base), method="probe").fit(broken, LABELS)
    assert list(fitted.predict(broken)) == list(fitted.predict([f"{text} \ufffd" for text in TEXTS]))


def test_a_base_and_a_method_without_a_race(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.quick(monkeypatch)
    base = tiny.base_folder(tmp_path / "tiny-bert")
    fitted = bw.Classifier(base=str(base), method="probe").fit(TEXTS, LABELS)
    assert fitted.score(TEXTS, LABELS) > 0.6
    assert fitted.decision_ is None


def test_a_fitted_one_is_copied_and_sent_to_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.quick(monkeypatch)
    base = tiny.base_folder(tmp_path / "tiny-bert")
    for method in ("probe", "lora"):
        fitted = bw.Classifier(base=str(base), method=method).fit(TEXTS, LABELS)
        again = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_allclose(again.predict_proba(TEXTS), fitted.predict_proba(TEXTS), rtol=0, atol=1e-6)
        assert list(again.classes_) == list(fitted.classes_) and again.get_params() == fitted.get_params()
        assert copy.deepcopy(again).score(TEXTS, LABELS) == fitted.score(TEXTS, LABELS)


def test_a_base_that_cannot_do_what_the_method_needs() -> None:
    with pytest.raises(InputError, match="lora needs a base that can train; wordllama-256 can embed"):
        bw.Classifier(base="wordllama-256", method="lora").fit(TEXTS, LABELS)


def test_a_race_when_anything_is_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.quick(monkeypatch)
    fitted = bw.Classifier(base="auto", method="words", budget="20s").fit(TEXTS, LABELS)
    assert fitted.decision_ is not None
    assert fitted.decision_.leaderboard
    assert fitted.score(TEXTS, LABELS) > 0.6


@pytest.mark.parametrize(
    ("texts", "labels"),
    [("one text", ["a"]), ([None, *TEXTS[1:]], LABELS), (TEXTS, LABELS[:5]), (TEXTS, ["a"] * 60), ([], [])],
    ids=["one text", "no text", "too few labels", "one class", "nothing"],
)
def test_what_it_refuses(classifier: bw.Classifier, texts: list[str], labels: list[str]) -> None:
    with pytest.raises((InputError, ValueError)) as caught:
        classifier.fit(texts, labels)
    assert str(caught.value)


CHECKS = (
    "check_no_attributes_set_in_init",
    "check_estimator_repr",
    "check_estimator_cloneable",
    "check_get_params_invariance",
    "check_set_params",
    "check_parameters_default_constructible",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_classifiers_regression_target",
)


@pytest.mark.parametrize("name", CHECKS)
def test_the_estimator_checks_that_apply_to_text(classifier: bw.Classifier, name: str) -> None:
    getattr(estimator_checks, name)("Classifier", classifier)
    assert is_classifier(classifier)
