"""How fast this node's shards are: measured when they are loaded, corrected by what answers really took.

A `Meter` belongs to one shard: the data thread feeds it, any thread reads it. `Paces` keeps the meters of the models
that were held last, for plans that are made later.
"""

from __future__ import annotations

import statistics
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.pace import Measured, Pace

if TYPE_CHECKING:
    from exo_lab.core.plan import Plan

SAMPLES = 64  # of the latest steps; their median counts
ENOUGH = 8  # steps before they count at all
BULK = 32  # positions from which on a step tells of a prompt's speed
KEPT = 16  # models


class Meter:
    """What one shard takes, by the clock of the thread that computes.

    Args:
        layers: of the shard.
        calibrated: what `engines.calibrate` found, of the bare engine.
        slowdown: of an emulated device, 1 for a real one.
    """

    def __init__(self, layers: int, calibrated: Measured, slowdown: float = 1.0) -> None:
        self._layers, self._calibrated, self._slowdown = layers, calibrated, slowdown
        self._single: deque[float] = deque(maxlen=SAMPLES)  # measured / calibrated
        self._bulk: deque[float] = deque(maxlen=SAMPLES)
        self._overhead: deque[float] = deque(maxlen=SAMPLES)  # s

    def computed(self, positions: int, before: int, compute_s: float, *, head: bool) -> None:
        """A step took `compute_s`: `positions` of them with `before` cached, with logits of the last one or not."""
        known = self._calibrated
        if positions == 1 and known.layer_s is not None:
            expected = self._layers * (known.layer_s + before * (known.attend_s or 0.0))
            if head and known.head_s is not None:
                expected += known.head_s
            if expected > 0:
                self._single.append(compute_s / expected)
        elif positions >= BULK and known.prefill_layer_s is not None and not head:
            expected = self._layers * positions * known.prefill_layer_s
            if expected > 0:
                self._bulk.append(compute_s / expected)

    def handled(self, beyond_s: float) -> None:
        """A step's book-keeping took so long beyond computing."""
        self._overhead.append(beyond_s)

    @property
    def measured(self) -> Measured:
        """The figures as they stand. Any thread."""
        known, single, bulk = self._calibrated, self._factor(self._single), self._factor(self._bulk, 1)
        overhead = tuple(self._overhead)
        return Measured(
            layer_s=_times(known.layer_s, single),
            attend_s=_times(known.attend_s, single),
            prefill_layer_s=_times(known.prefill_layer_s, bulk),
            head_s=_times(known.head_s, single),
            overhead_s=statistics.median(overhead) if len(overhead) >= ENOUGH else None,
        )

    def _factor(self, ratios: deque[float], enough: int = ENOUGH) -> float:
        seen = tuple(ratios)  # one step of the interpreter: the data thread cannot come between
        # What was computed for answers is stretched already where a slower device is emulated.
        return statistics.median(seen) if len(seen) >= enough else self._slowdown


class Paces:
    """The meters of the models that this node held last. Lives on the control loop."""

    def __init__(self) -> None:
        self._meters: OrderedDict[tuple[str, str, str], Meter] = OrderedDict()

    def keep(self, digest: str, plan: Plan, meter: Meter) -> None:
        """Remember a shard's meter; that of the same model before it is forgotten."""
        key = (digest, plan.dtype, plan.engine)
        self._meters.pop(key, None)
        self._meters[key] = meter
        while len(self._meters) > KEPT:
            self._meters.popitem(last=False)

    @property
    def all(self) -> tuple[Pace, ...]:
        """What is known, as pongs tell it."""
        return tuple(
            Pace(digest=digest, dtype=dtype, engine=engine, measured=meter.measured)
            for (digest, dtype, engine), meter in self._meters.items()
        )


def measured_of(paces: tuple[Pace, ...], digest: str, dtype: str, engine: str) -> Measured | None:
    """What a node said of one model, None if it said nothing. Figures that cannot be are as good as none."""
    for pace in paces:
        if (pace.digest, pace.dtype, pace.engine) == (digest, dtype, engine):
            figures = msgspec.structs.astuple(pace.measured)
            if all(figure is None or 0 <= figure < float("inf") for figure in figures):
                return pace.measured
    return None


def _times(figure: float | None, factor: float) -> float | None:
    return None if figure is None else figure * factor
