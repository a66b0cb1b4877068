"""The process that reads a pickle: confined first, then scan, load, write. Run by path with `python -I`, never imported.

    python -I sandbox_worker.py {"memory_bytes":…, "file_bytes":…, "seconds":…, "libraries":[…]}

The pickle is open as standard input, the result is `out.safetensors` in the working folder, the verdict one line on standard
output: exit code 0 with nothing, 3 with a reason. What each layer guarantees is said in `sandbox.py`. Only the standard
library is used until the opcodes are scanned; torch is imported after that.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import pickletools
import resource
import socket
import sys
import zipfile
from typing import IO, Any, NoReturn

REFUSED = 3
OUT = "out.safetensors"
PICKLE_BYTES = 64 * 2**20
ZIP_START = b"PK\x03\x04"
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
# magic number, protocol, machine, the object itself, keys of the storages
LEGACY_PICKLES = 5
CLONE_NEWUSER, CLONE_NEWNET, PR_SET_NO_NEW_PRIVS = 0x10000000, 0x40000000, 38

STORAGES = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
GLOBALS = {f"torch {name}Storage" for name in STORAGES} | {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
}
OPCODES = """
PROTO MARK STOP GLOBAL REDUCE BUILD BINPERSID PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET MEMOIZE FRAME
NONE NEWTRUE NEWFALSE INT LONG BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINUNICODE SHORT_BINUNICODE
BINSTRING SHORT_BINSTRING TUPLE EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS
EMPTY_DICT DICT SETITEM SETITEMS
"""
ALLOWED = frozenset(OPCODES.split())
FORBIDDEN = ("socket.", "subprocess.", "os.", "shutil.", "ctypes.", "pty.")
NO_MEMORY = ("allocate memory", "failed to map segment", "Cannot allocate")
HARMLESS = frozenset({"os.listdir", "os.scandir", "os.walk", "os.fwalk"})


class Refused(Exception):
    """The pickle is not one of plain tensors; the message says why."""


def limit(memory_bytes: int, file_bytes: int, seconds: float) -> None:
    """Hard limits of this process; only root could raise them again, and not from inside a user namespace."""
    wanted = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_CPU: max(1, math.ceil(seconds)),
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (value, value))
        except (ValueError, OSError):
            # macOS knows no such limit
            if not (sys.platform == "darwin" and kind == resource.RLIMIT_AS):
                raise


def leave_the_network() -> bool:
    """An own network namespace without any device, where the kernel allows one; whether it did."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return bool(libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0)
    except (AttributeError, OSError):
        # not Linux
        return False


def no_sockets() -> None:
    """`socket.socket` and its kin raise."""

    def _refuse(*_: Any, **__: Any) -> NoReturn:
        raise Refused("it tried to open a connection")

    class Closed:
        def __init__(self, *_: Any, **__: Any) -> None:
            _refuse()

    for name in ("create_connection", "create_server", "socketpair", "fromfd", "getaddrinfo"):
        setattr(socket, name, _refuse)
    setattr(socket, "socket", Closed)  # noqa: B010  (mypy knows socket.socket as a type)
    setattr(socket, "SocketType", Closed)  # noqa: B010


def no_side_effects() -> None:
    """From here on, Python code that starts a process, opens a connection or writes a file raises (PEP 578 audit hook)."""

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            mode, flags = args[1], args[2]
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            if writes or (isinstance(mode, str) and set(mode) & set("wax+")):
                raise Refused(f"it tried to write {str(args[0])[:80]!r}")
        elif event.startswith(FORBIDDEN) and event not in HARMLESS:
            raise Refused(f"it tried {event}")

    sys.addaudithook(watch)
    with contextlib.suppress(ValueError, OSError):
        # no new process or thread, except for root
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def scan(stream: IO[bytes], first: bool = False) -> None:
    """Read one pickle's opcodes up to its end without running any; Refused for all but plain tensors."""
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if opcode.name not in ALLOWED:
                raise Refused(f"the opcode {opcode.name}, which weights do not need")
            if opcode.name == "GLOBAL" and argument not in GLOBALS:
                raise Refused(f"it calls {str(argument).replace(' ', '.')[:80]!r}, which weights do not need")
            if first and count == 1 and argument != LEGACY_MAGIC:
                raise Refused("it is no file of torch.save")
    except (ValueError, UnicodeDecodeError) as error:
        raise Refused(f"it is damaged or no pickle ({str(error)[:80]})") from error


def scan_file(file: IO[bytes]) -> bool:
    """Scan every pickle of a file of torch.save; True for the zip format, False for the one before it."""
    import io

    file.seek(0)
    zipped = file.read(4) == ZIP_START
    file.seek(0)
    if not zipped:
        for index in range(LEGACY_PICKLES):
            scan(file, first=index == 0)
        return False
    try:
        with zipfile.ZipFile(file) as archive:
            entries = [i for i in archive.infolist() if i.filename.endswith(".pkl")]
            if [i.filename.rpartition("/")[2] for i in entries] != ["data.pkl"]:
                raise Refused(f"{len(entries)} pickles in its archive, one data.pkl was expected")
            if entries[0].file_size > PICKLE_BYTES:
                raise Refused(f"its data.pkl has {entries[0].file_size} bytes")
            scan(io.BytesIO(archive.read(entries[0])))
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise Refused(f"it is a damaged archive ({str(error)[:80]})") from error
    return True


def tensors_of(file: IO[bytes], zipped: bool) -> dict[str, Any]:
    """{name: tensor} by torch's own restricted unpickler; each tensor a copy of its own, so that none share memory."""
    import io

    import torch
    from safetensors.torch import save_file  # noqa: F401  (imported before the doors close)

    torch.set_num_threads(1)
    sys.dont_write_bytecode = True
    no_side_effects()
    # torch has an archive reader of its own, which might find another data.pkl than Python's
    if zipped:
        file.seek(0)
        scan(io.BytesIO(torch._C.PyTorchFileReader(file).get_record("data.pkl")))
    file.seek(0)
    loaded = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(loaded, dict) or not loaded:
        raise Refused(f"it holds a {type(loaded).__name__}, a dict of tensors was expected")
    for name, tensor in loaded.items():
        plain = isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided
        if not (isinstance(name, str) and plain):
            raise Refused(f"its entry {str(name)[:80]!r} is a {type(tensor).__name__}, not a plain tensor")
    return {n: t.detach().clone(memory_format=torch.contiguous_format) for n, t in loaded.items()}


def work(order: dict[str, Any]) -> None:
    """Everything, in the order that keeps it safe."""
    limit(order["memory_bytes"], order["file_bytes"], order["seconds"])
    leave_the_network()
    no_sockets()
    sys.path.extend(p for p in order["libraries"] if p not in sys.path)
    with open(0, "rb", closefd=False) as file:
        tensors = tensors_of(file, scan_file(file))
    from safetensors.torch import save_file

    save_file(tensors, OUT, metadata={"format": "pt"})


def main() -> int:
    """0 when the weights are written; REFUSED with the reason on standard output."""
    try:
        work(json.loads(sys.argv[1]))
    except MemoryError:
        reason = "it needs more memory than it is given"
    except Refused as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001  torch and its readers raise many kinds; each means that there are no weights
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
        if any(sign in str(error) for sign in NO_MEMORY):
            reason = "it needs more memory than it is given"
        elif "File too large" in str(error):
            reason = "its tensors are far larger than the file"
    else:
        return 0
    print(reason.encode("ascii", "backslashreplace").decode(), flush=True)
    return REFUSED


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # nothing that the pickle left behind runs at exit
    os._exit(code)
