"""A GPT-2 class network trained the way nanoGPT trains a small one: peer_nanogpt.py job.json answer.json.

Written for this comparison after nanoGPT's published description, none of its code: learned positions, LayerNorm, GELU, tied
output matrix, weights drawn with 0.02 (residual projections with 0.02 / sqrt(2 layers)), AdamW (0.9, 0.99), decay 0.1 on matrices,
clipping at 1, warm-up of 100 iterations and a cosine to a tenth, windows drawn at random, fp32 on a processor. Reported seconds
are those of training; the validation is scored beside them, over all its windows.
"""

from __future__ import annotations

import json
import math
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """Attention and a feed-forward layer, each after a LayerNorm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, length, width = x.shape
        parts = self.qkv(self.first(x)).view(rows, length, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(rows, length, width))
        return x + self.down(F.gelu(self.up(self.second(x))))


class Network(nn.Module):
    """GPT-2: tokens and positions in, logits out."""

    def __init__(self, vocabulary: int, layers: int, heads: int, width: int, context: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.last = nn.LayerNorm(width)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, 0.0, 0.02 / math.sqrt(2 * layers) if residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.last(x) @ self.tokens.weight.T


@torch.no_grad()
def score(model: nn.Module, documents: list[np.ndarray], context: int) -> tuple[float, int]:
    """(nats, predicted tokens) over all windows; windows share one token, as basewise scores them."""
    model.eval()
    nats, count = 0.0, 0
    for ids in documents:
        pieces = [ids[s : s + context + 1] for s in range(0, max(len(ids) - 1, 1), context)]
        whole = [p for p in pieces if len(p) == context + 1]
        groups = [np.stack(whole[i : i + 32]) for i in range(0, len(whole), 32)]
        groups += [p[None] for p in pieces if 1 < len(p) <= context]
        for rows in groups:
            x = torch.from_numpy(rows.astype(np.int64))
            loss = F.cross_entropy(model(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten(), reduction="sum")
            nats, count = nats + float(loss), count + x[:, 1:].numel()
    model.train()
    return nats, count


def main(job_path: str, answer_path: str) -> None:
    """Train, score on the way, write the curve."""
    with open(job_path, encoding="utf-8") as file:
        job = json.load(file)
    torch.set_num_threads(int(job["threads"]))
    torch.manual_seed(int(job["seed"]))
    train = np.load(job["train"])
    documents = np.split(np.load(job["held_out"]), np.load(job["bounds"])[1:-1])
    context, iterations, rate = int(job["context"]), int(job["iterations"]), float(job["rate"])
    model = Network(int(job["vocabulary"]), int(job["layers"]), int(job["heads"]), int(job["width"]), context)
    decayed = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim != 2]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}],
        lr=rate,
        betas=(0.9, 0.99),
        fused=True,
    )
    rng = np.random.default_rng(int(job["seed"]))
    curve, spent = [], 0.0
    for step in range(iterations):
        began = time.perf_counter()
        share = (step - 100) / max(iterations - 100, 1)
        factor = (step + 1) / 100 if step < 100 else 0.1 + 0.45 * (1 + math.cos(math.pi * share))
        for group in optimiser.param_groups:
            group["lr"] = rate * factor
        starts = rng.integers(0, len(train) - context - 1, int(job["rows"]))
        x = torch.from_numpy(np.stack([train[s : s + context + 1] for s in starts]).astype(np.int64))
        loss = F.cross_entropy(model(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        spent += time.perf_counter() - began
        if (step + 1) % int(job["evaluate_every"]) == 0 or step + 1 == iterations:
            nats, count = score(model, documents, context)
            curve.append({"step": step + 1, "seconds": spent, "nats": nats / count, "total_nats": nats})
    answer = {
        "curve": curve,
        "seconds": spent,
        "nats": curve[-1]["nats"],
        "total_nats": curve[-1]["total_nats"],
        "tokens": iterations * int(job["rows"]) * context,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    with open(answer_path, "w", encoding="utf-8") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main(*sys.argv[1:3])
