"""Layer counts that the memories hold, as near as can be to counts that were wanted. Pure; NumPy for speed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.planning.cost import Costs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from exo_lab.core.device import Device
    from exo_lab.planning.problem import Problem


def nearest_counts(
    problem: Problem, devices: Sequence[Device], counts: Sequence[int], must: Sequence[bool]
) -> tuple[int, ...] | None:
    """Counts with the least sum of squared differences, every range of layers within its device's memory.

    The memory is that of the very layers that a device would hold, embedding and head included, so whatever can be held
    in this order is found. Dynamic programming over devices and layers, O(D L^2).

    Args:
        problem: model, context and margins.
        devices: in ring order.
        counts: wanted, one a device; they add up to the layers.
        must: devices that need at least one layer. A device that was to get layers keeps one if it can.

    Returns:
        The counts themselves if they fit; None if nothing does.
    """
    costs, layers = Costs(problem, devices), problem.config.n_layers
    if _holds(costs, counts) and all(count or not needed for count, needed in zip(counts, must, strict=True)):
        return tuple(counts)
    import numpy as np

    held = np.arange(layers + 1)[None, :] - np.arange(layers + 1)[:, None]  # layers of (start, end)
    best = np.full(layers + 1, np.inf)
    best[0] = 0.0
    came: list[np.ndarray] = []
    for place, (device, count, needed) in enumerate(zip(devices, counts, must, strict=True)):
        cost = (held - count).astype(np.float64) ** 2
        cost[held < 0] = np.inf
        if not problem.force:
            cost[(held > 0) & (_sizes(costs, place) > problem.room_bytes(device))] = np.inf
        cost[held == 0] = np.inf if needed else count**2 + (layers**2 if count else 0)
        reached = best[:, None] + cost
        came.append(reached.argmin(0))
        best = reached.min(0)
    if not np.isfinite(best[layers]):
        return None
    found: list[int] = []
    end = layers
    for start_of in reversed(came):
        start = int(start_of[end])
        found.append(end - start)
        end = start
    return tuple(reversed(found))


def _sizes(costs: Costs, place: int) -> np.ndarray:
    """Memory of every range of layers on a device: int64 (start, end)."""
    import numpy as np

    before, held = np.array(costs.memory_before[place], dtype=np.int64), costs.held[place]
    size = before[None, :] - before[:, None] + costs.problem.activation_bytes
    size[0] += held.embedding
    size[:, -1] += held.head
    size[0, -1] -= held.shared
    return size


def _holds(costs: Costs, counts: Sequence[int]) -> bool:
    start = 0
    for place, count in enumerate(counts):
        if count and not costs.fits(place, start, start + count):
            return False
        start += count
    return True
