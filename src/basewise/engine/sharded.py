"""Checkpoints of a sharded run that any number of ranks can read: safetensors through torch's distributed checkpoint.

Every rank writes the rows it holds; the file headers say where they belong, so two ranks' files are read by one, two or
three. No pickles: tensors are safetensors, everything else is JSON. A folder is whole or not there: the ranks write
beside it and the first renames when all are done. Digests are checked before anything is read.

`basewise pretrain` writes the other kind (engine/checkpoint.py), gathered to the first rank; no command calls this module.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from basewise.core.errors import RunError
from basewise.core.files import explain_os_error, read_json, write_json
from basewise.core.hashing import sha256_file
from basewise.engine.distributed import Ranks

VALUES = "values.json"
Optimisers = Iterable[torch.optim.Optimizer]


def _named_states(model: torch.nn.Module, optimisers: Optimisers) -> dict[str, dict[str, Any]]:
    """For each trained parameter, by name, the optimiser's state of it (a live dictionary)."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[p]: optimiser.state[p]
        for optimiser in optimisers
        for group in optimiser.param_groups
        for p in group["params"]
    }


def tensors(model: torch.nn.Module, optimisers: Optimisers) -> dict[str, torch.Tensor]:
    """Weights as model.NAME, the optimisers' tensors as optimiser.NAME/KEY. Tied weights stand once."""
    found = {f"model.{name}": p.detach() for name, p in model.named_parameters()}
    found |= {f"model.{name}": b for name, b in model.named_buffers() if _kept(model, name)}
    for name, state in _named_states(model, optimisers).items():
        found |= {f"optimiser.{name}/{key}": v for key, v in state.items() if isinstance(v, torch.Tensor)}
    return found


def _kept(model: torch.nn.Module, name: str) -> bool:
    """Whether a buffer belongs to the state (persistent) or is computed on opening."""
    owner, _, last = name.rpartition(".")
    return last not in model.get_submodule(owner)._non_persistent_buffers_set


def save(
    folder: Path, model: torch.nn.Module, optimisers: Optimisers, values: dict[str, Any], ranks: Ranks
) -> None:
    """Write the state of a run; all ranks call it together. `values`: step, data position and the like, as JSON."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint import HuggingFaceStorageWriter

    folder, part = Path(folder), Path(folder).with_name(f".{Path(folder).name}.part")
    try:
        if ranks.first:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
        ranks.wait()
        writer = HuggingFaceStorageWriter(path=str(part), save_distributed=True)
        dcp.save(tensors(model, optimisers), storage_writer=writer)
        own = sorted(part.glob(f"shard-{ranks.rank + 1:05d}-*.safetensors"))
        write_json(part / f"digests-{ranks.rank}.json", {f.name: sha256_file(f) for f in own})
        ranks.wait()
        if ranks.first:
            write_json(part / VALUES, {"world": ranks.world, "values": values})
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(part, folder)
    except OSError as error:
        raise explain_os_error(error, folder) from error
    ranks.wait()


def verify(folder: Path) -> dict[str, Any]:
    """The values of a checkpoint whose files are all there and unchanged; RunError says which one is not."""
    said = read_json(folder / VALUES)
    for rank in range(int(said["world"])):
        for name, digest in read_json(folder / f"digests-{rank}.json").items():
            path = folder / name
            if not path.is_file() or sha256_file(path) != digest:
                raise RunError(
                    f"{path} is {'damaged' if path.exists() else 'missing'}",
                    "delete this checkpoint; the run goes on from the one before",
                )
    return said["values"]


def load(folder: Path, model: torch.nn.Module, optimisers: Optimisers) -> dict[str, Any]:
    """Restore a run written by any number of ranks into this one; its values come back. All ranks call it together."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint import HuggingFaceStorageReader

    values = verify(Path(folder))
    reader = HuggingFaceStorageReader(str(folder))
    there = reader.read_metadata().state_dict_metadata
    parameters = dict(model.named_parameters())
    for name, state in _named_states(model, optimisers).items():
        for key in (k for k in there if k.startswith(f"optimiser.{name}/")):
            shape = there[key].size
            like = parameters[name]
            state[key.rpartition("/")[2]] = (
                torch.zeros_like(like.detach())
                if tuple(shape) == tuple(like.shape)
                else torch.zeros(tuple(shape))
            )
    wanted = tensors(model, optimisers)
    if missing := sorted(set(wanted) ^ set(there)):
        raise RunError(
            f"the checkpoint {folder} is of another network or optimiser: {missing[0]} does not fit",
            "give the recipe that the run began with, or another folder",
        )
    for name, tensor in wanted.items():
        if tuple(there[name].size) != tuple(tensor.shape):
            raise RunError(
                f"{name} has the shape {tuple(there[name].size)} in {folder}, {tuple(tensor.shape)} here",
                "give the recipe that the run began with, or another folder",
            )
    dcp.load(wanted, storage_reader=reader)
    return values
