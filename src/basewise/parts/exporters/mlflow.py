"""An MLflow model (python_function); the release inside is verified on loading.

Needs mlflow where it is written and where it is read, and basewise where it is read.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from basewise.core.errors import MissingExtra
from basewise.core.export import JOINED, Exported, write_pins

METHODS: tuple[str, ...] = ()
BOUND = 0.02


def write(exported: Exported, folder: Path) -> None:
    """MLmodel, its requirements, and the release as its data."""
    if importlib.util.find_spec("mlflow") is None:
        raise MissingExtra.of("mlflow", "mlflow")
    import mlflow.pyfunc

    from basewise import __version__

    inner = folder / "model"
    mlflow.pyfunc.save_model(
        path=str(inner),
        loader_module="basewise.steps.mlflow_model",
        data_path=str(exported.folder),
        pip_requirements=[f"basewise=={__version__}"],
        metadata={"release": exported.release.id, "licence": exported.release.licence.get("expression")},
    )
    for path in inner.iterdir():
        shutil.move(str(path), folder / path.name)
    inner.rmdir()
    write_pins(exported, folder, {"pooling": "the release's own", "bound": BOUND})


def answers(folder: Path, texts: Sequence[str]) -> np.ndarray:
    """Through MLflow's own loader."""
    import mlflow.pyfunc
    import pandas as pd

    from basewise.core.files import read_json

    pins = read_json(folder / "basewise.json")
    # golden texts are what columns are joined to
    column = pins["inputs"][0] if len(pins["inputs"]) == 1 else JOINED
    table = pd.DataFrame({column: list(texts)})
    found = mlflow.pyfunc.load_model(str(folder)).predict(table)
    return found[[f"p_{name}" for name in pins["classes"]]].to_numpy(float)
