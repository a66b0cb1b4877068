"""Memory of one rank of a sharded training step, as a closed form, by part and by the moment at which the most is there.

FSDP2 with weights, gradients and Adam's moments in fp32 shards and products in bf16. What each block keeps for the way back is
counted tensor by tensor for the stock transformers classes (attention that never holds T x T; Korthikanti et al. 2022 count the
same way for GPT-3's block); the loss is computed in chunks, with the gradient of the output matrix made on the way forward.
Checked against torch's own tracker on fake tensors (tests/test_plan_tracker.py).

Legend: d width, q and k widths of queries and keys, f of the feed-forward layer, H heads, V vocabulary, N parameters, W ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

from basewise.core.shapes import Shape, block_parameters, root_parameters

KEPT = {
    "gpt2": (16, 0, 0, 10),
    "bert": (16, 0, 0, 4),
    "modernbert": (12, 4, 4, 8),
    "llama": (16, 4, 4, 8),
    "qwen3": (16, 10, 10, 8),
}
"""Bytes a token that a block keeps, in units of d, q, k and f. Llama: two norms with an fp32 copy (16 d), queries, keys, values and
the answer of attention (4 q + 4 k), four arrays of the feed-forward layer (8 f). Qwen 3 norms queries and keys, GPT-2's GELU is five."""
STATISTICS = {
    "gpt2": (4, 0, 8),
    "bert": (4, 0, 8),
    "modernbert": (4, 0, 8),
    "llama": (4, 0, 8),
    "qwen3": (8, 4, 8),
}
"""Bytes a token for sums of norms and softmax: per query head, per key head, per block."""
OUTSIDE = {"gpt2": 4, "bert": 14, "modernbert": 14, "llama": 8, "qwen3": 8}
"""Bytes a token and unit of d kept outside the blocks: last norm, states and their gradient; encoders' layer before the table."""
NORM = {"gpt2": 4, "bert": 4, "modernbert": 4, "llama": 20, "qwen3": 20}
"""Bytes a token and unit of d that the way back through a norm takes for a moment; RMS norms of transformers compute in fp32."""
CHUNK_LOGITS = 1 << 22
"""Logits in memory at once (engine/cross_entropy.py)."""
STATE_BYTES = {"adamw": 12.0, "muon": 8.0}
"""A parameter of a matrix: fp32 weight and two moments, or one. Gradients are counted where they are there."""
CONTEXT_BYTES = {"cpu": 4e8, "cuda": 1.2e9}
"""What the process and its libraries hold before anything is trained."""
FRAGMENTED = 0.06


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a step is laid over ranks: `data` x `tensor` x `pipeline` x `sequence` of them, `rows` a micro-batch on each."""

    data: int = 1
    tensor: int = 1
    pipeline: int = 1
    sequence: int = 1
    rows: int = 1
    micro_batches: int = 1
    recompute: bool = False

    @property
    def ranks(self) -> int:
        return self.data * self.tensor * self.pipeline * self.sequence


def kept_per_token(s: Shape) -> float:
    """Bytes a token that one block keeps for the way back."""
    d, q, k, f = KEPT[s.kind]
    per_head, per_key_head, per_block = STATISTICS[s.kind]
    wide = d * s.width + q * s.query_width + k * s.key_width + f * s.inner
    return wide + per_head * s.heads + per_key_head * s.kv_heads + per_block


def moments(s: Shape, layout: Layout, optimiser: str = "adamw") -> dict[str, dict[str, float]]:
    """Bytes of one rank by part at each moment that can be the fullest; the rank with the output matrix and the first micro-batch.

    "forward": the loss of a chunk. "loss": the way back begins, every block's tensors are there. "last block": its feed-forward layer.
    "block before": the last block's gradients wait to be added while this one's are complete. "end": the tables' gradients are added.
    Tensor parallelism divides blocks and tables, pipelines divide the layers, sequences the tokens.
    """
    t, ranks = layout.tensor, layout.data * layout.sequence
    layers = s.layers / layout.pipeline
    block, root, table = block_parameters(s) / t, root_parameters(s) / t, s.vocabulary * s.width / t
    here = layers * block + root
    tokens = layout.rows * s.context / layout.sequence
    # 1F1B keeps so many on the first stage
    waiting = min(layout.pipeline, layout.micro_batches)
    each = 2.0 * s.width / t if layout.recompute else kept_per_token(s) / t
    rope = 0.0 if s.kind in ("gpt2", "bert") else 4.0 * s.context * (s.query_width // s.heads)
    matrices = (here - root) / max(here, 1.0)
    states = (STATE_BYTES["adamw"] * (1 - matrices) + STATE_BYTES[optimiser] * matrices) * here / ranks
    common = {"weights and optimiser": states, "tables in bf16": 2.0 * root}
    kept = waiting * layers * tokens * each
    outside = tokens * (OUTSIDE[s.kind] * s.width / t + 8) + rope
    one = tokens * kept_per_token(s) / t
    width = tokens * s.width / t
    norm = NORM[s.kind] * width
    inside = one + 4.0 * width if layout.recompute else norm + 2.0 * width
    # one block gathered; one in use and the next being gathered
    ahead, behind = 2.0 * block, 4.0 * block
    return {
        "forward": {**common, "activations": kept + outside, "blocks in bf16": ahead, "loss": 6.0 * table + 8.0 * CHUNK_LOGITS},
        "loss": {**common, "activations": kept + outside, "blocks in bf16": ahead, "loss": 10.0 * table + 2.0 * tokens * s.width},
        "last norm": {**common, "activations": kept + outside + norm, "blocks in bf16": ahead, "gradients": 2.0 * table},
        "last block": {
            **common,
            "activations": kept + (one if layout.recompute else 0.0) + 6.0 * tokens * s.inner / t + rope,
            "blocks in bf16": behind,
            "gradients": 2.0 * table,
        },
        "block before": {
            **common,
            "activations": max(0.0, kept - 2.0 * tokens * each) + inside + rope,
            "blocks in bf16": behind,
            "gradients": 2.0 * table + 2.0 * block + 4.0 * block / ranks,
            "sums of gradients": 4.0 * block,
        },
        # the tables in bf16 are given back before their gradients are copied
        "end": {
            "weights and optimiser": states,
            "activations": 4.0 * width,
            "gradients": 2.0 * root + 4.0 * here / ranks,
            "sums of gradients": 4.0 * (root + block),
        },
    }  # fmt: skip


def peak(s: Shape, layout: Layout, optimiser: str = "adamw") -> tuple[str, dict[str, float]]:
    """(moment, bytes by part) at which a rank holds the most, as an allocator would count it."""
    found = moments(s, layout, optimiser)
    name = max(found, key=lambda moment: sum(found[moment].values()))
    return name, found[name]


def resident(s: Shape, layout: Layout, optimiser: str = "adamw", device: str = "cuda") -> float:
    """Bytes that a rank needs of its device: the peak, what fragments, and the process itself."""
    return sum(peak(s, layout, optimiser)[1].values()) * (1.0 + FRAGMENTED) + CONTEXT_BYTES[device]
