"""What a node is made of, so that a test can make one of in-process twins and a kernel one of sockets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from exo_lab.core.emulated_link import EmulatedLink
from exo_lab.core.watching import Watching

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from exo_lab.core.device import Device, DeviceSpeed
    from exo_lab.core.weights import WeightSource
    from exo_lab.discovery.base import Discovery
    from exo_lab.engines.base import Engine
    from exo_lab.models.store import ModelStore
    from exo_lab.telemetry.recorder import Recorder
    from exo_lab.telemetry.sensors import Sensors
    from exo_lab.transport.base import ControlPort, DataPort
    from exo_lab.transport.keys import Identity


class NodeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the user may choose when a process becomes a node.

    `memory_bytes` and `slowdown` emulate a smaller, slower device; 0 and 1 mean the real one. `link` emulates a slower
    network; None means the real one. `bind` is the address that sockets listen on: loopback unless the user opted in to
    more.
    """

    name: str = ""
    bind: str = "127.0.0.1"
    port: int = 0
    peers_file: str = ""
    peers: tuple[str, ...] = ()  # control endpoints that are known from the start
    discovery: tuple[str, ...] = ("loopback",)
    memory_bytes: int = 0
    slowdown: float = 1.0
    link: EmulatedLink | None = None
    threads: int = 0
    engine: str = "auto"
    parent_pid: int = 0
    visits: bool = False  # it asks and looks, and holds no layers: a command of the shell
    power: str = "normal"  # "low" saves a battery, "auto" does so while this machine runs on one
    rebalance: str = "ask"  # what to do when nodes come or go: "auto", "ask", "never"
    watching: Watching = Watching()  # what is measured how often, and what is too much


EngineFactory = Callable[[str, str], "Engine"]  # (engine name, dtype), each may be "auto"
ModelOpener = Callable[[str], "WeightSource"]
SpeedMeter = Callable[["threading.Event"], "DeviceSpeed | None"]  # told to stop by the event


class Listener(Protocol):
    """Something that wants to know when the cluster changes. Called in the control thread; must not block."""

    def __call__(self, what: str) -> None:
        """`what` is one of "nodes", "plans", "requests", "alerts"."""
        ...


class NodeParts(NamedTuple):
    """The implementations of one node's edges. `close` frees what they share (a ZeroMQ context, say)."""

    device: Device
    identity: Identity
    control: ControlPort
    data: DataPort
    discoveries: Sequence[Discovery]
    make_engine: EngineFactory
    open_model: ModelOpener
    refused: Callable[[], dict[str, int]]  # counts of what the transport turned away
    close: Callable[[], object]
    # Bytes that are free where the device computes; None: of the machine's main memory. Any thread, takes no time.
    free_memory: Callable[[], int] | None = None
    # Measures the device's speed, see `own_speed`: blocks until done or told to stop. None: nothing is measured.
    measure_speed: SpeedMeter | None = None
    watching: Watching = Watching()
    sensors: Sensors | None = None  # of the machine
    recorder: Recorder | None = None  # where measurements are kept
    # The models of this machine, to give to others and to complete from others. None: neither is done.
    store: ModelStore | None = None
    model_folders: Sequence[Path] | None = None  # from where peers may name files; None: anywhere, see `model_names`
