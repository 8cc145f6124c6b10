"""What a device is: a frozen description, made by a probe or by hand. Knows nothing of sockets or clocks."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from exo_lab.core.emulated_link import EmulatedLink

# Where a device's speed comes from; empty: nobody said, as for a device that was described by hand.
SpeedOrigin = Literal["", "measured", "chip table"]


class Flops(msgspec.Struct, frozen=True, kw_only=True):
    """Peak compute in TFLOPS (1e12 operations a second); 0.0 means unknown."""

    fp32: float = 0.0
    fp16: float = 0.0
    int8: float = 0.0


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU of a machine, used or not; its speed is the chip table's. `note`: where that is from.

    `place` is what an engine calls it ("cuda:0"), empty if no engine here computes on it. On a machine whose GPU shares
    the main memory (Apple), both memories are those of the machine.
    """

    name: str
    place: str = ""
    memory_bytes: int = 0
    memory_available_bytes: int = 0
    flops: Flops = Flops()
    memory_bandwidth_bytes_per_s: float = 0.0  # 0.0: unknown
    note: str = ""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One member of the cluster.

    Memory, speed and `chip` are those of `computes_on`: the processor and the main memory ("cpu"), or one GPU and its
    own memory ("cuda:0"). The other GPUs of the machine are only listed. `speed_origin` belongs to `flops` and
    `memory_bandwidth_bytes_per_s`, of a real machine also where a slower one is emulated; `speed_note` says more.

    `memory_id` names that memory: nodes that name the same one share it; empty: it is this device's own, as when it is
    emulated or described by hand. `memory_available_bytes` is what was free when it connected.

    `id` is unique and stable for the life of a node. `emulated` is empty for a real device, else it says
    what is emulated ("memory 96 MB, 2x slower"); every view shows it. `emulated_link` is that part of it which is about
    the way to other nodes.

    Who `visits` is a member for the length of a command, to ask and to look: no plan counts on it, no layer goes to it.
    """

    id: str
    name: str
    model: str = ""
    chip: str = ""
    memory_bytes: int = 0
    memory_available_bytes: int = 0
    memory_id: str = ""
    flops: Flops = Flops()
    memory_bandwidth_bytes_per_s: float = 0.0  # 0.0: unknown
    engines: tuple[str, ...] = ()  # those it has; first the one that computes where a plan does not say
    cores: int = 0  # CPU cores that it may use; 0: unknown
    computes_on: str = ""  # "cpu", "cuda:0"; empty: unknown
    gpus: tuple[Gpu, ...] = ()
    speed_origin: SpeedOrigin = ""
    speed_note: str = ""
    emulated: str = ""
    emulated_link: str = ""
    slowdown: float = 1.0  # emulated only: a forward pass is stretched by this factor
    visits: bool = False


class DeviceSpeed(msgspec.Struct, frozen=True, kw_only=True):
    """What a probe measured on a device with an engine: rates that were reached, and not peaks. 0.0: not measured.

    `flops` are those of square matrix products (fp16: of bfloat16 or float16, whichever the engine uses).
    """

    flops: Flops
    memory_bandwidth_bytes_per_s: float
    note: str = ""


def with_speed(device: Device, speed: DeviceSpeed) -> Device:
    """A device that says what was measured of it; what the chip table said of it is forgotten."""
    return msgspec.structs.replace(
        device,
        flops=speed.flops,
        memory_bandwidth_bytes_per_s=speed.memory_bandwidth_bytes_per_s,
        speed_origin="measured",
        speed_note=speed.note,
    )


def with_emulated_link(device: Device, link: EmulatedLink) -> Device:
    """A device that says that its network is emulated."""
    emulated = ", ".join(filter(None, (device.emulated, link.text)))
    return msgspec.structs.replace(device, emulated=emulated, emulated_link=link.text)


def device_id(public_key: bytes) -> str:
    """The id that belongs to a node's public key: the first 12 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:12]
