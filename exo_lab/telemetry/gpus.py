"""The GPUs of a machine as the cluster sees them, from what the driver said. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.device import Flops, Gpu
from exo_lab.telemetry.parse import clean_name, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.chips import ChipTable
    from exo_lab.telemetry.nvidia import GpuReading

MAX_GPUS = 64  # on one card: it travels to every node


def describe(reading: GpuReading, chips: ChipTable) -> Gpu:
    """One GPU with what the chip table knows of it."""
    chip = chips.match(reading.name, reading.memory_bytes)
    return Gpu(
        name=clean_name(reading.name),
        memory_bytes=reading.memory_bytes,
        memory_available_bytes=reading.memory_free_bytes,
        flops=chip.flops if chip else Flops(),
        memory_bandwidth_bytes_per_s=chip.memory_bandwidth_bytes_per_s if chip else 0.0,
        note=chip.note if chip else "not in the chip table",
    )


def cuda_order(
    readings: Sequence[GpuReading], gpus: Sequence[Gpu], *, shown: str | None, order: str | None
) -> list[int]:
    """Indices of the driver's list in the order in which CUDA counts them; without those that it hides.

    Unless the variables say otherwise CUDA puts the fastest first, by a rule of its own that NVIDIA does not publish;
    the table's float32 stands for it where GPUs differ and the table knows all of them.

    Args:
        readings: in the driver's order, which is that of the bus.
        gpus: the same, described.
        shown: `CUDA_VISIBLE_DEVICES`.
        order: `CUDA_DEVICE_ORDER`.
    """
    counted = list(range(len(readings)))
    if order != "PCI_BUS_ID" and all(gpu.flops.fp32 for gpu in gpus):
        counted.sort(key=lambda index: -gpus[index].flops.fp32)  # a stable sort: equal ones stay in the bus' order
    return [counted[index] for index in visible(shown, [readings[index].uuid for index in counted])]


def placed(gpus: Sequence[Gpu], order: Sequence[int]) -> tuple[Gpu, ...]:
    """The GPUs with what CUDA calls them, those that it shows first, in its order."""
    first = [msgspec.structs.replace(gpus[index], place=f"cuda:{place}") for place, index in enumerate(order)]
    hidden = [gpu for index, gpu in enumerate(gpus) if index not in order]
    return (*first, *hidden)[:MAX_GPUS]
