"""`%exo monitor` in a cell: the charts of telemetry, and what records the cluster beside them, in a thread of its own.

A recording goes on whatever becomes of the charts: until it is ended, its time is over, or the cluster is left. The
output of the cell that began it says how it ended. One runs for each cluster.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from exo_lab.core.errors import ConfigError, ExoError
from exo_lab.front.files import check_writable
from exo_lab.front.message_view import MessageView
from exo_lab.front.monitor import Watch, run
from exo_lab.front.recording import Recording
from exo_lab.front.widgets.live_telemetry import telemetry

if TYPE_CHECKING:
    from exo_lab.cluster import Cluster
    from exo_lab.front.screen import Screen
    from exo_lab.front.widgets.live_telemetry import Telemetry

log = logging.getLogger(__name__)

END_S = 5.0  # for a look that is under way
CLOSED_EVERY_S = 1.0  # so often it is seen whether the cluster was left


def monitored(
    cluster: Cluster, screen: Screen, *, every_s: float, for_s: float | None = None, record: str | None = None
) -> Telemetry:
    """Charts of a cluster, closed after `for_s`; what is recorded beside them says so on the screen.

    Raises:
        ConfigError: the file cannot be written.
    """
    if record is not None:
        check_writable(record)
        before = _running.get(cluster)
        said = [] if before is None else [before.end()]
        recorder = Recorder(cluster, screen, Recording(record), every_s=every_s, for_s=for_s)
        _running[cluster] = recorder
        recorder.start(said)
    charts = telemetry(cluster, every_s=every_s)
    if for_s is not None:
        closing = threading.Timer(for_s, charts.close)
        closing.daemon = True
        closing.start()
    return charts


def ended(cluster: Cluster) -> str:
    """End what records a cluster; what there is now, in words.

    Raises:
        ConfigError: nothing does.
    """
    recorder = _running.get(cluster)
    if recorder is None:
        raise ConfigError("nothing is being recorded. %exo monitor --record FILE begins it.")
    return recorder.end()


class Recorder:
    """Writes look after look into a file.

    Args:
        cluster: what is looked at.
        screen: where it is said that it records, and in the end what.
        recording: the file; closed at the end.
        every_s: between two looks.
        for_s: how long; None: until it is ended.
    """

    def __init__(
        self, cluster: Cluster, screen: Screen, recording: Recording, *, every_s: float, for_s: float | None = None
    ) -> None:
        self._cluster, self._screen, self._recording = cluster, screen, recording
        self._every_s, self._for_s = every_s, for_s
        self._over = _Over(cluster)
        self._thread = threading.Thread(target=self._run, name="exo-monitor", daemon=True)

    def start(self, before: list[str]) -> None:
        """Begin; say so, after what was `before`."""
        until = "" if self._for_s is None else f" for {self._for_s:g} s"
        said = f"Recording{until} into {self._recording.path}. %exo monitor --record off ends it."
        self._screen.offer(lambda: MessageView(*before, said))
        self._thread.start()

    def end(self) -> str:
        """No more looks; what there is. Idempotent."""
        self._over.set()
        self._thread.join(END_S)
        return f"Recorded: {self._recording.said()}."

    def _run(self) -> None:
        problem = ""
        try:
            run(
                Watch(self._cluster).look,
                self._recording.add,
                every_s=self._every_s,
                for_s=self._for_s,
                over=self._over,
            )
        except ExoError as exc:
            problem = "" if self._cluster.closed else str(exc)
        except Exception as exc:
            log.exception("the recording of %s broke off", self._cluster.name)
            problem = repr(exc)
        finally:
            self._recording.close()
            if _running.get(self._cluster) is self:
                del _running[self._cluster]
        left = " This node has left the cluster." if self._cluster.closed else ""
        said = f"Recorded: {self._recording.said()}.{left}"
        self._screen.finish(MessageView(said, warnings=[f"The recording broke off: {problem}"] if problem else []))


class _Over(threading.Event):
    """Set by whoever ends it, and by itself once the cluster was left."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self._cluster = cluster

    def is_set(self) -> bool:
        return super().is_set() or self._cluster.closed

    def wait(self, timeout: float | None = None) -> bool:
        ends_at = float("inf") if timeout is None else time.monotonic() + timeout
        while not self.is_set() and (left_s := ends_at - time.monotonic()) > 0:
            super().wait(min(left_s, CLOSED_EVERY_S))
        return self.is_set()


_running: dict[Cluster, Recorder] = {}
