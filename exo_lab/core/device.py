"""What a device is: a frozen description, made by a probe or by hand. Knows nothing of sockets or clocks."""

from __future__ import annotations

import hashlib

import msgspec


class Flops(msgspec.Struct, frozen=True, kw_only=True):
    """Peak compute in TFLOPS (1e12 operations a second); 0.0 means unknown."""

    fp32: float = 0.0
    fp16: float = 0.0
    int8: float = 0.0


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One member of the cluster.

    `id` is unique and stable for the life of a node. `emulated` is empty for a real device, else it says
    what is emulated ("memory 96 MB, 2x slower"); every view shows it.
    """

    id: str
    name: str
    model: str = ""
    chip: str = ""
    memory_bytes: int = 0
    memory_available_bytes: int = 0
    flops: Flops = Flops()
    memory_bandwidth_bytes_per_s: float = 0.0  # 0.0: unknown
    engines: tuple[str, ...] = ()
    emulated: str = ""
    slowdown: float = 1.0  # emulated only: a forward pass is stretched by this factor


def device_id(public_key: bytes) -> str:
    """The id that belongs to a node's public key: the first 12 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:12]
