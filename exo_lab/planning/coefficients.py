"""How fast a device is, as numbers with their origin: measured, from the chip table, or assumed. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from exo_lab.core.device import Device
    from exo_lab.core.pace import Measured

Origin = Literal["measured", "chip table", "assumed"]

# Assumed where nothing better is known. The peak of a chip table is never reached; one position at a time reaches less.
COMPUTE_EFFICIENCY = 0.3  # of peak FLOPS in matrix products of a prompt (our assumption)
BANDWIDTH_EFFICIENCY = 0.7  # of peak memory bandwidth in matrix-vector products (our assumption)
CPU_TFLOPS = 0.05  # one core's worth of float32, for a device that says nothing
CPU_BANDWIDTH = 20e9  # bytes a second, for a device that says nothing
OVERHEAD_S = 0.1e-3  # of one step of one stage beyond its layers: checks and book-keeping (measured on our own CPU)


class Coefficient(msgspec.Struct, frozen=True):
    """A number and where it comes from."""

    value: float
    unit: str
    origin: Origin


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """What a device computes and moves."""

    flops: Coefficient  # FLOP/s in matrix products of a prompt
    bandwidth: Coefficient  # bytes/s of weights
    overhead: Coefficient  # s


def speed_of(device: Device, measured: Measured | None = None) -> Speed:
    """A device's speed, from its description; what is missing there is assumed, and says so.

    Figures that cannot be are as good as none. A table's peak is scaled down to what programs reach of it; what a probe
    measured was reached.
    """
    slow = max(device.slowdown, 1.0)
    probed = device.speed_origin == "measured"
    origin: Origin = "measured" if probed else "chip table"
    flops = max(device.flops.fp32, device.flops.fp16) * 1e12 * (1.0 if probed else COMPUTE_EFFICIENCY)
    bandwidth = device.memory_bandwidth_bytes_per_s * (1.0 if probed else BANDWIDTH_EFFICIENCY)
    overhead = measured.overhead_s if measured is not None else None
    return Speed(
        flops=Coefficient(flops / slow, "FLOP/s", origin)
        if 0 < flops < float("inf")
        else Coefficient(CPU_TFLOPS * 1e12 / slow, "FLOP/s", "assumed"),
        bandwidth=Coefficient(bandwidth / slow, "B/s", origin)
        if 0 < bandwidth < float("inf")
        else Coefficient(CPU_BANDWIDTH / slow, "B/s", "assumed"),
        overhead=Coefficient(OVERHEAD_S, "s", "assumed")
        if overhead is None
        else Coefficient(overhead, "s", "measured"),
    )
