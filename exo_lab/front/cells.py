"""Whether a cell of this kernel runs, as IPython's events tell. Knows no panel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Cells:
    """`running` while a cell does. The one in which this is made does not count: its beginning was not told."""

    def __init__(self, shell: Any) -> None:
        self.running = False
        self._heard: dict[str, Callable[[Any], None]] = {"pre_run_cell": self._began, "post_run_cell": self._ended}
        self._events = shell.events
        for event, callback in self._heard.items():
            self._events.register(event, callback)

    def close(self) -> None:
        """Listen no more. Idempotent."""
        for event, callback in self._heard.items():
            self._events.unregister(event, callback)
        self._heard = {}
        self.running = False

    def _began(self, _: Any) -> None:
        self.running = True

    def _ended(self, _: Any) -> None:
        self.running = False
