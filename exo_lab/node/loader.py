"""Loading one stage on this node: open the model, check that it is the right one, read the shard. Off the loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from exo_lab.core.errors import Cancelled, DoesNotFit, ModelNotFound
from exo_lab.core.messages import Done, LoadShard, Progress
from exo_lab.engines.calibrate import calibrate
from exo_lab.engines.rounded import RoundedEngine
from exo_lab.node.holds import Hold
from exo_lab.node.pace import Meter
from exo_lab.planning.footprint import footprint_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from exo_lab.core.device import Device
    from exo_lab.core.messages import ModelRef
    from exo_lab.core.model import ModelConfig
    from exo_lab.core.plan import Plan
    from exo_lab.core.weights import WeightSource
    from exo_lab.engines.base import Engine, LoadProgress
    from exo_lab.node.borrower import Borrower
    from exo_lab.node.model_names import ModelNames
    from exo_lab.node.parts import EngineFactory, ModelOpener


class Loader:
    """Loads shards one at a time in a thread of its own, so that the control loop stays responsive.

    Args:
        device: this node's; where it computes decides what weights take there.
        open_model: see `NodeParts`.
        make_engine: see `NodeParts`.
        memory_limit_bytes: the emulated memory; 0: no limit of ours.
        free_bytes: memory that is free where this node computes. With a limit of ours it does not matter.
        names: which models may be opened here.
        borrower: brings what is not on this machine from other nodes; None: nobody is asked.
    """

    def __init__(
        self,
        device: Device,
        open_model: ModelOpener,
        make_engine: EngineFactory,
        memory_limit_bytes: int,
        free_bytes: Callable[[], int],
        names: ModelNames,
        borrower: Borrower | None = None,
    ) -> None:
        self._node, self._device, self._open_model, self._make_engine = device.id, device, open_model, make_engine
        self._memory_limit_bytes, self._free_bytes = memory_limit_bytes, free_bytes
        self._names, self._borrower = names, borrower
        self._closing = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"exo-load-{device.id}")

    async def load(self, order: LoadShard, loaded: list[Hold]) -> AsyncGenerator[Progress | Done]:
        """Yield progress, then `Done`; the hold is appended to `loaded` just before.

        Cancellation ends the read at its next report of progress; what it made is closed then.

        Raises:
            ModelNotFound: there is none of that name, or with other weights, or the name is not a peer's to give.
            DoesNotFit: the shard is too large for this node.
            ExoError: what opening and reading raise.
        """
        loop = asyncio.get_running_loop()
        reports: asyncio.Queue[Progress] = asyncio.Queue()
        unwanted = threading.Event()

        def report(done: int, total: int, what: str) -> None:
            if unwanted.is_set() or self._closing.is_set():
                raise Cancelled(f"loading {order.model.name} was cancelled")
            loop.call_soon_threadsafe(reports.put_nowait, Progress(done=done, total=total, what=what))

        started = time.perf_counter()
        work = asyncio.ensure_future(self._get(order, report))
        try:
            async with contextlib.aclosing(_latest_until(work, reports)) as progress:
                async for latest in progress:
                    yield latest
            hold = await work
        except (asyncio.CancelledError, GeneratorExit):
            unwanted.set()
            work.cancel()
            work.add_done_callback(_close_unwanted)
            raise
        loaded.append(hold)
        info = hold.engine.info
        yield Done(bytes=info.weight_bytes, seconds=time.perf_counter() - started, detail=info.dtype)

    async def _get(self, order: LoadShard, report: LoadProgress) -> Hold:
        """Bring what is not here from other nodes, then read it in the loader's thread."""
        why_not = ""
        if self._borrower is not None:
            shard = order.plan.shards[order.stage]
            why_not = await self._borrower.bring(order.model, shard, lambda config: self._check(order, config), report)
        job = self._pool.submit(self._read, order, report, why_not)
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            job.add_done_callback(_close_unwanted)
            raise

    def _read(self, order: LoadShard, report: LoadProgress, why_not: str) -> Hold:
        report(0, 0, "opening the model")
        source = self._open(order.model, why_not)
        try:
            self._check(order, source.config)
            engine = self._engine(order.plan, order.stage)
            try:
                self._fill(engine, source, order, report)
                report(0, 0, "measuring")
                calibrated = calibrate(engine, order.plan.shards[order.stage], source.config)
            except BaseException:
                engine.close()
                raise
            meter = Meter(len(order.plan.shards[order.stage]), calibrated, self._device.slowdown)
            return Hold(order.plan, order.stage, engine, source.config, meter)
        finally:
            source.close()

    def _engine(self, plan: Plan, stage: int) -> Engine:
        def make() -> Engine:
            return self._make_engine(plan.engine, plan.dtype)

        roundings = plan.roundings_within(stage)
        return RoundedEngine(make, roundings) if roundings else make()

    def _open(self, model: ModelRef, why_not: str) -> WeightSource:
        """What is on this machine; what the name leads to, if others did not complete it for the reason `why_not`."""
        if self._borrower is not None and not why_not:
            here = self._borrower.store.open(self._names.to_look_up(model.name), model.digest, model.name)
            if here is not None:
                return here
        try:
            source = self._open_model(self._names.permitted(model.name))
        except ModelNotFound as exc:
            raise ModelNotFound(f"{exc} {why_not}".rstrip()) from exc
        if source.config.digest != model.digest:
            source.close()
            raise ModelNotFound(
                f"node {self._node} has another {model.name} (digest {source.config.digest[:12]}, the plan is for "
                f"{model.digest[:12]}). Put the same file on both machines. {why_not}".rstrip()
            )
        return source

    def _fill(self, engine: Engine, source: WeightSource, order: LoadShard, report: LoadProgress) -> None:
        shard = order.plan.shards[order.stage]
        try:
            engine.load(source, shard, report)
        except (MemoryError, RuntimeError) as exc:
            raise DoesNotFit(
                f"node {self._node} could not load layers {shard.start}-{shard.end - 1}: {exc}. Give it fewer layers."
            ) from exc

    def _check(self, order: LoadShard, config: ModelConfig) -> None:
        if order.plan.n_layers != config.n_layers:
            raise ModelNotFound(
                f"{order.model.name} has {config.n_layers} layers on node {self._node}, the plan is for "
                f"{order.plan.n_layers}"
            )
        self._check_room(order, config)

    def _check_room(self, order: LoadShard, config: ModelConfig) -> None:
        """Weights alone: the planner counted caches and a margin, and may have been told to do without."""
        plan, shard = order.plan, order.plan.shards[order.stage]
        needed = footprint_of(config, self._device, plan.dtype, plan.engine).weights(shard.start, shard.end)
        room = self._memory_limit_bytes or self._free_bytes()
        if needed <= room:
            return
        # What this node holds for another plan is not free: it is kept until the new plan is in use.
        free, advice = ("", "") if self._memory_limit_bytes else (" free", ", or unload what it holds (`%exo unload`)")
        raise DoesNotFit(
            f"node {self._node} has {room / 2**20:.1f} MiB{free}, its layers of {order.model.name} need "
            f"{needed / 2**20:.1f} MiB in memory. Give it fewer layers{advice}."
        )

    def close(self) -> None:
        """Stop taking work. A read in progress ends at its next report."""
        self._closing.set()
        self._pool.shutdown(wait=False, cancel_futures=True)


async def _latest_until(work: asyncio.Future[Hold], reports: asyncio.Queue[Progress]) -> AsyncGenerator[Progress]:
    """Progress until the work is done. It is for eyes: of what piled up, the newest will do."""
    getter = asyncio.ensure_future(reports.get())
    try:
        while not work.done():
            await asyncio.wait({work, getter}, return_when=asyncio.FIRST_COMPLETED)
            if getter.done():
                latest = getter.result()
                while not reports.empty():
                    latest = reports.get_nowait()
                yield latest
                getter = asyncio.ensure_future(reports.get())
    finally:
        getter.cancel()


def _close_unwanted(job: Future[Hold] | asyncio.Future[Hold]) -> None:
    if not job.cancelled() and job.exception() is None:
        job.result().close()
