"""What was measured of each device over the last minutes, in bounded memory. Pure: it has no clock and asks nobody.

A `Moment` is one look at the cluster; a `History` keeps the latest ones. A figure that was not measured is None.
"""

from __future__ import annotations

import csv
import io
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.telemetry import Quantity
from exo_lab.front.text import harmless

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from exo_lab.core.messages import Stats
    from exo_lab.core.status import ClusterStatus
    from exo_lab.core.topology import Link
    from exo_lab.core.watching import Rule

KEPT_S = 600.0  # ten minutes
MOMENTS = 2400  # of four a second: what a history holds at most, whatever the clock says
DEVICES = 64  # beyond that, those that were not seen for longest are forgotten


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One figure that is drawn over time. `scale`: what makes a figure one in `unit`."""

    key: str
    title: str
    unit: str
    scale: float = 1.0
    quantity: Quantity | None = None  # whose alerts are meant; None: of this there are none
    threshold: float | None = None  # in `unit`; drawn as a line
    note: str = ""
    empty: str = "not measured yet"  # what a chart without a line says

    @property
    def heading(self) -> str:
        """With the unit, if there is one."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


def with_rules(metrics: Iterable[Metric], rules: Iterable[Rule]) -> tuple[Metric, ...]:
    """Metrics of which there are alerts with a line where these rules put one, without where they put none."""
    above = {rule.quantity: rule.threshold for rule in rules}

    def ruled(one: Metric) -> Metric:
        if one.quantity is None:
            return one
        threshold = above.get(one.quantity)
        return msgspec.structs.replace(one, threshold=None if threshold is None else threshold * one.scale)

    return tuple(map(ruled, metrics))


METRICS: tuple[Metric, ...] = (
    Metric(
        key="tokens_per_s",
        title="Tokens",
        unit="tok/s",
        note="of this kernel's answers, by their stages",
        empty="no tokens yet",
    ),
    Metric(key="stage_s", title="Stage time", unit="ms", scale=1e3, note="computing one token", empty="no tokens yet"),
    Metric(key="queue", title="Requests in progress", unit=""),
    Metric(key="memory", title="Memory used", unit="%", scale=100.0, quantity="memory"),
    Metric(
        key="compute",
        title="Compute use",
        unit="%",
        scale=100.0,
        quantity="compute",
        note="FLOPs computed of those that the device could have, over 5 s",
    ),
    Metric(key="load", title="CPU load", unit="%", scale=100.0),
    Metric(
        key="latency_s",
        title="Link latency",
        unit="ms",
        scale=1e3,
        quantity="latency",
        note="one way, from this node",
    ),
    Metric(
        key="temperature_c",
        title="Temperature",
        unit="°C",
        quantity="temperature",
        note="of the hottest sensor, where there is one",
    ),
    Metric(
        key="bandwidth_bytes_per_s",
        title="Link bandwidth",
        unit="MB/s",
        scale=1e-6,
        note="from this node, of the largest echo so far",
    ),
)
METRIC = {metric.key: metric for metric in METRICS}


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One device at one moment. `memory`, `compute` and `load` in [0, 1]; times in seconds."""

    tokens_per_s: float | None = None
    stage_s: float | None = None
    queue: float | None = None
    memory: float | None = None
    load: float | None = None
    latency_s: float | None = None
    bandwidth_bytes_per_s: float | None = None
    compute: float | None = None
    temperature_c: float | None = None


class Moment(msgspec.Struct, frozen=True):
    """All devices at one moment. `at`: seconds since the epoch (UTC)."""

    at: float
    readings: tuple[tuple[str, Reading], ...]


class Paced(msgspec.Struct, frozen=True):
    """What was heard of answers since the last moment: tokens a second and mean seconds of each stage, by device."""

    tokens_per_s: float | None = None
    stage_s: tuple[tuple[str, float], ...] = ()


def moment(
    at: float,
    status: ClusterStatus,
    links: Iterable[Link] = (),
    counters: Mapping[str, Stats] | None = None,
    paced: Paced = Paced(),  # noqa: B008 - frozen
) -> Moment:
    """One look at a cluster. Lost nodes are left out: nothing is known of them."""
    ways = {
        edge.b if edge.a == status.node_id else edge.a: edge for edge in links if status.node_id in (edge.a, edge.b)
    }
    stages, counted = dict(paced.stage_s), counters or {}
    readings: list[tuple[str, Reading]] = []
    for node in status.nodes:
        if node.liveness == "lost":
            continue
        id_, whole = node.device.id, node.device.memory_bytes
        free, way, busy = node.memory_available_bytes, ways.get(id_), counted.get(id_)
        readings.append(
            (
                id_,
                Reading(
                    tokens_per_s=paced.tokens_per_s if id_ in stages else None,
                    stage_s=stages.get(id_),
                    queue=None if busy is None else float(busy.sessions),
                    memory=None if free is None or not whole else min(1.0, max(0.0, 1 - free / whole)),
                    load=node.load,
                    compute=node.compute,
                    temperature_c=node.temperature_c,
                    latency_s=node.latency_s if way is None or way.latency_s is None else way.latency_s,
                    bandwidth_bytes_per_s=None if way is None else way.bandwidth_bytes_per_s,
                ),
            )
        )
    return Moment(at, tuple(readings))


class History:
    """The latest moments, at most `kept_s` seconds and `moments` of them. One writer; readers see whole moments."""

    def __init__(self, kept_s: float = KEPT_S, moments: int = MOMENTS) -> None:
        self.kept_s = kept_s
        self._moments: deque[Moment] = deque(maxlen=moments)
        self._seen: dict[str, str] = {}  # id -> name, the one seen last at the end

    def add(self, now: Moment, names: Mapping[str, str]) -> None:
        """One more; what is too old goes. A clock that was set back starts anew."""
        if self._moments and now.at < self._moments[-1].at:
            self._moments.clear()
        self._moments.append(now)
        while now.at - self._moments[0].at > self.kept_s:
            self._moments.popleft()
        for id_, _ in now.readings:
            self._seen.pop(id_, None)
            self._seen[id_] = names.get(id_, id_[:8])
        for id_ in list(self._seen)[: max(0, len(self._seen) - DEVICES)]:
            del self._seen[id_]

    @property
    def moments(self) -> tuple[Moment, ...]:
        """Oldest first."""
        return tuple(self._moments)

    @property
    def names(self) -> dict[str, str]:
        """Names by id of every device that was seen, by name."""
        return dict(sorted(self._seen.items(), key=lambda item: (item[1], item[0])))

    def series(self, device: str, metric: Metric) -> list[tuple[float, float]]:
        """(seconds since the epoch, figure in the metric's unit) where it was measured."""
        found: list[tuple[float, float]] = []
        for one in self.moments:
            reading = next((reading for id_, reading in one.readings if id_ == device), None)
            value = None if reading is None else getattr(reading, metric.key)
            if value is not None:
                found.append((one.at, value * metric.scale))
        return found

    def csv(self, metrics: Sequence[Metric] = METRICS) -> str:
        """One line a device and moment; what was not measured is empty. Times in seconds since the epoch (UTC)."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["at_s", "device", "name", *(_head(metric) for metric in metrics)])
        names = dict(self._seen)
        for one in self.moments:
            for id_, reading in one.readings:
                values = [getattr(reading, metric.key) for metric in metrics]
                cells = [
                    "" if value is None else f"{value * metric.scale:.6g}"
                    for value, metric in zip(values, metrics, strict=True)
                ]
                writer.writerow([f"{one.at:.3f}", id_, harmless(names.get(id_, "")), *cells])
        return out.getvalue()


def _head(metric: Metric) -> str:
    return f"{metric.key} ({metric.unit})" if metric.unit else metric.key
