"""Loading one stage on this node: open the model, check that it is the right one, read the shard. Off the loop."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from exo_lab.core.errors import DoesNotFit, ExoError, ModelNotFound
from exo_lab.core.messages import Done, LoadShard, Progress
from exo_lab.node.holds import Hold

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from exo_lab.node.parts import EngineFactory, ModelOpener


class Loader:
    """Loads shards one at a time in a thread of its own, so that the control loop stays responsive."""

    def __init__(self, node: str, open_model: ModelOpener, make_engine: EngineFactory, memory_limit_bytes: int) -> None:
        self._node, self._open_model, self._make_engine = node, open_model, make_engine
        self._memory_limit_bytes = memory_limit_bytes
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"exo-load-{node}")

    async def load(self, order: LoadShard, loaded: list[Hold]) -> AsyncIterator[Progress | Done]:
        """Yield progress, then `Done`; the hold is appended to `loaded` just before.

        Cancellation leaves the thread to finish its read; what it made is closed then.
        """
        loop = asyncio.get_running_loop()
        reports: asyncio.Queue[Progress] = asyncio.Queue()

        def report(done: int, total: int, what: str) -> None:
            loop.call_soon_threadsafe(reports.put_nowait, Progress(done=done, total=total, what=what))

        started = time.perf_counter()
        work = loop.run_in_executor(self._pool, self._read, order, report)
        try:
            while not work.done():
                getter = asyncio.ensure_future(reports.get())
                await asyncio.wait({work, getter}, return_when=asyncio.FIRST_COMPLETED)
                if getter.done():
                    # Progress is for eyes: of what piled up, the newest will do.
                    latest = getter.result()
                    while not reports.empty():
                        latest = reports.get_nowait()
                    yield latest
                else:
                    getter.cancel()
            hold = await work
        except (asyncio.CancelledError, GeneratorExit):
            work.add_done_callback(_close_unwanted)
            raise
        loaded.append(hold)
        size = hold.engine.info.weight_bytes
        yield Done(bytes=size, seconds=time.perf_counter() - started, detail=hold.engine.info.dtype)

    def _read(self, order: LoadShard, report: ProgressReport) -> Hold:
        plan, shard = order.plan, order.plan.shards[order.stage]
        report(0, 0, "opening the model")
        source = self._open_model(order.model.name)
        try:
            if source.config.digest != order.model.digest:
                raise ModelNotFound(
                    f"node {self._node} has another {order.model.name} (digest {source.config.digest[:12]}, the plan "
                    f"is for {order.model.digest[:12]}). Put the same file on both machines."
                )
            self._check_memory(order, source.config.shard_bytes(shard.start, shard.end))
            engine = self._make_engine(plan.engine, plan.dtype)
            try:
                engine.load(source, shard, report)
            except ExoError:
                engine.close()
                raise
            except (MemoryError, RuntimeError) as exc:
                engine.close()
                raise DoesNotFit(
                    f"node {self._node} could not load layers {shard.start}-{shard.end - 1}: {exc}"
                ) from exc
            return Hold(plan, order.stage, engine, source.config)
        finally:
            source.close()

    def _check_memory(self, order: LoadShard, needed: int) -> None:
        if self._memory_limit_bytes and needed > self._memory_limit_bytes:
            raise DoesNotFit(
                f"node {self._node} has {self._memory_limit_bytes / 2**20:.1f} MiB, its layers of {order.model.name} "
                f"need {needed / 2**20:.1f} MiB. Give it fewer layers."
            )

    def close(self) -> None:
        """Stop taking work. A read in progress ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _close_unwanted(work: asyncio.Future[Hold]) -> None:
    if not work.cancelled() and work.exception() is None:
        work.result().engine.close()


if TYPE_CHECKING:
    from exo_lab.engines.base import LoadProgress as ProgressReport
