"""What a node measures of itself over time: it reads what is due, keeps it, watches for too much.

Lives on the control loop. `look` does it all at one moment, so that a test can drive it with a clock of its own; what
makes an alert is decided in `core.alerts`, what is foreseen in `telemetry.foresight`. It is given sensors and recorder.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from exo_lab.core import alerts
from exo_lab.core.telemetry import Sample, Vitals, thinned, warnings_of
from exo_lab.telemetry.foresight import Foresight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from exo_lab.core.alerts import Key
    from exo_lab.core.telemetry import Series
    from exo_lab.core.watching import Watching
    from exo_lab.node.node import Node
    from exo_lab.telemetry.recorder import Recorder
    from exo_lab.telemetry.sensors import Sensors

log = logging.getLogger(__name__)

MAX_POINTS = 1000  # of one series that is told to a peer
MAX_SERIES = 256
IDLE_S = 60.0  # between two looks where every sensor is off
SUBJECT = "history"


class Sensing:
    """See the module. `vitals` may be read by any thread.

    Args:
        node: whose figures they are.
        sensors: of its machine; None: it has none.
        recorder: where readings are kept; None: nowhere.
        watching: how often, and what is too much.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        node: Node,
        sensors: Sensors | None,
        recorder: Recorder | None,
        watching: Watching,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.watching = watching
        self.recorder = recorder
        self.vitals = Vitals()
        self._node, self._sensors, self._clock = node, sensors, clock
        self._board = alerts.Board(node=node.id)
        self._foresight = Foresight(node.id, watching)
        self._latest: dict[Key, Sample] = {}
        self._read_at: dict[str, float] = {}
        self._computed: tuple[float, float] | None = None  # when, FLOPs until then

    def start(self) -> None:
        """Begin to write readings down."""
        if self.recorder is not None:
            self.recorder.start()

    async def run(self) -> None:
        """Look whenever something is due, for ever."""
        while True:
            wait_s = self.look()
            await asyncio.sleep(wait_s)

    def look(self) -> float:
        """Read what is due now; seconds until the next thing is."""
        now_s, watching = self._clock(), self.watching
        sensors: dict[str, tuple[float, Callable[[float], Iterator[Sample]]]] = {
            "compute": (watching.compute_s, self._compute),
            "memory": (watching.memory_s, self._memory),
            "network": (watching.network_s, self._network),
            "device": (watching.device_s, self._device),
        }
        samples: list[Sample] = []
        next_s = now_s + IDLE_S
        for name, (every_s, read) in sensors.items():
            if every_s <= 0:
                continue
            last_s = self._read_at.get(name)
            if last_s is None or not last_s <= now_s < last_s + every_s:  # due, or the clock was set back
                samples += self._readings(name, read, now_s)
                self._read_at[name] = last_s = now_s
            next_s = min(next_s, last_s + every_s)
        self._take(samples, now_s)
        return max(0.0, next_s - now_s)

    def acknowledge(self, alert: str) -> bool:
        """Somebody has seen an alert of this node; False if there is none of that id."""
        if all(one.id != alert for one in self._board.alerts):
            return False
        self._board = alerts.acknowledge(self._board, alert)
        self._tell()
        return True

    async def history(self, since_s: float, quantities: Sequence[str]) -> tuple[Series, ...]:
        """What was measured from then on; of each thing at most `MAX_POINTS`. Cancelled, it is not waited for."""
        if self.recorder is None:
            return ()
        found = await asyncio.to_thread(self.recorder.series, since_s, quantities)
        return tuple(thinned(one, MAX_POINTS) for one in found[-MAX_SERIES:])

    def close(self) -> None:
        """Write what was measured. Takes a few seconds at most."""
        if self.recorder is not None:
            self.recorder.close()

    # -- what follows from readings ----------------------------------------------------------------------

    def _take(self, samples: list[Sample], now_s: float) -> None:
        if self.recorder is not None:
            self.recorder.add(samples)
            self._note(self.recorder.problem)
        for sample in samples:
            self._latest[sample.quantity, sample.about] = sample
            self._board = alerts.observe(self._board, self.watching, sample)
        self._foresight.add(samples)
        peers = {peer.id for peer in self._node.members.alive()}
        self._board = alerts.without(self._board, "latency", peers)
        self._foresight.keep_only("latency", peers)
        self._foresight.look(now_s)
        self._tell()

    def _tell(self) -> None:
        before = self.vitals
        own = [sample for (quantity, _), sample in sorted(self._latest.items()) if quantity not in alerts.LINK]
        self.vitals = Vitals(samples=tuple(own), alerts=self._board.alerts, forecasts=self._foresight.forecasts)
        if warnings_of(before) != warnings_of(self.vitals):
            self._node.alerts_changed()

    def _note(self, problem: str) -> None:
        if problem == (self._node.problems.about(SUBJECT) or ""):
            return
        if problem:
            self._node.problems.note(SUBJECT, problem)
        else:
            self._node.problems.settle(SUBJECT)

    def _readings(self, name: str, read: Callable[[float], Iterator[Sample]], now_s: float) -> list[Sample]:
        """What a sensor says. One that fails keeps nobody else from being read, and is tried again when it is due."""
        subject = f"sensor {name}"
        try:
            found = list(read(now_s))
        except Exception as exc:  # a driver may answer with anything
            log.exception("node %s: the sensor %s failed", self._node.id, name)
            self._node.problems.note(subject, f"the sensor {name} failed: {exc!r}. It is tried again.")
            return []
        self._node.problems.settle(subject)
        return found

    # -- reading -----------------------------------------------------------------------------------------

    def _compute(self, now_s: float) -> Iterator[Sample]:
        """FLOPs that this node's stages computed since the last time, of what the device can do in that time."""
        device, flops = self._node.device, self._node.stages.flops
        peak = max(device.flops.fp32, device.flops.fp16) * 1e12 / device.slowdown
        before, self._computed = self._computed, (now_s, flops)
        if before is not None and peak > 0 and now_s > before[0]:
            yield Sample(now_s, "compute", (flops - before[1]) / (now_s - before[0]) / peak)

    def _memory(self, now_s: float) -> Iterator[Sample]:
        whole = self._node.device.memory_bytes
        if whole:
            used = 1 - self._node.memory_available_bytes() / whole
            yield Sample(now_s, "memory", min(1.0, max(0.0, used)))

    def _network(self, now_s: float) -> Iterator[Sample]:
        for peer in self._node.members.alive():
            figures = self._node.peers.link_figures(peer.id)
            # A ping goes through two control loops as well, so it is only better than nothing.
            latency_s = peer.latency_s if figures is None else figures.latency_s
            if latency_s is not None:
                yield Sample(now_s, "latency", latency_s, peer.id)
            if figures is not None and figures.bandwidth_bytes_per_s is not None:
                yield Sample(now_s, "bandwidth", figures.bandwidth_bytes_per_s, peer.id)

    def _device(self, now_s: float) -> Iterator[Sample]:
        yield Sample(now_s, "load", self._node.load.value, "cpu")
        if self._sensors is None:
            return
        for place, share in self._sensors.load().items():
            yield Sample(now_s, "load", share, place)
        for place, celsius in self._sensors.temperature().items():
            yield Sample(now_s, "temperature", celsius, place)
