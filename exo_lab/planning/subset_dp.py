"""The best plan over every order and every subset of devices, exactly. Pure; NumPy for speed.

Held and Karp's subset dynamic programming (1962) with layers as a further coordinate: best[first, S, k][j] is the least
sum of layers [0, j) with the devices of S, k last. The hop that closes the ring depends on the first device, so it is
part of the state. States are kept as columns of one array per size of S, and one that cannot lead to anything better
than a known solution is dropped: what is left to do costs at least what the devices outside S can do at their best
within their memory. Without that it is O(2^D D^3 L); with it, a small part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exo_lab.planning.window_min import window_min

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from exo_lab.planning.minimise import Solver
    from exo_lab.planning.tables import Cut, Tables, Windows


class _Level(NamedTuple):
    """All states of one size: (n,) first device, (n,) devices used as bits, (n,) last device, (L + 1, n) least sums."""

    first: np.ndarray
    used: np.ndarray
    last: np.ndarray
    best: np.ndarray


class TooLarge(Exception):
    """More work than was allowed. Stays inside the planner, which falls back on what its search found."""


class _Work:
    """Counts states times layers."""

    def __init__(self, most: float) -> None:
        self.left = most

    def spend(self, cells: int) -> None:
        self.left -= cells
        if self.left < 0:
            raise TooLarge


def subset_solver(tables: Tables, cells: float = float("inf"), relaxed: Solver | None = None) -> Solver:
    """A `minimise.Solver` over all orders of all subsets; TooLarge after so many states times layers.

    `relaxed`: a solver of a relaxed problem, asked first: where even that finds nothing, nothing is searched.
    """
    work = _Work(cells)

    def one(limit: tuple[float, ...], below: float) -> Cut | None:
        if relaxed is not None and relaxed([limit], [below])[0] is None:
            return None
        return _Subsets(tables, tables.windows(limit), below, work).solve()

    def solve(limits: Sequence[tuple[float, ...]], below: Sequence[float]) -> list[Cut | None]:
        return [one(limit, most) for limit, most in zip(limits, below, strict=True)]

    return solve


class _Subsets:
    def __init__(self, tables: Tables, windows: Windows, below: float, work: _Work) -> None:
        import numpy as np

        self.tables, self.windows, self.below, self.work = tables, windows, below, work
        self.must = sum(1 << place for place, needed in enumerate(tables.must) if needed)
        self.hop = np.where(windows.hop, tables.sum.hop, np.inf)
        self.back = np.where(windows.back, tables.sum.back, np.inf)
        self.end: tuple[float, int, int, int, int] | None = None  # sum, first, used, last, level
        layers, ends = tables.layers, np.arange(tables.layers + 1)
        # For the bound: the most layers of a device as a stage that is not the first, and its least time for one.
        most = (ends - windows.lo)[:, 1:layers].max(1, initial=0)
        self.cap = np.maximum(most, layers - windows.last_lo)
        self.cap[self.cap < 0] = 0
        self.each = np.diff(tables.sum.before, axis=1).min(1)

    def solve(self) -> Cut | None:
        """The best solution with a sum below `below`; None if there is none."""
        import numpy as np

        tables, figure, layers = self.tables, self.tables.sum, self.tables.layers
        places = np.arange(tables.count)
        solo = figure.before[:, layers] + figure.fixed + figure.first + figure.last
        for place in range(tables.count):
            if self.windows.solo[place] and not self.must & ~(1 << place):
                self._ends(float(solo[place]), place, 1 << place, place, 0)
        best = figure.before.T + (figure.fixed + figure.first)
        position = np.arange(layers + 1)[:, None]
        best[(position == 0) | (position > self.windows.first_hi)] = np.inf
        levels = [self._pruned(_Level(places, 1 << places, places, best))]
        while len(levels) < tables.count and len(levels[-1].first):
            levels.append(self._next(levels[-1], len(levels)))
        return None if self.end is None else self._traced(levels)

    def _ends(self, total: float, first: int, used: int, last: int, level: int) -> None:
        if total < self.below and (self.end is None or (total, first, used, last) < self.end[:4]):
            self.end = (total, first, used, last, level)
            self.below = min(self.below, total * (1 + 1e-15))

    def _next(self, level: _Level, number: int) -> _Level:
        """All states with one device more, and the solutions that end with it."""
        import numpy as np

        tables, figure, layers = self.tables, self.tables.sum, self.tables.layers
        found: list[_Level] = []
        position = np.arange(layers + 1)[:, None]
        for d in range(tables.count):
            rows = np.flatnonzero((level.used >> d & 1 == 0) & np.isfinite(self.hop[level.last, d]))
            if not len(rows):
                continue
            self.work.spend(len(rows) * (layers + 1))
            first, used = level.first[rows], level.used[rows] | 1 << d
            # States that differ in the last device only meet here: the best of them goes on.
            order = np.argsort(first << tables.count | used, kind="stable")
            rows, first, used = rows[order], first[order], used[order]
            key = first << tables.count | used
            begins = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
            reached = level.best[:, rows] + self.hop[level.last[rows], d]
            reached = np.minimum.reduceat(reached, begins, axis=1) - figure.before[d][:, None]
            first, used = first[begins], used[begins]
            self._finish(reached, first, used, d, number)
            if number + 1 < tables.count:
                best = window_min(reached, self.windows.lo[d]) + figure.before[d][:, None] + figure.fixed[d]
                best[position[:, 0] >= layers] = np.inf
                found.append(_Level(first, used, np.full(len(first), d), best))
        if not found:
            return _Level(level.first[:0], level.used[:0], level.last[:0], level.best[:, :0])
        merged = _Level(*(np.concatenate([one[i] for one in found], axis=-1) for i in range(4)))
        return self._pruned(merged)

    def _finish(self, reached: np.ndarray, first: np.ndarray, used: np.ndarray, d: int, number: int) -> None:
        import numpy as np

        figure, layers = self.tables.sum, self.tables.layers
        start = int(self.windows.last_lo[d])
        if start >= layers:
            return
        total = reached[start:layers].min(0) + (figure.before[d, layers] + figure.fixed[d] + figure.last[d])
        total = total + self.back[d, first]
        total[(used & self.must) != self.must] = np.inf
        at = int(total.argmin())
        self._ends(float(total[at]), int(first[at]), int(used[at]), d, number)

    def _pruned(self, level: _Level) -> _Level:
        """Without the states that cannot become better than what is known."""
        import numpy as np

        if not len(level.first):
            return level
        sets, which = np.unique(level.used, return_inverse=True)
        bound = level.best + self._rest(sets)[:, which.ravel()]
        level.best[bound >= self.below] = np.inf
        alive = np.isfinite(level.best).any(0)
        return _Level(
            level.first[alive], level.used[alive], level.last[alive], np.ascontiguousarray(level.best[:, alive])
        )

    def _rest(self, sets: np.ndarray) -> np.ndarray:
        """A lower bound of finishing from j layers with the devices outside each set: (L + 1, sets)."""
        import numpy as np

        figure, layers, count = self.tables.sum, self.tables.layers, self.tables.count
        outside = (sets[:, None] >> np.arange(count) & 1) == 0  # (s, D)
        hop_in = np.where(np.eye(count, dtype=bool), np.inf, self.hop).min(0)
        once = np.where(outside, figure.fixed + hop_in, np.inf).min(1)
        head = np.where(outside, figure.last + self.back.min(1), np.inf).min(1)
        left = np.repeat(np.arange(layers, -1, -1)[:, None], len(sets), axis=1)  # layers still to place
        time = np.zeros(left.shape)
        for d in np.argsort(self.each, kind="stable"):
            taken = np.minimum(left, self.cap[d] * outside[:, d])
            time += taken * self.each[d]
            left -= taken
        time[left > 0] = np.inf
        left = np.repeat(np.arange(layers, -1, -1)[:, None], len(sets), axis=1)
        devices = np.zeros(left.shape)
        for d in np.argsort(-self.cap, kind="stable"):
            devices += (left > 0) & outside[:, d]
            left -= np.minimum(left, self.cap[d] * outside[:, d])
        with np.errstate(invalid="ignore"):  # no device outside: infinity times none
            return np.nan_to_num(time + devices * once + head, nan=np.inf, posinf=np.inf)

    def _traced(self, levels: Sequence[_Level]) -> Cut:
        import numpy as np

        assert self.end is not None
        figure, layers = self.tables.sum, self.tables.layers
        _, first, used, last, number = self.end
        places, cuts = [last], [layers]
        while number:
            number -= 1
            level, d, end = levels[number], places[-1], cuts[-1]
            used &= ~(1 << d)
            rows = np.flatnonzero((level.first == first) & (level.used == used))
            start = int(self.windows.last_lo[d] if end == layers else self.windows.lo[d, end])
            left = level.best[start:end, rows] + self.hop[level.last[rows], d] - figure.before[d, start:end, None]
            at = int(left.argmin())
            places.append(int(level.last[rows[at % len(rows)]]))
            cuts.append(start + at // len(rows))
        return self.tables.cut(list(reversed(places)), [0, *reversed(cuts)])
