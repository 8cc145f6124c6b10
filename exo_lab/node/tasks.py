"""Background tasks with an owner: whoever starts one here is told when it breaks, and it ends with its owner.

What a node cannot live without (its pings, its discoveries) is started again when it breaks.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from exo_lab.node.problems import Problems

log = logging.getLogger(__name__)

WELL_AFTER_S = 10.0  # what ran for so long since it was started again is well


class Tasks:
    """A set of running tasks. `close()` cancels and awaits all of them.

    Args:
        owner: its name, for the log.
        problems: where it is noted that something had to be started again.
        restart_s: pause before that.
    """

    def __init__(self, owner: str, problems: Problems, restart_s: float) -> None:
        self._owner, self._problems, self._restart_s = owner, problems, restart_s
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` in the background; an exception is logged with the owner's name."""
        task = asyncio.create_task(work, name=f"{self._owner}:{name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def keep(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> asyncio.Task[None]:
        """Run what never ends by itself; if it breaks, that is noted and logged, and it is started again."""
        return self.start(self._kept(work, name), name)

    async def _kept(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        subject = f"task {name}"
        while True:
            well = asyncio.get_running_loop().call_later(WELL_AFTER_S, self._problems.settle, subject)
            try:
                await work()
                return
            except Exception as exc:  # whatever it was, a node that no longer asks or looks is worse
                log.exception("%s:%s broke and is started again", self._owner, name)
                self._problems.note(
                    subject, f"{name} of this node broke and is started again: {_first(exc)!r}. The log says where."
                )
            finally:
                well.cancel()
            await asyncio.sleep(self._restart_s)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("%s failed", task.get_name(), exc_info=task.exception())

    async def close(self) -> None:
        """Cancel everything and wait until it has ended."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _first(exc: BaseException) -> BaseException:
    """What broke first, of the group that a TaskGroup raises."""
    if isinstance(exc, BaseExceptionGroup):
        return _first(cast("BaseExceptionGroup[BaseException]", exc).exceptions[0])
    return exc
