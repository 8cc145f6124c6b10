"""What this machine is, as a `Device`. Fast, and without importing an engine.

Which engine computes where is known from outside: PyTorch that was built for CUDA takes the first GPU that CUDA shows,
everything else the processor. Limits of a container count as the machine's own.
"""

from __future__ import annotations

import math
import uuid
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.device import Device, Flops, Gpu
from exo_lab.telemetry import cgroups, parse
from exo_lab.telemetry.chip_table import chip_table
from exo_lab.telemetry.gpus import cuda_order, describe, placed
from exo_lab.telemetry.machine import Machine, ThisMachine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exo_lab.core.chips import ChipTable
    from exo_lab.telemetry.nvidia import GpuReading

CPU_KEY = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
BIOS_KEY = r"HARDWARE\DESCRIPTION\System\BIOS"
DMI = "/sys/class/dmi/id"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
APPLE_NOTE = "the figures are those of the chip's GPU, and the engines here compute on its CPU"


class Memory(msgspec.Struct, frozen=True):
    """Bytes of main memory that this process may use."""

    total_bytes: int
    available_bytes: int


@lru_cache(maxsize=1)
def this_machine() -> Machine:
    """The one that this process runs on."""
    return ThisMachine()


def detect(
    name: str = "",
    *,
    device_id: str,
    memory_bytes: int = 0,
    slowdown: float = 1.0,
    engine: str = "auto",
    machine: Machine | None = None,
    chips: ChipTable | None = None,
) -> Device:
    """This machine, or a smaller and slower one that is emulated on it.

    Args:
        name: what the node is called; the host's name if empty.
        device_id: of the node.
        memory_bytes: of the emulated device; 0: this machine's own.
        slowdown: of the emulated device.
        engine: the one that will compute, "auto", "torch", "numpy".
        machine: this one if None.
        chips: the package's table if None.
    """
    machine, chips = machine or this_machine(), chips or chip_table()
    emulated = [f"memory {memory_bytes / 1e6:.0f} MB"] * bool(memory_bytes) + [f"{slowdown:g}x slower"] * (
        slowdown != 1
    )
    gpus = _gpus(machine, chips)
    device = _on_gpu(gpus[0]) if gpus and _takes_gpu(machine, engine, gpus[0]) else _on_cpu(machine, chips)
    memory = main_memory(machine)
    return msgspec.structs.replace(
        device,
        id=device_id,
        name=name or machine.host,
        model=machine_model(machine),
        memory_bytes=memory_bytes or device.memory_bytes or memory.total_bytes,
        memory_available_bytes=memory_bytes or device.memory_available_bytes or memory.available_bytes,
        memory_id="" if memory_bytes else _memory_id(machine, device),
        engines=tuple(sorted(filter(find_spec, ("torch", "numpy")), key=lambda one: one != engine)),
        cores=cores(machine),
        gpus=gpus or _shared_gpu(device, memory),
        emulated=", ".join(emulated),
        slowdown=slowdown,
    )


def free_memory(device: Device, machine: Machine | None = None) -> Callable[[], int]:
    """How to ask for the bytes that are free now, where this device computes. Any thread; well under a millisecond.

    Args:
        device: what `detect` made of the machine.
        machine: this one if None.
    """
    machine = machine or this_machine()
    place = next((gpu for gpu in device.gpus if gpu.place == device.computes_on), None)
    if place is None or not place.memory_bytes:
        return lambda: main_memory(machine).available_bytes
    readings = machine.gpus()
    order = _cuda_order(machine, readings, [describe(reading, chip_table()) for reading in readings])
    index = readings[order[int(place.place.partition(":")[2])]].index

    def free() -> int:
        reading = machine.gpu(index)
        return reading.memory_free_bytes if reading is not None else 0

    return free


def main_memory(machine: Machine) -> Memory:
    """What is there and what is free, of the machine or of the container that this process is in."""
    total, available = machine.memory()
    limits = _limits(machine)
    return Memory(
        min(total, limits.memory_bytes or total),
        min(available, available if limits.memory_available_bytes is None else limits.memory_available_bytes),
    )


def cores(machine: Machine) -> int:
    """CPUs that this process may use; a quota of a part of one counts as one."""
    allowed = _limits(machine).cores
    return max(1, min(machine.cores(), math.ceil(allowed) if allowed else machine.cores()))


def cpu_limit(machine: Machine | None = None) -> int:
    """Threads that a container's quota allows, where it is less than the CPUs that an engine sees; 0: no such quota."""
    machine = machine or this_machine()
    return cores(machine) if cores(machine) < machine.cores() else 0


def cpu_name(machine: Machine) -> str:
    """What the processor is called; its architecture if it has no name."""
    match machine.system:
        case "Linux":
            name = parse.cpu_of_cpuinfo(machine.text("/proc/cpuinfo") or "")
        case "Darwin":
            name = parse.clean_name(machine.sysctl("machdep.cpu.brand_string"))
        case "Windows":
            name = parse.clean_name(machine.registry(CPU_KEY, "ProcessorNameString"))
        case _:
            name = ""
    return name or parse.clean_name(machine.architecture)


def machine_model(machine: Machine) -> str:
    """What the whole machine is called; empty if it does not say."""
    match machine.system:
        case "Linux":
            fields = (machine.text(f"{DMI}/{field}") for field in ("sys_vendor", "product_name", "product_version"))
            return parse.machine_of_dmi(*fields) or parse.clean_name(machine.text("/proc/device-tree/model"))
        case "Darwin":
            return parse.clean_name(machine.sysctl("hw.model"))
        case "Windows":
            maker, product = (machine.registry(BIOS_KEY, f"System{one}") for one in ("Manufacturer", "ProductName"))
            return parse.machine_of_dmi(maker, product, machine.registry(BIOS_KEY, "SystemVersion"))
        case _:
            return ""


def _limits(machine: Machine) -> cgroups.Limits:
    return cgroups.limits(machine.text) if machine.system == "Linux" else cgroups.Limits()


def _gpus(machine: Machine, chips: ChipTable) -> tuple[Gpu, ...]:
    readings = machine.gpus()
    gpus = [describe(reading, chips) for reading in readings]
    return placed(gpus, _cuda_order(machine, readings, gpus))


def _cuda_order(machine: Machine, readings: Sequence[GpuReading], gpus: Sequence[Gpu]) -> list[int]:
    shown, order = machine.variable("CUDA_VISIBLE_DEVICES"), machine.variable("CUDA_DEVICE_ORDER")
    return cuda_order(readings, gpus, shown=shown, order=order)


def _memory_id(machine: Machine, device: Device) -> str:
    """Names the memory that a device has: the machine's, what a container may use of it, or a GPU's own."""
    boot = (machine.text(BOOT_ID) or "").strip() or f"{uuid.getnode():012x}"
    if device.memory_bytes:
        readings = machine.gpus()
        gpus = [describe(reading, chip_table()) for reading in readings]
        reading = readings[_cuda_order(machine, readings, gpus)[0]]
        return f"{boot} GPU {reading.uuid or reading.index}"
    limit = _limits(machine).memory_bytes
    # Another container on this machine has a limit, and so a memory, of its own, and usually a name of its own.
    return f"{boot} {machine.host}" if limit is not None and limit < machine.memory()[0] else boot


def _takes_gpu(machine: Machine, engine: str, gpu: Gpu) -> bool:
    if not gpu.place or engine not in ("auto", "torch"):
        return False
    return parse.cuda_of_torch(machine.module_text("torch", "version.py") or "")


def _on_gpu(gpu: Gpu) -> Device:
    known = gpu.flops.fp32 > 0
    return Device(
        id="",
        name="",
        chip=gpu.name,
        memory_bytes=gpu.memory_bytes,
        memory_available_bytes=gpu.memory_available_bytes,
        flops=gpu.flops,
        memory_bandwidth_bytes_per_s=gpu.memory_bandwidth_bytes_per_s,
        computes_on=gpu.place,
        speed_origin="chip table" if known else "",
        speed_note=gpu.note,
    )


def _on_cpu(machine: Machine, chips: ChipTable) -> Device:
    chip = cpu_name(machine)
    known = chips.match(chip)
    return Device(
        id="",
        name="",
        chip=chip,
        flops=known.flops if known else Flops(),
        memory_bandwidth_bytes_per_s=known.memory_bandwidth_bytes_per_s if known else 0.0,
        computes_on="cpu",
        speed_origin="chip table" if known else "",
        speed_note=f"{known.note}; {APPLE_NOTE}" if known else "",
    )


def _shared_gpu(device: Device, memory: Memory) -> tuple[Gpu, ...]:
    """An Apple chip's own GPU; the table has no other processors."""
    if not device.chip.startswith("Apple ") or not device.flops.fp32:
        return ()
    return (
        Gpu(
            name=f"{device.chip} GPU",
            memory_bytes=memory.total_bytes,
            memory_available_bytes=memory.available_bytes,
            flops=device.flops,
            memory_bandwidth_bytes_per_s=device.memory_bandwidth_bytes_per_s,
            note=device.speed_note.removesuffix(f"; {APPLE_NOTE}"),
        ),
    )
