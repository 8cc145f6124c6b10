"""Every NVIDIA GPU of a machine, by NVIDIA's management library. No driver means no GPU, and is no error."""

from __future__ import annotations

import importlib
import logging
from typing import Any

import msgspec

log = logging.getLogger(__name__)


class GpuReading(msgspec.Struct, frozen=True, kw_only=True):
    """What the driver says of one GPU; both memories 0 where it shares the machine's. `index` is the driver's."""

    name: str
    index: int = 0
    uuid: str = ""
    memory_bytes: int = 0
    memory_free_bytes: int = 0


class Nvidia:
    """Reads all GPUs. Starts the library when it is first asked, and keeps it.

    Args:
        library: `pynvml` or what behaves like it; imported when first needed if None.
    """

    def __init__(self, library: Any = None) -> None:
        self._library = library
        self._started: bool | None = None

    def gpus(self) -> tuple[GpuReading, ...]:
        """All of them in the driver's order (that of the bus). Any thread."""
        if not self._start():
            return ()
        try:
            count = self._library.nvmlDeviceGetCount()
        except self._library.NVMLError as exc:
            log.warning("the NVIDIA driver does not say how many GPUs there are: %s", exc)
            return ()
        return tuple(reading for index in range(count) if (reading := self.gpu(index)) is not None)

    def gpu(self, index: int) -> GpuReading | None:
        """One of them now; None if it has gone or may not be used by this user."""
        if not self._start():
            return None
        library = self._library
        try:
            handle = library.nvmlDeviceGetHandleByIndex(index)
            name = _text(library.nvmlDeviceGetName(handle))
        except library.NVMLError as exc:
            log.warning("GPU %d is there and cannot be asked: %s", index, exc)
            return None
        try:
            uuid = _text(library.nvmlDeviceGetUUID(handle))
        except library.NVMLError:
            uuid = ""
        try:
            memory = library.nvmlDeviceGetMemoryInfo(handle)
            total, free = int(memory.total), int(memory.free)
        except library.NVMLError:  # Jetson and GB10 have one memory for both, and say "not supported"
            total = free = 0
        return GpuReading(name=name, index=index, uuid=uuid, memory_bytes=total, memory_free_bytes=free)

    def _start(self) -> bool:
        if self._started is None:
            self._started = self._initialise()
        return self._started

    def _initialise(self) -> bool:
        try:
            library: Any = self._library or importlib.import_module("pynvml")
        except ImportError:
            return False
        try:
            library.nvmlInit()
        except library.NVMLError as exc:
            log.debug("no NVIDIA GPU: %s", exc)
            return False
        self._library = library
        return True


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
