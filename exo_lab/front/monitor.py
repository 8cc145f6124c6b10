"""Looks at a cluster again and again, for whoever draws or records it. Knows no terminal and no file."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from exo_lab.core.errors import ConfigError
from exo_lab.front.frame import Frame, frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.cluster import Cluster
    from exo_lab.core.topology import Link

FASTEST_S = 0.25  # between two looks: every look asks every node
LINKS_EVERY_S = 5.0  # everybody's links take more asking


class Watch:
    """Looks at a cluster; remembers the look before.

    Args:
        cluster: what is looked at.
        wall: seconds since the epoch.
    """

    def __init__(self, cluster: Cluster, wall: Callable[[], float] = time.time) -> None:
        self._cluster, self._wall = cluster, wall
        self._before: Frame | None = None
        self._links: tuple[Link, ...] = ()
        self._links_at: float | None = None

    def look(self) -> Frame:
        """One look, now.

        Raises:
            ExoError: this node has left the cluster.
        """
        now_s = self._wall()
        if self._links_at is None or not self._links_at <= now_s < self._links_at + LINKS_EVERY_S:
            self._links, self._links_at = self._cluster.topology().links, now_s
        counters = self._cluster.counters()
        status = self._cluster.status()
        seen = frame(self._wall(), status, counters, self._links, before=self._before)
        self._before = seen
        return seen


def checked_interval(every_s: float) -> float:
    """Seconds between two looks.

    Raises:
        ConfigError: less than can be.
    """
    if not every_s >= FASTEST_S:
        raise ConfigError(f"--interval takes {FASTEST_S:g}s or more, not {every_s:g}s")
    return every_s


def run(
    look: Callable[[], Frame],
    take: Callable[[Frame], object],
    *,
    every_s: float,
    for_s: float | None = None,
    over: threading.Event | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Look every so many seconds, until `for_s` are over or somebody sets `over`. A late look delays no later one."""
    over = over or threading.Event()
    began_s = due_s = clock()
    while not over.is_set():
        take(look())
        due_s = max(due_s + every_s, clock())
        if for_s is not None and due_s >= began_s + for_s:
            return
        over.wait(max(0.0, due_s - clock()))
