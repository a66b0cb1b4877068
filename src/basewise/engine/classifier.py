"""A sequence classifier of transformers with an exact head: what `full`, `lora` and `scratch` train and save.

The network is transformers' own class for the base, so that what is saved opens there with the same logits. Its last
linear layer is found by its width; the input of that layer for all rows is read once, logistic regression is solved on
it, and the solution copied in (probe first, then all weights: Kumar et al. 2022). The temperature ends up in the same
weights, so the saved folder's plain softmax is the calibrated answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from basewise.core.base import Base
from basewise.core.errors import BasewiseError
from basewise.core.files import Progress, silent
from basewise.core.hashing import seed_from
from basewise.engine.attention import train_attention
from basewise.engine.averaging import add_average
from basewise.engine.batches import CPU_TOKENS, batches
from basewise.engine.heads import softmax
from basewise.engine.loop import padded, seeded
from basewise.engine.tokens import Tokeniser, Tokens

MOST_TOKENS = 256


class Classifier:
    """A transformers model with a classification head, its tokeniser, and the head's last linear layer."""

    def __init__(
        self, model: Any, tokeniser: Tokeniser, fresh: Sequence[str] = (), averaging: Sequence[str] = ()
    ) -> None:
        self.model, self.tokenise = model, tokeniser
        self.fresh, self.averaging = tuple(fresh), tuple(averaging)
        """Names of the modules whose weights the base did not bring: the head, and for some bases a layer before it; and of those that were
        set so that tokens are averaged."""
        self.device = next(model.parameters()).device
        self.filler = int(getattr(model.config, "pad_token_id", None) or 0)
        self.layers = int(getattr(model.config, "num_hidden_layers", 1))

    @property
    def last(self) -> torch.nn.Linear:
        """The layer that gives the class scores."""
        wide = int(self.model.config.num_labels)
        found = [
            m
            for name, m in self.model.named_modules()
            if isinstance(m, torch.nn.Linear) and m.out_features == wide and "original_module" not in name
        ]
        if not found:
            raise BasewiseError(
                f"{type(self.model).__name__} has no linear classification layer",
                "use method probe with this base",
            )
        return found[-1]

    def logits(self, tokens: Tokens, rows: np.ndarray) -> torch.Tensor:
        """(b, C) class scores."""
        return self.model(**padded(tokens, rows, self.filler, self.device)).logits

    def scores(self, texts: Sequence[str], progress: Progress = silent) -> np.ndarray:
        """(n, C) float64 logits of all texts in fp32, in length-sorted batches."""
        tokens = self.tokenise(list(texts))
        out = np.empty((len(texts), int(self.model.config.num_labels)))
        done = 0
        self.model.eval()
        with torch.inference_mode():
            for rows in batches(tokens.lengths, CPU_TOKENS):
                out[rows] = self.logits(tokens, rows).double().cpu().numpy()
                done += len(rows)
                progress(done, len(texts), "classifying")
        return out

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(n, C)."""
        return softmax(self.scores(texts)) if len(texts) else np.empty((0, int(self.model.config.num_labels)))

    def before_head(self, tokens: Tokens, progress: Progress = silent) -> np.ndarray:
        """(n, D) float32 inputs of the last layer, without dropout."""
        out: list[tuple[np.ndarray, np.ndarray]] = []
        done = 0
        self.model.eval()
        with torch.inference_mode():
            for rows in batches(tokens.lengths, CPU_TOKENS):
                with _watching(self.last) as seen:
                    self.logits(tokens, rows)
                value = seen[-1]
                # decoders score every token and keep the last one
                if value.ndim == 3:
                    at = torch.from_numpy(tokens.lengths[rows] - 1).to(value.device)
                    value = value[torch.arange(len(rows), device=value.device), at]
                out.append((rows, value.float().cpu().numpy()))
                done += len(rows)
                progress(done, len(tokens), "features for the head")
        matrix = np.empty((len(tokens), out[0][1].shape[1]), np.float32)
        for rows, part in out:
            matrix[rows] = part
        return matrix

    def set_head(self, weights: np.ndarray, bias: np.ndarray) -> None:
        """Copy a linear head (D, C), (C,) into the last layer; a layer without bias gets the weights alone."""
        with torch.no_grad():
            self.last.weight.copy_(torch.from_numpy(np.ascontiguousarray(weights.T, np.float32)))
            if self.last.bias is not None:
                self.last.bias.copy_(torch.from_numpy(np.asarray(bias, np.float32)))


@contextmanager
def _watching(module: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """The inputs of a module while inside."""
    seen: list[torch.Tensor] = []
    handle = module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    try:
        yield seen
    finally:
        handle.remove()


def new_classifier(
    base: Base, classes: Sequence[str], seed: int, scratch: bool = False, average: str = ""
) -> Classifier:
    """The base with a fresh head; with `scratch` (or a random base) all weights are random, from the seed alone.

    `average`: pretrained weights of BERT's shape get a layer that averages the tokens, "added" behind their last one or "instead" of it.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification
    from transformers.utils import logging

    from basewise.engine.weights import load_tokenizer

    tokenizer = load_tokenizer(base)
    config = AutoConfig.from_pretrained(base.folder)
    config.num_labels = len(classes)
    config.id2label = dict(enumerate(classes))
    config.label2id = {name: index for index, name in enumerate(classes)}
    config.problem_type = "single_label_classification"
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = next(
            (i for kind in ("pad", "eos") if (i := getattr(tokenizer, f"{kind}_token_id", None)) is not None),
            0,
        )
    before = logging.get_verbosity()
    # the head is new by design; transformers would warn
    logging.set_verbosity_error()
    bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    averaging: tuple[str, ...] = ()
    try:
        random = scratch or base.random_seed is not None
        with seeded(seed_from("classifier", seed, base.random_seed if random else "")):
            if random:
                model, fresh = AutoModelForSequenceClassification.from_config(config), set()
            else:
                model, found = AutoModelForSequenceClassification.from_pretrained(
                    base.folder, config=config, dtype=torch.float32, output_loading_info=True
                )
                fresh = {name.rpartition(".")[0] for name in found["missing_keys"]}
                if average:
                    averaging = add_average(model, instead=average == "instead")
    finally:
        logging.set_verbosity(before)
        if bar:
            logging.enable_progress_bar()
    model = train_attention(model.float().to(_device()).eval())
    return Classifier(
        model, Tokeniser(tokenizer, min(base.card.context, MOST_TOKENS)), sorted(fresh), averaging
    )


def open_classifier(folder: Any, base: Base) -> Classifier:
    """A saved one, exactly: a missing or unexpected weight is an error, never a fresh head."""
    from transformers import AutoModelForSequenceClassification

    from basewise.engine.weights import load_tokenizer

    model, found = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    lost = [*found["missing_keys"], *found["unexpected_keys"], *found.get("mismatched_keys", ())]
    if lost:
        raise BasewiseError(
            f"the saved network in {folder} lacks or exceeds {lost[:3]}", "adapt the base again"
        )
    tokeniser = Tokeniser(load_tokenizer(base), min(base.card.context, MOST_TOKENS))
    return Classifier(model.to(_device()).eval(), tokeniser)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
