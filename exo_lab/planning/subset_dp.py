"""The best plan over every order and every subset of devices, exactly. Pure; NumPy for speed.

Held and Karp's subset dynamic programming (1962) with layers as a further coordinate: best[S][k][j] is the least cost
of covering layers [0, j) with the devices of S, k last. O(2^D D^2 L^2) for each first device, so for few devices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.planning.order_dp import Cut, Tables, minimise

if TYPE_CHECKING:
    import numpy as np


def best_order(tables: Tables) -> Cut | None:
    """The best of all orders of all subsets of the devices; None if nothing fits."""

    def cheapest(limit: float) -> Cut | None:
        found = (_cheapest_from(tables, first, limit) for first in range(tables.count))
        return min(
            (cut for cut in found if cut is not None),
            key=lambda cut: (cut.value, len(cut.places), cut.places),
            default=None,
        )

    return minimise(tables, cheapest)


def _cheapest_from(tables: Tables, first: int, limit: float) -> Cut | None:
    import numpy as np

    add, layers, count = tables.limited(limit), tables.layers, tables.count
    best: dict[tuple[int, int], np.ndarray] = {(1 << first, first): add[first, 0].copy()}
    came: dict[tuple[int, int], np.ndarray] = {}
    columns = np.arange(layers + 1)
    for subset in range(1 << count):
        for k in range(count):
            here = best.get((subset, k))
            if here is None or not np.isfinite(here).any():
                continue
            for following in range(count):
                if subset >> following & 1 or tables.hop_peak[k, following] > limit:
                    continue
                reached = here[:, None] + (add[following] + tables.hop_add[k, following])
                at = reached.argmin(0)
                values = reached[at, columns]
                key = (subset | 1 << following, following)
                known = best.get(key)
                if known is None:
                    best[key] = values
                    came[key] = np.stack((np.full(layers + 1, k), at), -1)
                else:
                    better = values < known
                    known[better] = values[better]
                    came[key][better] = np.stack((np.full(layers + 1, k), at), -1)[better]
    end: tuple[float, int, int] | None = None
    for (subset, k), values in best.items():
        if k != first and tables.back_peak[k, first] > limit:
            continue
        value = float(values[layers]) + (float(tables.back_add[k, first]) if k != first else 0.0)
        if np.isfinite(value) and (end is None or (value, subset, k) < end):
            end = (value, subset, k)
    if end is None:
        return None
    value, subset, k = end
    places, cuts, at = [k], [layers], layers
    while k != first:
        earlier, before = (int(part) for part in came[subset, k][at])
        subset, k, at = subset & ~(1 << k), earlier, before
        places.append(k)
        cuts.append(at)
    return Cut(value, tuple(reversed(places)), (0, *reversed(cuts)))
