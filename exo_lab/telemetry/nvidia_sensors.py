"""Load and temperature of NVIDIA GPUs, by NVIDIA's management library. What a driver does not say is absent."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


class NvidiaSensors:
    """See the module. Starts the library when it is made, and keeps it.

    Args:
        library: `pynvml` or what behaves like it; imported if None.
    """

    def __init__(self, library: Any = None) -> None:
        self._handles: dict[str, Any] = {}
        try:
            self._library: Any = library or importlib.import_module("pynvml")
        except ImportError:
            return
        try:
            self._library.nvmlInit()
            count = self._library.nvmlDeviceGetCount()
        except self._library.NVMLError as exc:
            log.debug("no NVIDIA GPU: %s", exc)
            return
        for index in range(count):
            try:
                self._handles[f"gpu {index}"] = self._library.nvmlDeviceGetHandleByIndex(index)
            except self._library.NVMLError as exc:
                log.warning("GPU %d is there and cannot be asked: %s", index, exc)

    def load(self) -> dict[str, float]:
        """See `sensors.Sensors.load`: the share of time in which a kernel ran."""
        return self._ask(lambda handle: self._library.nvmlDeviceGetUtilizationRates(handle).gpu / 100)

    def temperature(self) -> dict[str, float]:
        """See `sensors.Sensors.temperature`: of the chip."""
        sensor = getattr(self._library, "NVML_TEMPERATURE_GPU", 0) if self._handles else 0
        return self._ask(lambda handle: self._library.nvmlDeviceGetTemperature(handle, sensor))

    def _ask(self, question: Callable[[Any], float]) -> dict[str, float]:
        found: dict[str, float] = {}
        for place, handle in self._handles.items():
            try:
                found[place] = float(question(handle))
            except self._library.NVMLError as exc:  # not supported by this one, or it has gone
                log.debug("%s does not say: %s", place, exc)
        return found
