"""What the panel has to say of answers and of loading: events that wait for the next push, and the latest answer.

A front end that arrives during an answer, or after it, is told the answer's story so far in the same messages. Knows no
comm and no cluster; filled by the threads that read answers, emptied by the one that pushes.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from exo_lab.front import panel_messages as m

if TYPE_CHECKING:
    from exo_lab.core.status import TokenEvent

QUEUE = 10_000  # events that wait for a slow push; older ones are dropped, the next status makes up for them
KEPT_TOKENS = 1024  # of the latest answer; who comes late to a longer one sees its end

Told = m.GenerationStart | m.GenerationMoved | m.TokensEvent | m.GenerationEnd | m.LoadProgress


class Feed:
    """See the module."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Told] = deque(maxlen=QUEUE)
        self._answer: Answer | None = None

    def put(self, event: Told, *, wanted: bool) -> None:
        """Something happened. Where nobody looks (`wanted` false) only the latest answer is kept. Returns at once."""
        with self._lock:
            if isinstance(event, m.GenerationStart):
                self._answer = Answer(event)
            elif self._answer is not None:
                self._answer.add(event)
            if wanted:
                self._waiting.append(event)

    def take(self) -> tuple[list[Told], list[Told]]:
        """What waits, neighbouring tokens of one request as one message; and all of it for who hears it first now."""
        with self._lock:
            waiting, self._waiting = self._waiting, deque(maxlen=QUEUE)
            return _batched(waiting), [] if self._answer is None else self._answer.story()


class Answer:
    """One answer so far."""

    def __init__(self, start: m.GenerationStart) -> None:
        self._start = start
        self._moved: m.GenerationMoved | None = None
        self._tokens: deque[TokenEvent] = deque(maxlen=KEPT_TOKENS)
        self._end: m.GenerationEnd | None = None

    def add(self, event: Told) -> None:
        """What is not of this answer is passed over."""
        match event:
            case m.TokensEvent(request=self._start.request, tokens=tokens):
                self._tokens.extend(tokens)
            case m.GenerationMoved(request=self._start.request):
                self._moved = event
            case m.GenerationEnd(stats=stats) if stats.request == self._start.request:
                self._end = event
            case _:
                pass

    def story(self) -> list[Told]:
        """From its beginning to now."""
        tokens = m.TokensEvent(request=self._start.request, tokens=tuple(self._tokens))
        parts = (self._start, self._moved, tokens if tokens.tokens else None, self._end)
        return [part for part in parts if part is not None]


def _batched(events: deque[Told]) -> list[Told]:
    batch: list[Told] = []
    for event in events:
        last = batch[-1] if batch else None
        if isinstance(event, m.TokensEvent) and isinstance(last, m.TokensEvent) and last.request == event.request:
            batch[-1] = msgspec.structs.replace(last, tokens=last.tokens + event.tokens)
        elif isinstance(event, m.LoadProgress) and isinstance(last, m.LoadProgress) and last.node == event.node:
            batch[-1] = event
        else:
            batch.append(event)
    return batch
