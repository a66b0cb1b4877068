"""Old PyTorch pickles as safetensors, converted in a process that may do nothing else.

A pickle is a program: opening it can run any code. `convert_pickle` never opens it here. A fresh interpreter does, with an
empty environment, in a folder of its own, and this process then checks the file that comes out as if a stranger had sent it.
What each layer guarantees, from the first to the last that a hostile file meets:

1. Hard limits of address space, processor time, size of a written file and open files, and a wall clock that kills. The
   kernel keeps them, even against native code.
2. No network: a user and network namespace without devices, where the kernel allows one; then the kernel keeps it too.
   Where it does not (many containers, macOS), only Python's `socket` is replaced, which native code can go around.
3. The opcodes are read without running any; only the globals of plain tensors pass, from an explicit list. This refuses
   every known payload; it is a list of what is allowed, not of what is bad.
4. `torch.load(weights_only=True)`, whose own unpickler calls nothing outside torch's list.
5. While it runs, Python code that starts a process, writes a file or opens a connection raises (audit hook, PEP 578), and
   no new process or thread can start (RLIMIT_NPROC, which does not bind root). A hole in torch's native code could go around
   the hook.
6. The result must be a regular file and sound safetensors, which holds numbers and no code; then it is renamed into place.

Not guaranteed: that the worker cannot read files of the user (it has the user's rights; without a network it can send them
nowhere), and that the numbers are the ones the authors meant.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from basewise.core.errors import BaseUnavailable, UnsafeWeights
from basewise.core.files import atomic_path, explain_os_error
from basewise.engine.safetensor_checks import check_safetensors

WORKER = Path(__file__).with_name("sandbox_worker.py")
PICKLES = "pytorch_model*.bin"
REFUSED = 3
LIBRARY_BYTES = 16 << 30
"""Address space that torch and its libraries may reserve; most of it is never touched."""
FIX = "use a base that is published as safetensors"


def pickles(folder: Path) -> list[Path]:
    """The pickled weights in a folder, in the order of their parts; empty where there are none."""
    return sorted(path for path in Path(folder).glob(PICKLES) if path.is_file())


def convert_pickle(
    source: Path, target: Path, *, memory_bytes: int | None = None, seconds: float = 600.0
) -> None:
    """Write the tensors of the pickle `source` as safetensors to `target`, whole or not at all.

    memory_bytes: limit of the worker's address space; None = 16 GiB for the libraries and five times the file.
    seconds: limit of both processor time and wall clock.
    Raises UnsafeWeights when the pickle is refused, damaged or over a limit, BaseUnavailable when it is not there.
    Tensors that shared memory are written each in full, so the result may be larger than the pickle.
    """
    source, target = Path(source), Path(target)
    try:
        size = source.stat().st_size
    except OSError as error:
        raise BaseUnavailable(f"cannot read {source}: {error.strerror}", "check the path") from error
    order = {
        "memory_bytes": memory_bytes or LIBRARY_BYTES + 5 * size,
        "file_bytes": 3 * size + 2**20,
        "seconds": seconds,
        "libraries": _libraries(),
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".converting-") as folder:
            _run(source, Path(folder), order, seconds)
            made = Path(folder) / "out.safetensors"
            if not made.exists() or not stat.S_ISREG(made.lstat().st_mode):
                raise UnsafeWeights(f"the converter left no weights of {source}", FIX)
            check_safetensors(made)
            with open(made, "rb") as file:
                os.fsync(file.fileno())
            made.chmod(0o644)
            os.replace(made, target)
    except OSError as error:
        raise explain_os_error(error, target) from error


def convert_all(sources: Sequence[Path], target: Path) -> None:
    """Several parts of one base's pickled weights as one safetensors file; errors as in `convert_pickle`."""
    if len(sources) == 1:
        return convert_pickle(sources[0], target)
    from safetensors.torch import load_file, save_file

    tensors: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".converting-") as folder:
        for index, source in enumerate(sources):
            part = Path(folder) / f"part-{index}.safetensors"
            convert_pickle(source, part)
            found = load_file(part)
            if twice := sorted(tensors.keys() & found.keys()):
                raise UnsafeWeights(f"{source} repeats the tensor {twice[0]!r} of another part", FIX)
            tensors |= found
        with atomic_path(target) as temporary:
            save_file(tensors, temporary, metadata={"format": "pt"})
    check_safetensors(target)
    return None


def _libraries() -> list[str]:
    """Folders that torch and safetensors are installed in: `python -I` alone would not look into the user's own."""
    found = (importlib.util.find_spec(name) for name in ("torch", "safetensors", "numpy"))
    return sorted({str(Path(s.origin).parent.parent) for s in found if s is not None and s.origin})


def _run(source: Path, folder: Path, order: dict[str, object], seconds: float) -> None:
    """The worker to its end, in `folder`; UnsafeWeights unless it says that all went well."""
    report = folder / "report.txt"
    with open(source, "rb") as pickle, open(report, "wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-I", str(WORKER), json.dumps(order)],
            stdin=pickle,
            stdout=out,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={},
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise UnsafeWeights(f"converting {source} took more than {seconds:g} s", FIX) from None
        finally:
            # too slow, or this process was interrupted
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code == 0:
        return
    if code == REFUSED:
        with open(report, "rb") as file:
            line = file.read(400).decode("ascii", "replace")
        reason = "".join(c if c.isprintable() else " " for c in line).strip()
        raise UnsafeWeights(f"the pickle {source} is refused: {reason}", FIX)
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    raise UnsafeWeights(f"converting {source} ended with {how}, likely over a limit of memory or time", FIX)
