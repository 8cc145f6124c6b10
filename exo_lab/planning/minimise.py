"""The least sum + weight x peak, from a solver of the least sum with every peak within a limit. Pure.

The epsilon-constraint method (Haimes, Lasdon and Wismer 1971) as a branch and bound over boxes of limits: the sum at a
box's upper limits and the peaks at its lower ones bound whatever lies in the box from below. One peak or two.
"""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exo_lab.planning.tables import Cut, Tables

    # Limits on the peaks, and for each the sum that a solution must be below to be of use -> the least sum's solution.
    Solver = Callable[[Sequence[tuple[float, ...]], Sequence[float]], list[Cut | None]]

TOLERANCE = 1e-10  # relative: solutions nearer than that are the same
FIRST_PARTS = 4  # of the range between floor and ceiling
NOTHING = 1e-300  # seconds


class _Box(NamedTuple):
    bound: float
    number: int  # breaks ties, so that the order is always the same
    low: tuple[float, ...]
    high: tuple[float, ...]


def minimise(
    tables: Tables,
    solve: Solver,
    *,
    start: Cut | None = None,
    floor: Sequence[float] = (),
    ceiling: Sequence[float] = (),
    at_once: int = 1,
    tolerance: float = TOLERANCE,
) -> Cut | None:
    """The best solution, or one within a relative tolerance of it.

    Args:
        tables: of the problem.
        solve: the solver; None where nothing keeps the limits. `at_once`: how many limits it likes to be asked for.
        start: a solution that is known.
        floor: no solution has lower peaks than these.
        ceiling: no better solution than `start` has higher peaks than these.
        at_once: see `solve`.
        tolerance: what is not better by so much is not looked for.

    Returns:
        None if nothing fits.
    """
    weights = [peak.weight for peak in tables.peaks]
    best = start
    low = tuple(floor) or (0.0,) * len(weights)
    high = tuple(ceiling) or (float("inf"),) * len(weights)
    cut = _slices(low, high, weights, FIRST_PARTS) if ceiling else [(low, high)]
    boxes = [_Box(_dot(weights, bottom), at, bottom, top) for at, (bottom, top) in enumerate(cut)]
    number = len(boxes)
    while boxes:
        asked: list[_Box] = []
        while boxes and len(asked) < at_once:
            box = heapq.heappop(boxes)
            if best is None or box.bound < best.value * (1 - tolerance):
                asked.append(box)
        if not asked:
            break
        below = [_useful(tables, best, box.low, weights) for box in asked]
        for box, found in zip(asked, solve([box.high for box in asked], below), strict=True):
            if found is None:
                continue
            if best is None or found.rank < best.rank:
                best = found
            for low, high in _rest(box, found.peaks, weights, parts=at_once):
                bound = (found.sum if tables.sum_counts else 0.0) + _dot(weights, low)
                if bound < best.value * (1 - tolerance):
                    heapq.heappush(boxes, _Box(bound, number, low, high))
                    number += 1
    if best is not None and not tables.sum_counts:
        # Only the peak counts: of all plans that reach it, the one with the shortest token.
        limit = tuple(peak * (1 + TOLERANCE) for peak in best.peaks)
        tied = solve([limit], [best.sum * (1 - TOLERANCE)])[0]
        if tied is not None and tied.sum < best.sum:
            best = tied
    return best


def _useful(tables: Tables, best: Cut | None, low: Sequence[float], weights: Sequence[float]) -> float:
    """The sum that a solution in a box must be below."""
    if best is None or not tables.sum_counts:
        return float("inf")
    return best.value * (1 - TOLERANCE) - _dot(weights, low)


def _rest(
    box: _Box, peaks: Sequence[float], weights: Sequence[float], *, parts: int
) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """What is left of a box: a better solution has at least one lower peak. Cut in `parts` along its widest side."""
    boxes: list[tuple[tuple[float, ...], tuple[float, ...]]] = []
    low = box.low
    for side, peak in enumerate(peaks):
        high = list(box.high)
        high[side] = peak * (1 - TOLERANCE)
        if high[side] > max(low[side], NOTHING):
            boxes += _slices(low, tuple(high), weights, max(2, parts))
        raised = list(low)
        raised[side] = max(low[side], peak)
        low = tuple(raised)
    return boxes


def _slices(
    low: tuple[float, ...], high: tuple[float, ...], weights: Sequence[float], parts: int
) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    spans = [weight * (top - bottom) for weight, bottom, top in zip(weights, low, high, strict=True)]
    finite = [span if span < float("inf") else -1.0 for span in spans]
    side = finite.index(max(finite))
    if finite[side] <= 0:
        return [(low, high)]
    edges = [low[side] + (high[side] - low[side]) * part / parts for part in range(parts)] + [high[side]]
    found: list[tuple[tuple[float, ...], tuple[float, ...]]] = []
    for bottom, top in itertools.pairwise(edges):
        found.append((_with(low, side, bottom), _with(high, side, top)))
    return found


def _with(values: tuple[float, ...], side: int, value: float) -> tuple[float, ...]:
    return (*values[:side], value, *values[side + 1 :])


def _dot(weights: Sequence[float], values: Sequence[float]) -> float:
    return sum(weight * value for weight, value in zip(weights, values, strict=True))
