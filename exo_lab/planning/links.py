"""What a hop between two devices costs, as numbers with their origin. Pure.

A topology seldom knows every pair: a node measures its own links. A pair without a link takes what the two have in
common (the worse of their links to a third device), and is called assumed. Devices that no chain of links joins cannot
be in one plan; a topology without any link says nothing about who reaches whom, and all may.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.topology import LinkKind
from exo_lab.planning.coefficients import Coefficient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.topology import Link, Topology

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
RELAYS = 8  # devices in common that are looked at for a pair without a link


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to hand something from one device to another."""

    latency: Coefficient  # s, one way
    bandwidth: Coefficient  # bytes/s
    kind: LinkKind = "unknown"

    def seconds(self, size_bytes: float) -> float:
        """Time for so many bytes, one way."""
        return self.latency.value + self.busy_s(size_bytes)

    def busy_s(self, size_bytes: float) -> float:
        """How long the link is taken: what is under way does not keep the next frame from being sent."""
        return size_bytes / self.bandwidth.value if self.bandwidth.value else float("inf")


NO_HOP = Hop(latency=Coefficient(0.0, "s", "measured"), bandwidth=Coefficient(float("inf"), "B/s", "measured"))
UNREACHABLE = Hop(latency=Coefficient(float("inf"), "s", "assumed"), bandwidth=Coefficient(0.0, "B/s", "assumed"))


class Links:
    """The hops of a topology, looked up by device ids and remembered."""

    def __init__(self, topology: Topology) -> None:
        self._direct: dict[str, dict[str, Hop]] = defaultdict(dict)
        for link in topology.links:
            hop = hop_of(link)
            known = self._direct[link.a].get(link.b)
            if known is None or _rank(hop) < _rank(known):
                self._direct[link.a][link.b] = self._direct[link.b][link.a] = hop
        self._group = self._groups()
        self._found: dict[tuple[str, str], Hop] = {}

    def hop(self, a: str, b: str) -> Hop:
        """From a to b; the same both ways. `UNREACHABLE` if no chain of links joins them."""
        if a == b:
            return NO_HOP
        direct = self._direct.get(a, {}).get(b)
        if direct is not None:
            return direct
        key = (a, b) if a < b else (b, a)
        if key not in self._found:
            self._found[key] = self._assumed(*key)
        return self._found[key]

    def reachable(self, a: str, b: str) -> bool:
        """Can the two be in one plan?"""
        return a == b or not self._group or self._group.get(a, a) == self._group.get(b, b)

    def groups(self, devices: Sequence[str]) -> list[list[str]]:
        """The devices in groups whose members reach each other, each in the order given, first met first."""
        if not self._group:
            return [list(devices)] if devices else []
        groups: dict[str, list[str]] = {}
        for device in devices:
            groups.setdefault(self._group.get(device, device), []).append(device)
        return list(groups.values())

    def _assumed(self, a: str, b: str) -> Hop:
        if not self.reachable(a, b):
            return UNREACHABLE
        common = sorted(self._direct.get(a, {}).keys() & self._direct.get(b, {}).keys())[:RELAYS]
        ways = [max(self._direct[a][relay], self._direct[b][relay], key=_rank) for relay in common]
        if not ways:
            return hop_of(None)
        best = min(ways, key=_rank)
        return Hop(
            latency=Coefficient(best.latency.value, "s", "assumed"),
            bandwidth=Coefficient(best.bandwidth.value, "B/s", "assumed"),
            kind=best.kind,
        )

    def _groups(self) -> dict[str, str]:
        """The least id that each device is joined to by links."""
        group: dict[str, str] = {}
        for start in sorted(self._direct):
            if start in group:
                continue
            group[start] = start
            waiting = [start]
            while waiting:
                for following in self._direct[waiting.pop()]:
                    if following not in group:
                        group[following] = start
                        waiting.append(following)
        return group


_last: tuple[Topology, Links] | None = None


def links_of(topology: Topology) -> Links:
    """The links of a topology; those asked for last are remembered, since one planning task asks many times."""
    global _last
    known = _last
    if known is None or known[0] is not topology:
        known = _last = (topology, Links(topology))
    return known[1]


def hop_of(link: Link | None) -> Hop:
    """A link's hop: what it does not say is assumed by its kind."""
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


def _rank(hop: Hop) -> tuple[float, float, str]:
    return hop.latency.value, -hop.bandwidth.value, hop.kind
