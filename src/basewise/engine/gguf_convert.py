"""A GGUF file as a plain Hugging Face folder: dequantised once, in a process of its own, saved as safetensors.

`GgufConfig(dequantize=True)` is needed: without it the weights stay packed and cannot be saved or trained. Four- to
six-bit weights lose nothing that matters in bf16; a file of fp32 or fp16 weights is saved as fp32. The tokenizer that is rebuilt from
SmolLM2's file lacks the split of digits; it is put back.
"""

from __future__ import annotations

import errno
import importlib.util
import subprocess
import sys
from pathlib import Path

from basewise.core.errors import MissingExtra, UnsafeWeights
from basewise.engine.store import full_disk

SECONDS = 900


def require() -> None:
    """Raise MissingExtra where GGUF files cannot be opened; cheap, so asked before a download."""
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtra.of("gguf", "gguf")


def convert(path: Path, made: Path) -> None:
    """Write config, safetensors and tokenizer of `path` into the folder `made`."""
    require()
    command = [sys.executable, "-m", "basewise.engine.gguf_convert", str(path), str(made)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise UnsafeWeights(
            f"{path.name} was not opened in {SECONDS} s", "use a smaller file of the same base"
        ) from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        if full_disk(done.stderr):
            raise OSError(errno.ENOSPC, "No space left on device")
        raise UnsafeWeights(
            f"{path.name} cannot be opened: {lines[-1][:200] if lines else 'no reason given'}",
            "fetch it again",
        )


def _run(path: Path, made: Path) -> None:
    import os

    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where = {"gguf_file": path.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(path.parent, **where)
    dtype = torch.float32 if _plain(path) else torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, quantization_config=GgufConfig(dequantize=True), dtype=dtype, **where
    )
    _split_digits(tokenizer, model.config.model_type, path.name)
    model.to(dtype).save_pretrained(made)
    tokenizer.save_pretrained(made)


def _plain(path: Path) -> bool:
    """Whether most of the weights in matrices are plain fp32 or fp16, which bf16 would round."""
    from gguf import GGUFReader

    matrices = [t for t in GGUFReader(str(path)).tensors if len(t.shape) > 1]
    plain = sum(int(t.n_elements) for t in matrices if t.tensor_type.name in ("F32", "F16"))
    return 2 * plain > sum(int(t.n_elements) for t in matrices)


def _split_digits(tokenizer: object, kind: str, name: str) -> None:
    """SmolLM2 reads digits one by one; its GGUF file does not say so."""
    if kind != "llama" or "smollm2" not in name.lower():
        return
    from tokenizers import pre_tokenizers

    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)  # type: ignore[attr-defined]


if __name__ == "__main__":
    _run(Path(sys.argv[1]), Path(sys.argv[2]))
