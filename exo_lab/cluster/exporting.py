"""The part of `Cluster` that others' tools read from: metrics for Prometheus, traces for OpenTelemetry. Both are off.

Knows neither format: `telemetry.metrics` and `telemetry.traced` do, and are imported when they are asked for.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import msgspec

from exo_lab import __version__
from exo_lab.cluster.looking import counters, node_statuses
from exo_lab.cluster.measurements import alerts_of
from exo_lab.core.errors import ExoError
from exo_lab.core.status import residents

if TYPE_CHECKING:
    from exo_lab.core.device import Device
    from exo_lab.core.following import Moment
    from exo_lab.core.messages import Stats
    from exo_lab.core.topology import Topology
    from exo_lab.node.node import Node
    from exo_lab.node.thread import ControlThread
    from exo_lab.telemetry.metrics import Look, Metrics
    from exo_lab.telemetry.scraped import Scraped
    from exo_lab.telemetry.traced import Traced

OFF = "off"
ASK_S = 1.0  # for what the other nodes say at a scrape
LOOK_TIMEOUT_S = 5.0
SUBJECT = "traces"
METRICS = "metrics"


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What is exported where; empty: it is not."""

    prometheus: str = ""  # the URL to scrape
    otlp: str = ""  # the collector's URL, without what may be secret in it


class Exports:
    """See the module. `Cluster` makes `node` and its control thread."""

    node: Node
    _thread: ControlThread

    def __init__(self) -> None:
        super().__init__()
        self._exporting = threading.Lock()
        self._metrics: Metrics | None = None
        self._scraped: Scraped | None = None
        self._traced: Traced | None = None
        self._exported = Exported()
        self._devices: dict[str, Device] = {}

    def export(self, *, prometheus: str | int | None = None, otlp: str | None = None) -> Exported:
        """Begin or end to export; without arguments, say what is exported.

        Args:
            prometheus: a port of this machine's own address, or "ADDRESS:PORT", where Prometheus may read metrics of
                all nodes; "off" ends it.
            otlp: a collector's URL (OTLP over HTTP), which gets a trace of every generation of this process; "off" ends
                it, when what is left was sent.

        Raises:
            ConfigError: no such place, the port is taken, or OpenTelemetry is not installed.
        """
        with self._exporting:
            if prometheus is not None:
                self._serve(str(prometheus))
            if otlp is not None:
                self._trace(otlp)
            return self._exported

    def follow(self, moment: Moment) -> None:
        """A generation of this process went on, or ended. Any thread."""
        for follower in (self._metrics, self._traced):
            if follower is not None:
                follower(moment)

    def _serve(self, place: str) -> None:
        """What was served goes on until the new place is open, unless it is in the way."""
        if place == OFF:
            self._serve_no_more()
            return
        from exo_lab.telemetry.metrics import Metrics
        from exo_lab.telemetry.scraped import Scraped, listening_place

        if self._scraped is not None and self._scraped.place == listening_place(place):
            self._serve_no_more()
        metrics = Metrics(self._look, self._device, __version__)
        scraped = Scraped(place, metrics.registry)
        self._serve_no_more()
        self._scraped, self._metrics = scraped, metrics
        self._exported = msgspec.structs.replace(self._exported, prometheus=scraped.url)

    def _serve_no_more(self) -> None:
        if self._scraped is not None:
            self._scraped.close()
        self._scraped = self._metrics = None
        self._exported = msgspec.structs.replace(self._exported, prometheus="")

    def _trace(self, url: str) -> None:
        before, self._traced = self._traced, None
        self._exported = msgspec.structs.replace(self._exported, otlp="")
        if before is not None:
            before.close()
        self._sent(None)
        if url == OFF:
            return
        from exo_lab.telemetry.traced import Traced, otlp_exporter, shown_url

        self._traced = Traced(otlp_exporter(url, self._sent), self._device, __version__)
        self._exported = msgspec.structs.replace(self._exported, otlp=shown_url(url))

    def _sent(self, problem: str | None) -> None:
        if problem is None:
            self.node.problems.settle(SUBJECT)
        else:
            self.node.problems.note(SUBJECT, problem)

    def _device(self, node: str) -> Device | None:
        """What is known of a node; of one that is gone, what was known before."""
        if node not in self._devices:
            self._devices |= {device.id: device for device in self.node.topology.devices}
        return self._devices.get(node)

    def _look(self) -> Look:
        """For a scrape, in its thread: what others say is waited for there, and the node goes on."""
        from exo_lab.telemetry.metrics import Look

        counted, known = self._others_say()
        nodes = residents(node_statuses(self.node))
        return Look(
            nodes=nodes,
            plans=tuple(plan for _, plan in sorted(self.node.plans.items())),
            alerts=alerts_of(self.node),
            links=known.residents.links,
            counted={node.device.id: counted[node.device.id] for node in nodes if node.device.id in counted},
            refused=self.node.parts.refused(),
        )

    def _others_say(self) -> tuple[dict[str, Stats], Topology]:
        """Counts and links of all nodes; where nobody can be asked, what this node knows by itself, and a notice."""
        try:
            found = self._thread.run(ask(self.node), LOOK_TIMEOUT_S)
        except ExoError as exc:
            self.node.problems.note(METRICS, f"metrics are served without what other nodes say: {exc}")
            return {}, self.node.topology
        self.node.problems.settle(METRICS)
        return found


async def ask(node: Node) -> tuple[dict[str, Stats], Topology]:
    """What nodes count, and the links that they know."""
    return await asyncio.gather(counters(node, ASK_S), node.collect(1))
