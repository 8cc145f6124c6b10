"""Several discoveries at once become one list of nodes, each with its ways, the best first. Pure.

Sightings of one node are recognised by its id: what an announcement claims and its signature proves, or, where a
sighting says nothing (a peers file, Tailscale), what the node that answered at that address proved. A wrong or dead way
costs one refused connection, so every way is kept and tried in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from exo_lab.discovery.base import Found

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exo_lab.core.topology import LinkKind

# Best first. "unknown" is an address that somebody wrote down and that is in no network of this machine.
_BEST_FIRST: tuple[tuple[LinkKind, ...], ...] = (
    ("loopback",),
    ("shared-memory",),
    ("thunderbolt", "infiniband"),
    ("ethernet",),
    ("wifi",),
    ("unknown",),
    ("tailscale",),
)
RANKS: Mapping[LinkKind, int] = {kind: rank for rank, kinds in enumerate(_BEST_FIRST) for kind in kinds}
BETTER_BY = 0.8  # a way of the same kind must be a fifth faster to replace the one in use: measurements wobble


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One node that was sighted, and the ways to it, best first, one an address.

    `device_id` is empty for a single address of which nobody knows yet whose it is.
    """

    device_id: str
    name: str
    ways: tuple[Found, ...]

    @property
    def best(self) -> Found:
        """The way to try first."""
        return self.ways[0]


def merge(
    sightings: Iterable[Found],
    *,
    known: Mapping[str, str] | None = None,
    latency_s: Mapping[str, float] | None = None,
) -> tuple[Node, ...]:
    """The nodes in sightings of any number of discoveries, in any order, with repeats. Sorted by id and address.

    Args:
        sightings: from all discoveries.
        known: device ids by control address, as proved by who answered there. Goes before what a sighting claims.
        latency_s: measured one-way latency by control address.
    """
    seen = tuple(sightings)
    proved, measured = known or {}, latency_s or {}
    claimed: dict[str, str] = {}
    for one in seen:
        if one.device_id:
            claimed[one.address] = min(one.device_id, claimed.get(one.address, one.device_id))
    by_node: dict[tuple[str, str], dict[str, Found]] = {}
    for one in seen:
        owner = proved.get(one.address) or one.device_id or claimed.get(one.address, "")
        key = (owner, "" if owner else one.address)
        ways = by_node.setdefault(key, {})
        before = ways.get(one.address)
        if before is None or _says(one) < _says(before):
            ways[one.address] = one
    return tuple(
        Node(device_id=owner, name=_name(ways.values()), ways=_ordered(ways.values(), measured))
        for (owner, _), ways in sorted(by_node.items())
    )


def choose(node: Node, current: str, *, latency_s: Mapping[str, float] | None = None) -> Found:
    """The way to use for a node that is reached at `current` now: that one, unless there is a clearly better one.

    Better is a better kind of link, or the same kind and a latency below `BETTER_BY` of the current one's. When the
    current way is not sighted any more, the best one is used.
    """
    measured = latency_s or {}
    using = next((one for one in node.ways if one.address == current), None)
    if using is None:
        return node.best
    for one in node.ways:
        if RANKS[one.kind] < RANKS[using.kind]:
            return one
        if RANKS[one.kind] > RANKS[using.kind] or one.address == current:
            continue
        mine, its = measured.get(current), measured.get(one.address)
        if mine is not None and its is not None and its < BETTER_BY * mine:
            return one
    return using


def move(endpoint: str, way: str) -> str:
    """An endpoint of a node, on the host by which the node is reached: a node's ports are the same on every way.

    Args:
        endpoint: `tcp://host:port` as the node's card says it.
        way: the control address by which it is reached.
    """
    return f"{way.rpartition(':')[0]}:{endpoint.rpartition(':')[2]}"


def _ordered(ways: Iterable[Found], measured: Mapping[str, float]) -> tuple[Found, ...]:
    return tuple(sorted(ways, key=lambda one: (RANKS[one.kind], measured.get(one.address, float("inf")), one.address)))


def _says(one: Found) -> tuple[int, bool, bool, bool, bytes]:
    """Of two sightings of one address the lower one is kept: it says more."""
    vague = one.kind == "unknown"
    return RANKS[one.kind] + (100 if vague else 0), not one.device_id, not one.interface, not one.name, _bytes(one)


def _bytes(one: Found) -> bytes:
    return msgspec.msgpack.encode(one)


def _name(ways: Iterable[Found]) -> str:
    """The node's name, as the sightings that prove their id say it."""
    return min(((not one.device_id, one.name) for one in ways if one.name), default=(True, ""))[1]
