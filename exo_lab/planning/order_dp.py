"""The best cut for devices in a given order, exactly, by dynamic programming over layers. Pure; NumPy for speed.

best[k][j] is the least sum of layers [0, j) when the k-th device of the order is the last that is used; the next used
device takes [j, j'). `Batch` does it for many orders at once, every device of each used: the neighbourhood of a local
search costs little more than one order. `thinned` does it for one order whose devices may be left out; the hop that
closes the ring depends on which device came first, so it keeps one column for each first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.planning.window_min import window_min

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from exo_lab.planning.minimise import Solver
    from exo_lab.planning.tables import Cut, Tables, Windows


class Batch:
    """Many orders of equally many devices, cut at once.

    Args:
        tables: of the problem.
        orders: int (n, m): places in ring order.
        windows: what is allowed; one for all orders, or one for each.
    """

    def __init__(self, tables: Tables, orders: np.ndarray, windows: Sequence[Windows]) -> None:
        import numpy as np

        self.tables, self.orders = tables, orders
        self._shared = len(windows) == 1
        self._which = np.zeros(len(orders), dtype=np.int64) if self._shared else np.arange(len(orders))
        self._lo = np.stack([one.lo for one in windows])  # (w, D, L + 1)
        self._windows = windows
        self._best: list[np.ndarray] = []
        self.sums = self._solve()

    def _pick(self, name: str, *index: np.ndarray) -> np.ndarray:
        import numpy as np

        if self._shared:
            return getattr(self._windows[0], name)[index]
        return np.stack([getattr(one, name) for one in self._windows])[(self._which, *index)]

    def _solve(self) -> np.ndarray:
        """The least sum of each order; infinite where it does not fit."""
        import numpy as np

        figure, layers = self.tables.sum, self.tables.layers
        first = self.orders[:, 0]
        stages = self.orders.shape[1]
        if stages == 1:
            total = figure.before[first, layers] + figure.fixed[first] + figure.first[first] + figure.last[first]
            return np.where(self._pick("solo", first), total, np.inf)
        position = np.arange(layers + 1)[:, None]
        best = figure.before[first].T + (figure.fixed[first] + figure.first[first])
        best[(position == 0) | (position > self._pick("first_hi", first))] = np.inf
        self._best = [best]
        for stage in range(1, stages - 1):
            d, earlier = self.orders[:, stage], self.orders[:, stage - 1]
            before = figure.before[d].T
            hop = np.where(self._pick("hop", earlier, d), figure.hop[earlier, d], np.inf)
            best = window_min(best - before, self._lo[self._which, d].T) + before + (figure.fixed[d] + hop)
            best[layers] = np.inf
            self._best.append(best)
        d, earlier = self.orders[:, -1], self.orders[:, -2]
        left = best - figure.before[d].T
        left[(position < self._pick("last_lo", d)) | (position == layers)] = np.inf
        hop = np.where(self._pick("hop", earlier, d), figure.hop[earlier, d], np.inf)
        back = np.where(self._pick("back", d, first), figure.back[d, first], np.inf)
        return left.min(0) + figure.before[d, layers] + (figure.fixed[d] + figure.last[d]) + hop + back

    def cut(self, row: int) -> Cut | None:
        """The best cut of one order; None if it does not fit."""
        import numpy as np

        if not np.isfinite(self.sums[row]):
            return None
        order, layers = self.orders[row], self.tables.layers
        cuts = [layers]
        for stage in range(len(order) - 1, 0, -1):
            d, end = order[stage], cuts[-1]
            if end == layers:
                start = int(self._pick("last_lo", self.orders[:, stage])[row])
            else:
                start = int(self._lo[self._which[row], d, end])
            left = self._best[stage - 1][start:end, row] - self.tables.sum.before[d, start:end]
            cuts.append(start + int(left.argmin()))
        places = [int(place) for place in order]
        return self.tables.cut(places, [0, *reversed(cuts)])


def order_solver(tables: Tables, order: Sequence[int]) -> Solver:
    """For an order of which every device is used."""
    import numpy as np

    def solve(limits: Sequence[tuple[float, ...]], below: Sequence[float]) -> list[Cut | None]:
        batch = Batch(tables, np.array([order] * len(limits)), [tables.windows(limit) for limit in limits])
        return [batch.cut(row) if batch.sums[row] < most else None for row, most in enumerate(below)]

    return solve


def thinned_solver(tables: Tables, order: Sequence[int]) -> Solver:
    """For an order whose devices may be left out, but for those that must be used."""

    def solve(limits: Sequence[tuple[float, ...]], below: Sequence[float]) -> list[Cut | None]:
        found = [thinned(tables, order, tables.windows(limit)) for limit in limits]
        return [cut if cut is not None and cut.sum < most else None for cut, most in zip(found, below, strict=True)]

    return solve


def thinned(tables: Tables, order: Sequence[int], windows: Windows) -> Cut | None:
    """The least sum of layers over an order whose devices may be left out; None if nothing fits."""
    import numpy as np

    figure, layers, count = tables.sum, tables.layers, len(order)
    must = [k for k, place in enumerate(order) if tables.must[place]]
    firsts = range(must[0] + 1 if must else count)
    column = {k: at for at, k in enumerate(firsts)}
    position = np.arange(layers + 1)[:, None]
    best: list[np.ndarray] = []
    end = (float("inf"), -1, -1)
    for k, d in enumerate(order):
        here = np.full((layers + 1, len(firsts)), np.inf)
        earliest = max((m for m in must if m < k), default=0)  # nothing that must be used is jumped over
        before = figure.before[d][:, None]
        reached = np.full((layers + 1, len(firsts)), np.inf)
        for earlier in range(earliest, k):
            if windows.hop[order[earlier], d]:
                np.minimum(reached, best[earlier] + figure.hop[order[earlier], d], out=reached)
        reached -= before
        here = window_min(reached, windows.lo[d]) + before + figure.fixed[d]
        here[layers] = np.inf
        last = not must or k >= must[-1]
        if k:
            backs = np.array([
                figure.back[d, order[first]] if windows.back[d, order[first]] else np.inf for first in firsts
            ])  # fmt: skip
            left = np.where((position >= windows.last_lo[d]) & (position < layers), reached, np.inf).min(0)
            ends = left + figure.before[d, layers] + (figure.fixed[d] + figure.last[d]) + backs
            if last and float(ends.min()) < end[0]:
                end = (float(ends.min()), k, int(ends.argmin()))
        if k in column:
            alone = figure.before[d] + (figure.fixed[d] + figure.first[d])
            at = np.arange(layers + 1)
            here[:, column[k]] = np.where((at > 0) & (at <= windows.first_hi[d]), alone, np.inf)
            solo = float(figure.before[d, layers] + figure.fixed[d] + figure.first[d] + figure.last[d])
            if must in ([], [k]) and windows.solo[d] and solo < end[0]:
                end = (solo, k, -1)
        best.append(here)
    _, k, first = end
    if k < 0:
        return None
    if first < 0:
        return tables.cut([order[k]], [0, layers])
    return _traced(tables, order, windows, best, k, first, column)


def _traced(
    tables: Tables,
    order: Sequence[int],
    windows: Windows,
    best: Sequence[np.ndarray],
    k: int,
    first: int,
    column: dict[int, int],
) -> Cut:
    figure, layers = tables.sum, tables.layers
    places, cuts = [order[k]], [layers]
    first_k = next(at for at, number in column.items() if number == first)
    while k != first_k:
        d, end = order[k], cuts[-1]
        start = int(windows.last_lo[d] if end == layers else windows.lo[d, end])
        options: list[tuple[float, int, int]] = []
        must = [m for m, place in enumerate(order) if tables.must[place] and m < k]
        for earlier in range(max(must, default=0), k):
            if windows.hop[order[earlier], d]:
                left = best[earlier][start:end, first] + figure.hop[order[earlier], d] - figure.before[d, start:end]
                options.append((float(left.min()), earlier, start + int(left.argmin())))
        _, k, cut = min(options)
        places.append(order[k])
        cuts.append(cut)
    return tables.cut(list(reversed(places)), [0, *reversed(cuts)])
