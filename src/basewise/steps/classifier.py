"""Classifier: `choose` and `adapt` as a scikit-learn estimator for texts.

Unlike most of the package this class is written to scikit-learn's rules: the constructor only stores, `fit` sets
attributes that end in an underscore and returns self, so clone, pipelines, cross-validation and grid search work.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from basewise.core.cells import whole
from basewise.core.decision import Decision
from basewise.core.errors import InputError
from basewise.core.method import check_compatible, one_column
from basewise.core.task import COLUMNS, Examples, Task
from basewise.steps.measures import check_metric


class Classifier(ClassifierMixin, BaseEstimator):
    """A text classifier on a pretrained base.

    base: a name, or "auto" to choose; method: a key, or "auto" to choose; budget: seconds or "5m" (used when anything is
    chosen); seed: an int; metric: what is chosen by ("accuracy", "balanced_accuracy", "macro_f1"). X: n texts (list, array,
    pandas column, or one-column table); y: n labels of any kind.
    After fit: `classes_`, `n_features_in_` (1), `decision_` (what was chosen and why; None without a race).
    """

    def __init__(
        self,
        base: str = "auto",
        method: str = "auto",
        budget: str | float = "5m",
        seed: int = 0,
        metric: str = "accuracy",
    ) -> None:
        self.base = base
        self.method = method
        self.budget = budget
        self.seed = seed
        self.metric = metric

    def fit(self, X: Any, y: Any) -> Classifier:
        """Fit on n texts and n labels; returns self."""
        check_metric(self.metric)
        # a matrix of labels is refused, one column flattened, as scikit-learn does
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        texts = as_texts(X)
        if len(texts) != len(y):
            raise InputError(f"{len(texts)} texts and {len(y)} labels came", "give one label a text")
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError("one class came, at least two were expected", "check y")
        n = len(texts)
        names = tuple(str(c) for c in self.classes_)
        rows = Examples(texts, labels.astype(np.int64), np.arange(n), np.arange(n), names)
        self.n_features_in_ = 1
        if self.base != "auto" and self.method != "auto":
            self._fit_one(rows)
        else:
            self._choose(rows)
        return self

    def _fit_one(self, rows: Examples) -> None:
        """No race: one base, one method, all rows."""
        from basewise.core.registry import part
        from basewise.steps.bases import find, pull
        from basewise.steps.jobs import Arm, Job, fit
        from basewise.steps.predict import cache_folder

        requires = part("methods", self.method).REQUIRES
        base = None
        if COLUMNS in requires - rows.provides:
            raise one_column(self.method)
        if requires:
            check_compatible(self.method, requires, find(self.base))
            base = pull(self.base)
        job = Job(
            arm=Arm(method=self.method, base=base),
            train=rows,
            texts=(),
            draw=self.seed,
            features=cache_folder(),
        )
        self.fitted_, _ = fit(job)
        self.decision_: Decision | None = None
        self._made = (self.method, base)

    def _choose(self, rows: Examples) -> None:
        from basewise.steps.choose import ChooseOptions, choose
        from basewise.steps.predict import load

        everything = np.full(len(rows), "train")
        task = Task(
            name="classifier", inputs=("text",), target="label", rows=rows, split=everything, split_how="none"
        )
        with tempfile.TemporaryDirectory(prefix="basewise-") as folder:
            self.decision_ = choose(
                task,
                budget=self.budget,
                bases=None if self.base == "auto" else (self.base,),
                methods=None
                if self.method == "auto"
                else tuple(dict.fromkeys(("majority", "words", self.method))),
                to=Path(folder) / "run",
                seed=self.seed,
                options=ChooseOptions(curves=False, metric=self.metric),
            )
            predictor = load(Path(folder) / "run")
        self.fitted_ = predictor.fitted
        self._made = (predictor.record["method"], predictor.base)

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, C) probabilities in the order of `classes_`."""
        check_is_fitted(self, "fitted_")
        return self.fitted_.probabilities(as_texts(X))

    def predict(self, X: Any) -> np.ndarray:
        """(n,) labels, as they were given to `fit`."""
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or another process gets: settings, and what was learned as the bytes of a saved predictor."""
        from basewise.steps.predict import save_predictor

        state = dict(super().__getstate__())
        if (fitted := state.pop("fitted_", None)) is None:
            return state
        method, base = state["_made"]
        with tempfile.TemporaryDirectory(prefix="basewise-") as name:
            folder = Path(name) / "predictor"
            save_predictor(folder, fitted, method=method, base=base, inputs=("text",), threshold=None)
            files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        return {**state, "_files": files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The inverse; the base is found by its digest and the golden answers are checked, as for any saved predictor."""
        from basewise.steps.predict import load

        files = state.pop("_files", None)
        super().__setstate__(state)
        if files is not None:
            with tempfile.TemporaryDirectory(prefix="basewise-") as folder:
                for name, content in files.items():
                    path = Path(folder) / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                self.fitted_ = load(folder).fitted

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        return tags


def as_texts(X: Any) -> tuple[str, ...]:
    """n texts from a list, a 1-d array, a pandas or Polars column, or a frame or Arrow table with one column."""
    if isinstance(X, str):
        raise InputError("one text came, a list of texts was expected", "put it into a list")
    if isinstance(X, Mapping):
        raise InputError("a dict came, a list of texts was expected", "give the list of its texts")
    # a frame or an Arrow table
    if hasattr(X, "columns"):
        if len(X.columns) != 1:
            raise InputError(
                f"a table of {len(X.columns)} columns came, one column of texts was expected",
                "select one column",
            )
        X = X.iloc[:, 0] if hasattr(X, "iloc") else X.to_series(0) if hasattr(X, "to_series") else X.column(0)
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.shape[1] == 1:
        X = X[:, 0]
    given = next((name for name in ("tolist", "to_list", "to_pylist") if hasattr(X, name)), None)
    values: Sequence[Any] = getattr(X, given)() if given else list(X)
    if not values:
        raise InputError("no rows came", "give at least one text")
    if other := [v for v in values if not isinstance(v, str)]:
        raise InputError(f"a {type(other[0]).__name__} came where a text was expected", "give strings")
    return tuple(map(whole, values))
