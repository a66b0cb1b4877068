"""Networks and tokenizers from a base's folder: offline, quiet, never with remote code.

A base with a random seed is the same network before any training: its weights are drawn anew from the configuration.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from basewise.core.base import Base
from basewise.core.errors import InputError, UnsafeWeights
from basewise.engine.device import keep_memory


def _quiet() -> None:
    from transformers.utils import logging as theirs

    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)


def configuration(base: Base) -> Any:
    """The network's configuration; one that asks for remote code is refused."""
    from transformers import AutoConfig

    _quiet()
    path = base.folder / "config.json"
    if "auto_map" in json.loads(path.read_text(encoding="utf-8")):
        raise UnsafeWeights(
            f"{base.key} asks to run code of its own (auto_map)", "use a base of a known architecture"
        )
    try:
        return AutoConfig.from_pretrained(base.folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UnsafeWeights(
            f"{base.key} has a configuration that cannot be used: {str(error).partition('. ')[0][:200]}",
            "use a base of an architecture that this version of transformers knows",
        ) from error


def load_tokenizer(base: Base) -> Any:
    """The tokenizer: transformers' where the folder has a configuration of one, else a plain `tokenizers.Tokenizer`."""
    return _tokenizer(base.folder)


@functools.lru_cache(maxsize=8)
def _tokenizer(folder: Path) -> Any:
    """Read once a process: a vocabulary is megabytes of JSON, and a race asks for it many times."""
    if not (folder / "tokenizer_config.json").exists():
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    from transformers import AutoTokenizer

    _quiet()
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def save_tokenizer(base: Base, folder: Path) -> None:
    """The tokenizer's files as transformers reads them; of a plain one there is a single file."""
    tokenizer = load_tokenizer(base)
    if hasattr(tokenizer, "save_pretrained"):
        tokenizer.save_pretrained(folder)
    else:
        tokenizer.save(str(Path(folder) / "tokenizer.json"))


def import_network(base: Base) -> None:
    """Import what transformers runs this base with: seconds that only the first one in a process takes, and no fit should be charged with.

    A base that cannot be opened says so when it is.
    """
    from transformers import MODEL_MAPPING

    with contextlib.suppress(Exception):
        MODEL_MAPPING[type(configuration(base))]


def load_network(base: Base, dtype: torch.dtype = torch.float32) -> Any:
    """The model in eval mode without a task head; encoders without their pooler."""
    from transformers import AutoModel

    keep_memory()
    config = configuration(base)
    more = (
        {"add_pooling_layer": False}
        if config.model_type in ("bert", "roberta", "mpnet", "xlm-roberta")
        else {}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if base.random_seed is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(base.random_seed)
                model = AutoModel.from_config(config, dtype=dtype, **more)
        else:
            try:
                model, found = AutoModel.from_pretrained(
                    base.folder,
                    dtype=dtype,
                    local_files_only=True,
                    trust_remote_code=False,
                    use_safetensors=True,
                    output_loading_info=True,
                    **more,
                )
            except (OSError, ValueError, RuntimeError) as error:
                reason = str(error).splitlines()[0][:200]
                raise UnsafeWeights(
                    f"{base.key} cannot be opened: {reason}", f"run: basewise bases check {base.key}"
                ) from error
            # Transformers draws what is missing anew and goes on. Poolers often are missing, and are not used here.
            if missing := sorted(name for name in found["missing_keys"] if "pool" not in name):
                raise UnsafeWeights(
                    f"the weights of {base.key} lack {missing[0]} and {len(missing) - 1} more of {type(model).__name__}",
                    "use weights that were saved from this very network",
                )
    return model.eval()


def load_causal(base: Base, dtype: torch.dtype) -> Any:
    """A decoder with its output matrix in eval mode.

    Raises InputError where the folder holds no output matrix, UnsafeWeights where it cannot be opened.
    """
    from transformers import AutoModelForCausalLM

    what = (
        "causal language model",
        "use a decoder with its output matrix, or a method that embeds, such as probe",
    )
    return _with_output(AutoModelForCausalLM, base, what, dtype)


def load_masked(base: Base) -> Any:
    """A masked language model with its output matrix in fp32 and eval mode; errors as of `load_causal`."""
    from transformers import AutoModelForMaskedLM

    what = (
        "masked language model",
        "use a base with its output matrix, or a method that embeds, such as prototype or probe",
    )
    return _with_output(AutoModelForMaskedLM, base, what, torch.float32)


def _with_output(kind: Any, base: Base, what: tuple[str, str], dtype: torch.dtype) -> Any:
    """A network of one of transformers' classes with an output matrix; `what`: its name, and what to do without that matrix."""
    name, instead = what
    keep_memory()
    config = configuration(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if base.random_seed is not None:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(base.random_seed)
                    return kind.from_config(config, dtype=dtype).eval()
            model, found = kind.from_pretrained(
                base.folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                dtype=dtype,
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            reason = str(error).splitlines()[0][:200]
            raise UnsafeWeights(
                f"{base.key} cannot be opened as a {name}: {reason}",
                f"run: basewise bases check {base.key}",
            ) from error
    if missing := sorted(found["missing_keys"]):
        raise InputError(f"{base.key} has no weights for {missing[0]}: it is not a whole {name}", instead)
    return model.eval()
