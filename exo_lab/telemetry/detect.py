"""What this machine is, as a `Device`. Fast, and without importing an engine."""

from __future__ import annotations

import platform
from importlib.util import find_spec

import psutil

from exo_lab.core.device import Device


def detect(name: str = "", *, device_id: str, memory_bytes: int = 0, slowdown: float = 1.0) -> Device:
    """This machine, or a smaller and slower one that is emulated on it."""
    memory = psutil.virtual_memory()
    emulated = [f"memory {memory_bytes / 1e6:.0f} MB"] * bool(memory_bytes) + [f"{slowdown:g}x slower"] * (
        slowdown != 1
    )
    return Device(
        id=device_id,
        name=name or platform.node(),
        chip=platform.processor() or platform.machine(),
        memory_bytes=memory_bytes or memory.total,
        memory_available_bytes=memory_bytes or memory.available,
        engines=tuple(engine for engine in ("torch", "numpy") if find_spec(engine)),
        emulated=", ".join(emulated),
        slowdown=slowdown,
    )
