"""What memory a plan may count on: what nodes say is free now, and what the model to be planned anew would give back.

Pure: what is free is told. Nodes that share a memory say the same of it, and share it in `Problem.memory_bytes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.topology import Topology
from exo_lab.planning.footprint import footprint_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exo_lab.core.model import ModelConfig
    from exo_lab.core.plan import Plan


def with_free_memory(known: Topology, free: Mapping[str, int], held: Mapping[str, int] | None = None) -> Topology:
    """The topology with devices that say what is free now in place of what was free when they connected.

    Of one memory the least of what its nodes say counts, and to it comes what all of them would give back. A memory of
    a device's own (emulated, or described) stays as it is.

    Args:
        known: devices and links.
        free: bytes by device id; who is not there keeps its own figure.
        held: bytes by device id that are not free, and will be.
    """
    pools: dict[str, list[str]] = {}
    for device in known.devices:
        if device.memory_id and device.id in free:
            pools.setdefault(device.memory_id, []).append(device.id)
    held = held or {}
    room = {
        name: min(free[one] for one in members) + sum(held.get(one, 0) for one in members)
        for name, members in pools.items()
    }
    sightings = [
        msgspec.structs.replace(
            one,
            # 0 would mean that it says nothing.
            device=msgspec.structs.replace(
                one.device, memory_available_bytes=max(1, min(room[one.device.memory_id], one.device.memory_bytes))
            ),
        )
        if one.device.memory_id and one.device.id in free
        else one
        for one in known.sightings
    ]
    return Topology(sightings=tuple(sightings), links=known.links)


def held_bytes(plan: Plan, config: ModelConfig, known: Topology) -> dict[str, int]:
    """What the weights of a loaded plan take, by device id."""
    found: dict[str, int] = {}
    for device_id, shard in zip(plan.devices, plan.shards, strict=True):
        device = known.device(device_id)
        if device is not None:
            found[device_id] = footprint_of(config, device, plan.dtype, plan.engine).weights(shard.start, shard.end)
    return found
