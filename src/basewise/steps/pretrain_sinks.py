"""Where metrics go beside metrics.jsonl: TensorBoard and MLflow, each only when the recipe asks and it is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basewise.core.errors import MissingExtra, RunError, UnknownName

KNOWN = ("tensorboard", "mlflow")
ENDED, STOPPED, FAILED = "FINISHED", "KILLED", "FAILED"
"""How a run ended, in MLflow's words."""


@dataclass(frozen=True)
class Sink:
    """One log: `write` takes a line of metrics, `close` how the run ended."""

    write: Callable[[dict[str, Any]], None]
    close: Callable[[str], None]


def sinks_of(names: Iterable[str], folder: Path) -> list[Sink]:
    """One sink a name. UnknownName for others, MissingExtra where the library is not installed, RunError where it is away."""
    made = []
    for name in names:
        if name not in KNOWN:
            raise UnknownName.of("log", name, KNOWN)
        made.append(_tensorboard(folder) if name == "tensorboard" else _mlflow(folder))
    return made


def numbers(line: dict[str, Any]) -> dict[str, float]:
    """The numbers of a line of metrics by name; of an interval its estimate."""
    found: dict[str, float] = {}
    for key, value in line.items():
        if isinstance(value, (int, float)) and key not in ("step", "total"):
            found[key] = float(value)
        elif isinstance(value, dict):
            found |= {
                f"{key}/{source}": one["estimate"]
                for source, one in value.items()
                if isinstance(one, dict) and one.get("estimate") is not None
            }
    return found


def _tensorboard(folder: Path) -> Sink:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra.of("tensorboard", "track") from error
    writer = SummaryWriter(str(folder / "tensorboard"))

    def write(line: dict[str, Any]) -> None:
        for name, value in numbers(line).items():
            writer.add_scalar(name, value, line["step"])
        writer.flush()

    return Sink(write, lambda _state: writer.close())


def _mlflow(folder: Path) -> Sink:
    try:
        import mlflow
    except ImportError as error:
        raise MissingExtra.of("mlflow", "track") from error
    try:
        mlflow.set_experiment(f"basewise/{folder.name}")
        mlflow.start_run(run_name=folder.name)
    except Exception as error:  # MLflow raises its own kinds and those of its database and its network
        raise RunError(
            f"MLflow at {mlflow.get_tracking_uri()} cannot be written: {str(error)[:160]}",
            "start it, set MLFLOW_TRACKING_URI, or take mlflow out of log in the recipe",
        ) from error
    return Sink(
        lambda line: mlflow.log_metrics(numbers(line), step=line["step"]),
        lambda state: mlflow.end_run(status=state),
    )
