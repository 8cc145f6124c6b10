"""A good plan for many devices: local search that starts from what a relaxed problem would use. Pure and deterministic.

Candidates come from the knapsack of `bound` over all devices and over groups that are near each other; each is made a
short ring (`rings`), begun where that is good, and cut exactly (`order_dp`). Then moves, a whole neighbourhood at once:
swap two, move one, reverse a part, leave one out, take one in, replace one. The work is bounded by a count, never by a
clock, so that every node finds the same plan.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from exo_lab.planning.bound import Relaxation
from exo_lab.planning.minimise import minimise
from exo_lab.planning.order_dp import Batch, order_solver
from exo_lab.planning.rings import beginnings, hop_costs, link_groups, short_ring

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np

    from exo_lab.planning.tables import Cut, Tables

GROUPS = 6  # ideas of near
SETS = 6  # candidate sets that are tried
BATCH_CELLS = 400_000  # (orders x stages x layers) of one neighbourhood
ROUNDS = 6  # neighbourhoods
ROUGHLY = 0.03  # relative: how exactly the value of a group of devices is estimated
NEAR = 1.05  # relative to the best: what is worth an exact cut
TAKEN = 2  # orders of a neighbourhood that are cut exactly
AT_ONCE = 8  # limits on the peaks that one call of a solver looks at


class Search:
    """The best plan found so far, and ways to better it."""

    def __init__(self, tables: Tables, relaxed: Cut | None) -> None:
        self.tables, self.relaxed = tables, relaxed
        self.best: Cut | None = None
        self._cost = hop_costs(tables)
        self._tried: set[tuple[int, ...]] = set()

    def offer(self, cut: Cut | None) -> bool:
        """Keep a solution if it is the best so far."""
        if cut is None or (self.best is not None and cut.rank >= self.best.rank):
            return False
        self.best = cut
        return True

    def proven(self, bound: float) -> bool:
        """Is the best as good as the bound?"""
        return self.best is not None and self.best.value <= bound * (1 + 1e-9)

    def start(self) -> None:
        """Try the candidate sets."""
        for places in self._sets():
            self._try(beginnings(self.tables, short_ring(self._cost, places), self._width(len(places))))
            if self.relaxed is not None and self.proven(self.relaxed.value):
                return

    def _sets(self) -> Iterable[tuple[int, ...]]:
        """Sets of devices worth trying, by the value that they would have if nothing stood in the way."""
        if self.relaxed is None:
            return []
        found: dict[tuple[int, ...], float] = {tuple(sorted(self.relaxed.places)): self.relaxed.value}
        for group in link_groups(self._cost, GROUPS):
            if any(needed and place not in group for place, needed in enumerate(self.tables.must)):
                continue
            relaxed = Relaxation(self.tables, group).best(ROUGHLY)
            if relaxed is not None:
                places = tuple(sorted(relaxed.places))
                found[places] = min(relaxed.value, found.get(places, float("inf")))
        return sorted(found, key=lambda places: (found[places], len(places), places))[:SETS]

    def _width(self, stages: int) -> int:
        """How many orders of so many stages are looked at together."""
        return max(4, BATCH_CELLS // (stages * (self.tables.layers + 1)))

    # -- orders ----------------------------------------------------------------------------------------------

    def _try(self, orders: Sequence[Sequence[int]]) -> bool:
        """Cut orders of equally many devices; is one of them the best so far?"""
        import numpy as np

        fresh = [tuple(order) for order in orders if tuple(order) not in self._tried]
        if not fresh:
            return False
        self._tried.update(fresh)
        array = np.array(fresh)
        better = False
        for row in self._promising(array):
            solve = order_solver(self.tables, fresh[row])
            better |= self.offer(minimise(self.tables, solve, start=self.best, at_once=AT_ONCE))
        return better

    def _promising(self, orders: np.ndarray) -> list[int]:
        """The rows that look best with every peak within some limits; without peaks, the best."""
        import numpy as np

        tables = self.tables
        if not tables.peaks:
            sums = Batch(tables, orders, [tables.windows()]).sums
            row = int(sums.argmin())
            return [row] if np.isfinite(sums[row]) and (self.best is None or sums[row] < self.best.value) else []
        limits = self._limits()
        values = np.full((len(limits), len(orders)), np.inf)
        for at, limit in enumerate(limits):
            sums = Batch(tables, orders, [tables.windows(limit)]).sums
            penalty = sum(
                peak.weight * one for peak, one in zip(tables.peaks, limit, strict=True) if one < float("inf")
            )
            values[at] = (sums if tables.sum_counts else np.where(np.isfinite(sums), 0.0, np.inf)) + penalty
            if not tables.sum_counts and not np.isfinite(sums).any():
                break  # nothing is as low as that, let alone lower
        least = values.min(0)
        # The limits only sample the trade between sum and peak: what comes near may be better, once cut exactly.
        near = NEAR if tables.sum_counts and self.best is not None else 1.0
        worst = near * (self.best.value if self.best is not None else float("inf"))
        return [int(row) for row in np.argsort(least, kind="stable")[:TAKEN] if least[row] < worst]

    def _limits(self) -> list[tuple[float, ...]]:
        if self.best is None:
            return [(float("inf"),) * len(self.tables.peaks)]
        shares = (1.25, 1 - 1e-9, 0.85, 0.7) if self.tables.sum_counts else (1 - 1e-6, 0.9)
        return [tuple(peak * share for peak in self.best.peaks) for share in shares]

    # -- neighbourhoods --------------------------------------------------------------------------------------

    def improve(self, bound: float, rounds: int = ROUNDS) -> None:
        """Move on while a neighbour is better."""
        for _ in range(rounds):
            if self.best is None or self.proven(bound):
                return
            order = self.best.places
            better = self._try(self._thin(_same_set(order), len(order)))
            if len(order) > 1:
                out = [order[:i] + order[i + 1 :] for i in range(len(order)) if not self.tables.must[order[i]]]
                better |= self._try(out) if out else False
            better |= self._try(self._thin(self._replaced(order), len(order)))
            if len(order) < min(self.tables.count, self.tables.layers):
                better |= self._try(self._thin(self._wider(order), len(order) + 1))
            if not better:
                return

    def _thin(self, orders: Iterable[tuple[int, ...]], stages: int) -> list[tuple[int, ...]]:
        """As many of the orders as may be looked at together, evenly chosen."""
        unique = list(dict.fromkeys(orders))
        width = self._width(stages)
        return unique if len(unique) <= width else [unique[i * len(unique) // width] for i in range(width)]

    def _outside(self, order: Sequence[int]) -> list[int]:
        """Devices that are not used, the fastest first."""
        before = self.tables.sum.before[:, -1]
        others = [place for place in range(self.tables.count) if place not in order]
        return sorted(others, key=lambda place: (float(before[place]), place))[:12]

    def _replaced(self, order: tuple[int, ...]) -> Iterable[tuple[int, ...]]:
        for other in self._outside(order):
            for i, place in enumerate(order):
                if not self.tables.must[place]:
                    yield (*order[:i], other, *order[i + 1 :])

    def _wider(self, order: tuple[int, ...]) -> Iterable[tuple[int, ...]]:
        for other in self._outside(order):
            for i in range(len(order) + 1):
                yield (*order[:i], other, *order[i:])


def _same_set(order: tuple[int, ...]) -> Iterable[tuple[int, ...]]:
    """Two swapped, one moved, a part reversed."""
    count = len(order)
    for i, j in itertools.combinations(range(count), 2):
        yield (*order[:i], order[j], *order[i + 1 : j], order[i], *order[j + 1 :])
        yield (*order[:i], *reversed(order[i : j + 1]), *order[j + 1 :])
        yield (*order[:i], *order[i + 1 : j + 1], order[i], *order[j + 1 :])
        yield (*order[:i], order[j], *order[i:j], *order[j + 1 :])
