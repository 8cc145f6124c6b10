"""Every device the same number of layers, as nearly as whole layers allow. The baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.planning.allocate import largest_remainder
from exo_lab.planning.strategies.base import by_memory, fitted

if TYPE_CHECKING:
    from exo_lab.core.plan import Plan
    from exo_lab.planning.problem import Problem


def plan(problem: Problem) -> Plan:
    """See `choose.choose`."""
    devices, notes = by_memory(problem)
    counts = largest_remainder([1.0] * len(devices), problem.config.n_layers)
    return fitted(problem, devices, counts, strategy="uniform", why=("every device gets the same share", *notes))
