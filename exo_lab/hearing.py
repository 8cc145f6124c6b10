"""Who in this process hears of its answers, token by token. Knows no panel and no widget, only what they share.

A generation tells it, whoever reads that: a cell, a loop in Python, a server. What nobody reads has not arrived yet.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.core.status import GenerationStats, TokenEvent


class Ear(Protocol):
    """Something that hears. Called in the thread that reads the answer; must not block and must not raise."""

    def started(self, stats: GenerationStats) -> None:
        """A generation began."""
        ...

    def moved(self, stats: GenerationStats) -> None:
        """It goes on over another plan; `stats.tokens` came before."""
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
    """Hear of every answer that begins from now on; the result ends it, and may be called twice."""
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
