"""Where something that changes is drawn: one output of a cell, or lines of a terminal.

One writer each, from whichever thread, at most ten times a second. Knows views, not clusters.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from exo_lab.front.generation_view import GenerationView
from exo_lab.front.progress_view import ProgressView
from exo_lab.front.text import clean_block

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from exo_lab.front.view import View

EVERY_S = 0.1


def print_view(view: View, out: TextIO) -> None:
    """A view on a terminal, in colours if it has some and the terminal too; as text anywhere else."""
    made = view.renderable() if out.isatty() else None
    if made is None:
        out.write(view.text() + "\n")
    else:
        from rich.console import Console

        Console(file=out, highlight=False).print(made)
    out.flush()


class Screen(Protocol):
    """A place to draw on, again and again."""

    def offer(self, make: Callable[[], View]) -> None:
        """Draw what `make` returns, unless something was drawn a moment ago."""
        ...

    def finish(self, view: View) -> None:
        """Draw the last picture; later offers are ignored."""
        ...


class CellScreen:
    """One output of a notebook cell, updated in place.

    Args:
        publish: `shell.display_pub.publish`; looked up by the caller, since tests and `capture` replace it.
        clock: seconds, monotonic.
    """

    def __init__(self, publish: Callable[..., Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._publish, self._clock = publish, clock
        self._id = f"exo-{uuid4().hex}"
        self._shown_at: float | None = None
        self._over = False
        self._lock = threading.Lock()  # progress arrives in another thread than the one that finishes

    def offer(self, make: Callable[[], View]) -> None:
        """See `Screen`."""
        with self._lock:
            now = self._clock()
            if self._over or (self._shown_at is not None and now - self._shown_at < EVERY_S):
                return
            self._draw(make())
            self._shown_at = now

    def finish(self, view: View) -> None:
        """See `Screen`."""
        with self._lock:
            self._over = True
            self._draw(view)
            self._shown_at = self._clock()

    def _draw(self, view: View) -> None:
        again = self._shown_at is not None
        self._publish(view.bundle(), view.metadata(), transient={"display_id": self._id}, update=again)


class TerminalScreen:
    """A terminal: an answer is written on as it grows, progress is one line that is overwritten.

    Args:
        out: for answers and final pictures.
        err: for progress and figures; nothing is overwritten unless it is a terminal.
    """

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out, self._err = out or sys.stdout, err or sys.stderr
        self._written = 0
        self._line = 0  # characters of the progress line
        self._drawn_at: float | None = None
        self._over = False
        self._lock = threading.Lock()

    def offer(self, make: Callable[[], View]) -> None:
        """See `Screen`. An answer is never held back: it is drawn by adding to it."""
        with self._lock:
            if self._over:
                return
            view = make()
            if isinstance(view, GenerationView):
                self._write_on(view)
            elif isinstance(view, ProgressView) and self._err.isatty():
                now = time.monotonic()
                if self._drawn_at is None or now - self._drawn_at >= EVERY_S:
                    self._overwrite(view.line())
                    self._drawn_at = now

    def finish(self, view: View) -> None:
        """See `Screen`."""
        with self._lock:
            self._over = True
            if self._line:
                self._overwrite("")
            if isinstance(view, GenerationView):
                self._write_on(view)
                self._out.write("\n")
                self._out.flush()
                self._err.write("".join(f"{line}\n" for line in view.remarks()))
                self._err.flush()
            elif not isinstance(view, ProgressView):  # progress that broke off: the error says so by itself
                print_view(view, self._out)

    def _write_on(self, view: GenerationView) -> None:
        self._out.write(clean_block(view.answer[self._written :]))
        self._out.flush()
        self._written = len(view.answer)

    def _overwrite(self, line: str) -> None:
        self._err.write("\r" + line.ljust(self._line) + ("" if line else "\r"))
        self._err.flush()
        self._line = len(line)
