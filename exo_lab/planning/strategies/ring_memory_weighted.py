"""EXO's default: each device gets a share of the layers that is its share of the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.planning.allocate import layers_of_intervals, memory_intervals
from exo_lab.planning.shortage import does_not_fit
from exo_lab.planning.strategies.base import by_memory, fitted

if TYPE_CHECKING:
    from exo_lab.core.plan import Plan
    from exo_lab.planning.problem import Problem


def plan(problem: Problem) -> Plan:
    """See `choose.choose`. The user's order of devices, if given, replaces the order by memory."""
    devices, notes = by_memory(problem)
    memories = [(device.id, problem.memory_bytes(device)) for device in devices]
    if not any(memory for _, memory in memories):
        raise does_not_fit(problem)
    intervals = memory_intervals(memories)
    shares = {device: end - start for device, start, end in intervals}
    if problem.order:
        # In the user's order again: the published one is by memory.
        start, intervals = 0.0, list[tuple[str, float, float]]()
        for device in devices:
            intervals.append((device.id, start, start + shares[device.id]))
            start += shares[device.id]
    counts = layers_of_intervals(intervals, problem.config.n_layers)
    why = [f"{device.name} has {shares[device.id]:.0%} of the memory" for device in devices]
    return fitted(problem, devices, counts, strategy="ring-memory-weighted", why=(*why, *notes))
