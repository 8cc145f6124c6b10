"""The control thread: an asyncio loop of our own, so that the kernel's loop is never touched."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from exo_lab.core.errors import NodeError

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

SLICE_S = 0.1  # the caller's thread wakes so often while it waits, so that Ctrl-C gets through


class ControlThread:
    """Runs coroutines on a loop in a daemon thread. `close()` ends the loop and joins the thread."""

    def __init__(self, name: str) -> None:
        self._loop = _new_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run `work` on the loop and wait for it. KeyboardInterrupt and the deadline cancel it.

        Raises:
            NodeError: the thread has been closed, or the deadline passed.
        """
        if self._loop.is_closed() or not self._thread.is_alive():
            work.close()
            raise NodeError("this node has been shut down; connect again")
        if self.is_current:
            work.close()
            raise NodeError("called from the control thread, which would wait for itself")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        waited = 0.0
        try:
            while True:
                try:
                    return future.result(SLICE_S)
                except concurrent.futures.TimeoutError:
                    if future.done():
                        raise
                    waited += SLICE_S
                    if timeout_s is not None and waited >= timeout_s:
                        raise NodeError(f"no answer from this node's control thread within {timeout_s:g} s") from None
        finally:
            if not future.done():
                future.cancel()

    @property
    def is_current(self) -> bool:
        """Is the caller in this thread?"""
        return threading.current_thread() is self._thread

    def close(self, timeout_s: float = 5.0) -> bool:
        """Stop the loop. False if the thread did not end in time."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout_s)
        return not self._thread.is_alive()


def _new_loop() -> asyncio.AbstractEventLoop:
    if sys.platform == "win32":
        # ZeroMQ needs add_reader, which Windows' default loop has not.
        return asyncio.SelectorEventLoop()
    return asyncio.new_event_loop()
