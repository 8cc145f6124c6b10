"""An answer in the making: text arrives piece by piece, and can be iterated, polled, awaited or stopped.

The ring delivers tokens; this turns them into text, looks for stop strings, and keeps the figures. It knows nothing
of notebooks; who in this process hears of it is in `hearing`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Protocol

import msgspec

from exo_lab.core.errors import Cancelled, ExoError, GenerationError
from exo_lab.core.following import Over
from exo_lab.core.status import TokenEvent
from exo_lab.core.stops import first_stop, held_back
from exo_lab.figures import stats_of, step_of
from exo_lab.hearing import ears

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from exo_lab.core.following import Follower
    from exo_lab.core.messages import FinishReason
    from exo_lab.core.record import RunRecord
    from exo_lab.core.status import GenerationStats
    from exo_lab.node.session import Arrival, Request

POLL_S = 0.1  # a waiting caller wakes so often, so that Interrupt gets through


class Text(Protocol):
    """What a generation needs of a tokenizer: a stream that turns tokens into text."""

    def add(self, token_id: int) -> str:
        """The text that this token completes; may be empty."""
        ...

    def flush(self) -> str:
        """What is left at the end."""
        ...


class Generation:
    """One answer. Made by `Cluster.generate`; it is already running.

    Iterate it for text pieces (`for piece in generation`, `async for ...`), or take `events()` for tokens with their
    probabilities and timings. `cancel()` stops it on every node; what has come stays. One reader at a time; anybody may
    cancel.
    """

    def __init__(
        self,
        request: Request,
        text: Text,
        *,
        prompt: str,
        stop: tuple[str, ...] = (),
        decode: Callable[[int], str] = str,
        cancel: Callable[[Request], None],
        follow: Follower = lambda _: None,
        recorder: Callable[[Generation], RunRecord] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.prompt = prompt
        self.tokens: list[TokenEvent] = []
        self._request, self._stream, self._stop, self._decode = request, text, stop, decode
        self._cancel, self._follow, self._clock, self._recorder = cancel, follow, clock, recorder
        self.began_at_s = time.time() - (clock() - request.started_at)
        self._text = ""  # everything decoded
        self._shown = 0  # how much of it has been given out; the rest might be the start of a stop string
        self._reading = threading.Lock()
        self._finish: FinishReason | None = None
        self._ended_at: float | None = None
        self._plan, self._ears = request.plan, ears()
        for ear in self._ears:
            ear.started(self.stats)

    # -- state -------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The request id, the same on every node."""
        return self._request.id

    @property
    def text(self) -> str:
        """The answer so far, without what a stop string cut off."""
        return self._text[: self._shown]

    @property
    def done(self) -> bool:
        """Has everything arrived and been taken?"""
        return self._finish is not None

    @property
    def finish(self) -> FinishReason | None:
        """Why it ended: "stop" (end of text or a stop string), "length", "cancelled", "error"; None while it runs."""
        return self._finish

    @property
    def error(self) -> ExoError | None:
        """What went wrong, if anything did."""
        error = self._request.error
        return None if isinstance(error, Cancelled) else error

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences for the user: a node was lost and the answer went on without it, ..."""
        return self._request.notices

    @property
    def stats(self) -> GenerationStats:
        """Measured figures, at any time."""
        end = self._ended_at if self._ended_at is not None else self._clock()
        return stats_of(self._request, self.tokens, self._finish, end)

    def record(self) -> RunRecord:
        """What was asked and what has come, with plan, devices and versions: to be kept, and replayed."""
        if self._recorder is None:
            raise GenerationError(f"request {self.id} was not asked of a cluster, so it has no record")
        return self._recorder(self)

    # -- reading -----------------------------------------------------------------------------------------

    def poll(self, timeout_s: float = POLL_S) -> list[TokenEvent]:
        """Tokens that have arrived, waiting at most `timeout_s` for the first; empty on timeout and at the end.

        Never raises the generation's error: see `error` and `result()`.
        """
        with self._reading:
            return self._poll(timeout_s)

    def _poll(self, timeout_s: float) -> list[TokenEvent]:
        events: list[TokenEvent] = []
        if self._request.plan.rank != self._plan.rank:
            self._plan = self._request.plan
            for ear in self._ears:
                ear.moved(self.stats)
        while self._finish is None:
            arrival = self._request.take(0.0 if events else timeout_s)
            if arrival is not None:
                events.append(self._accept(arrival))
            elif self._request.drained:
                self._close()
            else:
                break
        return events

    def _more(self, given: int) -> list[TokenEvent]:
        """Tokens after the first `given`, waiting a little for one; whoever cancels takes some too."""
        if given == len(self.tokens):
            self.poll()
        return self.tokens[given:]

    def events(self) -> Iterator[TokenEvent]:
        """Token by token; raises the error at the end, if there was one. Leaving the loop early cancels."""
        given = len(self.tokens)
        try:
            while not self.done or given < len(self.tokens):
                more = self._more(given)
                given += len(more)
                yield from more
        finally:
            if not self.done:
                self.cancel()
        if self.error is not None:
            raise self.error

    def __iter__(self) -> Iterator[str]:
        """Text pieces; raises the error at the end, if there was one. Leaving the loop early cancels."""
        for event in self.events():
            if event.text:
                yield event.text

    async def __aiter__(self) -> AsyncIterator[str]:
        """Text pieces without blocking the loop. Cancelling the task cancels the generation on every node."""
        given = len(self.tokens)
        try:
            while not self.done or given < len(self.tokens):
                more = await asyncio.to_thread(self._more, given)
                given += len(more)
                for event in more:
                    if event.text:
                        yield event.text
        finally:
            if not self.done:
                self.cancel()
        if self.error is not None:
            raise self.error

    def result(self, timeout_s: float | None = None) -> Generation:
        """Wait for the end.

        Raises:
            ExoError: what went wrong.
            TimeoutError: not over within `timeout_s`; it goes on, and can be asked again.
        """
        deadline = None if timeout_s is None else self._clock() + timeout_s
        while not self.done:
            self.poll()
            if deadline is not None and not self.done and self._clock() > deadline:
                raise TimeoutError(f"request {self.id} is still running after {timeout_s:g} s")
        if self.error is not None:
            raise self.error
        return self

    def cancel(self) -> None:
        """Stop on every node. Keeps what has arrived; idempotent; returns at once. Any thread.

        While another thread reads, it is that one which takes what is left and sees the end, in a moment.
        """
        self._cancel(self._request)
        if not self._reading.acquire(blocking=False):
            return
        try:
            while self._finish is None:
                if not self._poll(0.0) and self._finish is None and self._request.drained:
                    self._close()
        finally:
            self._reading.release()

    # -- inside ------------------------------------------------------------------------------------------

    def _accept(self, arrival: Arrival) -> TokenEvent:
        token = arrival.token
        ended = token.finish == "stop"
        if not ended:  # the end-of-text token is not part of the text
            self._text += self._stream.add(token.token)
        if token.finish is not None:
            self._text += self._stream.flush()
        cut = first_stop(self._text, self._stop, self._shown)
        held = 0 if token.finish is not None or cut is not None else held_back(self._text, self._stop, self._shown)
        shown = len(self._text) - held if cut is None else cut
        piece = self._text[self._shown : shown]
        self._shown = max(shown, self._shown)
        event = TokenEvent(
            index=len(self.tokens),
            token=token.token,
            text=piece,
            logprob=token.logprob,
            at_s=arrival.at - self._request.started_at,
            alternatives=tuple((self._decode(other), logprob) for other, logprob in token.alternatives),
            timings=token.timings,
        )
        self.tokens.append(event)
        self._follow(step_of(self._request, self.tokens, self.began_at_s))
        for ear in self._ears:
            ear.token(self.id, event)
        if cut is not None:
            self._text = self._text[:cut]
            self._end("stop")
            self._cancel(self._request)
        elif token.finish is not None:
            self._end(token.finish)
        return event

    def _close(self) -> None:
        """Nothing more will come: show what was held back, and say why it ended."""
        if self._shown < len(self._text) and self.tokens:
            last, rest = self.tokens[-1], self._text[self._shown :]
            self._shown = len(self._text)
            self.tokens[-1] = msgspec.structs.replace(last, text=last.text + rest)
        self._end("cancelled" if isinstance(self._request.error, Cancelled) else "error")

    def _end(self, reason: FinishReason) -> None:
        if self._finish is None:
            self._finish, self._ended_at = reason, self._clock()
            model, total_s = self._request.plan.model, self._ended_at - self._request.started_at
            self._follow(Over(request=self.id, model=model, finish=reason, tokens=len(self.tokens), total_s=total_s))
            for ear in self._ears:
                ear.ended(self.stats)

    def __repr__(self) -> str:
        return f"<Generation {self.id}: {len(self.tokens)} tokens, {self._finish or 'running'}>"
