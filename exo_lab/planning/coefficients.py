"""How fast a device and a link are, as numbers with their origin: measured, from the chip table, or assumed. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from exo_lab.core.topology import Link, LinkKind, Topology

if TYPE_CHECKING:
    from exo_lab.core.device import Device

Origin = Literal["measured", "chip table", "assumed"]

# Assumed where nothing better is known. The peak of a chip table is never reached; one position at a time reaches less.
COMPUTE_EFFICIENCY = 0.3  # of peak FLOPS in matrix products of a prompt (our assumption)
BANDWIDTH_EFFICIENCY = 0.7  # of peak memory bandwidth in matrix-vector products (our assumption)
CPU_TFLOPS = 0.05  # one core's worth of float32, for a device that says nothing
CPU_BANDWIDTH = 20e9  # bytes a second, for a device that says nothing
OVERHEAD_S = 0.5e-3  # of one step of one stage beyond its layers: taking the frame, launching, handing on

# (latency in seconds one way, bytes a second) by kind of link. Sources: our own measurement for loopback
# (docs/performance.md); nominal rates less protocol overhead for the others.
LINK_DEFAULTS: dict[LinkKind, tuple[float, float]] = {
    "loopback": (0.1e-3, 1.5e9),
    "shared-memory": (0.05e-3, 5e9),
    "ethernet": (0.3e-3, 115e6),
    "wifi": (3e-3, 30e6),
    "thunderbolt": (0.2e-3, 2e9),
    "infiniband": (0.01e-3, 10e9),
    "tailscale": (15e-3, 10e6),
    "unknown": (1e-3, 50e6),
}


class Coefficient(msgspec.Struct, frozen=True):
    """A number and where it comes from."""

    value: float
    unit: str
    origin: Origin


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one model on one device, in seconds; None where it was not.

    `layer_s`: one layer, one position. `prefill_layer_s`: one layer, one position of a prompt. `overhead_s`: one step
    beyond its layers. `embedding_s`, `head_s`: what the first and last stage do besides, for one position.
    """

    layer_s: float | None = None
    prefill_layer_s: float | None = None
    overhead_s: float | None = None
    embedding_s: float | None = None
    head_s: float | None = None


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """What a device computes and moves."""

    flops: Coefficient  # FLOP/s in matrix products of a prompt
    bandwidth: Coefficient  # bytes/s of weights
    overhead: Coefficient  # s


def speed_of(device: Device, measured: Measured | None = None) -> Speed:
    """A device's speed, from its description; what is missing there is assumed, and says so."""
    peak = max(device.flops.fp32, device.flops.fp16) * 1e12
    slow = max(device.slowdown, 1.0)
    overhead = measured.overhead_s if measured is not None else None
    return Speed(
        flops=Coefficient(peak * COMPUTE_EFFICIENCY / slow, "FLOP/s", "chip table")
        if peak > 0
        else Coefficient(CPU_TFLOPS * 1e12 / slow, "FLOP/s", "assumed"),
        bandwidth=Coefficient(device.memory_bandwidth_bytes_per_s * BANDWIDTH_EFFICIENCY / slow, "B/s", "chip table")
        if device.memory_bandwidth_bytes_per_s > 0
        else Coefficient(CPU_BANDWIDTH / slow, "B/s", "assumed"),
        overhead=Coefficient(OVERHEAD_S, "s", "assumed")
        if overhead is None
        else Coefficient(overhead, "s", "measured"),
    )


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to hand something from one device to another."""

    latency: Coefficient  # s, one way
    bandwidth: Coefficient  # bytes/s
    kind: LinkKind = "unknown"

    def seconds(self, size_bytes: float) -> float:
        """Time for so many bytes, one way."""
        return self.latency.value + size_bytes / self.bandwidth.value


def hop_between(topology: Topology, a: str, b: str) -> Hop:
    """The best link between two devices by latency; an unknown one is assumed."""
    hops = [_hop(link) for link in topology.between(a, b)]
    if not hops:
        return _hop(None)
    return min(hops, key=lambda hop: (hop.latency.value, -hop.bandwidth.value, hop.kind))


def _hop(link: Link | None) -> Hop:
    kind: LinkKind = "unknown" if link is None else link.kind
    latency, bandwidth = LINK_DEFAULTS[kind]
    known_latency = None if link is None else link.latency_s
    known_bandwidth = None if link is None else link.bandwidth_bytes_per_s
    return Hop(
        kind=kind,
        latency=Coefficient(latency, "s", "assumed")
        if known_latency is None
        else Coefficient(known_latency, "s", "measured"),
        bandwidth=Coefficient(bandwidth, "B/s", "assumed")
        if not known_bandwidth
        else Coefficient(known_bandwidth, "B/s", "measured"),
    )
