"""Looks at a cluster a few times a second and remembers what it saw; tells whoever draws. One thread, ended by `stop`.

Knows no charts. What it hears of answers comes through `hearing`, the rest is asked of the cluster.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from exo_lab.core.errors import ExoError
from exo_lab.front.widgets.history import History, Moment, Paced, moment
from exo_lab.hearing import listen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exo_lab.core.messages import Stats
    from exo_lab.core.status import ClusterStatus, GenerationStats, TokenEvent
    from exo_lab.core.topology import Link

EVERY_S = 0.5
FASTEST_S = 0.25  # four times a second: a front end that is told more often falls behind
COUNTERS_EVERY_S = 2.0  # asking every node costs a message each
RATE_TOKENS = 32  # the decode rate is that of the latest tokens
STOP_WITHIN_S = 5.0

log = logging.getLogger(__name__)


class Watched(Protocol):
    """What is needed of a cluster; any thread, raises ExoError."""

    def status(self) -> ClusterStatus:
        """Everything at this moment."""
        ...

    def links(self) -> tuple[Link, ...]:
        """The known links."""
        ...

    def counters(self) -> Mapping[str, Stats]:
        """What each node is busy with."""
        ...

    @property
    def closed(self) -> bool:
        """Has it been left?"""
        ...


class Pulse:
    """Hears of answers, see `hearing.Ear`, and says how fast they came since it was asked last. Bounded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: deque[float] = deque(maxlen=RATE_TOKENS)
        self._request = ""
        self._fresh = False
        self._stages: dict[str, tuple[float, int]] = {}

    def started(self, stats: GenerationStats) -> None:
        """Nothing to count yet."""

    def moved(self, stats: GenerationStats) -> None:
        """What counts is what comes from now on."""

    def token(self, request: str, event: TokenEvent) -> None:
        """A token; the first one's times are those of the prompt and do not count."""
        with self._lock:
            if request != self._request:
                self._request = request
                self._times.clear()
            self._times.append(event.at_s)
            self._fresh = True
            if event.index > 0:
                for timing in event.timings:
                    spent, count = self._stages.get(timing.node, (0.0, 0))
                    self._stages[timing.node] = (spent + timing.compute_s, count + 1)

    def ended(self, stats: GenerationStats) -> None:
        """Nothing more to count."""

    def take(self) -> Paced:
        """The decode rate of the latest tokens and the mean of each stage; nothing where no token came since."""
        with self._lock:
            fresh, self._fresh = self._fresh, False
            stages, self._stages = self._stages, {}
            spent = self._times[-1] - self._times[0] if len(self._times) > 1 else 0.0
            rate = (len(self._times) - 1) / spent if fresh and spent > 0 else None
        return Paced(rate, tuple((id_, total / count) for id_, (total, count) in stages.items()))


class Sampler:
    """Fills a history.

    Args:
        cluster: what is looked at.
        history: where it goes.
        tell: called after every look, in the sampler's thread.
        ended: called there when the cluster was left, or when looking broke off.
        every_s: between two looks; never less than `FASTEST_S`.
        wall: seconds since the epoch, for what people read.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        cluster: Watched,
        history: History,
        tell: Callable[[Moment], None],
        ended: Callable[[], None] = lambda: None,
        *,
        every_s: float = EVERY_S,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.every_s = max(every_s, FASTEST_S)
        self._cluster, self._history, self._tell = cluster, history, tell
        self._ended = ended
        self._wall, self._clock = wall, clock
        self._pulse = Pulse()
        self._counters: Mapping[str, Stats] = {}
        self._counted_at: float | None = None
        self._over = threading.Event()
        self._deaf: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look, for the first time after `every_s`."""
        self._deaf = listen(self._pulse)
        self._thread = threading.Thread(target=self._run, name="exo-telemetry", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more. Idempotent; waits for the look that is under way, unless it is that one that asks."""
        self._over.set()
        if self._deaf is not None:
            self._deaf()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(STOP_WITHIN_S)

    @property
    def running(self) -> bool:
        """Does it look?"""
        return self._thread is not None and self._thread.is_alive() and not self._over.is_set()

    def look(self) -> Moment:
        """One look, now; remembered and told."""
        now = self._clock()
        if self._counted_at is None or now - self._counted_at >= COUNTERS_EVERY_S:
            self._counters, self._counted_at = self._cluster.counters(), now
        status = self._cluster.status()
        seen = moment(self._wall(), status, self._cluster.links(), self._counters, self._pulse.take())
        self._history.add(seen, {node.device.id: node.device.name for node in status.nodes})
        self._tell(seen)
        return seen

    def _run(self) -> None:
        while not self._over.wait(self.every_s) and not self._cluster.closed:
            try:
                self.look()
            except ExoError as exc:
                if not self._cluster.closed:
                    log.warning("telemetry has a gap: %s", exc)
            except Exception:
                log.exception("telemetry broke off")
                break
        if self._deaf is not None:
            self._deaf()
        if not self._over.is_set():
            self._ended()
