"""The rivals' side of benchmarks/features.py, run in .venv-peers: sentence-transformers and its backends on request.

    peer_encode.py FOLDER TEXTS.json WORK THREADS

Prints {"ready": [variants]}, then answers each line on standard input, a variant's name, with its seconds; vectors go
to WORK/<variant>.npy. `st` is SentenceTransformer.encode at its defaults. The other backends are driven as
sentence-transformers drives them (sorted by length, batches of 32, the same tokenizer, mean over the mask), but called
directly, because optimum, its bridge to them, wants an older transformers.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

BATCH = 32
Run = Callable[[dict[str, np.ndarray]], np.ndarray]


class Exported(torch.nn.Module):
    """ids, mask and kinds in, the last hidden state out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
        return self.model(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state


def export(folder: str, path: Path) -> None:
    """The network as an ONNX file with free batch and length."""
    from transformers import AutoModel

    model = Exported(AutoModel.from_pretrained(folder, attn_implementation="eager")).eval()
    ids = torch.randint(5, 1000, (3, 17))
    example = (ids, torch.ones_like(ids), torch.zeros_like(ids))
    names = ["input_ids", "attention_mask", "token_type_ids"]
    free = {0: torch.export.Dim("batch", min=1, max=512), 1: torch.export.Dim("length", min=2, max=512)}
    torch.onnx.export(
        model,
        example,
        str(path),
        input_names=names,
        output_names=["state"],
        dynamo=True,
        dynamic_shapes=dict.fromkeys(names, free),
        external_data=False,
        verbose=False,
    )


def onnx_run(path: Path, threads: int) -> Run:
    """ONNX Runtime with all graph optimisations (O3 and more)."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, batch)[0]


def openvino_run(path: Path, threads: int, precision: str) -> Run:
    """OpenVINO on the CPU; `precision` "f32" or "bf16"."""
    import openvino as ov

    core = ov.Core()
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
    compiled = core.compile_model(core.read_model(str(path)), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda batch: request.infer(batch)[compiled.output(0)]


def encode(run: Run, tokenizer: Any, texts: list[str], longest: int) -> np.ndarray:
    """As sentence-transformers does: sorted by characters, batches of 32, mean over the mask."""
    order = np.argsort([-len(t) for t in texts], kind="stable")
    out: list[np.ndarray] = []
    for start in range(0, len(order), BATCH):
        part = [texts[i] for i in order[start : start + BATCH]]
        batch = dict(
            tokenizer(part, padding=True, truncation=True, max_length=longest, return_tensors="np").items()
        )
        batch = {k: np.asarray(v, np.int64) for k, v in batch.items()}
        mask = batch["attention_mask"][:, :, None].astype(np.float32)
        out.append((run(batch) * mask).sum(1) / mask.sum(1))
    vectors = np.concatenate(out)
    result = np.empty_like(vectors)
    result[order] = vectors
    return result / np.linalg.norm(result, axis=1, keepdims=True)


def variants(folder: str, work: Path, threads: int, texts: list[str]) -> dict[str, Callable[[], np.ndarray]]:
    """What can be run here, by name; what cannot is said on standard error."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu")
    tokenizer, longest = model.tokenizer, int(model.max_seq_length)
    found: dict[str, Callable[[], np.ndarray]] = {
        "st": lambda: np.asarray(model.encode(texts, show_progress_bar=False))
    }
    plain, small = work / "model.onnx", work / "model-int8.onnx"

    def offer(name: str, make: Callable[[], Run]) -> None:
        try:
            run = make()
            encode(run, tokenizer, texts[:40], longest)
        except Exception as error:
            # a rival that does not install or run here is reported, not hidden
            print(f"{name}: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr)
            return
        found[name] = lambda: encode(run, tokenizer, texts, longest)

    export(folder, plain)
    offer("onnx_fp32", lambda: onnx_run(plain, threads))

    def int8() -> Run:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(plain, small, weight_type=QuantType.QInt8, per_channel=True)
        return onnx_run(small, threads)

    offer("onnx_int8", int8)
    offer("openvino_fp32", lambda: openvino_run(plain, threads, "f32"))
    offer("openvino_bf16", lambda: openvino_run(plain, threads, "bf16"))
    return found


def main() -> None:
    """Serve."""
    folder, text_path, work, threads = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(threads)
    texts = json.loads(Path(text_path).read_text(encoding="utf-8"))
    known = variants(folder, work, threads, texts)
    print(json.dumps({"ready": list(known)}), flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        vectors = known[line.strip()]()
        seconds = time.perf_counter() - began
        np.save(work / f"{line.strip()}.npy", vectors)
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
