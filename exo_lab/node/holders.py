"""Other nodes that have weights, as one that wants them sees them: asking for bytes, and for checksums."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from exo_lab.core.errors import ExoError, FrameError, ModelNotFound, NodeError
from exo_lab.core.weights_messages import (
    MAX_READ_BYTES,
    CheckWeights,
    FindWeights,
    ReadWeights,
    WeightBytes,
    WeightsChecksum,
    WeightsHeld,
)
from exo_lab.models.image import is_inside
from exo_lab.node.tensor_queue import MIN_CHUNK_BYTES, next_chunk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.messages import ControlMessage
    from exo_lab.core.weights_messages import Range
    from exo_lab.models.partial import Piece
    from exo_lab.transport.base import ControlPort

FIND_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 5.0
CHECK_TIMEOUT_S = 5.0  # and what a slow disk needs to read the tensor
SLOW_DISK_BYTES_PER_S = 50e6
SMOOTHED = 0.3


class Address(NamedTuple):
    """A node to ask: its name for people, and where it answers."""

    name: str
    control: str


class Refused(Exception):
    """This node will not be asked any more; the text says why."""


class Busy(Exception):
    """It has too much to do; it can be asked again in a moment."""


class Holder:
    """One node that has the model, or some tensors of it. `why_not`: why it is not asked any more.

    `bytes_per_s` is what one question after the other gives; 0 before the first.
    """

    def __init__(self, control: ControlPort, address: Address, held: WeightsHeld) -> None:
        self._control, self._address, self.held = control, address, held
        self.name, self.key = address.name, address.control
        self.chunk_bytes = 4 * MIN_CHUNK_BYTES
        self.bytes_per_s = 0.0
        self.why_not = ""
        self._asking: set[asyncio.Task[ControlMessage]] = set()

    def drop(self, why: str) -> None:
        """Ask it no more, and wait for no answer of it. Idempotent."""
        self.why_not = self.why_not or why
        for task in self._asking:
            task.cancel()

    def has(self, piece: Piece) -> bool:
        """Does it say that it has this tensor?"""
        files = self.held.files
        return piece.file < len(files) and is_inside((piece.start, piece.end), files[piece.file].tensors)

    async def read(self, file: int, ranges: Sequence[Range]) -> bytes:
        """These bytes, one after the other: as many as were asked for.

        Raises:
            Busy, Refused: it did not give them.
        """
        size = sum(end - start for start, end in ranges)
        question = ReadWeights(digest=self.held.digest, file=file, ranges=tuple(ranges))
        began = time.perf_counter()
        reply = await self._ask(question, READ_TIMEOUT_S)
        if not isinstance(reply, WeightBytes) or len(reply.data) != size:
            raise Refused(f"was asked for {size} bytes of weights and answered with something else")
        took_s = max(1e-6, time.perf_counter() - began)
        self.bytes_per_s += SMOOTHED * (size / took_s - self.bytes_per_s) if self.bytes_per_s else size / took_s
        if size >= self.chunk_bytes:
            self.chunk_bytes = next_chunk(self.chunk_bytes, took_s, MAX_READ_BYTES)
        return reply.data

    async def checksum(self, file: int, wanted: Range) -> bytes:
        """The SHA-256 of a tensor, or of a file without tensors, as it says. Raises as `read`."""
        question = CheckWeights(digest=self.held.digest, file=file, range=wanted)
        reply = await self._ask(question, CHECK_TIMEOUT_S + (wanted[1] - wanted[0]) / SLOW_DISK_BYTES_PER_S)
        if not isinstance(reply, WeightsChecksum):
            raise Refused("was asked for a checksum and answered with something else")
        return reply.sha256

    async def _ask(self, question: ReadWeights | CheckWeights, timeout_s: float) -> object:
        if self.why_not:
            raise Refused(self.why_not)
        work = self._control.request(self._address.control, question, timeout_s=timeout_s)
        task = asyncio.create_task(work, name=f"weights of {self.name}")
        self._asking.add(task)
        try:
            await asyncio.wait({task})
        finally:
            self._asking.discard(task)
            if not task.cancel() and not task.cancelled():
                task.exception()  # seen, also where this wait was ended
        if task.cancelled():
            raise Refused(self.why_not)
        try:
            return task.result()
        except NodeError as exc:
            raise Busy(str(exc)) from exc
        except ExoError as exc:
            raise Refused(str(exc)) from exc


async def find(control: ControlPort, address: Address, name: str, digest: str) -> Holder | str | None:
    """Ask one node for a model: it, if it has any of it; None if it has not; else why it could not be asked."""
    try:
        reply = await control.request(address.control, FindWeights(name=name, digest=digest), timeout_s=FIND_TIMEOUT_S)
    except (ModelNotFound, FrameError):  # a node of a version that lends nothing takes the question for no message
        return None
    except ExoError as exc:
        return f"{address.name}: {exc}"
    if not isinstance(reply, WeightsHeld) or not reply.digest or digest not in ("", reply.digest):
        return f"{address.name} was asked for a model and answered with another"
    return Holder(control, address, reply)
