"""Shares of a model as whole layers: largest remainder under caps, and the intervals of ring memory-weighted. Pure."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from exo_lab.core.errors import BadPlan, DoesNotFit

if TYPE_CHECKING:
    from collections.abc import Sequence


def largest_remainder(weights: Sequence[float], layers: int, caps: Sequence[int] | None = None) -> tuple[int, ...]:
    """Layers per device, proportional to the weights, whole, within the caps.

    Hamilton's method of largest remainders over shares that are held between one layer and the cap. A device of
    positive weight gets at least one layer while there are layers (more devices than layers: the lightest get none).
    Ties go to the heavier, then to the earlier device.

    Args:
        weights: 0 or more, one a device.
        layers: how many to give out.
        caps: the most that each device holds; no limit if None.

    Raises:
        BadPlan: no device, a negative or no positive weight.
        DoesNotFit: the caps of the devices with a weight are too small together.
    """
    if not weights or min(weights) < 0 or sum(weights) <= 0:
        raise BadPlan(f"weights must be 0 or more, and one of them above 0; got {list(weights)}")
    limit = [layers] * len(weights) if caps is None else [min(cap, layers) for cap in caps]
    usable = [i for i, weight in enumerate(weights) if weight > 0 and limit[i] > 0]
    room = sum(limit[i] for i in usable)
    if room < layers:
        raise DoesNotFit(f"{layers} layers are to be held, the devices hold {room}")
    # More devices than layers: the heaviest get one each.
    used = sorted(usable, key=lambda i: (-weights[i], i))[:layers]
    shares = _clamped_shares([weights[i] for i in used], [limit[i] for i in used], layers)
    counts = [0] * len(weights)
    for i, share in zip(used, shares, strict=True):
        counts[i] = int(share)
    remainder = {i: share - int(share) for i, share in zip(used, shares, strict=True)}
    order = sorted(used, key=lambda i: (-remainder[i], -weights[i], i))
    while sum(counts) < layers:
        for i in order:
            if sum(counts) < layers and counts[i] < limit[i]:
                counts[i] += 1
    return tuple(counts)


def _clamped_shares(weights: Sequence[float], limits: Sequence[int], layers: int) -> list[float]:
    """Shares clamp(level * weight, 1, limit) that add up to the layers; the level is found by bisection.

    The same water-filling bound that Parallax uses for its layer counts, with a floor of one layer.
    """

    def shares(level: float) -> list[float]:
        return [min(max(level * weight, 1.0), float(cap)) for weight, cap in zip(weights, limits, strict=True)]

    low, high = 0.0, 2.0 * layers / min(weights)
    for _ in range(200):
        level = (low + high) / 2
        low, high = (level, high) if sum(shares(level)) < layers else (low, level)
    return shares(low)


def memory_intervals(memories: Sequence[tuple[str, int]]) -> list[tuple[str, float, float]]:
    """Ring memory-weighted partitioning as published: intervals of [0, 1) by (memory, id) descending.

    Node i gets [start, round(start + memory_i / total, 5)), the next one starts where it ends.

    Args:
        memories: (id, memory in bytes), any order.

    Raises:
        DoesNotFit: nobody has any memory.
    """
    total = sum(memory for _, memory in memories)
    if total <= 0:
        raise DoesNotFit("no device says that it has memory; give sizes by hand with layers")
    start = 0.0
    intervals: list[tuple[str, float, float]] = []
    for device, memory in sorted(memories, key=lambda one: (one[1], one[0]), reverse=True):
        end = round(start + memory / total, 5)
        intervals.append((device, start, end))
        start = end
    return intervals


def layers_of_intervals(intervals: Sequence[tuple[str, float, float]], layers: int) -> tuple[int, ...]:
    """Layers per interval: cut points rounded to whole layers, the last one at the end whatever the rounding said.

    Every layer is held exactly once (law 1): each cut point is shared by its two neighbours and cut points never go
    back. An interval that is narrower than a layer may get none.
    """
    cuts = [0]
    for i, (_, _, end) in enumerate(intervals):
        cut = layers if i == len(intervals) - 1 else min(layers, int(end * layers + 0.5))
        cuts.append(max(cuts[-1], cut))
    return tuple(after - before for before, after in itertools.pairwise(cuts))
