"""Many processes as one: ranks from torchrun's variables, FSDP2 shards, the same global batch whatever the number of ranks.

Each rank takes its share of every global batch, gradients are averaged, and a rank's loss is W times its sum over the count of
the whole batch: so one process, two and three take the same steps, up to the order of additions. Blocks are the units
that are gathered and freed; the root keeps the rest. Gloo on processors, NCCL on GPUs. On one process everything here is
the identity, so a caller needs no second path.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch

from basewise.core.errors import InputError, RunError

TIMEOUT_SECONDS = 1800.0
LOST = (
    "closed by peer",
    "reset by peer",
    "broken pipe",
    "timed out",
    "timeout",
    "refused",
    "remote process",
    "aborted",
)
"""What gloo, NCCL and the store say when another rank is gone."""
AGAIN = "run the same command again: it goes on from the last checkpoint, on any number of ranks"
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among `world` others; `local` is its number on its machine, `device` where it computes."""

    rank: int = 0
    world: int = 1
    local: int = 0
    device: str = "cpu"

    @property
    def many(self) -> bool:
        """Whether there is more than one process."""
        return self.world > 1

    @property
    def first(self) -> bool:
        """Whether this rank writes what all share: messages, cards, the live page."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This rank's rows of a global batch of `count`: contiguous, sizes differ by at most one.

        InputError where a rank would have none, because all ranks must take part in every gathering.
        """
        if count < self.world:
            raise InputError(
                f"a batch of {count} rows cannot be shared by {self.world} ranks",
                f"use at most {count} ranks or a batch of at least {self.world}",
            )
        ends = np.linspace(0, count, self.world + 1).round().astype(int)
        return slice(int(ends[self.rank]), int(ends[self.rank + 1]))

    def total(self, *values: float) -> list[float]:
        """The sum over all ranks of each value."""
        if not self.many:
            return list(values)
        import torch.distributed as dist

        shared = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(shared)
        return [float(v) for v in shared]

    def mean(self, value: float) -> float:
        """The mean over all ranks; the value itself where there is one."""
        return self.total(value)[0] / self.world

    def wait(self) -> None:
        """All ranks get here before any goes on."""
        if self.many:
            import torch.distributed as dist

            dist.barrier()


ALONE = Ranks()
"""One process."""


def launched() -> bool:
    """Whether torchrun, or a scheduler that sets its variables, started this process."""
    return all(name in os.environ for name in VARIABLES)


def read_ranks(device: str) -> Ranks:
    """Ranks from torchrun's variables; one process where there are none. InputError for values that do not fit together."""
    if not launched():
        return Ranks(device=device)
    try:
        rank, world, local = (int(os.environ[name]) for name in VARIABLES)
    except ValueError:
        rank, world, local = -1, 0, 0
    if not 0 <= rank < world:
        came = ", ".join(f"{name}={os.environ[name]}" for name in VARIABLES)
        raise InputError(f"{came} came, 0 <= RANK < WORLD_SIZE was expected", "start the ranks with torchrun")
    if device.startswith("cuda"):
        if local >= torch.cuda.device_count():
            raise InputError(
                f"rank {rank} is number {local} on a machine of {torch.cuda.device_count()} GPUs",
                f"start torchrun with --nproc-per-node {torch.cuda.device_count()}",
            )
        device = f"cuda:{local}"
    return Ranks(rank=rank, world=world, local=local, device=device)


@contextlib.contextmanager
def joined(device: str, timeout_seconds: float = TIMEOUT_SECONDS) -> Iterator[Ranks]:
    """Join the other ranks, leave them at the end. A rank that is lost in between is a RunError that says how to go on."""
    ranks = read_ranks(device)
    if not ranks.many:
        yield ranks
        return
    import torch.distributed as dist

    if ranks.device.startswith("cuda"):
        torch.cuda.set_device(ranks.device)
    with told(ranks), _ended_with_a_word(ranks):
        dist.init_process_group(
            "nccl" if ranks.device.startswith("cuda") else "gloo",
            timeout=timedelta(seconds=timeout_seconds),
        )
        try:
            yield ranks
            dist.barrier()
        finally:
            dist.destroy_process_group()


def leave() -> None:
    """End a rank that has finished, without the interpreter's own teardown: in it a thread of gloo that is still there now
    and then ends the process with SIGABRT (torch 2.13), which torchrun takes for a failed run. Alone: nothing happens."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


@contextlib.contextmanager
def _ended_with_a_word(ranks: Ranks) -> Iterator[None]:
    """torchrun ends the other ranks with SIGTERM when one is lost: each then says so instead of vanishing."""

    def say(number: int, frame: Any) -> None:
        line = f"error: rank {ranks.rank} of {ranks.world} was told to end, most likely because another rank was lost; {AGAIN}"
        os.write(2, (line + "\n").encode())
        os._exit(2)

    before = signal.signal(signal.SIGTERM, say)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def told(ranks: Ranks) -> Iterator[None]:
    """What a collective says when its partner is gone, as one line that says which rank noticed and what to do."""
    try:
        yield
    except RuntimeError as error:
        said = " ".join(str(error).split())
        if not any(word in said.lower() for word in LOST):
            raise
        raise RunError(
            f"rank {ranks.rank} of {ranks.world} lost another rank ({said[:120]})",
            AGAIN,
        ) from error


def shard(
    model: torch.nn.Module, blocks: Iterable[torch.nn.Module], ranks: Ranks, bf16: bool = False
) -> torch.nn.Module:
    """Shard `model` in place over all ranks, each of `blocks` a unit of its own; the same object comes back.

    Weights stay fp32 in the shards; with `bf16` they are gathered and multiplied in bf16 and gradients are added in fp32.
    All ranks must hold the same weights (same seed); rank 0's are sent to make that certain.
    """
    if not ranks.many:
        return model
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.data, src=0)
    mesh = init_device_mesh(ranks.device.split(":")[0], (ranks.world,))
    policy = (
        MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        if bf16
        else MixedPrecisionPolicy()
    )
    for block in blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    return model


def synchronise(model: torch.nn.Module, last: bool) -> None:
    """Before a micro-batch: gradients are added over the ranks only after the last one of a step."""
    from torch.distributed.fsdp import FSDPModule

    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)


def blocks_of(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The blocks of a transformer: the module list that holds the most parameters."""
    lists = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m)]
    if not lists:
        return []
    largest: Any = max(lists, key=lambda m: sum(p.numel() for p in m.parameters()))
    return list(largest)


def clip(parameters: Iterable[torch.Tensor], limit: float) -> torch.Tensor:
    """Scale gradients to a norm of at most `limit` over all shards; the norm before, the same on every rank."""
    norm = torch.nn.utils.clip_grad_norm_(list(parameters), limit)
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm


def whole(tensor: Any) -> torch.Tensor:
    """The whole of a sharded tensor, on every rank (all must call it); a plain tensor as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def local(tensor: Any) -> torch.Tensor:
    """This rank's part of a sharded tensor, sharing its memory; a plain tensor as it is."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def part_of(value: torch.Tensor, like: Any) -> torch.Tensor:
    """This rank's part of a whole tensor, for a parameter `like` that may be sharded by rows; a view."""
    if not hasattr(like, "to_local"):
        return value
    # FSDP2 gives each rank an equal run of rows, the last ones fewer
    rows = -(-like.shape[0] // like.device_mesh.size())
    first = min(like.device_mesh.get_local_rank() * rows, like.shape[0])
    return value[first : first + rows]


def sharded_as(value: torch.Tensor, like: Any) -> torch.Tensor:
    """A whole tensor sharded as the parameter `like` is; as it is where that is not sharded."""
    if not hasattr(like, "to_local"):
        return value
    from torch.distributed.tensor import DTensor

    mine = part_of(value, like).to(like.device).clone()
    return DTensor.from_local(mine, like.device_mesh, like.placements, shape=like.shape, stride=like.stride())


@torch.no_grad()
def fill(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Put whole weights into a model, sharded or not."""
    own = model.state_dict()
    if set(own) != set(weights):
        raise RunError(
            f"the checkpoint is of another network: {sorted(set(own) ^ set(weights))[0]} does not fit",
            "give the recipe that the run began with, or another folder",
        )
    for name, tensor in own.items():
        local(tensor).copy_(part_of(weights[name], tensor))


def shard_state(optimiser: torch.optim.Optimizer) -> None:
    """Cut an optimiser's whole state, as a checkpoint has it, down to this rank's part."""
    for one in getattr(optimiser, "members", (optimiser,)):
        for p in (p for group in one.param_groups for p in group["params"]):
            for key, value in one.state[p].items():
                if isinstance(value, torch.Tensor) and value.shape == p.shape and value.ndim:
                    one.state[p][key] = sharded_as(value, p)
