"""Peak memory of a training step on one of many ranks, without the ranks: fake tensors, a fake process group, torch's tracker.

The step is the real one (transformers network, chunked loss, FSDP2 units, AdamW), only no number is computed and nothing is
allocated, so 70 billion parameters on 1,024 ranks are looked at from a laptop. torch.distributed._tools is private: where
it has moved, `available` says so and nothing else is lost.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

from basewise.core.shapes import Shape
from basewise.engine.distributed import blocks_of


def available() -> str:
    """ "" where the tracker is there, else what is missing."""
    try:
        from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker  # noqa: F401
        from torch.testing._internal.distributed.fake_pg import FakeStore  # noqa: F401
    except ImportError as error:
        return f"torch {torch.__version__} has no memory tracker: {error}"
    return ""


def network_of(s: Shape) -> Callable[[], torch.nn.Module]:
    """Builds the stock transformers network of a shape with its chunked loss, as pretraining trains it."""
    import transformers as t

    from basewise.engine.cross_entropy import summed
    from basewise.engine.networks import LanguageModel, quiet

    class AllTargets(LanguageModel):
        """A language model that learns from every token: which ones are left out cannot be asked of fake numbers."""

        def forward(
            self, ids_BT: torch.Tensor, targets_BT: torch.Tensor, causal: bool = True
        ) -> torch.Tensor:
            states = self.states(ids_BT, causal)
            return summed(states.reshape(-1, states.shape[-1]), *self._output(targets_BT.reshape(-1)))

    special = {"vocab_size": s.vocabulary, "bos_token_id": None, "eos_token_id": None}
    if s.kind == "gpt2":
        config = t.GPT2Config(
            n_positions=s.context, n_embd=s.width, n_layer=s.layers, n_head=s.heads, n_inner=s.inner,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **special,
        )  # fmt: skip
    else:
        kind = {"llama": t.LlamaConfig, "qwen3": t.Qwen3Config}[s.kind]
        config = kind(
            hidden_size=s.width, num_hidden_layers=s.layers, num_attention_heads=s.heads, num_key_value_heads=s.kv_heads,
            head_dim=s.head_width or s.width // s.heads, intermediate_size=s.inner, tie_word_embeddings=s.tied,
            max_position_embeddings=s.context, **special,
        )  # fmt: skip

    def build() -> torch.nn.Module:
        with quiet():
            return AllTargets(t.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa"))

    return build


@contextlib.contextmanager
def fake_ranks(world: int) -> Iterator[None]:
    """A process group of `world` ranks of which only this one exists; collectives do nothing."""
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=world, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


def peak(network: Any, world: int, rows: int, context: int, recompute: bool = False) -> dict[str, int]:
    """Bytes a rank at the peak of the second step by kind, and "Total". `network()` builds the module that turns
    (ids, targets) into a loss; its blocks are found as the longest module list. bf16 with fp32 shards."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    with fake_ranks(world), contextlib.ExitStack() as stack:
        mesh = init_device_mesh("cpu", (world,))
        stack.enter_context(FakeTensorMode())
        model = network()
        stack.enter_context(unmasked(model))
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        for block in blocks_of(model):
            if recompute:
                recomputed(block)
            fully_shard(block, mesh=mesh, mp_policy=policy)
        fully_shard(model, mesh=mesh, mp_policy=policy)
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        ids = torch.zeros((rows, context), dtype=torch.int64)
        model(ids, ids).backward()
        # its state is there from the second step on; the step itself works in place
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        tracker = FSDPMemTracker(model, optimiser)
        tracker.track_inputs((ids,))
        with tracker:
            model(ids, ids).backward()
        found = tracker.get_tracker_snapshot("peak")
    return {str(getattr(kind, "value", kind)): int(size) for kind, size in next(iter(found.values())).items()}


def recomputed(block: torch.nn.Module) -> None:
    """Keep only the block's input on the way forward; compute the rest again on the way back."""
    from torch.utils.checkpoint import checkpoint

    inner = block.forward
    block.forward = lambda *a, **k: checkpoint(inner, *a, use_reentrant=False, **k)  # type: ignore[method-assign]


@contextlib.contextmanager
def unmasked(model: torch.nn.Module) -> Iterator[None]:
    """No attention masks: transformers takes a fake tensor for a trace and builds a mask that a real run does without."""
    places = {sys.modules[type(module).__module__] for module in model.modules()}
    names = ("create_causal_mask", "create_bidirectional_mask", "create_bidirectional_sliding_window_mask")
    kept = [(place, name, getattr(place, name)) for place in places for name in names if hasattr(place, name)]
    for place, name, _ in kept:
        setattr(place, name, lambda *a, **k: None)
    try:
        yield
    finally:
        for place, name, was in kept:
            setattr(place, name, was)
