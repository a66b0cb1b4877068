"""What this machine can do, measured once: cores, memory, and the peak of matrix multiplication in fp32 and bf16.

Processor flags are not trusted: bf16 without hardware for it is emulated and slower than fp32, which only a measurement
shows. The result is kept in the user's cache by processor and torch version, so decisions do not waver from run to run.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from basewise.core.errors import BasewiseError
from basewise.core.files import home, lock, read_json, write_json
from basewise.core.hashing import digest_json
from basewise.core.method import Machine

if TYPE_CHECKING:
    import torch

SHAPE = (1024, 384, 1536)
"""M, K, N of the measured product: one batch of tokens through the wide layer of a MiniLM."""
SECONDS, LEAST_REPEATS = 0.1, 3
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of mallopt(3)."""
LARGEST_KEPT, KEPT = 32 << 20, 256 << 20
"""Bytes of the largest piece that is kept (glibc allows no more), and of all that are."""


def matmul_peak(dtype: torch.dtype, seconds: float = SECONDS, device: str = "cpu") -> float:
    """FLOP/s of a matrix product of SHAPE in `dtype` with all threads: the best of the repetitions in `seconds`.

    On a processor by the time that this thread ran, which others do not lengthen: by the clock on the wall a machine that was
    busy at the first call ever would be taken for a slow one ever after.
    """
    import torch

    rows, inner, columns = SHAPE if device == "cpu" else (8192, 4096, 4096)
    left = torch.randn(rows, inner, device=device).to(dtype)
    right = torch.randn(columns, inner, device=device).to(dtype)
    now = time.thread_time if device == "cpu" else time.perf_counter
    best, repeated, stop = float("inf"), 0, time.perf_counter() + seconds
    with torch.inference_mode():
        for _ in range(2):
            torch.nn.functional.linear(left, right)
        while True:
            start = now()
            torch.nn.functional.linear(left, right)
            if device != "cpu":
                torch.cuda.synchronize()
            best, repeated = min(best, now() - start), repeated + 1
            if repeated >= LEAST_REPEATS and time.perf_counter() > stop:
                return 2.0 * rows * inner * columns / best


def keep_memory() -> None:
    """Let glibc keep up to KEPT bytes of freed memory: results of layers are freed and asked for again at every step.

    Handed back to the system each time, a pass over 2,000 texts takes some 100,000 page faults (benchmarks/batches.py).
    Where the C library is another one, nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        allocator = ctypes.CDLL(None).mallopt
        allocator(M_MMAP_THRESHOLD, LARGEST_KEPT)
        allocator(M_TRIM_THRESHOLD, KEPT)


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Memory this process may use: the machine's, or the container's limit where that is smaller."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = Path(path).read_text().strip()
        except OSError:
            continue
        if limit.isdigit():
            total = min(total, int(limit))
    return int(total)


def processor() -> str:
    """Name of the processor model, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "flags"))]
    return (
        f"{names[0]} {digest_json(names[1:2])[:8]}" if names else platform.processor() or platform.machine()
    )


def device() -> str:
    """ "cuda" where a GPU is, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@lru_cache(maxsize=1)
def machine() -> Machine:
    """This machine: measured on the first call ever (about a quarter of a second), then read from the cache."""
    import torch

    where = device()
    gpu = torch.cuda.get_device_name() if where == "cuda" else ""
    key = f"{processor()} | {gpu} | torch {torch.__version__} | {cores()} cores | {torch.get_num_threads()} threads"
    path = home() / "machine.json"
    peaks = _known(path).get(key)
    if peaks is None:
        peaks = {
            "fp32_peak": matmul_peak(torch.float32, device=where),
            "bf16_peak": matmul_peak(torch.bfloat16, device=where),
        }
        _remember(path, key, peaks)
    return Machine(cores=cores(), memory_bytes=memory_bytes(), device=where, **peaks)


def _known(path: Path) -> dict[str, Any]:
    """Earlier measurements; a damaged file counts as none."""
    try:
        value = read_json(path)
    except BasewiseError:
        return {}
    return value if isinstance(value, dict) else {}


def _remember(path: Path, key: str, peaks: dict[str, float]) -> None:
    """Keep a measurement; where the cache cannot be written, every process measures for itself."""
    try:
        with lock(path.with_suffix(".lock")):
            write_json(path, {**_known(path), key: peaks})
    except BasewiseError:
        return
