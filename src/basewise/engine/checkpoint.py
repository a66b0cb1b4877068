"""Checkpoints: whole or not there, verified by digest, written beside the training, the last good one always kept.

A checkpoint is a folder `step-000500` with model.safetensors, optimiser.safetensors and state.json; the last names the sha256
of the other two, and the folder takes its name only when all is on disk. A damaged one is passed over for the one before it.
Nothing is pickled: nested optimiser states are flattened to named tensors and JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from basewise.core.errors import InputError, RunError
from basewise.core.files import explain_os_error, sync
from basewise.core.hashing import sha256_file
from basewise.engine.loop import State

PREFIX, RECORD = "step-", "state.json"
Announce = Callable[[str], None]


def flatten(value: Any, tensors: dict[str, torch.Tensor], at: str = "") -> Any:
    """`value` as JSON; its tensors go into `tensors` and leave {"tensor": name} behind, number keys {"int": k} pairs."""
    if isinstance(value, torch.Tensor):
        tensors[at] = value.detach().contiguous().cpu()
        return {"tensor": at}
    if isinstance(value, dict):
        pairs = [[key, flatten(item, tensors, f"{at}/{key}")] for key, item in value.items()]
        return {"pairs": pairs}
    if isinstance(value, (list, tuple)):
        return [flatten(item, tensors, f"{at}/{place}") for place, item in enumerate(value)]
    return value


def unflatten(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """The inverse of `flatten` (tuples come back as lists)."""
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        return {key: unflatten(item, tensors) for key, item in value["pairs"]}
    return [unflatten(item, tensors) for item in value] if isinstance(value, list) else value


def write(folder: Path, state: State, facts: dict[str, Any]) -> Path:
    """Write one checkpoint under `folder`, whole or not at all; `facts`: JSON that belongs to it. RunError when it cannot."""
    from safetensors.torch import save_file

    target = folder / f"{PREFIX}{state.step:08d}"
    temporary: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder, prefix=f".{target.name}."))
        tensors: dict[str, torch.Tensor] = {}
        shape = flatten(state.optimiser, tensors)
        tensors["random"] = state.random
        save_file(_unshared(state.model), temporary / "model.safetensors")
        save_file(tensors, temporary / "optimiser.safetensors")
        digests = {
            name: sha256_file(temporary / name) for name in ("model.safetensors", "optimiser.safetensors")
        }
        record = {
            "step": state.step,
            "drawn": state.drawn,
            "spent": state.spent,
            "recent": list(state.recent),
            "total": state.total,
            "optimiser": shape,
            "shared": _shared(state.model),
            "digests": digests,
            "facts": facts,
        }
        (temporary / RECORD).write_text(json.dumps(record), encoding="utf-8")
        for path in temporary.iterdir():
            sync(path)
        if target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
        sync(folder)
    except OSError as error:
        raise explain_os_error(error, target) from error
    except Exception as error:
        # safetensors has an error class of its own for a full disk
        if "No space left" in str(error) or "StorageFull" in str(error):
            raise RunError(
                f"the disk is full: could not write {target}", "free some space and run again"
            ) from error
        raise
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)
    return target


def _shared(model: dict[str, torch.Tensor]) -> dict[str, str]:
    """Names whose tensor another name holds too (tied weights)."""
    first: dict[int, str] = {}
    found = {}
    for name, value in model.items():
        at = value.data_ptr()
        if value.numel() and at in first and model[first[at]].shape == value.shape:
            found[name] = first[at]
        else:
            first[at] = name
    return found


def _unshared(model: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    shared = _shared(model)
    return {name: value.detach().contiguous().cpu() for name, value in model.items() if name not in shared}


def read(path: Path) -> tuple[State, dict[str, Any]]:
    """(state, facts) of one checkpoint, every byte of its tensors verified. RunError where it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        for name, digest in record["digests"].items():
            if sha256_file(path / name) != digest:
                raise RunError(f"{path / name} is not what was written", "delete this checkpoint")
        model = load_file(path / "model.safetensors")
        tensors = load_file(path / "optimiser.safetensors")
        model |= {name: model[first] for name, first in record["shared"].items()}
        state = State(
            model=model,
            optimiser=unflatten(record["optimiser"], tensors),
            step=record["step"],
            random=tensors["random"],
            drawn=record["drawn"],
            spent=record["spent"],
            recent=tuple(record["recent"]),
            total=record.get("total", 0),
        )
        return state, record["facts"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise RunError(f"cannot read the checkpoint {path}: {error}", "delete this checkpoint") from error


def steps_there(folder: Path) -> list[int]:
    """Steps that have a checkpoint, ascending."""
    return sorted(int(path.name.removeprefix(PREFIX)) for path in folder.glob(f"{PREFIX}*") if path.is_dir())


def latest(folder: Path, announce: Announce) -> tuple[State, dict[str, Any]] | None:
    """The newest checkpoint that holds; damaged ones are passed over, and that is said. None where none holds."""
    for step in reversed(steps_there(folder)):
        path = folder / f"{PREFIX}{step:08d}"
        try:
            return read(path)
        except RunError as error:
            announce(f"the checkpoint of step {step} is damaged and was passed over: {error.message}")
    return None


def at_step(folder: Path, step: int) -> tuple[State, dict[str, Any]]:
    """The checkpoint of one step; an unknown step is an error that names those that are there."""
    there = steps_there(folder)
    if step not in there:
        known = ", ".join(map(str, there)) or "none"
        raise InputError(
            f"there is no checkpoint of step {step} in {folder}", f"steps that are there: {known}"
        )
    return read(folder / f"{PREFIX}{step:08d}")


class Writer:
    """Writes checkpoints in a thread, one after the other, and keeps the newest ones and those marked to stay."""

    def __init__(self, folder: Path, keep: int, announce: Announce) -> None:
        self.folder, self.keep, self.announce = folder, keep, announce
        self._thread: threading.Thread | None = None
        self._failed: BaseException | None = None
        # of a process that was killed while it wrote
        for left in folder.glob(f".{PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)

    def put(self, state: State, facts: dict[str, Any]) -> None:
        """Begin to write `state`, a copy that nobody changes; waits for the one before. A failure is announced, no more."""
        self.join()
        self._thread = threading.Thread(target=self._write, args=(state, facts))
        self._thread.start()

    def _write(self, state: State, facts: dict[str, Any]) -> None:
        try:
            write(self.folder, state, facts)
            self._tidy()
        except Exception as error:  # noqa: BLE001  a thread has nobody to raise to: kept for the main one
            self._failed = error

    def join(self) -> BaseException | None:
        """Wait for the one that is being written; its failure is announced and comes back."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        failed, self._failed = self._failed, None
        if failed is not None:
            there = steps_there(self.folder)
            held = f"the last good one is of step {there[-1]}" if there else "there is none yet"
            self.announce(f"a checkpoint could not be written ({failed}); {held}; training goes on")
        return failed

    def close(self) -> None:
        """Wait for the last one; where that could not be written, its error is raised."""
        if failed := self.join():
            raise failed

    def _tidy(self) -> None:
        """Remove old checkpoints; those whose facts say `stable` stay for cooldowns."""
        there = [self.folder / f"{PREFIX}{step:08d}" for step in steps_there(self.folder)]
        for path in there[: -self.keep]:
            try:
                stays = json.loads((path / RECORD).read_text(encoding="utf-8"))["facts"].get("stays")
            except (OSError, ValueError, KeyError):
                stays = False
            if not stays:
                shutil.rmtree(path, ignore_errors=True)
