"""Blocking work off an event loop: one errand of a name at a time, each answer with a deadline. Knows no tornado.

Threads are daemons of our own and not an executor's, since Python waits for those at its end: a read that hangs on a
dead network drive must not keep a server from stopping. Who asks for what is being found out waits for the same answer,
so that an errand that never ends holds one thread and not one a request.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from exo_lab.core.errors import ExoError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Late(ExoError):
    """An errand was not back by its deadline; it goes on."""


class Errands:
    """Errands by name."""

    def __init__(self) -> None:
        self._running: dict[str, Future] = {}
        self._lock = threading.Lock()

    async def run(self, name: str, work: Callable[[], T], timeout_s: float) -> T:
        """What `work` returns, from a thread. Cancelling ends the waiting, not the work.

        Raises:
            Late: not back within `timeout_s`.
            Exception: what `work` raised.
        """
        future = self._join(name, work)
        try:
            # Shielded: one request that gives up must not cancel the answer that others wait for.
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), timeout_s)
        except TimeoutError as exc:
            if future.done():
                raise  # the work's own
            raise Late(f"{name}: no answer within {timeout_s:g} s; it is still being looked for, ask again") from exc

    def _join(self, name: str, work: Callable[[], T]) -> Future[T]:
        """The errand that is on its way, else a new one."""
        with self._lock:
            running = self._running.get(name)
            if running is not None and not running.done():
                return running
            future: Future[T] = Future()
            self._running[name] = future
        threading.Thread(target=_do, args=(future, work), name=f"exo-server-{name}", daemon=True).start()
        return future


def _do(future: Future[T], work: Callable[[], T]) -> None:
    try:
        result = work()
    except BaseException as exc:
        future.set_exception(exc)
    else:
        future.set_result(result)
