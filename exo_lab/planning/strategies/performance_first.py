"""Shares by compute: the more layers a second a device does, the more it gets, within its memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.planning.allocate import largest_remainder
from exo_lab.planning.cost import Costs
from exo_lab.planning.strategies.base import connected, fitted

if TYPE_CHECKING:
    from exo_lab.core.plan import Plan
    from exo_lab.planning.problem import Problem


def plan(problem: Problem) -> Plan:
    """See `choose.choose`. The fastest device comes first unless the user gave an order."""
    devices, notes = connected(problem)
    costs = Costs(problem, devices)
    # Layers a second: the same number that the cost model uses, so measured speeds count where there are some.
    rate = {device.id: 1 / max(costs.before(place)[-1], 1e-12) for place, device in enumerate(devices)}
    if not problem.order:
        devices.sort(key=lambda device: (-rate[device.id], device.id))
    counts = largest_remainder([rate[device.id] for device in devices], problem.config.n_layers)
    total = sum(rate.values())
    why = [f"{device.name} does {rate[device.id] / total:.0%} of the computing" for device in devices]
    return fitted(problem, devices, counts, strategy="performance-first", why=(*why, *notes))
