"""A base as a model of MTEB, for every task of its that embeds text: `mteb.evaluate(Embedder("minilm-l6"), tasks)`.

    python -m basewise.steps.mteb_model minilm-l6 Banking77Classification STSBenchmark

prints MTEB's own main score of each task as a JSON line, with its interval over MTEB's repeated experiments where it makes any (it
keeps no score an item). Texts go through the feature store's forward pass: the last layer, mean-pooled, unit length.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from basewise.core.base import EMBED, Base
from basewise.core.errors import BasewiseError, InputError, MissingExtra


class Embedder:
    """base: a name that `basewise bases show` knows, or a Base; precision: "auto", "fp32" or "bf16".

    Has what mteb.models.EncoderProtocol asks for. Raises InputError for a base that does not embed.
    """

    def __init__(self, base: str | Base, precision: str = "auto") -> None:
        from basewise.engine.features import FeatureStore
        from basewise.engine.frozen import name_layer
        from basewise.steps.bases import pull

        self.base = base if isinstance(base, Base) else pull(base)
        if EMBED not in self.base.provides:
            raise InputError(f"{self.base.key} does not embed", "take an encoder such as minilm-l6")
        self.precision, self.layer = precision, name_layer(self.base.card)
        self.store = FeatureStore(None)

    @property
    def mteb_model_meta(self) -> Any:
        """Name, digest and size, under which MTEB files results."""
        try:
            from mteb.models.model_meta import ModelMeta
        except ImportError as error:
            raise MissingExtra.of("mteb", "mteb") from error
        card = self.base.card
        return ModelMeta(
            loader=None,
            name=f"basewise/{card.key}",
            revision=self.base.digest[:24],
            release_date=None,
            languages=None,
            n_parameters=card.parameters,
            memory_usage_mb=None,
            max_tokens=float(card.context),
            embed_dim=card.width,
            license=None,
            open_weights=True,
            public_training_code=None,
            public_training_data=None,
            framework=["PyTorch"],
            similarity_fn_name="cosine",  # type: ignore[arg-type]  # read into MTEB's enumeration
            use_instructions=False,
            training_datasets=None,
        )

    def encode(
        self,
        inputs: Iterable[Any],
        *,
        task_metadata: Any = None,
        hf_split: str = "",
        hf_subset: str = "",
        prompt_type: Any = None,
        batch_size: Any = None,
        show_progress_bar: Any = None,
        precision: Any = None,
    ) -> np.ndarray:
        """(n, width) float32 unit rows of the texts in MTEB's batches; what else MTEB hands over changes nothing here."""
        texts = [text for batch in inputs for text in batch["text"]]
        found = self.store.features(self.base, texts, layers=self.layer, precision=self.precision)
        return _unit(found.matrix(self.layer))

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """(n, m) cosines as a tensor."""
        import torch

        return torch.from_numpy(_unit(embeddings1) @ _unit(embeddings2).T)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """(n,) cosines as a tensor."""
        import torch

        return torch.from_numpy((_unit(embeddings1) * _unit(embeddings2)).sum(1))


def _unit(matrix: Any) -> np.ndarray:
    from basewise.engine.probe import unit

    return unit(np.atleast_2d(np.asarray(matrix, np.float32)))


def score(model: Embedder, tasks: Sequence[Any]) -> list[dict[str, Any]]:
    """MTEB's main score of each task: {"task", "score", "low", "high", "experiments"}; the interval is Student's over
    its experiments, None where it makes one only."""
    try:
        import mteb
    except ImportError as error:
        raise MissingExtra.of("mteb", "mteb") from error
    found = mteb.evaluate(model, list(tasks), cache=None, show_progress_bar=False)
    main = {task.metadata.name: task.metadata.main_score for task in tasks}
    return [_line(result, main[result.task_name]) for result in found.task_results]


def _line(result: Any, main: str) -> dict[str, Any]:
    from scipy.stats import t

    parts = [part for split in result.scores.values() for part in split]
    each = [p.get("scores_per_experiment") for p in parts]
    runs = np.array([[one[main] for one in runs if main in one] for runs in each if runs], float)
    line = {"task": result.task_name, "score": float(np.mean([p["main_score"] for p in parts]))}
    low = high = None
    if runs.size and runs.shape[1] > 1:
        means = runs.mean(0)
        half = float(t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means)))
        low, high = line["score"] - half, line["score"] + half
    return {**line, "low": low, "high": high, "experiments": int(runs.shape[1]) if runs.size else 1}


def main() -> None:
    """`python -m basewise.steps.mteb_model BASE TASK …`; what a user can mend is one line and exit code 2."""
    from basewise.core.registry import part

    base, *names = sys.argv[1:] or [""]
    try:
        if not base or not names:
            raise InputError("a base and a task were expected", "give them like minilm-l6 STSBenchmark")
        tasks = [part("suites", "mteb").get(name) for name in names]
        for line in score(Embedder(base), tasks):
            sys.stdout.write(json.dumps(line) + "\n")
    except BasewiseError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
