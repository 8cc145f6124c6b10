"""Fetching tensors from several nodes at once: each takes the next one from the queue, and every one is checked.

A tensor counts when the bytes that came have the checksum that their sender tells, and others who have the tensor tell
the same. On one asyncio loop; the disk has a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from typing import TYPE_CHECKING

from exo_lab.core.errors import CorruptModel
from exo_lab.node.holders import Busy, Refused
from exo_lab.node.tensor_queue import TensorQueue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from exo_lab.models.partial import Partial, Piece
    from exo_lab.node.holders import Holder
    from exo_lab.node.tensor_queue import Loan

    OnDisk = Callable[[Callable[[], None]], Awaitable[None]]  # runs it in the disk's thread
    Report = Callable[[int, int, str], None]  # (bytes done, bytes in all, what)

LANES = 2  # questions to one node at once, so that it reads while the last answer travels
MAX_HOLDERS = 8
WITNESSES = 2  # other nodes that are asked for a tensor's checksum
LOOK_EVERY_S = 0.25
BUSY_PAUSE_S = 0.2
MAX_BUSY = 100  # in a row


class Fetch:
    """One fetch of some tensors. Make it and `run` it once.

    Args:
        partial: where they go.
        pieces: which ones.
        holders: who may have them; those that turn out to be of no use get a `why_not`.
        on_disk: runs a function in the disk's thread, one after the other.
        report: is told of progress.
    """

    def __init__(
        self, partial: Partial, pieces: Sequence[Piece], holders: Sequence[Holder], on_disk: OnDisk, report: Report
    ) -> None:
        self._partial, self._holders, self._on_disk, self._report = partial, holders[:MAX_HOLDERS], on_disk, report
        self._queue = TensorQueue(pieces)
        self._running: dict[Loan, asyncio.Task[None]] = {}
        self._gave: dict[str, None] = {}
        self._changed = asyncio.Event()

    async def run(self) -> int:
        """Fetch what can be had; returns how many tensors could not.

        Cancellation ends every question; what was checked stays.

        Raises:
            CorruptModel: two nodes have different bytes of one tensor.
            ModelError: the disk refuses.
        """
        lanes = [self._lane(holder) for holder in self._holders for _ in range(LANES)]
        try:
            async with asyncio.TaskGroup() as group:
                for lane in lanes:
                    group.create_task(lane)
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        return self._queue.total_count - self._queue.fetched_count

    async def _lane(self, holder: Holder) -> None:
        busy = 0
        while not holder.why_not:
            loan = self._next(holder)
            if loan is None:
                # Only what others are at may still come back.
                if not self._queue.loans:
                    return
                await self._wait()
                continue
            try:
                done = await self._run(loan, holder)
                busy = 0
                if done:
                    self._queue.finish(loan)
                    self._gave[holder.name] = None
                    self._tell()
            except Busy as exc:
                busy += 1
                if busy >= MAX_BUSY:
                    holder.drop(str(exc))
                self._queue.give_back(loan)
                await asyncio.sleep(BUSY_PAUSE_S)
            except Refused as exc:
                holder.drop(str(exc))
                self._queue.give_back(loan)
            finally:
                self._wake()

    def _next(self, holder: Holder) -> Loan | None:
        now = time.monotonic()
        loan = self._queue.take(holder.key, holder.has, now)
        if loan is not None or not holder.bytes_per_s:
            return loan
        slow = self._queue.take_over(holder.key, holder.has, holder.bytes_per_s, now)
        if slow is None:
            return None
        task = self._running.get(slow)
        if task is not None:
            task.cancel()
        return self._queue.take(holder.key, lambda piece: piece == slow.piece, now)

    async def _run(self, loan: Loan, holder: Holder) -> bool:
        """Fetch one tensor in a task of its own. False if another took it over."""
        task = self._running[loan] = asyncio.create_task(self._fetch(loan, holder), name=f"fetch {loan.piece.name}")
        try:
            await asyncio.wait({task})
        finally:
            del self._running[loan]
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if task.cancelled():
            return False
        task.result()
        return True

    async def _fetch(self, loan: Loan, holder: Holder) -> None:
        piece, digest, at = loan.piece, hashlib.sha256(), loan.piece.start
        while at < piece.end:
            data = await holder.read(piece.file, [(at, min(at + holder.chunk_bytes, piece.end))])

            def put(at: int = at, data: bytes = data) -> None:
                digest.update(data)
                self._partial.write(piece, at, data)

            await self._on_disk(put)
            at += len(data)
            loan.done = at - piece.start
            self._tell()
        sha256 = digest.digest()
        await agree(piece.name, (piece.file, piece.start, piece.end), sha256, holder, self._witnesses(piece, holder))
        await self._on_disk(lambda: self._partial.keep(piece, sha256))

    def _witnesses(self, piece: Piece, holder: Holder) -> list[Holder]:
        others = [one for one in self._holders if one is not holder and not one.why_not and one.has(piece)]
        return others[:WITNESSES]

    def _tell(self) -> None:
        queue = self._queue
        names = ", ".join(self._gave) or ", ".join(one.name for one in self._holders if not one.why_not)
        what = (
            f"from peers: {queue.fetched_count} of {queue.total_count} tensors, {queue.bytes_here / 1e6:.1f} of "
            f"{queue.total_bytes / 1e6:.1f} MB from {names}"
        )
        self._report(queue.bytes_here, queue.total_bytes, what)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait(self) -> None:
        """Until something has changed, or it is time to look who is slow."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY_S):
                await self._changed.wait()


async def agree(
    what: str, where: tuple[int, int, int], sha256: bytes, holder: Holder, witnesses: Sequence[Holder]
) -> None:
    """Are these bytes of `holder` those that it has, and that the witnesses have?

    Args:
        what: it is, for errors.
        where: (file, start, end).
        sha256: of the bytes that came.
        holder: who sent them.
        witnesses: others that have them. One that does not answer is no witness.

    Raises:
        Refused: they are not what their sender has, or it does not say.
        Busy: it cannot say now.
        CorruptModel: a witness has others.
    """
    file, start, end = where
    own, *others = await asyncio.gather(
        *(one.checksum(file, (start, end)) for one in (holder, *witnesses)), return_exceptions=True
    )
    if isinstance(own, BaseException):
        raise own
    if own != sha256:
        raise Refused(f"sent bytes of {what} that do not have the checksum which it tells")
    for witness, told in zip(witnesses, others, strict=True):
        if isinstance(told, Refused):
            witness.drop(str(told))
        elif isinstance(told, bytes) and told != sha256:
            raise CorruptModel(
                f"{holder.name} and {witness.name} have different bytes of {what}, though the models have one digest. "
                "One of the files is damaged: fetch the model anew on both, or delete the damaged one."
            )
