"""Orders of a set of devices: short rings, begun where that is good. Pure and deterministic; NumPy for speed.

For one request the layers of a device cost the same wherever it stands, so the order is settled by the hops (a
travelling salesman's round trip, but that the closing hop carries only a token) and by what stands on the ends.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from exo_lab.planning.tables import Tables

MAX_ROUNDS = 200


def hop_costs(tables: Tables) -> np.ndarray:
    """What a hop adds to the objective, about: (D, D)."""
    cost = tables.sum.hop.copy()
    for peak in tables.peaks:
        # A slow link matters as the slowest only; its share keeps it out of rings that can do without.
        cost = cost + peak.weight * peak.hop
    return cost


def short_ring(cost: np.ndarray, places: Sequence[int]) -> list[int]:
    """A short round trip: nearest neighbour, then 2-opt (Croes 1958), then moves of one device."""
    import numpy as np

    chosen = np.array(sorted(places))
    sub = cost[np.ix_(chosen, chosen)]
    off = sub[~np.eye(len(chosen), dtype=bool)]
    if len(chosen) < 4 or float(off.max()) - float(off.min()) <= 1e-9 * float(off.max()):
        return [int(place) for place in chosen]
    finite = np.where(np.isfinite(sub), sub, 1e6)
    ring = _two_opt(finite, _nearest(finite))
    ring = _or_opt(finite, ring)
    return [int(place) for place in chosen[ring]]


def _nearest(cost: np.ndarray) -> list[int]:
    import numpy as np

    left = np.ones(len(cost), dtype=bool)
    ring = [0]
    left[0] = False
    for _ in range(len(cost) - 1):
        ring.append(int(np.where(left, cost[ring[-1]], np.inf).argmin()))
        left[ring[-1]] = False
    return ring


def _two_opt(cost: np.ndarray, ring: list[int]) -> list[int]:
    """Reverse the part whose reversal saves most, while one does."""
    import numpy as np

    count = len(ring)
    order = np.array(ring)
    upper = np.triu(np.ones((count, count), dtype=bool), 2)
    upper[0, count - 1] = False
    for _ in range(MAX_ROUNDS):
        following = np.roll(order, -1)
        here = cost[order, following]
        saved = here[:, None] + here[None, :] - cost[np.ix_(order, order)] - cost[np.ix_(following, following)]
        saved[~upper] = 0.0
        at = int(saved.argmax())
        i, j = divmod(at, count)
        if saved[i, j] <= 1e-12 * float(cost.max()):
            break
        order[i + 1 : j + 1] = order[i + 1 : j + 1][::-1].copy()
    return [int(place) for place in order]


def _or_opt(cost: np.ndarray, ring: list[int]) -> list[int]:
    """Move the one device elsewhere whose move saves most, while one does."""
    import numpy as np

    count = len(ring)
    for _ in range(MAX_ROUNDS):
        order = np.array(ring)
        before, following = np.roll(order, 1), np.roll(order, -1)
        freed = cost[before, order] + cost[order, following] - cost[before, following]
        # added[i, j]: device i put between j and the one that follows j
        added = cost[np.ix_(order, order)] + cost[np.ix_(order, following)] - cost[order, following][None, :]
        saved = freed[:, None] - added
        saved[np.arange(count), np.arange(count)] = 0.0
        saved[np.arange(count), np.arange(count) - 1] = 0.0
        i, j = divmod(int(saved.argmax()), count)
        if saved[i, j] <= 1e-12 * float(cost.max()):
            break
        moved, after = ring[i], ring[j]
        ring = [place for place in ring if place != moved]
        ring.insert(ring.index(after) + 1, moved)
    return ring


def beginnings(tables: Tables, ring: Sequence[int], most: int) -> list[list[int]]:
    """The ring begun at each device, both ways, the most promising first: a long hop closes it, the ends are fast."""
    count = len(ring)
    if count == 1:
        return [list(ring)]
    figure = tables.sum
    options: list[tuple[float, tuple[int, ...]]] = []
    for way in (list(ring), list(reversed(ring))):
        for start in range(count):
            order = tuple(way[start:] + way[:start])
            first, last = order[0], order[-1]
            back = float(figure.back[last, first])
            # Two that do not reach each other close no ring: such an order comes last.
            gained = float(figure.hop[last, first]) - back if math.isfinite(back) else -math.inf
            options.append((float(figure.first[first] + figure.last[last]) - gained, order))
    unique = dict.fromkeys(order for _, order in sorted(options))
    return [list(order) for order in unique][:most]


def link_groups(cost: np.ndarray, most: int) -> list[list[int]]:
    """Groups of devices that are near each other, for several ideas of near (single linkage)."""
    import numpy as np

    count = len(cost)
    rows, columns = np.triu_indices(count, 1)
    lengths = cost[rows, columns]
    levels = np.unique(lengths[np.isfinite(lengths)])
    if len(levels) < 2:
        return []
    found: dict[tuple[int, ...], None] = {}
    for level in levels[np.unique(np.linspace(0, len(levels) - 2, most).astype(int))]:
        near = cost <= level
        left = set(range(count))
        while left:
            group = np.zeros(count, dtype=bool)
            group[min(left)] = True
            while True:
                wider = group | near[group].any(0)
                if (wider == group).all():
                    break
                group = wider
            members = tuple(int(place) for place in np.flatnonzero(group))
            left -= set(members)
            if 1 < len(members) < count:
                found[members] = None
    return [list(members) for members in found]
