"""Changes of plans that this node makes: of one model, one after the other. Lives on the control loop.

Two at once would each load what the other is about to replace. Knows no plans: what is changed is for `planner`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

SAY_EVERY_S = 0.5  # that somebody waits


class Changes:
    """See the module."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}  # by model

    @property
    def busy(self) -> bool:
        """Is a plan being changed?"""
        return any(lock.locked() for lock in self._locks.values())

    @contextlib.asynccontextmanager
    async def alone(self, model: str, waiting: Callable[[], object]) -> AsyncGenerator[None]:
        """Be the only one that changes a model's plan. `waiting` is called now and then until the others are done."""
        lock = self._locks.setdefault(model, asyncio.Lock())
        held = False
        while not held:
            try:
                async with asyncio.timeout(SAY_EVERY_S):
                    held = await lock.acquire()
            except TimeoutError:
                waiting()
        try:
            yield
        finally:
            lock.release()
