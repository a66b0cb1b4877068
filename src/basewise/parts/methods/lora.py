"""Trains low-rank additions to every linear layer (LoRA, peft), the head with them; opens in plain peft.

Rank 8, 16 from a thousand rows on, alpha 32, ten times the rate of `full` (Hu et al. 2021; Schulman 2025): with the
rate tuned, the variants are all alike. The head is solved first and saved among the adapter's weights. With few rows the last layer of a
base of BERT's shape is exchanged for one that averages its tokens (engine/averaging.py) and saved whole as well: the depth stays
the base's, so that the adapter opens on it as it is.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import TRAIN, Base, Card
from basewise.core.budget import Cost
from basewise.core.errors import BasewiseError, MissingExtra
from basewise.core.files import read_json, write_json
from basewise.core.method import Context, Machine
from basewise.core.task import Examples
from basewise.engine.averaging import AVERAGED_ROWS
from basewise.engine.finetune import Recipe, estimate_finetune, finetune

REQUIRES: frozenset[str] = frozenset({TRAIN})
RUNGS = "rows"
RECIPE = Recipe(rate=1e-3, layer_decay=1.0)
MANY_ROWS = 1000
ALPHA = 32


def rank_for(rows: int) -> int:
    """8, or 16 from a thousand rows on."""
    return 16 if rows >= MANY_ROWS else 8


@dataclass(frozen=True)
class LoraTuned:
    """A transformers classifier inside a peft model."""

    classes: tuple[str, ...]
    network: Any
    base: Base
    seed: int
    choices: dict[str, Any] = field(default_factory=dict)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(n, C) in fp32."""
        return self.network.probabilities(texts)

    def save(self, folder: Path) -> None:
        """The adapter with its head as peft writes it, and lora.json."""
        self.network.model.save_pretrained(folder, save_embedding_layers=False)
        record = {"classes": list(self.classes), "base": self.base.digest, "seed": self.seed}
        record["choices"] = self.choices
        write_json(folder / "lora.json", record)


@contextlib.contextmanager
def _old_names() -> Iterator[None]:
    """peft 0.21 asks a model of transformers 5 by an old name: nothing that a user of ours could mend."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def _wrapped(network: Any, rank: int, n_rows: int) -> Any:
    """The classifier with fresh adapters on all linear layers except the head, which is trained and saved whole.

    So is any other layer that the base did not bring: it is drawn at random, and nobody could draw it again. Layers that average are saved
    whole and stay as they are, where peft would train its copy of them.
    """
    try:
        from peft import LoraConfig, TaskType, get_peft_model
    except ImportError as error:
        raise MissingExtra.of("peft", "lora") from error
    import torch

    head = network.last
    names = [name for name, module in network.model.named_modules() if isinstance(module, torch.nn.Linear)]
    head_name = next(name for name, module in network.model.named_modules() if module is head)
    whole = [head_name.split(".")[0]]
    whole += [name for name in (*network.fresh, *network.averaging) if not _inside(name, whole)]
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=rank,
        lora_alpha=ALPHA,
        lora_dropout=0.05 if n_rows < 500 else 0.0,
        target_modules=[name for name in names if not _inside(name, whole)],
        modules_to_save=whole,
    )
    try:
        with _old_names():
            network.model = get_peft_model(network.model, config)
    except (TypeError, ValueError) as error:
        kind, reason = type(network.model).__name__, str(error).splitlines()[0][:200]
        raise BasewiseError(f"peft cannot adapt a {kind}: {reason}", "use method full or probe") from error
    for name in set(network.averaging) & set(whole):
        network.model.get_base_model().get_submodule(name).requires_grad_(False)
    return network


def _inside(name: str, modules: Sequence[str]) -> bool:
    """Whether a module is one of these or lies in one."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def estimate(examples: Examples, card: Card | None, machine: Machine) -> Cost:
    """As `full`, with few weights to update but adapters to compute."""
    assert card is not None
    cost = estimate_finetune(examples, card, machine, RECIPE, share=0.05)
    return replace(cost, seconds=1.1 * cost.seconds)


def fit(examples: Examples, base: Base | None, context: Context) -> LoraTuned:
    """The exact head, then adapters and head."""
    from basewise.engine.classifier import new_classifier
    from basewise.engine.loop import seeded

    assert base is not None
    examples = examples.take(examples.labels >= 0)
    average = "instead" if len(examples) <= AVERAGED_ROWS else ""
    network = new_classifier(base, examples.classes, context.seed, average=average)
    rank = rank_for(len(examples))
    with seeded(context.seed):
        network = _wrapped(network, rank, len(examples))
    choices = finetune(network, examples, RECIPE, context)
    choices = {**choices, "rank": rank, "alpha": ALPHA}
    return LoraTuned(examples.classes, network, base, context.seed, choices)


def load(folder: Path, base: Base | None, context: Context) -> LoraTuned:
    """The inverse of `save`; the adapter's head must be there."""
    from basewise.engine.classifier import new_classifier

    try:
        from peft import PeftModel
    except ImportError as error:
        raise MissingExtra.of("peft", "lora") from error
    assert base is not None
    record = read_json(folder / "lora.json")
    # a base of random weights is drawn again
    seed = int(record.get("seed", 0))
    network = new_classifier(base, record["classes"], seed)
    with _old_names():
        saved = PeftModel.from_pretrained(network.model, folder)
    if not any("modules_to_save" in name for name, _ in saved.named_parameters()):
        raise BasewiseError(f"the adapter in {folder} has no head", "adapt the base again")
    network.model = saved.eval()
    return LoraTuned(tuple(record["classes"]), network, base, seed, record["choices"])
