"""A problem's costs as arrays, in the one form that every solver minimises. Pure; NumPy, imported lazily.

Whatever the objective, the value of a plan is a sum over its stages and hops, plus a weight times the largest of other
figures of its stages and hops (a *peak*), once or twice:

* decode: the sum is a token's time, no peak;
* prefill: the sum is one chunk's way, the peak (slowest stage or link of a chunk) counts chunks - 1 times;
* throughput: only the peak (busiest stage or link of one position) counts; among equals the least token time wins;
* a mix: all of these, weighted.

A stage's figure is `before[end] - before[start] + fixed`, plus `first` and `last` on the ends. Only sums, differences
and minima of floats are taken, one after the other, so every machine gets the same bits and so the same plan.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

from exo_lab.planning.problem import Mix

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from exo_lab.planning.cost import Costs

SLACK = 1e-12  # relative: a peak equal to its limit is within it, whatever the rounding


class Figure(NamedTuple):
    """One figure of stages (devices D, layers L) and hops. Arrays are float64."""

    before: np.ndarray  # (D, L + 1)
    fixed: np.ndarray  # (D,)
    first: np.ndarray  # (D,)
    last: np.ndarray  # (D,)
    hop: np.ndarray  # (D, D) from, to
    back: np.ndarray  # (D, D) last, first
    weight: float = 1.0  # of a peak


class Windows(NamedTuple):
    """Which stages are allowed: layers [start, end) on device d if `lo[d, end] <= start`, for 0 < start < end < L.

    Stages on the ends: [0, end) for 0 < end <= `first_hi[d]`; [start, L) for `last_lo[d]` <= start < L; all layers
    where `solo[d]`. `hop` and `back` say which pairs may follow each other, and close the ring.
    """

    lo: np.ndarray  # (D, L + 1)
    first_hi: np.ndarray  # (D,)
    last_lo: np.ndarray  # (D,)
    solo: np.ndarray  # (D,)
    hop: np.ndarray  # (D, D)
    back: np.ndarray  # (D, D)


class Cut(NamedTuple):
    """A solution: stage i is device `places[i]` with layers [cuts[i], cuts[i + 1]). `value` is the objective."""

    value: float
    places: tuple[int, ...]
    cuts: tuple[int, ...]
    sum: float = 0.0  # what the solvers minimise under limits on the peaks
    peaks: tuple[float, ...] = ()

    @property
    def rank(self) -> tuple[float, float, int, tuple[int, ...], tuple[int, ...]]:
        """Total order: better first; ties go to fewer devices, then to the earlier ones."""
        return self.value, self.sum, len(self.places), self.places, self.cuts


class Tables:
    """See the module. `sum` is minimised; it counts in the value unless only the peak does (`sum_counts`)."""

    def __init__(self, costs: Costs) -> None:
        import numpy as np

        self.costs, self.layers, self.count = costs, costs.config.n_layers, len(costs.devices)
        problem = costs.problem
        mix = problem.mix or Mix(**{problem.objective: 1.0})
        decode, chunk = _figures(costs)
        self.sum_counts = bool(mix.decode or mix.prefill)
        if mix.decode and mix.prefill:
            self.sum = _combined(decode.sum, mix.decode, chunk.sum, mix.prefill)
        else:
            self.sum = _scaled(chunk.sum, mix.prefill) if mix.prefill else _scaled(decode.sum, mix.decode or 1.0)
        self.peaks: list[Figure] = []
        if mix.throughput:
            self.peaks.append(decode.peak._replace(weight=mix.throughput))
        if mix.prefill and costs.chunks > 1:
            self.peaks.append(chunk.peak._replace(weight=mix.prefill * (costs.chunks - 1)))
        self.must = [device.id in problem.must_use for device in costs.devices]
        self._room = np.array([problem.room_bytes(device) for device in costs.devices], dtype=np.int64)
        if problem.force:
            self._room[:] = np.iinfo(np.int64).max // 4
        self._by_memory = self._memory_windows()

    # -- what is allowed -------------------------------------------------------------------------------------

    def _memory_windows(self) -> Windows:
        import numpy as np

        costs, layers = self.costs, self.layers
        memory = np.array(costs.memory_before, dtype=np.int64).reshape(-1, layers + 1)
        first, last, shared = (
            np.array([(held.embedding, held.head, held.shared) for held in costs.held], dtype=np.int64).reshape(-1, 3).T
        )
        room = self._room - costs.problem.activation_bytes
        lo = np.array([row.searchsorted(row - one) for row, one in zip(memory, room, strict=True)], dtype=np.int64)
        lo = lo.reshape(-1, layers + 1)
        lo[room < 0] = layers + 1
        reachable = np.isfinite(self.sum.hop)
        whole = memory[:, layers]
        upto, after = np.zeros(self.count, np.int64), np.zeros(self.count, np.int64)
        for d, row in enumerate(memory):
            upto[d] = row.searchsorted(room[d] - first[d], side="right")
            after[d] = row.searchsorted(whole[d] + last[d] - room[d])
        return Windows(
            lo=lo.clip(1),
            first_hi=(upto - 1).clip(max=layers - 1),
            last_lo=after.clip(1),
            solo=whole + first + last - shared <= room,
            hop=reachable,
            back=reachable,
        )

    def windows(self, limits: Sequence[float] = ()) -> Windows:
        """What fits in memory and keeps every peak within its limit; no limits: memory alone."""
        import numpy as np

        found = self._by_memory
        for peak, limit in zip(self.peaks, limits, strict=False):
            if limit == float("inf"):
                continue
            most = limit * (1 + SLACK)
            room = most - peak.fixed
            before, layers = peak.before, self.layers
            lo, first_hi, last_lo = found.lo.copy(), found.first_hi.copy(), found.last_lo.copy()
            for d in range(self.count):
                row = before[d]
                if room[d] < 0:
                    lo[d], first_hi[d], last_lo[d] = layers + 1, 0, layers
                    continue
                np.maximum(lo[d], row.searchsorted(row - room[d]), out=lo[d])
                first_hi[d] = min(first_hi[d], row.searchsorted(room[d] - peak.first[d], side="right") - 1)
                last_lo[d] = max(last_lo[d], row.searchsorted(row[layers] + peak.last[d] - room[d]))
            alone = before[:, layers] + peak.first + peak.last <= room
            found = Windows(
                lo,
                first_hi,
                last_lo,
                found.solo & alone,
                found.hop & (peak.hop <= most),
                found.back & (peak.back <= most),
            )
        return found

    # -- what a solution is worth ----------------------------------------------------------------------------

    def cut(self, places: Sequence[int], cuts: Sequence[int]) -> Cut:
        """A solution with its value."""
        total = _total(self.sum, places, cuts)
        peaks = tuple(_largest(peak, places, cuts) for peak in self.peaks)
        value = total if self.sum_counts else 0.0
        for peak, height in zip(self.peaks, peaks, strict=True):
            value += peak.weight * height
        return Cut(value, tuple(places), tuple(cuts), total, peaks)


class _Pair(NamedTuple):
    sum: Figure
    peak: Figure


def _figures(costs: Costs) -> tuple[_Pair, _Pair]:
    """Of one decoded token, and of one chunk of a prompt."""
    import numpy as np

    count, layers = len(costs.devices), costs.config.n_layers
    places = range(count)
    none = np.zeros(count)
    fixed = np.array([speed.overhead.value for speed in costs.speeds])
    head = np.array([costs.head_s(place) for place in places])
    latency, per_byte, row = np.zeros((count, count)), np.zeros((count, count)), np.zeros((count, count))
    for a, b in itertools.combinations(places, 2):
        hop = costs.hop(a, b)
        latency[a, b] = latency[b, a] = hop.latency.value
        per_byte[a, b] = per_byte[b, a] = hop.busy_s(1)
        row[a, b] = row[b, a] = costs.hidden_bytes(costs.wire(a, b))
    back_busy = costs.token_bytes * per_byte
    back = latency + back_busy
    pairs: list[_Pair] = []
    for prefill in (False, True):
        before = np.array([costs.before(place, prefill=prefill) for place in places]).reshape(count, layers + 1)
        first = np.array([costs.embedding_s(place, prefill=prefill) for place in places])
        busy = (costs.chunk_tokens if prefill else 1) * row * per_byte
        # The head works on the last position of a prompt only: no chunk waits for it.
        peak = Figure(
            before, fixed, first, none if prefill else head, busy, np.zeros_like(back) if prefill else back_busy
        )
        pairs.append(_Pair(Figure(before, fixed, first, head, latency + busy, back), peak))
    return pairs[0], pairs[1]


def _scaled(figure: Figure, weight: float) -> Figure:
    return figure if weight == 1 else _combined(figure, weight, figure, 0.0)


def _combined(a: Figure, weight_a: float, b: Figure, weight_b: float) -> Figure:
    before, fixed, first, last, hop, back = (
        weight_a * x + (weight_b * y if weight_b else 0.0) for x, y in zip(a[:6], b[:6], strict=True)
    )
    return Figure(before, fixed, first, last, hop, back)


def _stages(figure: Figure, places: Sequence[int], cuts: Sequence[int]) -> list[float]:
    found = [
        float(figure.before[place, end] - figure.before[place, start] + figure.fixed[place])
        for place, start, end in zip(places, cuts, cuts[1:], strict=False)
    ]
    found[0] += float(figure.first[places[0]])
    found[-1] += float(figure.last[places[-1]])
    return found


def _hops(figure: Figure, places: Sequence[int]) -> list[float]:
    if len(places) == 1:
        return []
    return [
        *(float(figure.hop[pair]) for pair in itertools.pairwise(places)),
        float(figure.back[places[-1], places[0]]),
    ]


def _total(figure: Figure, places: Sequence[int], cuts: Sequence[int]) -> float:
    return sum(_stages(figure, places, cuts)) + sum(_hops(figure, places))


def _largest(figure: Figure, places: Sequence[int], cuts: Sequence[int]) -> float:
    return max(_stages(figure, places, cuts) + _hops(figure, places))
