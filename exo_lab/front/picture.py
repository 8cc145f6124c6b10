"""A cluster as `topology show` tells of it: nodes with what they hold, and the links between them. Pure.

Made of what a node sees (states, loads) and of what everybody knows (devices and links within four hops).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.device import Device
from exo_lab.core.status import residents
from exo_lab.core.topology import Link

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.status import LoadedModel, NodeStatus
    from exo_lab.core.topology import Topology


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Layers [start, end) of a loaded model that a node holds, as stage `stage` of its plan."""

    model: str
    stage: int
    start: int
    end: int
    n_layers: int


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One node. `state`: alive, suspect, lost, or heard of (from others only); figures are None where unknown."""

    device: Device
    state: str
    load: float | None = None
    memory_available_bytes: int | None = None
    holds: tuple[Held, ...] = ()


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """Members sorted by name, links in canonical order. Figures of links are None where nobody measured them."""

    members: tuple[Member, ...]
    links: tuple[Link, ...]

    @property
    def devices(self) -> tuple[Device, ...]:
        """The members' devices, in their order."""
        return tuple(member.device for member in self.members)

    def links_of(self, device: str) -> tuple[tuple[str, Link], ...]:
        """(the other end, link) of each link that ends at a device."""
        return tuple(
            (edge.b if edge.a == device else edge.a, edge) for edge in self.links if device in (edge.a, edge.b)
        )


def picture(nodes: Sequence[NodeStatus], known: Topology, models: Sequence[LoadedModel] = ()) -> Picture:
    """What is known of a cluster, without commands of a shell.

    Args:
        nodes: as this node sees them.
        known: devices and links that anybody knows of.
        models: loaded ones, for who holds what.
    """
    members = {
        node.device.id: Member(
            device=node.device,
            state=node.liveness,
            load=node.load,
            memory_available_bytes=node.memory_available_bytes,
            holds=_held(node.device.id, models),
        )
        for node in residents(nodes)
    }
    known = known.residents
    for device in known.devices:
        if device.id not in members:
            members[device.id] = Member(device=device, state="heard of", holds=_held(device.id, models))
    return Picture(
        members=tuple(sorted(members.values(), key=lambda member: (member.device.name, member.device.id))),
        links=tuple(edge for edge in known.links if edge.a in members and edge.b in members),
    )


def _held(device: str, models: Sequence[LoadedModel]) -> tuple[Held, ...]:
    held: list[Held] = []
    for model in models:
        stage = model.plan.stage_of(device)
        if stage is not None:
            shard = model.plan.shards[stage]
            name, layers = model.plan.model, model.plan.n_layers
            held.append(Held(model=name, stage=stage, start=shard.start, end=shard.end, n_layers=layers))
    return tuple(held)
