"""`%exo monitor` in a cell: the charts of telemetry, and a thread that records what the cluster does."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from exo_lab.core.errors import ExoError
from exo_lab.front.monitor import Watch, run
from exo_lab.front.recording import Recording
from exo_lab.front.widgets.live_telemetry import telemetry

if TYPE_CHECKING:
    from exo_lab.cluster import Cluster
    from exo_lab.front.frame import Frame
    from exo_lab.front.widgets.live_telemetry import Telemetry

log = logging.getLogger(__name__)


def monitored(cluster: Cluster, *, every_s: float, for_s: float | None = None, record: str | None = None) -> Telemetry:
    """Charts of a cluster; with `for_s` or `record` a thread closes or records them, and ends with them.

    Raises:
        ConfigError: the file cannot be written.
    """
    recording = Recording(record) if record else None
    charts = telemetry(cluster, every_s=every_s)
    if recording is not None or for_s is not None:
        work = _Work(cluster, charts, recording)
        threading.Thread(target=work.run, args=(every_s, for_s), name="exo-monitor", daemon=True).start()
    return charts


class _Work:
    """Records until it is over, then closes the charts if it was for a time only."""

    def __init__(self, cluster: Cluster, charts: Telemetry, recording: Recording | None) -> None:
        self._cluster, self._charts, self._recording = cluster, charts, recording
        self._over = threading.Event()

    def run(self, every_s: float, for_s: float | None) -> None:
        """In a thread of its own."""
        try:
            run(Watch(self._cluster).look, self._take, every_s=every_s, for_s=for_s, over=self._over)
        except ExoError as exc:
            if not self._cluster.closed:
                log.warning("the recording of %s broke off: %s", self._cluster.name, exc)
        finally:
            if self._recording is not None:
                self._recording.close()
            if for_s is not None:
                self._charts.close()

    def _take(self, seen: Frame) -> None:
        if not self._charts.running:
            self._over.set()
        elif self._recording is not None:
            self._recording.add(seen)
