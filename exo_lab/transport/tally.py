"""Counts of what was turned away, by reason, with a log line now and then. Bounded, whatever a peer does.

One thread adds; any thread may take a snapshot.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

LOG_EVERY_S = 10.0
OTHER = "other"
MAX_DETAIL_CHARACTERS = 500  # a detail may quote what a peer sent


class Tally:
    """`add` counts a reason, and logs it at most once per `LOG_EVERY_S` seconds.

    Args:
        log: where to; None only counts.
        subject: what the lines are about, e.g. "data port tcp://127.0.0.1:4000".
        max_reasons: beyond this many different ones, the rest counts as "other".
    """

    def __init__(self, log: logging.Logger | None, subject: str, max_reasons: int = 64) -> None:
        self._log, self._subject, self._max = log, subject, max_reasons
        self._counts: dict[str, int] = {}
        self._quiet_until = 0.0
        self._unlogged = 0

    def add(self, reason: str, detail: str = "") -> None:
        """Count one."""
        if reason not in self._counts and len(self._counts) >= self._max:
            reason = OTHER
        self._counts[reason] = self._counts.get(reason, 0) + 1
        if self._log is None:
            return
        detail = detail[:MAX_DETAIL_CHARACTERS]
        now = time.monotonic()
        if now < self._quiet_until:
            self._unlogged += 1
            return
        more = f" ({self._unlogged} more since the last line)" if self._unlogged else ""
        self._log.warning("%s refused: %s%s", self._subject, f"{reason}: {detail}" if detail else reason, more)
        self._quiet_until, self._unlogged = now + LOG_EVERY_S, 0

    @property
    def total(self) -> int:
        """How many in all."""
        return sum(self.snapshot().values())

    def snapshot(self) -> dict[str, int]:
        """A copy of the counts, by reason."""
        return self._counts.copy()
