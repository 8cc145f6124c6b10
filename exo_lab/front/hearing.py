"""Who in this process hears of its answers, token by token. Knows no panel and no widget, only what they share.

The cell that asks tells it; an answer that is read from Python without a cell is not heard of.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.core.status import GenerationStats, TokenEvent
    from exo_lab.front.panel_messages import GenerationStart


class Ear(Protocol):
    """Something that hears. Called in the thread that draws the answer; must not block and must not raise."""

    def started(self, start: GenerationStart) -> None:
        """A generation began."""
        ...

    def token(self, request: str, event: TokenEvent) -> None:
        """A token came."""
        ...

    def ended(self, stats: GenerationStats) -> None:
        """A generation is over."""
        ...


_ears: list[Ear] = []
_lock = threading.Lock()


def listen(ear: Ear) -> Callable[[], None]:
    """Hear of every answer from now on; the result ends it, and may be called twice."""
    with _lock:
        _ears.append(ear)

    def stop() -> None:
        with _lock:
            if ear in _ears:
                _ears.remove(ear)

    return stop


def ears() -> tuple[Ear, ...]:
    """Who listens now."""
    return tuple(_ears)
