"""A started kernel must not outlive who started it. A thread here watches that process and ends this one with it.

Needed because a killed kernel runs no `atexit`, and because a kernel's children live in sessions of their own, so that
Interrupt does not reach them. Knows nothing of nodes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING, NamedTuple

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LOOK_EVERY_S = 0.5
GRACE_S = 3.0


class Holder(NamedTuple):
    """A process, told apart from a later one with the same id by when it started (seconds since the epoch)."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Holder:
        """The process with this id now."""
        return cls(pid, psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """The process, if it still runs; None if another has its id now, also one of which nothing may be asked."""
        try:
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.started) < 1.0
            return found if same and found.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None

    def kill(self) -> None:
        """End the process if it still runs and may be ended. One that only has its id now is left alone."""
        with contextlib.suppress(psutil.Error):
            process = self.process()
            if process is not None:
                process.kill()


def hold(
    holder: Holder,
    *,
    before_end: Callable[[], object],
    also: Sequence[Holder] = (),
    every_s: float = LOOK_EVERY_S,
) -> threading.Event:
    """End this process once `holder` is gone.

    Args:
        holder: who must be alive.
        before_end: called first, to say goodbye; given `GRACE_S` seconds.
        also: processes that end too: who starts kernels may leave a helper behind.
        every_s: how often it looks.

    Returns:
        Set it to let go.
    """
    let_go = threading.Event()

    def watch() -> None:
        while not let_go.wait(every_s):
            if holder.process() is None:
                _end(before_end, also)
                return

    threading.Thread(target=watch, name="exo-leash", daemon=True).start()
    return let_go


def _end(before_end: Callable[[], object], also: Sequence[Holder]) -> None:
    goodbye = threading.Thread(target=before_end, name="exo-goodbye", daemon=True)
    goodbye.start()
    goodbye.join(GRACE_S)
    for other in also:
        process = other.process()
        if process is not None:
            process.terminate()
    # Whatever the main thread is doing: nobody is left to want it.
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE_S)
    os._exit(1)
