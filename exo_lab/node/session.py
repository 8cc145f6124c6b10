"""A generation, seen from its requester: what has arrived, whether it is over, and when it last moved.

Filled by the data thread, read by whoever asked. It owns the prompt and the tokens drawn so far, so that it can always
be replayed: on another plan it goes on as another attempt, under another name on the wire, and what still comes of the
attempt before is nobody's.
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
    from exo_lab.node.draft import Draft


SLOW_TOKENS = 10  # a token that takes so many times the longest one so far is not coming
ATTEMPT_MARK = "."  # between a request's id and the number of an attempt


class Arrival(msgspec.Struct, frozen=True):
    """A token and the moment (requester's monotonic clock, seconds) at which it came."""

    token: Token
    at: float


class Request:
    """One generation. Thread-safe: one producer (data thread), one consumer, and anyone may cancel."""

    def __init__(
        self,
        request: str,
        plan: Plan,
        prompt: tuple[int, ...],
        spec: SessionSpec,
        timeout_s: float,
        draft: Draft | None = None,
    ) -> None:
        self.draft = draft  # guesses for it; then its steps are begun here
        self.id, self.plan, self.prompt, self.spec, self.timeout_s = request, plan, prompt, spec, timeout_s
        self.started_at = 0.0
        self.moved_at = 0.0  # last sign of life; what the deadline counts from
        self.next_position = len(prompt)
        self.error: ExoError | None = None
        self.over = threading.Event()
        self.attempt = 0
        self.tries = 0  # attempts since the last token
        self.drawn: list[int] = []
        self.reused = 0  # prompt tokens that stages had kept of requests before
        self.first_at: float | None = None  # when the first token came
        self.longest_s = 0.0  # between two tokens
        self.notices: tuple[str, ...] = ()  # for the user: what happened on the way
        self._lost_at: float | None = None  # since when no token comes, because a stage was lost
        self._suspended = False
        self._resumed = ""  # what is to be said once the next token is there
        self._arrivals: queue.SimpleQueue[Arrival | None] = queue.SimpleQueue()
        self._lock = threading.Lock()

    def begin(self, now: float) -> None:
        """The request was handed to the ring."""
        self.started_at = self.moved_at = now

    @property
    def known(self) -> int:
        """Tokens that are known: of the prompt, and those drawn."""
        return len(self.prompt) + len(self.drawn)

    @property
    def wire(self) -> str:
        """How this attempt is called on the wire."""
        return f"{self.id}{ATTEMPT_MARK}{self.attempt}" if self.attempt else self.id

    def put(self, token: Token, now: float) -> bool:
        """A token came. False if it is not the next one: late, repeated, of an attempt before, or after the end."""
        with self._lock:
            if self.over.is_set() or self._suspended:
                return False
            if token.position != self.next_position or token.request != self.wire:
                return False
            self.next_position += 1
            if self.first_at is not None and self._lost_at is None:
                self.longest_s = max(self.longest_s, now - self.moved_at)
            self.moved_at = now
            self.tries = 0
            if not self.drawn:
                self.reused = max(0, min(token.reused, len(self.prompt)))
            self.drawn.append(token.token)
            self.first_at = now if self.first_at is None else self.first_at
            if self._lost_at is not None:
                self._say(f"{self._resumed} The next token came after {now - self._lost_at:.2f} s.")
                self._lost_at = None
            self._arrivals.put(Arrival(token, now))
            if token.finish is not None:
                self._finish(None)
            return True

    def suspend(self, why: str, now: float) -> bool:
        """A stage was lost: until `resume` nothing counts. False if it is over, or suspended already."""
        with self._lock:
            if self.over.is_set() or self._suspended:
                return False
            self._suspended = True
            self.moved_at = now
            if self._lost_at is None:
                self._lost_at = now
                self.notices = (*self.notices, why)
            else:  # again, before a token came
                self._say(why)
            return True

    def resume(self, plan: Plan, notice: str, now: float, *, by_choice: bool = False) -> bool:
        """Go on as a new attempt on `plan`, with the prompt and the tokens so far. False if it is over by now."""
        with self._lock:
            if self.over.is_set():
                return False
            self.plan, self._suspended, self._resumed = plan, False, notice
            self.tries += not by_choice
            self._begin_attempt(self.spec.reuse, now)
            return True

    def restart(self, reuse: int, now: float) -> bool:
        """Go on as a new attempt on the same plan that takes at most `reuse` positions from what stages keep.

        False if that would change nothing, if it is over, or if it is to go on elsewhere anyway.
        """
        with self._lock:
            if self.over.is_set() or self._suspended or not 0 <= reuse < self.spec.reuse:
                return False
            self._begin_attempt(reuse, now)
            return True

    def _begin_attempt(self, reuse: int, now: float) -> None:
        self.attempt, self.moved_at = self.attempt + 1, now
        told = (*self.prompt, *self.drawn)
        history = self.spec.sampling.history(told) if self.spec.history else ()
        self.spec = msgspec.structs.replace(self.spec, prompt_tokens=len(told), history=history, reuse=reuse)

    @property
    def suspended(self) -> bool:
        """Is it waiting for another plan?"""
        return self._suspended and not self.over.is_set()

    def touch(self, now: float) -> None:
        """A sign of life that is no token: layers are being loaded for it."""
        self.moved_at = max(self.moved_at, now)

    def _say(self, notice: str) -> None:
        self.notices = (*self.notices[:-1], notice)

    def fail(self, error: ExoError) -> bool:
        """End with an error; the first end wins. True if this was it."""
        with self._lock:
            if self.over.is_set():
                return False
            if self._suspended:
                self.notices = self.notices[:-1]  # that it would go on in a moment; the error says what happened
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

    def stalled(self, now: float, after_s: float) -> bool:
        """Did no token come for much longer than ever between two? A frame may have been lost.

        A prompt, or a replay, may itself take long, up to the deadline. So half of that is waited for its token, and
        in each attempt without one half of what was left: whatever ends before the deadline has its chance.
        """
        if self.over.is_set() or self._suspended:
            return False
        slow_s = SLOW_TOKENS * self.longest_s
        if self.first_at is None or self.tries or self._lost_at is not None:
            slow_s = self.timeout_s * (1 - 0.5 ** (self.tries + 1))
        return now - self.moved_at > max(after_s, slow_s)

    def _finish(self, error: ExoError | None) -> None:
        self.error = error
        self.over.set()
        self._arrivals.put(None)  # wakes a waiting consumer
