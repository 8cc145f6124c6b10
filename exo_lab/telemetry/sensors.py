"""What a machine says of itself now and then: temperature of its processor, load and temperature of its NVIDIA GPUs.

How busy its processor is, the node knows already. Readings are by place: "cpu", "gpu 0". What a machine does not say
is absent.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Protocol

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

CPU = "cpu"
# What Linux' drivers call the sensors of a processor: Intel, AMD, Arm boards, ACPI where there is nothing better.
CPU_DRIVERS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal", "cpu-thermal", "acpitz")
POSSIBLE_C = (-50.0, 200.0)  # drivers of absent sensors say 0 K, or 255


class Sensors(Protocol):
    """What a node asks of its machine. Any thread; a few milliseconds at most."""

    def load(self) -> Mapping[str, float]:
        """Share of lately in which each place but the processor was busy, in [0, 1]."""
        ...

    def temperature(self) -> Mapping[str, float]:
        """Degrees Celsius, the hottest sensor of each place."""
        ...


class MachineSensors:
    """See `Sensors`.

    Args:
        system: `psutil` or what behaves like it.
        gpus: says load and temperature of GPUs; none if None.
    """

    def __init__(self, system: Any = psutil, gpus: GpuSensors | None = None) -> None:
        self._system, self._gpus = system, gpus

    def load(self) -> Mapping[str, float]:
        """See `Sensors`."""
        return self._gpus.load() if self._gpus else {}

    def temperature(self) -> Mapping[str, float]:
        """See `Sensors`."""
        found = dict(self._gpus.temperature() if self._gpus else {})
        hottest = self._cpu_temperature()
        return found if hottest is None else {CPU: hottest, **found}

    def _cpu_temperature(self) -> float | None:
        read = getattr(self._system, "sensors_temperatures", None)
        if read is None:  # macOS and Windows
            return None
        try:
            by_driver: Mapping[str, Any] = read()
        except (OSError, RuntimeError, ValueError) as exc:  # psutil reads what drivers write
            log.debug("temperatures cannot be read: %s", exc)
            return None
        for driver in CPU_DRIVERS:
            values = [float(one.current) for one in by_driver.get(driver, ()) if _possible(one.current)]
            if values:
                return max(values)
        return None


class GpuSensors(Protocol):
    """Load and temperature of GPUs, by place."""

    def load(self) -> Mapping[str, float]:
        """See `Sensors.load`."""
        ...

    def temperature(self) -> Mapping[str, float]:
        """See `Sensors.temperature`."""
        ...


def _possible(celsius: float | None) -> bool:
    return celsius is not None and math.isfinite(celsius) and POSSIBLE_C[0] < celsius < POSSIBLE_C[1] and celsius != 0
