"""A generation, seen from its requester: what has arrived, whether it is over, and when it last moved.

Filled by the data thread, read by whoever asked. It owns the prompt, so that the request can be replayed.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.errors import Cancelled, ExoError
from exo_lab.core.messages import Token

if TYPE_CHECKING:
    from exo_lab.core.messages import SessionSpec
    from exo_lab.core.plan import Plan


class Arrival(msgspec.Struct, frozen=True):
    """A token and the moment (requester's monotonic clock, seconds) at which it came."""

    token: Token
    at: float


class Request:
    """One generation. Thread-safe: one producer (data thread), one consumer, and anyone may cancel."""

    def __init__(self, request: str, plan: Plan, prompt: tuple[int, ...], spec: SessionSpec, timeout_s: float) -> None:
        self.id, self.plan, self.prompt, self.spec, self.timeout_s = request, plan, prompt, spec, timeout_s
        self.started_at = 0.0
        self.moved_at = 0.0  # last sign of life; what the deadline counts from
        self.next_position = len(prompt)
        self.error: ExoError | None = None
        self.over = threading.Event()
        self._arrivals: queue.SimpleQueue[Arrival | None] = queue.SimpleQueue()
        self._lock = threading.Lock()

    def begin(self, now: float) -> None:
        """The request was handed to the ring."""
        self.started_at = self.moved_at = now

    def put(self, token: Token, now: float) -> bool:
        """A token came. False if it is not the next one: late, repeated, or after the end."""
        with self._lock:
            if self.over.is_set() or token.position != self.next_position:
                return False
            self.next_position += 1
            self.moved_at = now
            self._arrivals.put(Arrival(token, now))
            if token.finish is not None:
                self._finish(None)
            return True

    def fail(self, error: ExoError) -> bool:
        """End with an error; the first end wins. True if this was it."""
        with self._lock:
            if self.over.is_set():
                return False
            self._finish(error)
            return True

    def cancel(self) -> bool:
        """End because the requester wants it so. True if it was still running."""
        return self.fail(Cancelled(f"request {self.id} was cancelled"))

    def take(self, timeout_s: float) -> Arrival | None:
        """The next arrival; None when nothing came in time or nothing will come (`drained`)."""
        if self.drained:
            return None
        try:
            arrival = self._arrivals.get(timeout=timeout_s) if timeout_s > 0 else self._arrivals.get_nowait()
        except queue.Empty:
            return None
        return arrival

    @property
    def drained(self) -> bool:
        """Over, and everything that came has been taken."""
        return self.over.is_set() and self._arrivals.empty()

    def overdue(self, now: float) -> bool:
        """Has nothing come for longer than the deadline?"""
        return not self.over.is_set() and now - self.moved_at > self.timeout_s

    def _finish(self, error: ExoError | None) -> None:
        self.error = error
        self.over.set()
        self._arrivals.put(None)  # wakes a waiting consumer
