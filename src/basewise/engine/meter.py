"""What a piece of work took: wall seconds and the peak resident memory of this process while it ran.

The kernel's own high-water mark never falls, so a thread samples the resident size every 20 ms instead.
"""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
SAMPLE_SECONDS = 0.02


def resident_bytes() -> int:
    """Resident memory of this process now; 0 where the kernel does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * PAGE_BYTES
    except OSError:
        return 0


class Meter:
    """`with Meter() as meter: ...` then `meter.seconds` and `meter.peak_bytes`."""

    def __enter__(self) -> Meter:
        self.started = time.perf_counter()
        self.start_bytes = self.peak_bytes = resident_bytes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, resident_bytes())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self.started
        self._stop.set()
        self._thread.join()
        self.peak_bytes = max(self.peak_bytes, resident_bytes())
