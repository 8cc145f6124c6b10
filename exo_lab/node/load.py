"""How busy this machine is: one reading for everybody who asks, whatever else in the process reads processor times."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

FRESH_S = 0.5  # less than that tells of the moment only: it is read anew when older


class Load:
    """Share of all cores that was in use lately, in [0, 1]. Any thread may ask.

    Args:
        used_s: CPU seconds of all cores so far; see `used_s`.
        clock: seconds, monotonic.
        cores: how many there are.
    """

    def __init__(
        self,
        used_s: Callable[[], float] | None = None,
        clock: Callable[[], float] = time.monotonic,
        cores: int = 0,
    ) -> None:
        self._read, self._clock, self._cores = used_s or cpu_used_s, clock, cores or psutil.cpu_count() or 1
        self._lock = threading.Lock()
        self._at, self._used_s, self._value = clock(), self._read(), 0.0

    @property
    def value(self) -> float:
        """Since the last reading but one; 0 in the first half second."""
        with self._lock:
            elapsed_s = self._clock() - self._at
            if elapsed_s >= FRESH_S:
                used_s = self._read()
                self._value = min(max((used_s - self._used_s) / (elapsed_s * self._cores), 0.0), 1.0)
                self._at, self._used_s = self._at + elapsed_s, used_s
            return self._value


def cpu_used_s() -> float:
    """CPU seconds of all cores that were neither idle nor waiting for a disk, since the machine started."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
