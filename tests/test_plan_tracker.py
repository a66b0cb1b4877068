"""The closed form for memory against torch's own tracker on fake tensors and fake ranks; skipped where that has moved."""

from __future__ import annotations

import pytest

from basewise.core.shapes import Shape
from basewise.engine import tracked
from basewise.stats.plan_memory import Layout, peak

WITHIN = 0.05
SMALL = [
    (Shape(kind="gpt2", layers=6, width=384, heads=6, kv_heads=6, inner=1536, vocabulary=8192, context=512), 8, 4, False),
    pytest.param(Shape(kind="qwen3", layers=8, width=512, heads=8, kv_heads=4, inner=1408, vocabulary=16384, context=512), 16, 4, False, marks=pytest.mark.slow),
    (Shape(kind="llama", layers=6, width=256, heads=4, kv_heads=4, inner=768, vocabulary=512, context=2048, tied=False), 4, 1, True),
    pytest.param(Shape(kind="llama", layers=8, width=1024, heads=8, kv_heads=2, inner=3072, vocabulary=32768, context=1024, tied=False), 64, 2, True, marks=pytest.mark.slow),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "world", "rows", "recompute"), SMALL, ids=lambda x: getattr(x, "kind", str(x))
)
def test_memory_is_within_five_per_cent_of_the_tracker(
    shape: Shape, world: int, rows: int, recompute: bool
) -> None:
    if missing := tracked.available():
        pytest.skip(missing)
    measured = tracked.peak(tracked.network_of(shape), world, rows, shape.context, recompute)["Total"]
    moment, parts = peak(shape, Layout(data=world, rows=rows, recompute=recompute))
    assert abs(sum(parts.values()) / measured - 1) < WITHIN, (moment, parts, measured)
