"""What a transformer of a given shape holds and costs: parameters by part, FLOP a token. Closed forms, checked against transformers.

Legend: d width, f width of the feed-forward layer, V rows of the token table, L layers, T context.
"""

from __future__ import annotations

from dataclasses import dataclass

GATED = ("modernbert", "llama", "qwen3")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A stock network: `kind` is transformers' model type. Widths and lengths in numbers, none of them zero."""

    kind: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    context: int
    tied: bool = True
    head_width: int = 0
    """Of one attention head; width / heads where it is 0."""
    causal: bool = True
    """Whether a token attends to those before it only, which halves attention."""
    output_share: float = 1.0
    """Share of the tokens that the output matrix is applied to: encoders tell hidden ones alone."""

    @property
    def query_width(self) -> int:
        """Width of all queries together."""
        return self.heads * (self.head_width or self.width // self.heads)

    @property
    def key_width(self) -> int:
        """Width of all keys together; less than the queries' where heads share them."""
        return self.kv_heads * (self.head_width or self.width // self.heads)


def parameters_by_part(s: Shape) -> dict[str, int]:
    """Parameters of "tables", "attention", "feed-forward", "norms" and "head" (nothing where it shares the table)."""
    d, f, layers = s.width, s.inner, s.layers
    q, k = s.query_width, s.key_width
    attention, forward = d * q + 2 * d * k + q * d, (3 if s.kind in GATED else 2) * d * f
    tables, head = s.vocabulary * d, 0 if s.tied else s.vocabulary * d
    if s.kind == "gpt2":
        tables += s.context * d
        attention, forward, norms = attention + 4 * d, forward + f + d, layers * 4 * d + 2 * d
    elif s.kind == "bert":
        tables += s.context * d + 2 * d
        attention, forward, norms = attention + 4 * d, forward + f + d, layers * 4 * d + 2 * d
        # a layer and a norm before the table is used again
        head += d * d + d + 2 * d + s.vocabulary
    elif s.kind == "modernbert":
        # the first block has one norm, the tables another
        norms = (2 * layers - 1) * d + 2 * d
        head += d * d + d + s.vocabulary
    else:
        head_width = s.head_width or d // s.heads
        norms = layers * (2 * d + (2 * head_width if s.kind == "qwen3" else 0)) + d
    return {"tables": tables, "attention": layers * attention, "feed-forward": layers * forward, "norms": norms, "head": head}  # fmt: skip


def parameters(s: Shape) -> int:
    """All parameters."""
    return sum(parameters_by_part(s).values())


def block_parameters(s: Shape) -> int:
    """Parameters of one block: what FSDP gathers at once."""
    parts = parameters_by_part(s)
    outside = {"gpt2": 2, "bert": 2, "modernbert": 2}.get(s.kind, 1) * s.width
    return (parts["attention"] + parts["feed-forward"] + parts["norms"] - outside) // s.layers


def root_parameters(s: Shape) -> int:
    """Parameters outside the blocks: tables, last norm, head."""
    return parameters(s) - s.layers * block_parameters(s)


def flop_per_token(s: Shape) -> float:
    """FLOP of a training step a token: 6 for each weight of a matrix product, 12 L q T for attention, half of that if causal.

    Looked-up tables do not multiply; the output matrix counts at its share of the tokens.
    """
    parts = parameters_by_part(s)
    biases = s.layers * (5 * s.width + s.inner) if s.kind in ("gpt2", "bert") else 0
    attention = 12.0 * s.layers * s.query_width * s.context * (0.5 if s.causal else 1.0)
    # a layer of the head
    before = s.width**2 if s.kind in ("bert", "modernbert") else 0
    output = s.output_share * s.vocabulary * s.width
    blocks = parts["attention"] + parts["feed-forward"] - biases
    return 6.0 * (blocks + before + output) + attention
