"""Layers as the user says, checked and not changed."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from exo_lab.core.errors import BadPlan, DoesNotFit
from exo_lab.core.plan import Plan, plan_from_counts
from exo_lab.planning.links import links_of
from exo_lab.planning.shortage import unreachable
from exo_lab.planning.text import size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.planning.problem import Problem


def plan(problem: Problem, counts: Sequence[int]) -> Plan:
    """`counts[i]` layers for the i-th device of the problem, 0 leaves it out.

    Raises:
        BadPlan: the counts do not match the devices or the model's layers.
        DoesNotFit: a device cannot hold its share (and the problem is not forced), or stages cannot reach each other.
    """
    devices, layers = problem.devices, problem.config.n_layers
    if len(counts) != len(devices):
        raise BadPlan(f"{len(counts)} layer counts for {len(devices)} devices; give one for each, 0 leaves one out")
    if sum(counts) != layers or min(counts) < 0:
        raise BadPlan(f"{problem.config.name} has {layers} layers, {list(counts)} add up to {sum(counts)}")
    ids = tuple(device.id for device in devices)
    made = plan_from_counts(problem.config.name, ids, tuple(counts), strategy="manual", why=("layers given by hand",))
    links = links_of(problem.topology)
    for a, b in itertools.pairwise(made.devices):
        if not links.reachable(a, b):
            raise unreachable(problem, a, b)
    if problem.force:
        return made
    for device_id, shard in zip(made.devices, made.shards, strict=True):
        device = problem.device(device_id)
        room, needed = problem.room_bytes(device), problem.shard_memory_bytes(device, shard.start, shard.end)
        if needed > room:
            raise DoesNotFit(
                f"{device.name} has {size_text(room)}, its {len(shard)} layers of {problem.config.name} need "
                f"{size_text(needed)}: {size_text(needed - room)} short. Give it fewer, or override with force."
            )
    return made


def counts_of(boundaries: Sequence[int], layers: int) -> tuple[int, ...]:
    """Layers per device from the boundaries between devices: (3, 20) of 30 layers is 3, 17, 10.

    Raises:
        BadPlan: a boundary outside the model, or before its predecessor.
    """
    cuts = (0, *boundaries, layers)
    if any(after < before for before, after in itertools.pairwise(cuts)):
        raise BadPlan(f"boundaries must rise from 0 to {layers}, got {list(boundaries)}")
    return tuple(after - before for before, after in itertools.pairwise(cuts))
