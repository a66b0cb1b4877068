"""Networks for pretraining: stock transformers classes at any size, from a depth-based recipe.

`build` draws the weights; `LanguageModel` is what the loop trains (and what a planner wraps for many processes): it turns ids
and targets into a sum of losses without ever holding all logits. `save` writes plain Hugging Face folders. What is unusual:
projections that write into the residual stream start at zero (GPT-2's residual scaling taken to its end; modded-nanogpt), and a
decoder can be run without its causal mask, so one set of weights is both a decoder and an encoder (GPT-BERT, arXiv 2410.24159).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from basewise.core.errors import InputError
from basewise.core.files import read_json, write_json
from basewise.core.recipe import Recipe
from basewise.engine.attention import train_attention
from basewise.engine.cross_entropy import each, summed

MULTIPLE = 64
"""The vocabulary of the network is rounded up to a multiple of this: odd widths are slow in matrix products."""
IGNORED = -100
_RESIDUAL = ("o_proj", "down_proj", "attn.Wo", "mlp.Wo", "c_proj", "attention.output.dense", "output.dense")


def padded_vocabulary(size: int) -> int:
    """The rows of the token table for a tokenizer of `size` pieces."""
    return -(-size // MULTIPLE) * MULTIPLE


def configuration(recipe: Recipe, vocabulary: int, special: dict[str, int]) -> Any:
    """The transformers configuration of a recipe; `special`: ids of "pad", "bos", "eos", "mask" where the tokenizer has them."""
    import transformers as t

    d, heads, layers, v = recipe.hidden, recipe.head_count, recipe.depth, padded_vocabulary(vocabulary)
    ids: dict[str, Any] = {f"{name}_token_id": special.get(name) for name in ("pad", "bos", "eos")}
    gated = -(-8 * d // 3 // MULTIPLE) * MULTIPLE
    if recipe.network == "gpt2":
        drop = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        return t.GPT2Config(
            vocab_size=v,
            n_positions=recipe.context,
            n_embd=d,
            n_layer=layers,
            n_head=heads,
            use_cache=False,
            **drop,
            **ids,
        )
    if recipe.network == "bert":
        drop = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        shape = {
            "hidden_size": d,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": 4 * d,
        }
        ids["pad_token_id"] = ids["pad_token_id"] or 0
        return t.BertConfig(vocab_size=v, max_position_embeddings=recipe.context, **shape, **drop, **ids)
    shape = {
        "hidden_size": d,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": gated,
    }
    if recipe.network == "encoder":
        ids |= {"cls_token_id": special.get("bos"), "sep_token_id": special.get("eos")}
        window = min(128, recipe.context)
        return t.ModernBertConfig(
            vocab_size=v, max_position_embeddings=recipe.context, local_attention=window, **shape, **ids
        )
    if recipe.network == "decoder":
        return t.Qwen3Config(
            vocab_size=v,
            num_key_value_heads=heads,
            head_dim=d // heads,
            max_position_embeddings=recipe.context,
            tie_word_embeddings=recipe.tied,
            use_cache=False,
            **shape,
            **ids,
        )
    raise InputError(f"network {recipe.network} does not read text", 'use objective = "patches" with it')


def build(recipe: Recipe, vocabulary: int, special: dict[str, int]) -> LanguageModel:
    """A language model with weights drawn from the recipe's seed, or those of `recipe.start`."""
    import transformers as t

    config = configuration(recipe, vocabulary, special)
    masked = recipe.network in ("bert", "encoder")
    kind = t.AutoModelForMaskedLM if masked else t.AutoModelForCausalLM
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(recipe.seed)
        if recipe.start:
            model = kind.from_pretrained(
                recipe.start, dtype=torch.float32, local_files_only=True, trust_remote_code=False
            )
            model.config.is_causal = True
        else:
            model = kind.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
            start_at_zero(model)
    train_attention(model)
    if model.config.model_type == "qwen3":
        from basewise.engine.lean_training import lean

        lean(model)
    return LanguageModel(model)


@contextlib.contextmanager
def quiet() -> Any:
    """transformers without bars and chatter."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def start_at_zero(model: Any) -> None:
    """Set the matrices that write into the residual stream to zero, but in post-norm BERT, which needs them."""
    if model.config.model_type == "bert":
        return
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and name.removesuffix(".weight").endswith(_RESIDUAL):
                parameter.zero_()


class LanguageModel(torch.nn.Module):
    """A transformers model with its output matrix, seen as ids and targets in, a sum of losses out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.kind = model.config.model_type

    def states(self, ids_BT: torch.Tensor, causal: bool = True) -> torch.Tensor:
        """(B, T, D) before the output matrix. `causal` False takes a decoder's mask away; encoders have none."""
        inner, more = self.model.base_model, {}
        if getattr(self.model.config, "use_cache", False):
            # under checkpoints a cache would grow once more at each recomputation
            more["use_cache"] = False
        if self.kind == "qwen3" and not causal:
            more["is_causal"] = False
        return inner(input_ids=ids_BT, **more).last_hidden_state

    def forward(self, ids_BT: torch.Tensor, targets_BT: torch.Tensor, causal: bool = True) -> torch.Tensor:
        """Sum in nats of the losses where targets_BT is not IGNORED."""
        chosen, targets = self._chosen(ids_BT, targets_BT, causal)
        return summed(chosen, *self._output(targets))

    @torch.no_grad()
    def token_losses(
        self, ids_BT: torch.Tensor, targets_BT: torch.Tensor, causal: bool = True
    ) -> torch.Tensor:
        """(n,) losses in nats of the n targets that are not IGNORED, row by row."""
        chosen, targets = self._chosen(ids_BT, targets_BT, causal)
        return each(chosen, *self._output(targets))

    def _chosen(
        self, ids: torch.Tensor, targets: torch.Tensor, causal: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        states = self.states(ids, causal)
        where = targets != IGNORED
        states = states[where] if not bool(where.all()) else states.reshape(-1, states.shape[-1])
        if self.kind == "bert":
            states = self.model.cls.predictions.transform(states)
        elif self.kind == "modernbert":
            states = self.model.head(states)
        return states, targets[where]

    def _output(self, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        matrix = self.model.get_output_embeddings()
        return matrix.weight, targets, getattr(matrix, "bias", None)


def flop_per_token(model: torch.nn.Module, recipe: Recipe) -> float:
    """FLOP of training on one token: 6 for every weight in a matrix product, and attention over the context.

    The token table counts once, as the output matrix, and for hidden tokens only at their share (a quarter on average).
    """
    matrices = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and not _is_table(name))
    table = padded_table(model)
    return 6.0 * (matrices + recipe.output_share * table) + recipe.attention_flop


def _is_table(name: str) -> bool:
    return any(word in name for word in ("embed", "wte", "wpe", "lm_head", "decoder.weight"))


def padded_table(model: Any) -> int:
    """Weights of the output matrix of a language model; 0 where there is none."""
    inner = getattr(model, "model", None)
    output = inner.get_output_embeddings() if isinstance(model, LanguageModel) else None  # type: ignore[union-attr]
    return 0 if output is None else output.weight.numel()


# ---------------------------------------------------------------- saving


def save(model: Any, tokenizer_folder: Path | None, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write config.json, model.safetensors and the tokenizer's files; opens in plain transformers."""
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        state = {name: value.detach().to(dtype) for name, value in model.state_dict().items()}
        before, model.config.dtype = getattr(model.config, "dtype", None), dtype
        model.save_pretrained(folder, state_dict=state)
        model.config.dtype = before
    if tokenizer_folder is not None:
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            if (tokenizer_folder / name).is_file():
                shutil.copyfile(tokenizer_folder / name, folder / name)


def save_as_encoder(decoder: Path, folder: Path) -> None:
    """The same weights as an encoder: `is_causal` false in the configuration, the weights file shared where links work."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in decoder.iterdir():
        if path.name == "config.json" or not path.is_file():
            continue
        target = folder / path.name
        if target == path:
            continue
        target.unlink(missing_ok=True)
        try:
            os.link(path, target)
        except OSError:
            shutil.copyfile(path, target)
    config = read_json(decoder / "config.json")
    write_json(folder / "config.json", {**config, "is_causal": False, "architectures": ["Qwen3Model"]})
