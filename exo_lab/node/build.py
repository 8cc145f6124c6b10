"""The only place that picks implementations by name: what the user chose becomes the parts of a node."""

from __future__ import annotations

import os
import platform
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.device import with_emulated_link, with_speed
from exo_lab.core.errors import ConfigError
from exo_lab.node.model_names import model_folders
from exo_lab.node.own_speed import SpeedProbe, wanted
from exo_lab.node.parts import NodeOptions, NodeParts, SpeedMeter
from exo_lab.node.timing import LOW_POWER, Timing

if TYPE_CHECKING:
    from exo_lab.core.device import Device
    from exo_lab.core.weights import WeightSource
    from exo_lab.discovery.base import Discovery
    from exo_lab.engines.base import Engine
    from exo_lab.transport.base import DataPort
    from exo_lab.transport.keys import Identity
    from exo_lab.transport.secure import SecureContext

POWERS = ("normal", "low", "auto")
ENGINES = ("torch", "numpy")
HISTORY_VARIABLE = "EXO_LAB_HISTORY"  # a folder; "off": measurements are kept in memory
DISCOVERIES = ("loopback", "udp", "mdns", "tailscale", "manual", "given")


def make_engine(name: str, dtype: str, threads: int = 0) -> Engine:
    """An engine by name. `auto` is torch, the fastest that every machine has.

    Raises:
        ConfigError: no such engine, or one that cannot compute in that dtype.
    """
    match name:
        case "auto" | "torch":
            from exo_lab.engines.decoder import TorchEngine

            return TorchEngine(dtype=dtype, threads=threads or None)
        case "numpy":
            from exo_lab.engines.numpy_engine import NumpyEngine

            if dtype not in ("auto", "float32"):
                raise ConfigError(f"the numpy engine computes in float32 only, not in {dtype}; use engine='torch'")
            return NumpyEngine()
        case _:
            raise ConfigError(f"no engine {name!r}; there are {', '.join(ENGINES)}")


def default_discoveries(bind: str) -> tuple[str, ...]:
    """How others are looked for when nobody said: on this machine, and on the LAN if the node listens there."""
    return ("loopback",) if bind.startswith("127.") or bind in ("localhost", "::1") else ("loopback", "udp", "mdns")


def make_discovery(name: str, options: NodeOptions, identity: Identity, tag: str, key: bytes) -> Discovery:
    """A way of finding other nodes, by name.

    Args:
        name: one of `DISCOVERIES`.
        options: what the user chose.
        identity: this node's, which signs what is announced.
        tag: the cluster's public name.
        key: the cluster's secret for announcements.

    Raises:
        ConfigError: no such discovery, or it lacks what it needs.
    """
    match name:
        case "loopback":
            from exo_lab.discovery.loopback import LoopbackRegistry

            return LoopbackRegistry(cluster_tag=tag)
        case "udp":
            from exo_lab.discovery.udp import UdpDiscovery

            return UdpDiscovery(identity, cluster_tag=tag, cluster_key=key, bind=options.bind)
        case "mdns":
            from exo_lab.discovery.mdns import MdnsDiscovery

            return MdnsDiscovery(identity, cluster_tag=tag, cluster_key=key, bind=options.bind)
        case "tailscale":
            from exo_lab.discovery.tailscale import TailscaleDiscovery

            return TailscaleDiscovery(identity, cluster_tag=tag, bind=options.bind, port=control_port(options))
        case "manual":
            from exo_lab.discovery.manual import ManualPeers

            if not options.peers_file:
                raise ConfigError("discovery 'manual' needs a file; give one with --peers peers.toml")
            return ManualPeers(Path(options.peers_file).expanduser())
        case "given":
            from exo_lab.discovery.manual import GivenPeers

            return GivenPeers(options.peers)
        case _:
            raise ConfigError(f"no discovery {name!r}; there are {', '.join(DISCOVERIES)}")


def control_port(options: NodeOptions) -> int:
    """The port to listen on; 0 is any. Tailscale says where machines are and not ports, so there it is a fixed one."""
    from exo_lab.discovery.tailscale import CONTROL_PORT

    return options.port or (CONTROL_PORT if "tailscale" in options.discovery else 0)


def discoveries(options: NodeOptions, identity: Identity, tag: str, key: bytes) -> list[Discovery]:
    """Every discovery that the options ask for, those that a file or given addresses imply included."""
    names = list(dict.fromkeys(options.discovery))
    if options.peers_file and "manual" not in names:
        names.append("manual")
    if options.peers and "given" not in names:
        names.append("given")
    return [make_discovery(name, options, identity, tag, key) for name in names]


def default_name() -> str:
    """What a node is called when nobody said: the machine's name."""
    return socket.gethostname().split(".")[0] or platform.node() or "node"


def with_known_speed(device: Device, engine: str, threads: int) -> tuple[Device, SpeedMeter | None]:
    """A device with the speed that was measured of it before; else with what measures it, if it may."""
    from exo_lab.models.locate import cache_folder
    from exo_lab.telemetry.speed_cache import SpeedCache

    if not wanted():
        return device, None
    cache = SpeedCache(cache_folder() / "speeds.json")
    probe = SpeedProbe(device, "numpy" if engine == "numpy" else "torch", threads, cache)
    known = probe.known
    return (device, probe.measure) if known is None else (with_speed(device, known), None)


def history_folder() -> Path | None:
    """Where nodes keep what they measured: `$EXO_LAB_HISTORY`, else beside the token. None where that is "off"."""
    from exo_lab.transport.keys import token_path

    given = os.environ.get(HISTORY_VARIABLE, "")
    if given.casefold() in ("off", "0", "no"):
        return None
    return Path(given).expanduser() if given else token_path().parent / "history"


def data_port(context: SecureContext, options: NodeOptions, port: int) -> DataPort:
    """The data port, behind an emulated link if there is to be one. TransportError if it cannot listen."""
    from exo_lab.transport.shared_memory import SharedMemory
    from exo_lab.transport.shared_memory import wanted as shared_memory_wanted

    # An emulated network has no memory in common with anybody.
    side = SharedMemory(enabled=options.link is None and shared_memory_wanted())
    made = context.data(options.bind, port, side=side)
    if options.link is None:
        return made
    from exo_lab.transport.emulated import EmulatedPort

    return EmulatedPort(made, options.link)


def make_timing(power: str) -> Timing:
    """How long a node waits for what, by how it is to use power. ConfigError: not one of `POWERS`."""
    match power:
        case "normal":
            return Timing()
        case "low":
            return LOW_POWER
        case "auto":
            from exo_lab.telemetry.power import on_battery

            return LOW_POWER if on_battery() else Timing()
        case _:
            raise ConfigError(f"no use of power {power!r}; there are {', '.join(POWERS)}")


def build(options: NodeOptions, token: str) -> NodeParts:
    """The parts of a node over ZeroMQ, from what the user chose. Nothing is announced yet.

    Raises:
        ConfigError: an option is wrong; says which.
        TransportError: the address cannot be listened on.
    """
    from exo_lab.models.open import open_model
    from exo_lab.models.store import ModelStore
    from exo_lab.telemetry.detect import cpu_limit, detect, free_memory
    from exo_lab.telemetry.nvidia_sensors import NvidiaSensors
    from exo_lab.telemetry.recorder import Recorder
    from exo_lab.telemetry.sensors import MachineSensors
    from exo_lab.transport.keys import Identity, announcement_key, cluster_tag
    from exo_lab.transport.secure import SecureContext

    if options.memory_bytes < 0 or options.slowdown < 1:
        raise ConfigError(f"memory must not be negative and slow must be 1 or more, got {options.slowdown:g}")
    identity = Identity.create()
    looking = discoveries(options, identity, cluster_tag(token), announcement_key(token))
    device = detect(
        options.name or default_name(),
        device_id=identity.device_id,
        memory_bytes=options.memory_bytes,
        slowdown=options.slowdown,
        engine=options.engine,
    )
    device = msgspec.structs.replace(device, visits=options.visits)
    if options.link is not None:
        device = with_emulated_link(device, options.link)
    free = free_memory(device)
    threads = options.threads or cpu_limit()  # an engine sees every core, and not what a container may use of them
    device, measure_speed = with_known_speed(device, options.engine, threads)
    context = SecureContext(token)
    try:
        port = control_port(options)
        control = context.control(options.bind, port, name=device.name)
        # Two neighbouring ports, so that one firewall rule lets both through.
        data = data_port(context, options, port + 1 if port else 0)
    except BaseException:
        context.close()
        raise

    def open_by_name(name: str) -> WeightSource:
        return open_model(name)

    def engine(name: str, dtype: str) -> Engine:
        return make_engine(options.engine if name == "auto" else name, dtype, threads)

    return NodeParts(
        device=device,
        identity=identity,
        control=control,
        data=data,
        discoveries=looking,
        make_engine=engine,
        open_model=open_by_name,
        refused=context.refused,
        close=context.close,
        store=ModelStore(),
        model_folders=model_folders(options.bind),
        free_memory=free,
        measure_speed=measure_speed,
        watching=options.watching,
        sensors=MachineSensors(gpus=NvidiaSensors()),
        recorder=None if options.watching.off else Recorder(history_folder(), device.name),
    )
