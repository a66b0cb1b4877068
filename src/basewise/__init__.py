"""basewise: from a table of labelled rows to a proven, saved predictor on the right pretrained base.

The public names load lazily, so that `import basewise` stays light: no torch, no transformers until they are used.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "audit": "steps.audit",
    "bench": "steps.bench",
    "choose": "steps.choose",
    "adapt": "steps.adapt",
    "evaluate": "steps.evaluate",
    "predict": "steps.predict",
    "load": "steps.predict",
    "release": "steps.release",
    "ReleaseOptions": "steps.release",
    "serve": "steps.serve",
    "Classifier": "steps.classifier",
    "Budget": "core.budget",
    "Task": "core.task",
    "Decision": "core.decision",
}
__all__ = [
    "Budget",
    "Classifier",
    "Decision",
    "ReleaseOptions",
    "Task",
    "__version__",
    "adapt",
    "audit",
    "bench",
    "choose",
    "evaluate",
    "load",
    "predict",
    "release",
    "serve",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'basewise' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"basewise.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
