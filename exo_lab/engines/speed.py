"""How fast a device computes and reads memory with an engine's library, measured in about a second.

Square matrix products for each number format, and reading a buffer that no cache holds (the reading part of STREAM,
McCalpin 1995). The fastest run counts: what else the machine does makes a run slower and never faster. Which library
does the work is a `Kit`'s business; this file only keeps the time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, Protocol

from exo_lab.core.device import DeviceSpeed, Flops
from exo_lab.core.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable

Format = Literal["fp32", "fp16", "int8"]

FORMATS: tuple[Format, ...] = ("fp32", "fp16", "int8")
BUDGET_S = 1.0  # of all parts together, each gets the same
BUFFER_BYTES = 256 << 20  # larger than any last-level cache that a core can use alone
SMALLEST, LARGEST = 512, 8192  # rows of the matrices; the larger, the more of the time is arithmetic
GROW = 8  # a product of twice the size takes 8 times as long: there has to be time for one
ENOUGH_S = 4e-3  # a run this long is timed well


class Kit(Protocol):
    """What does the work on one device. Nothing it is asked for may take long by itself: sizes grow slowly."""

    @property
    def note(self) -> str:
        """With what it was measured, for people."""
        ...

    def product(self, number: Format, n: int) -> Callable[[], object] | None:
        """Makes one product of two n x n matrices when called; None if there is no such product here."""
        ...

    def reader(self, size_bytes: int) -> Callable[[], object]:
        """Reads a buffer of that size once when called."""
        ...

    def wait(self) -> None:
        """Until everything that was called has been done (a GPU does it later)."""
        ...


def measure(
    kit: Kit,
    *,
    budget_s: float = BUDGET_S,
    buffer_bytes: int = BUFFER_BYTES,
    stopping: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.perf_counter,
) -> DeviceSpeed:
    """Measure a device. Takes about `budget_s`, and what the library's first calls and making the matrices take.

    Args:
        kit: does the work.
        budget_s: for all parts together.
        buffer_bytes: to read from.
        stopping: asked between runs.
        clock: seconds, monotonic.

    Raises:
        Cancelled: it was to stop.
    """
    timer = _Timer(kit, clock, stopping)
    part_s = budget_s / (len(FORMATS) + 1)
    flops = Flops(**{number: timer.product(number, part_s) / 1e12 for number in FORMATS})
    return DeviceSpeed(
        flops=flops,
        memory_bandwidth_bytes_per_s=timer.reading(buffer_bytes, part_s),
        note=kit.note,
    )


class _Timer:
    def __init__(self, kit: Kit, clock: Callable[[], float], stopping: Callable[[], bool]) -> None:
        self._kit, self._clock, self._stopping = kit, clock, stopping

    def product(self, number: Format, budget_s: float) -> float:
        """The best rate in operations a second; 0.0 if there is no such product. Sizes double until one takes long."""
        n, run = SMALLEST, self._kit.product(number, SMALLEST)
        if run is None:
            return 0.0
        self._timed(run, 1)  # a library's first call may build what all later ones use: that is not counted
        end, best = self._clock() + budget_s, 0.0
        while True:
            took = self._timed(run, 1)
            best = max(best, 2.0 * n**3 / took) if took > 0 else best
            left_s = end - self._clock()
            if left_s <= 0:
                return best
            if n < LARGEST and GROW * took < left_s and (larger := self._kit.product(number, 2 * n)) is not None:
                n, run = 2 * n, larger
                self._timed(run, 1)

    def reading(self, size_bytes: int, budget_s: float) -> float:
        """The best rate in bytes a second. Reads that are too short to time are repeated."""
        run = self._kit.reader(size_bytes)
        self._timed(run, 1)
        end, best, times = self._clock() + budget_s, 0.0, 1
        while True:
            took = self._timed(run, times)
            best = max(best, times * size_bytes / took) if took > 0 else best
            if self._clock() >= end:
                return best
            if took < ENOUGH_S:
                times *= 2

    def _timed(self, run: Callable[[], object], times: int) -> float:
        if self._stopping():
            raise Cancelled("the measurement of this device's speed was stopped")
        began = self._clock()
        for _ in range(times):
            run()
        self._kit.wait()
        return self._clock() - began
