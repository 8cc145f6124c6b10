"""A value that no plan can beat, and the set of devices that would reach it. Pure; NumPy for speed.

The problem is relaxed until the order does not matter: a device with n layers takes the n contiguous layers that suit
it best, time and memory apart, and a hop costs either of its devices half of what its cheapest hops cost. What is left
is a knapsack: how many layers for each device, one of them first, one last. If all layers are equal and all hops too,
nothing was relaxed: the bound is the optimum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exo_lab.planning.minimise import TOLERANCE, minimise
from exo_lab.planning.tables import SLACK, Cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from exo_lab.planning.tables import Figure, Tables

FLAGS = ("between", "first", "last")


class _Costs(NamedTuple):
    """Least cost of n layers on each device, (3, D, L + 1): between, first, last; and of all layers alone (D,)."""

    by_count: np.ndarray
    solo: np.ndarray


class Relaxation:
    """The relaxed problem of some devices.

    Args:
        tables: of the problem.
        places: the devices; all if None. Hops to others do not count.
    """

    def __init__(self, tables: Tables, places: Sequence[int] | None = None) -> None:
        import numpy as np

        self.tables = tables
        self.places = np.arange(tables.count) if places is None else np.array(places, dtype=np.int64)
        self._sum = self._costs(tables.sum, hops=True)
        self._peaks = [self._costs(peak, hops=False) for peak in tables.peaks]
        self._memory = self._fitting()
        self._must = [tables.must[place] for place in self.places]
        if sum(self._must):
            self._solo &= np.array(self._must) & (sum(self._must) == 1)

    def _costs(self, figure: Figure, *, hops: bool) -> _Costs:
        import numpy as np

        places, layers = self.places, self.tables.layers
        before = figure.before[places]
        fixed = figure.fixed[places][:, None]
        spread = np.stack([(before[:, n:] - before[:, : layers + 1 - n]).min(1) for n in range(layers + 1)], 1)
        between = spread + fixed
        first = before + (fixed + figure.first[places][:, None])
        last = before[:, layers:] - before[:, ::-1] + (fixed + figure.last[places][:, None])
        solo = before[:, layers] + (figure.fixed[places] + figure.first[places] + figure.last[places])
        if hops and len(places) > 1:
            # A stage between has two hops, one on the ends has one; either end of a hop bears half of it.
            apart = np.where(np.eye(len(places), dtype=bool), np.inf, 0.0)
            onward = np.sort(figure.hop[np.ix_(places, places)] + apart, axis=1)
            back = (figure.back[np.ix_(places, places)] + apart).min(1)
            between = between + (onward[:, :1] + onward[:, 1:2]) / 2
            first = first + onward[:, :1] / 2
            last = last + onward[:, :1] / 2 + back[:, None]
        by_count = np.stack([between, first, last])
        by_count[:, :, 0] = np.inf
        return _Costs(by_count, solo)

    def _fitting(self) -> np.ndarray:
        """Does the memory hold n layers: bool (3, D, L + 1); and all of them alone, in `_solo`."""
        import numpy as np

        tables, places, layers = self.tables, self.places, self.tables.layers
        windows = tables.windows()
        counts = np.arange(layers + 1)
        ends = np.arange(layers + 1)
        most = (ends - windows.lo[places])[:, 1:layers].max(1, initial=0)
        between = counts <= most[:, None]
        first = counts <= windows.first_hi[places][:, None]
        last = counts <= (layers - windows.last_lo[places])[:, None]
        self._solo = windows.solo[places]
        return np.stack([between, first, last])

    def capacity(self, limit: float, peak: int = 0) -> int:
        """How many layers there is room for with one peak within a limit; no plan of several stages holds more."""
        import numpy as np

        held = self._memory & (self._peaks[peak].by_count <= limit)
        counts = np.arange(self.tables.layers + 1)
        between, first, last = (held * counts).max(2)
        if len(between) == 1:
            return 0
        gain_first = np.where(first > 0, first - between, -self.tables.layers * len(between))
        gain_last = np.where(last > 0, last - between, -self.tables.layers * len(between))
        order = np.argsort(-gain_last, kind="stable")
        best_last = np.where(np.arange(len(between)) == order[0], gain_last[order[1]], gain_last[order[0]])
        return int(between.sum() + (gain_first + best_last).max())

    def solve(self, limits: Sequence[tuple[float, ...]], below: Sequence[float]) -> list[Cut | None]:
        """The least relaxed sum under limits on the peaks: a `minimise.Solver`; places unordered, cuts are counts."""
        found = [self._solve_one(limit) for limit in limits]
        return [cut if cut is not None and cut.sum < most else None for cut, most in zip(found, below, strict=True)]

    def _solve_one(self, limits: Sequence[float]) -> Cut | None:
        import numpy as np

        layers, count = self.tables.layers, len(self.places)
        allowed, alone = self._memory, self._solo
        for peak, limit in zip(self._peaks, limits, strict=False):
            most = limit * (1 + SLACK)
            allowed = allowed & (peak.by_count <= most)
            alone = alone & (peak.solo <= most)
        cost = np.where(allowed, self._sum.by_count, np.inf)  # (3, D, n)
        counts = np.arange(layers + 1)
        most = np.where(np.isfinite(cost), counts, 0).max((0, 2))  # layers that a device can get at all
        # before[state, n, c] is a view of the sums of n - c layers, infinite for fewer than none.
        padded = np.full((4, 2 * layers + 1), np.inf)
        best = padded[:, layers:]  # states: neither end placed, first, last, both
        best[0, 0] = 0.0
        wide, narrow = padded.strides
        before = np.lib.stride_tricks.as_strided(best, (4, layers + 1, layers + 1), (wide, narrow, -narrow))
        steps = [best.copy()]
        for d in range(count):
            size = int(most[d]) + 1
            between, first, last = cost[:, d, :size]
            reached = np.full((4, layers + 1), np.inf) if self._must[d] else best.copy()
            if size > 1:
                np.minimum(reached, (before[:, :, :size] + between).min(2), out=reached)
                np.minimum(reached[1::2], (before[0::2, :, :size] + first).min(2), out=reached[1::2])
                np.minimum(reached[2:], (before[:2, :, :size] + last).min(2), out=reached[2:])
            best[:] = reached
            steps.append(reached)
        solo = np.where(alone, self._sum.solo, np.inf)
        at = int(solo.argmin())
        if solo[at] <= steps[-1][3, layers]:
            return self._cut([at], [layers], [-1], float(solo[at])) if np.isfinite(solo[at]) else None
        return self._traced(steps, cost)

    def _traced(self, steps: Sequence[np.ndarray], cost: np.ndarray) -> Cut:
        state, n = 3, self.tables.layers
        chosen: list[int] = []
        counts: list[int] = []
        kinds: list[int] = []
        for d in range(len(steps) - 2, -1, -1):
            here, earlier = steps[d + 1][state, n], steps[d]
            if earlier[state, n] == here and not self._must[d]:
                continue
            options: list[tuple[float, int, int, int]] = []
            for kind, bit in ((0, 0), (1, 1), (2, 2)):
                if bit and not state & bit:
                    continue
                sums = earlier[state & ~bit, : n + 1] + cost[kind, d, n::-1]
                at = int(sums.argmin())
                options.append((float(sums[at]), kind, at, state & ~bit))
            _, kind, at, before = min(options)
            chosen.append(d)
            counts.append(n - at)
            kinds.append(kind)
            state, n = before, at
        return self._cut(chosen, counts, kinds, float(steps[-1][3, self.tables.layers]))

    def _cut(self, chosen: Sequence[int], counts: Sequence[int], kinds: Sequence[int], total: float) -> Cut:
        peaks: list[float] = []
        value = total if self.tables.sum_counts else 0.0
        for peak, figure in zip(self._peaks, self.tables.peaks, strict=True):
            heights = [
                float(peak.solo[d] if kind < 0 else peak.by_count[kind, d, count])
                for d, count, kind in zip(chosen, counts, kinds, strict=True)
            ]
            peaks.append(max(heights))
            value += figure.weight * peaks[-1]
        places = tuple(int(self.places[d]) for d in chosen)
        return Cut(value, places, tuple(counts), total, tuple(peaks))

    def best(self, tolerance: float = TOLERANCE) -> Cut | None:
        """The relaxed optimum, within a tolerance: its value bounds every plan's. None if even so nothing fits."""
        floor = self.floor()
        if float("inf") in floor:
            return None
        if not self.tables.sum_counts and len(floor) == 1:
            found = self.solve([floor], [float("inf")])[0]
            if found is not None:
                return found
        return minimise(self.tables, self.solve, floor=floor, tolerance=tolerance)

    def floor(self) -> tuple[float, ...]:
        """No plan has lower peaks than these; infinite if nothing fits."""
        return tuple(self._least_peak(peak) for peak in range(len(self._peaks)))

    def ceiling(self, known: Cut | None) -> tuple[float, ...]:
        """No plan better than a known one has higher peaks: its sum alone would be too much. Empty: no limit."""
        if known is None or not self._peaks:
            return ()
        least = self._solve_one([float("inf")] * len(self._peaks))
        rest = known.value - (least.sum if least is not None and self.tables.sum_counts else 0.0)
        return tuple(rest / peak.weight for peak in self.tables.peaks)

    def _least_peak(self, peak: int) -> float:
        """The lowest peak under which there is room for all layers: capped water-filling, as Parallax has it."""
        import numpy as np

        costs = self._peaks[peak]
        alone = np.where(self._solo, costs.solo, np.inf).min()
        heights = np.unique(costs.by_count[self._memory & np.isfinite(costs.by_count)])
        low, high = 0, len(heights)
        while low < high:
            middle = (low + high) // 2
            if self.capacity(float(heights[middle]) * (1 + SLACK), peak) >= self.tables.layers:
                high = middle
            else:
                low = middle + 1
        return min(float(alone), float(heights[low]) if low < len(heights) else float("inf"))
