"""How fast this node's shards are: measured when they are loaded, corrected by what answers really took.

A `Meter` belongs to one shard: the data thread feeds it, any thread reads it. `Paces` keeps the meters of the models
that were held last, for plans that are made later.
"""

from __future__ import annotations

import statistics
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.pace import Measured, Pace
from exo_lab.planning.problem import PREFILL_CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.core.plan import Plan

SAMPLES = 64  # of the latest steps; their median counts
ENOUGH = 8  # steps before they count at all
COUNTS_FOR_S = 120.0  # a node that was slow need not be slow now, and who holds no layers any more measures nothing
BULK = 32  # positions from which on a step tells of a prompt's speed
KEPT = 16  # models


class _Latest:
    """The latest samples, as long as they count. One thread adds, any thread reads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES)  # (when, value)

    def add(self, value: float) -> None:
        self._samples.append((self._clock(), value))

    def median(self, enough: int = ENOUGH) -> float | None:
        """None with fewer than that."""
        since = self._clock() - COUNTS_FOR_S
        # `tuple` is one step of the interpreter: the data thread cannot come between.
        seen = [value for at, value in tuple(self._samples) if at >= since]
        return statistics.median(seen) if len(seen) >= enough else None


class Meter:
    """What one shard takes, by the clock of the thread that computes.

    Args:
        layers: of the shard.
        calibrated: what `engines.calibrate` found, of the bare engine.
        slowdown: of an emulated device, 1 for a real one.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        layers: int,
        calibrated: Measured,
        slowdown: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._layers, self._calibrated, self._slowdown = layers, calibrated, slowdown
        self._single, self._bulk = _Latest(clock), _Latest(clock)  # measured / calibrated
        self._overhead = _Latest(clock)  # s

    def computed(self, positions: int, before: int, compute_s: float, *, head: bool) -> None:
        """A step took `compute_s`: `positions` of them with `before` cached, with logits of the last one or not."""
        known = self._calibrated
        if positions == 1 and known.layer_s is not None:
            expected = self._layers * (known.layer_s + before * (known.attend_s or 0.0))
            if head and known.head_s is not None:
                expected += known.head_s
            if expected > 0:
                self._single.add(compute_s / expected)
        elif positions >= BULK and known.prefill_layer_s is not None and not head:
            # As `planning/layer_times` reckons: a smaller piece reads the weights as often as a whole one.
            reading = (known.layer_s or 0.0) * max(0.0, 1 - positions / PREFILL_CHUNK)
            expected = self._layers * (positions * known.prefill_layer_s + reading)
            if expected > 0:
                self._bulk.add(compute_s / expected)

    def handled(self, beyond_s: float) -> None:
        """A step's book-keeping took so long beyond computing."""
        self._overhead.add(beyond_s)

    @property
    def measured(self) -> Measured:
        """The figures as they stand. Any thread."""
        known, single, bulk = self._calibrated, self._factor(self._single), self._factor(self._bulk, 1)
        return Measured(
            layer_s=_times(known.layer_s, single),
            attend_s=_times(known.attend_s, single),
            prefill_layer_s=_times(known.prefill_layer_s, bulk),
            head_s=_times(known.head_s, single),
            overhead_s=self._overhead.median(),
        )

    def _factor(self, ratios: _Latest, enough: int = ENOUGH) -> float:
        # What was computed for answers is stretched already where a slower device is emulated.
        found = ratios.median(enough)
        return self._slowdown if found is None else found


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
