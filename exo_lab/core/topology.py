"""The graph of devices and links. Immutable; merging is commutative, associative and idempotent (law 4)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import msgspec

from exo_lab.core.device import Device

if TYPE_CHECKING:
    from collections.abc import Iterable, Set

LinkKind = Literal["loopback", "shared-memory", "ethernet", "wifi", "thunderbolt", "infiniband", "tailscale", "unknown"]


class Link(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A link between two devices. `a <= b` always: use `link()` to make one.

    `latency_s` is one way; None means not measured. `measured_at` is seconds since the epoch (UTC). `description`: how
    one of its ends came by it, for people ("mDNS on eth0").
    """

    a: str
    b: str
    kind: LinkKind = "unknown"
    latency_s: float | None = None
    bandwidth_bytes_per_s: float | None = None
    measured_at: float = 0.0
    description: str = ""
    emulated: str = ""


def link(a: str, b: str, **fields: object) -> Link:
    """A link with its ends in canonical order."""
    low, high = sorted((a, b))
    return msgspec.convert({"a": low, "b": high, **fields}, Link)


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """A device as described at a moment by `version`, a number that only its owner raises."""

    device: Device
    version: int = 0


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """Devices by id and links by (a, b, kind), each sorted so that equal graphs are equal values."""

    sightings: tuple[Sighting, ...] = ()
    links: tuple[Link, ...] = ()

    @property
    def devices(self) -> tuple[Device, ...]:
        """The devices, sorted by id."""
        return tuple(sighting.device for sighting in self.sightings)

    def device(self, device_id: str) -> Device | None:
        """The device with this id, or None."""
        return next((d for d in self.devices if d.id == device_id), None)

    def between(self, a: str, b: str) -> tuple[Link, ...]:
        """Every known link between two devices."""
        low, high = sorted((a, b))
        return tuple(edge for edge in self.links if (edge.a, edge.b) == (low, high))

    def merge(self, other: Topology) -> Topology:
        """The union; where both describe one thing, the later description wins.

        Later means the higher version (devices) or `measured_at` (links). Equal stamps with different
        contents are decided by the encoded bytes, so that every order of merging ends the same.
        """
        return topology(self.sightings + other.sightings, self.links + other.links)

    def without(self, device_id: str) -> Topology:
        """This topology less one device and its links."""
        return self._less({device_id})

    @property
    def residents(self) -> Topology:
        """This topology less devices that only visit, and their links: those that may hold layers."""
        return self._less({device.id for device in self.devices if device.visits})

    def _less(self, gone: Set[str]) -> Topology:
        return Topology(
            sightings=tuple(s for s in self.sightings if s.device.id not in gone),
            links=tuple(edge for edge in self.links if not {edge.a, edge.b} & gone),
        )


def topology(sightings: Iterable[Sighting] = (), links: Iterable[Link] = ()) -> Topology:
    """A canonical topology from descriptions in any order, with repeats."""
    latest: dict[str, Sighting] = {}
    for sighting in sightings:
        key = sighting.device.id
        if key not in latest or _sighting_rank(sighting) > _sighting_rank(latest[key]):
            latest[key] = sighting
    edges: dict[tuple[str, str, str], Link] = {}
    for edge in links:
        name = (edge.a, edge.b, edge.kind)
        if name not in edges or _link_rank(edge) > _link_rank(edges[name]):
            edges[name] = edge
    return Topology(
        sightings=tuple(latest[key] for key in sorted(latest)),
        links=tuple(edges[name] for name in sorted(edges)),
    )


def _sighting_rank(sighting: Sighting) -> tuple[int, bytes]:
    return sighting.version, msgspec.msgpack.encode(sighting.device)


def _link_rank(edge: Link) -> tuple[float, bytes]:
    # A NaN (from a peer) has no order, and the order of merging must not matter.
    return -math.inf if math.isnan(edge.measured_at) else edge.measured_at, msgspec.msgpack.encode(edge)
