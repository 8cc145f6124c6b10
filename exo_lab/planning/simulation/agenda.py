"""The simulation's own time: what is to happen when, in order. Knows nothing of rings; no clock is read."""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Agenda:
    """Actions by time; those of the same time happen in the order in which they were put down."""

    def __init__(self) -> None:
        self.now = 0.0
        self._entries: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def at(self, time_s: float, action: Callable[[], None]) -> None:
        """Put down an action; never before now."""
        heapq.heappush(self._entries, (max(time_s, self.now), next(self._numbers), action))

    def run(self, finished: Callable[[], bool]) -> None:
        """Until it is finished, or nothing is left to do."""
        while self._entries and not finished():
            self.now, _, action = heapq.heappop(self._entries)
            action()
