"""Layers as the user says, checked and not changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.core.errors import BadPlan, DoesNotFit
from exo_lab.core.plan import Plan, plan_from_counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.planning.problem import Problem


def plan(problem: Problem, counts: Sequence[int]) -> Plan:
    """`counts[i]` layers for the i-th device of the problem.

    Raises:
        BadPlan: the counts do not match the devices or the model's layers.
        DoesNotFit: a device cannot hold its share, and the problem is not forced.
    """
    devices, layers = problem.devices, problem.config.n_layers
    if len(counts) != len(devices):
        raise BadPlan(f"{len(counts)} layer counts for {len(devices)} devices; give one for each, 0 leaves one out")
    if sum(counts) != layers or min(counts) < 0:
        raise BadPlan(f"{problem.config.name} has {layers} layers, {list(counts)} add up to {sum(counts)}")
    ids = tuple(device.id for device in devices)
    made = plan_from_counts(problem.config.name, ids, tuple(counts), strategy="manual", why=("layers given by hand",))
    if problem.force:
        return made
    for device, shard in zip(made.devices, made.shards, strict=True):
        room = problem.room_bytes(next(one for one in devices if one.id == device))
        needed = problem.shard_memory_bytes(shard.start, shard.end)
        if needed > room:
            name = next(one.name for one in devices if one.id == device)
            raise DoesNotFit(
                f"{name} has {room / 2**20:.1f} MiB, its {len(shard)} layers of {problem.config.name} need "
                f"{needed / 2**20:.1f} MiB. Give it fewer, or override with force."
            )
    return made
