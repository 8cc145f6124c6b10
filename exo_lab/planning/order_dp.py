"""The best cut for devices in a given order, exactly, by dynamic programming over layers. Pure; NumPy for speed.

best[k][j] is the least cost of covering layers [0, j) when the k-th device of the order is the last that is used; the
next used device takes [j, j'). That is O(D^2 L^2) when devices may be left out, O(D L^2) when all must be used. The hop
that carries the token back depends on which device came first, so the first one is fixed from outside.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from exo_lab.planning.cost import Costs


class Cut(NamedTuple):
    """A solution: stage i is device `places[i]` with layers [cuts[i], cuts[i + 1]). `value` is the objective."""

    value: float
    places: tuple[int, ...]
    cuts: tuple[int, ...]


class Tables:
    """Every stage's cost as matrices over (start, end), infinite where it does not fit or is empty.

    `add[d]`: what a stage adds to the sum of the objective; `peak[d]`: what it offers to the maximum. `hop_add` and
    `hop_peak` likewise for hops; `back_add`, `back_peak` for the hop that closes the ring. `weight` is of the maximum.
    """

    def __init__(self, costs: Costs) -> None:
        import numpy as np

        self.costs, problem = costs, costs.problem
        layers, count = costs.config.n_layers, len(costs.devices)
        prefill, throughput = problem.objective == "prefill", problem.objective == "throughput"
        chunks = -(-problem.prompt_tokens // costs.chunk_tokens)
        self.weight = {"decode": 0.0, "prefill": float(chunks - 1), "throughput": 1.0}[problem.objective]
        self.only_peak = throughput
        self.layers, self.count = layers, count
        stage = np.full((count, layers + 1, layers + 1), np.inf)
        for place in range(count):
            times = np.array([0.0, *costs.layer_s(place, prefill=prefill)]).cumsum()
            cost = times[None, :] - times[:, None] + costs.speeds[place].overhead.value
            first = costs.stage_s(place, 0, 1, prefill=prefill) - (times[1] + costs.speeds[place].overhead.value)
            if layers == 1:
                cost[0, 1] = costs.stage_s(place, 0, 1, prefill=prefill)
            else:
                cost[0, :] += first
                last = costs.stage_s(place, layers - 1, layers, prefill=prefill)
                cost[:, layers] += last - (times[layers] - times[layers - 1] + costs.speeds[place].overhead.value)
            stage[place] = np.where(self._feasible(place), cost, np.inf)
        hops = np.array([[costs.hop_s(a, b, prefill=prefill) for b in range(count)] for a in range(count)])
        nothing = np.zeros_like(hops)
        self.peak = stage if self.weight else np.zeros_like(stage)
        self.add = np.where(np.isinf(stage), np.inf, 0.0) if throughput else stage
        self.hop_add = nothing if throughput else hops
        self.hop_peak = hops if self.weight else nothing
        self.back_add = hops if problem.objective == "decode" else nothing
        self.back_peak = hops if throughput else nothing

    def _feasible(self, place: int) -> np.ndarray:
        import numpy as np

        costs, layers = self.costs, self.layers
        memory = np.array([0, *costs.layer_memory], dtype=np.float64).cumsum()
        needed = memory[None, :] - memory[:, None]
        config = costs.config
        needed[0, :] += config.embedding_bytes
        needed[:, layers] += config.head_bytes
        if config.tied_embeddings:
            needed[0, layers] -= config.embedding_bytes
        upper = np.triu(np.ones((layers + 1, layers + 1), dtype=bool), 1)
        if costs.problem.force:
            return upper
        return upper & (needed <= costs.problem.room_bytes(costs.devices[place]))

    def limited(self, limit: float) -> np.ndarray:
        """`add` with every stage out whose peak is above the limit."""
        import numpy as np

        return np.where(self.peak <= limit, self.add, np.inf)

    def value(self, places: Sequence[int], cuts: Sequence[int]) -> float:
        """The objective of a solution."""
        spans = list(zip(places, cuts, cuts[1:], strict=False))
        pairs = list(itertools.pairwise(places))
        total = sum(float(self.add[place, start, end]) for place, start, end in spans)
        total += sum(float(self.hop_add[pair]) for pair in pairs)
        peaks = [float(self.peak[place, start, end]) for place, start, end in spans]
        peaks += [float(self.hop_peak[pair]) for pair in pairs]
        if len(places) > 1:
            total += float(self.back_add[places[-1], places[0]])
            peaks.append(float(self.back_peak[places[-1], places[0]]))
        return total + self.weight * max(peaks)


def best_cut(tables: Tables, order: Sequence[int], *, every: bool) -> Cut | None:
    """The best cut over an order of devices whose first one is used.

    Args:
        tables: of the problem.
        order: places, in ring order.
        every: all of them must be used; otherwise all but the first may be left out.

    Returns:
        None if nothing fits.
    """
    return minimise(tables, lambda limit: _cheapest(tables, order, limit, every))


def minimise(tables: Tables, cheapest: Callable[[float], Cut | None]) -> Cut | None:
    """The least sum + weight x maximum, from a solver of the least sum with every peak within a limit.

    The epsilon-constraint method (Haimes, Lasdon and Wismer 1971). With no sum at all, bisection over the peaks.

    Args:
        tables: of the problem.
        cheapest: the solver; None where nothing is within the limit. Its value is the sum alone.
    """
    if tables.only_peak:
        return _least_peak(tables, cheapest)
    best: Cut | None = None
    limit = float("inf")
    while (found := cheapest(limit)) is not None:
        value = tables.value(found.places, found.cuts)
        if best is None or value < best.value:
            best = Cut(value, found.places, found.cuts)
        if not tables.weight:
            break
        # To be better, a solution needs a smaller peak, and so much smaller that this sum at least is made up for.
        room = (best.value - found.value) / tables.weight
        limit = min(_peak(tables, found), room) * (1 - 1e-12)
        if limit <= 0:
            break
    return best


def _least_peak(tables: Tables, cheapest: Callable[[float], Cut | None]) -> Cut | None:
    import numpy as np

    peaks = np.unique(np.concatenate([tables.peak[np.isfinite(tables.peak)], tables.hop_peak.ravel()]))
    low, high, best = 0, len(peaks) - 1, None
    while low <= high:
        middle = (low + high) // 2
        found = cheapest(float(peaks[middle]))
        if found is None:
            low = middle + 1
        else:
            best, high = found, middle - 1
    return None if best is None else Cut(tables.value(best.places, best.cuts), best.places, best.cuts)


def _peak(tables: Tables, cut: Cut) -> float:
    spans = zip(cut.places, cut.cuts, cut.cuts[1:], strict=False)
    peaks = [float(tables.peak[place, start, end]) for place, start, end in spans]
    peaks += [float(tables.hop_peak[pair]) for pair in zip(cut.places, cut.places[1:], strict=False)]
    if len(cut.places) > 1:
        peaks.append(float(tables.back_peak[cut.places[-1], cut.places[0]]))
    return max(peaks)


def _cheapest(tables: Tables, order: Sequence[int], limit: float, every: bool) -> Cut | None:
    """The least sum with every peak within the limit."""
    import numpy as np

    add, layers = tables.limited(limit), tables.layers
    first = order[0]
    best = np.full((len(order), layers + 1), np.inf)
    came = np.full((len(order), layers + 1, 2), -1, dtype=np.int64)  # (index in the order, layers) before
    best[0] = add[first, 0]
    for k in range(1, len(order)):
        for earlier in [k - 1] if every else range(k):
            hop = (order[earlier], order[k])
            if tables.hop_peak[hop] > limit:
                continue
            reached = best[earlier][:, None] + add[order[k]] + tables.hop_add[hop]
            at = reached.argmin(0)
            values = reached[at, np.arange(layers + 1)]
            better = values < best[k]
            best[k][better] = values[better]
            came[k][better] = np.stack((np.full(layers + 1, earlier), at), -1)[better]
    ends: list[tuple[float, int]] = []
    for k in [len(order) - 1] if every else range(len(order)):
        back = (order[k], first)
        if k == 0:
            ends.append((float(best[0][layers]), 0))
        elif tables.back_peak[back] <= limit:
            ends.append((float(best[k][layers] + tables.back_add[back]), k))
    value, k = min(ends, default=(float("inf"), -1))
    if not np.isfinite(value):
        return None
    places, cuts, at = [order[k]], [layers], layers
    while k != 0:
        k, at = int(came[k, at, 0]), int(came[k, at, 1])
        places.append(order[k])
        cuts.append(at)
    return Cut(value, tuple(reversed(places)), (0, *reversed(cuts)))
