"""What MLflow loads: a release as a python_function model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basewise.core.export import JOINED
from basewise.steps.predict import Predictor, load


@dataclass(frozen=True)
class ReleaseModel:
    """`predict(table)`: a table with label, probability, abstained and p_<class>."""

    predictor: Predictor

    def predict(self, model_input: Any, params: Any = None) -> Any:
        """model_input: a pandas table with the input columns, or with texts joined from them in one column "joined", or what else
        `Predictor.predict_proba` takes; params is MLflow's and not used."""
        import pandas as pd

        classes = list(self.predictor.classes)
        columns = list(getattr(model_input, "columns", ()))
        if len(self.predictor.inputs) > 1 and columns == [JOINED]:
            probabilities = self.predictor.probabilities(model_input[JOINED].tolist())
        else:
            rows = model_input.to_dict("records") if columns else model_input
            probabilities = self.predictor.predict_proba(rows)
        top = probabilities.argmax(1)
        sure = probabilities.max(1)
        out = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in classes])
        out.insert(0, "label", [classes[i] for i in top])
        out.insert(1, "probability", sure)
        threshold = self.predictor.threshold
        out.insert(2, "abstained", sure < threshold if threshold is not None else False)
        return out


def _load_pyfunc(path: str) -> ReleaseModel:
    """MLflow's door: `path` is the release, or the folder that MLflow copied it into."""
    folder = Path(path)
    inside = [p.parent for p in folder.rglob("release.json")]
    return ReleaseModel(load(inside[0] if inside else folder))
