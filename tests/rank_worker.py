"""What each rank of tests/test_ranks.py does: trains a tiny decoder on a fixed stream, alone or sharded, and writes its losses.

Run by torchrun or alone: python rank_worker.py JOB.json. Keys of the job: steps, batch, muon (dtype or empty), to (losses),
save, load (checkpoint folders), die (rank that ends at this step).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from basewise.core.errors import BasewiseError
from basewise.engine.distributed import clip, joined, leave, shard, synchronise
from basewise.engine.muon import Muon
from basewise.engine.sharded import load, save

WIDTH, LAYERS, VOCABULARY, LENGTH = 32, 2, 61, 16


class Block(torch.nn.Module):
    """Causal attention and a feed-forward layer, pre-norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.norm2 = torch.nn.LayerNorm(WIDTH), torch.nn.LayerNorm(WIDTH)
        self.qkv = torch.nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = torch.nn.Linear(WIDTH, WIDTH, bias=False)
        self.up = torch.nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = torch.nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            part.unflatten(-1, (2, -1)).transpose(1, 2) for part in self.qkv(self.norm(x)).chunk(3, -1)
        )
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.down(torch.relu(self.up(self.norm2(x))).square())


class Net(torch.nn.Module):
    """Token ids (b, T + 1) to the sum of next-token losses."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = torch.nn.ModuleList(Block() for _ in range(LAYERS))
        self.head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.table(ids[:, :-1])
        for block in self.blocks:
            x = block(x)
        return torch.nn.functional.cross_entropy(
            self.head(x).flatten(0, 1), ids[:, 1:].flatten(), reduction="sum"
        )


def batch(step: int, rows: int) -> torch.Tensor:
    """The global batch of a step: arithmetic progressions modulo the vocabulary, so there is something to learn."""
    draw = torch.Generator().manual_seed(1000 + step)
    start = torch.randint(0, VOCABULARY, (rows, 1), generator=draw)
    stride = torch.randint(1, 4, (rows, 1), generator=draw)
    return (start + stride * torch.arange(LENGTH + 1)) % VOCABULARY


def optimisers_of(net: Net, muon: str) -> list[torch.optim.Optimizer]:
    """AdamW for all, or Muon for the matrices of the blocks and AdamW for the rest."""
    matrices = [p for p in net.blocks.parameters() if p.ndim == 2] if muon else []
    chosen = {id(p) for p in matrices}
    rest = [p for p in net.parameters() if id(p) not in chosen]
    found: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest, lr=3e-3, weight_decay=0.01)]
    return [*found, Muon(matrices, lr=0.01, dtype=getattr(torch, muon))] if muon else found


def main(job: dict) -> None:
    torch.set_num_threads(1)
    with joined("cpu", timeout_seconds=60) as ranks:
        # different on purpose: rank 0's weights are sent to all
        torch.manual_seed(ranks.rank)
        net = Net()
        shard(net, net.blocks, ranks)
        optimisers = optimisers_of(net, job.get("muon", ""))
        first = load(Path(job["load"]), net, optimisers)["step"] if job.get("load") else 0
        losses = []
        for step in range(first, first + job["steps"]):
            if job.get("die") == [ranks.rank, step]:
                os._exit(9)
            ids = batch(step, job["batch"])
            mine, count = ids[ranks.share(len(ids))], ids[:, 1:].numel()
            half = max(1, len(mine) // 2) if job.get("pieces", 1) == 2 else len(mine)
            pieces = [piece for piece in (mine[:half], mine[half:]) if len(piece)]
            value = 0.0
            for i, piece in enumerate(pieces):
                synchronise(net, last=i == len(pieces) - 1)
                # gradients are averaged over the ranks
                loss = ranks.world * net(piece) / count
                loss.backward()
                value += float(loss.detach()) / ranks.world
            norm = clip(net.parameters(), 1.0)
            for optimiser in optimisers:
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
            losses.append([ranks.total(value)[0], float(norm)])
        if job.get("save"):
            save(Path(job["save"]), net, optimisers, {"step": first + job["steps"]}, ranks)
        if ranks.first and job.get("to"):
            Path(job["to"]).write_text(json.dumps(losses))


if __name__ == "__main__":
    try:
        main(json.loads(Path(sys.argv[1]).read_text()))
        leave()
    except BasewiseError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
