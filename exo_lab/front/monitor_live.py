"""Where `monitor` draws: one page on a terminal, again and again; a line a look anywhere else."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from exo_lab.front.monitor_view import SPARKS, MonitorView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from exo_lab.front.frame import Frame


@contextmanager
def drawing(out: TextIO) -> Iterator[Callable[[Frame, str], None]]:
    """Gives a function that draws a look, with a word on what is recorded. The terminal is left in order."""
    frames: deque[Frame] = deque(maxlen=SPARKS)

    def view(seen: Frame, recording: str) -> MonitorView:
        frames.append(seen)
        return MonitorView(tuple(frames), recording)

    if not out.isatty():

        def line(seen: Frame, recording: str) -> None:
            out.write(view(seen, recording).text() + "\n")
            out.flush()

        yield line
        return

    from rich.console import Console
    from rich.live import Live

    console = Console(file=out, highlight=False)
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        yield lambda seen, recording: live.update(view(seen, recording).renderable(), refresh=True)
