"""Tensors between processes of one machine, beside the socket: a ring in shared memory for each direction of a link.

Frames, their order and who may send them stay ZeroMQ's and CURVE's business. Only a large tensor's bytes go another
way: the sender puts them in a ring of its own and sends a ticket in their place, which rings the bell and says where
they are. A node offers a ring to every address that it sends to. Who can map it proves so by writing, into the ring,
16 random bytes that only the encrypted offer told: that, and no address, is what makes two nodes neighbours. Who cannot
(another machine, a container, another user, another system) does nothing, and its tensors go on through the socket, as
does what finds the ring full. See `shared_block` for why nothing is left behind, `ring_block` for what is checked.
"""

from __future__ import annotations

import logging
import os
import secrets
import struct
import time
from typing import TYPE_CHECKING, Annotated

import msgspec

from exo_lab.core.messages import PROTOCOL_VERSION
from exo_lab.transport import shared_block
from exo_lab.transport.frames import KIND_DATA, Buffer, Malformed, Part
from exo_lab.transport.ring_block import HEADER_BYTES, Reader, Ring, Span, Writer

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

SWITCH = "EXO_LAB_SHARED_MEMORY"  # "off": every tensor goes through the socket
THRESHOLD_BYTES = 16 << 10  # smaller tensors travel with their frame
CAPACITY_BYTES = 32 << 20  # of address space; memory is taken as far as frames wait for the reader at the same time
MAX_RINGS = 256
SWEEP_S = 2.0
FIRST_PAUSE_S, LAST_PAUSE_S = 0.25, 60.0  # before an offer that nobody answered is made again: it may have been lost

KIND_OFFER = 0x4F  # O: [kind, version][offer]
KIND_TICKET = 0x54  # T: [kind, version][header][ticket]; without the header: what is before it will not come any more
_DATA_HEAD, _OFFER_HEAD, _TICKET_HEAD = (
    bytes((kind, PROTOCOL_VERSION)) for kind in (KIND_DATA, KIND_OFFER, KIND_TICKET)
)
_TICKET = struct.Struct("<16sQQ")  # the ring's id, position, size
_Key = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


class _Offer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    ring: _Key
    answer: _Key
    pid: Annotated[int, msgspec.Meta(gt=0, lt=1 << 31)]
    fd: Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
    size_bytes: Annotated[int, msgspec.Meta(gt=HEADER_BYTES, le=shared_block.MAX_BYTES, multiple_of=64)]


_encoder = msgspec.msgpack.Encoder()
_offers = msgspec.msgpack.Decoder(_Offer)


def wanted() -> bool:
    """May this process share memory?"""
    return os.environ.get(SWITCH, "").casefold() not in ("off", "0", "no")


class _Outgoing:
    """A ring of ours, for one address."""

    def __init__(self, capacity_bytes: int) -> None:
        self.block = shared_block.create(HEADER_BYTES + capacity_bytes)
        self.ring = Ring.made_in(memoryview(self.block.map))
        self.writer = Writer(self.ring)
        self.answer = secrets.token_bytes(16)
        self.offer_at, self._pause_s = 0.0, FIRST_PAUSE_S
        self.skipped, self.full = 0, False
        self.process: shared_block.Process | None = None  # that reads; None: nobody answered yet

    def offered(self) -> None:
        """It has been told; not again for a while."""
        self.offer_at = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, LAST_PAUSE_S)

    def open(self) -> bool:
        """Does somebody read it?

        Raises:
            ProcessLookupError: somebody did, and is gone.
            OSError: the reader cannot be watched.
        """
        if self.process is None:
            pid = self.ring.answered(self.answer)
            if pid is None:
                return False
            self.process = shared_block.Process(pid)
            self.block.seal_off()
        if self.ring.reader_left or self.process.ended:
            raise ProcessLookupError("the reader is gone")
        return True

    def close(self) -> None:
        self.ring.leave(writer=True)
        self.ring.release()
        self.block.close()
        if self.process is not None:
            self.process.close()


class _Incoming:
    """A ring of somebody else."""

    def __init__(self, offer: _Offer) -> None:
        self.process = shared_block.Process(offer.pid)
        try:
            self.block = shared_block.open_of(offer.pid, offer.fd, offer.size_bytes)
        except BaseException:
            self.process.close()
            raise
        self.ring = Ring(memoryview(self.block.map))
        self.reader = Reader(self.ring)
        self.ending = False

    def close(self) -> None:
        self.ring.leave(writer=False)
        self.release()

    def release(self) -> None:
        """Let go of it, and write nothing into it."""
        self.ring.release()
        self.block.close()
        self.process.close()


class SharedMemory:
    """See the module, and `base.SideChannel`. For the data thread, but for `carries`.

    Args:
        enabled: without it nothing is offered, and offers are ignored.
        threshold_bytes: smaller tensors are left to the socket.
        capacity_bytes: of each ring; what takes more than that is left to the socket.
    """

    def __init__(
        self, *, enabled: bool = True, threshold_bytes: int = THRESHOLD_BYTES, capacity_bytes: int = CAPACITY_BYTES
    ) -> None:
        self._enabled, self._threshold, self._capacity = enabled, threshold_bytes, capacity_bytes
        self._outgoing: dict[str, _Outgoing | None] = {}  # by address; None: it did not work
        self._incoming: dict[bytes, _Incoming] = {}  # by the ring's id, the oldest first
        self._swept_at = time.monotonic()
        self.taken = self.given = 0

    # -- sending -----------------------------------------------------------------------------------------

    def carries(self, address: str) -> bool:
        """Do tensors for this address go through shared memory? Any thread."""
        lane = self._outgoing.get(address)
        return lane is not None and lane.process is not None

    def pack(self, address: str, parts: list[Part]) -> list[Part]:
        """The frame as it is to be sent: with a ticket for the tensor, or as it was. `sent` makes it count."""
        if not self._enabled or len(parts) != 3:
            return parts
        lane = self._outgoing.get(address)
        if lane is None or len(parts[2]) < self._threshold:
            return parts
        try:
            if not lane.open():
                return parts
            span = lane.writer.put(parts[2])
        except (OSError, Malformed) as exc:
            self._give_up(address, exc)
            return parts
        lane.full = span is None
        return parts if span is None else [_TICKET_HEAD, parts[1], _TICKET.pack(lane.ring.id, *span)]

    def sent(self, address: str, parts: list[Part]) -> list[Part] | None:
        """A frame was sent. What is to be said to that address next, if anything; that is told here again."""
        if not self._enabled:
            return None
        lane = self._outgoing.get(address)
        if parts[0] == _OFFER_HEAD and lane is not None:
            lane.offered()
        elif parts[0] == _TICKET_HEAD and lane is not None and len(parts) == 3:
            lane.writer.commit()
            self.given += 1
        elif parts[0] == _DATA_HEAD:
            return self._to_say(address)
        return None

    def _to_say(self, address: str) -> list[Part] | None:
        if address not in self._outgoing:
            self._outgoing[address] = self._made()
        lane = self._outgoing[address]
        if lane is None:
            return None
        if lane.process is None and time.monotonic() >= lane.offer_at:
            try:
                if not lane.open():
                    size = HEADER_BYTES + self._capacity
                    offer = _Offer(lane.ring.id, lane.answer, os.getpid(), lane.block.fd, size)
                    return [_OFFER_HEAD, _encoder.encode(offer)]
            except OSError as exc:
                self._give_up(address, exc)
                return None
        if lane.full and lane.writer.written > lane.skipped:
            # Tickets are lost with a connection that breaks, and what they stood for would stay in the ring for ever.
            lane.skipped = lane.writer.written
            return [_TICKET_HEAD, _TICKET.pack(lane.ring.id, lane.writer.written, 0)]
        return None

    def _made(self) -> _Outgoing | None:
        try:
            return _Outgoing(self._capacity)
        except OSError as exc:
            log.info("no shared memory here: %s", exc)
            return None

    def _give_up(self, address: str, why: Exception) -> None:
        log.info("no more shared memory with %s: %s", address, why)
        self.forget(address)
        if not isinstance(why, ProcessLookupError):  # whoever is at that address next is offered a ring, this one not
            self._outgoing[address] = None

    def forget(self, address: str) -> None:
        """Close the ring for an address. The next frame to it offers a new one."""
        lane = self._outgoing.pop(address, None)
        if lane is not None:
            lane.close()

    # -- receiving ---------------------------------------------------------------------------------------

    def unpack(self, parts: Sequence[Buffer]) -> Sequence[Buffer] | None:
        """A frame as its sender meant it; None if it was only about the ring.

        Raises:
            Malformed: the ring is not known, or there is no whole record where the ticket says.
        """
        if parts[0] == _OFFER_HEAD:
            self._offered(parts)
            return None
        if parts[0] != _TICKET_HEAD:
            return parts
        if not 2 <= len(parts) <= 3 or len(parts[-1]) != _TICKET.size:
            raise Malformed("shared ring", f"no ticket: {len(parts)} parts, the last of {len(parts[-1])} bytes")
        ring, position, size = _TICKET.unpack(parts[-1])
        lane = self._incoming.get(ring)
        if lane is None:
            raise Malformed("shared ring", "a ticket for a ring that this node does not know")
        if len(parts) == 2:
            lane.reader.skip_to(position)
            return None
        payload = lane.reader.take(Span(position, size))
        self.taken += 1
        return [_DATA_HEAD, parts[1], payload]

    def _offered(self, parts: Sequence[Buffer]) -> None:
        if not self._enabled:
            return
        try:
            offer = _offers.decode(parts[1]) if len(parts) == 2 else None
        except msgspec.MsgspecError:
            offer = None
        if offer is None:
            raise Malformed("shared ring", "an offer of shared memory that is none")
        if offer.ring in self._incoming:
            return  # told again before the answer was seen
        try:
            lane = _Incoming(offer)
        except (OSError, ValueError) as exc:
            log.debug("shared memory was offered that cannot be had here: %s", exc)
            return
        if not lane.ring.valid or lane.ring.id != offer.ring:
            lane.release()  # whoever's it is, it may be in use
            return
        while len(self._incoming) >= MAX_RINGS:
            self._incoming.pop(next(iter(self._incoming))).close()
        self._incoming[offer.ring] = lane
        lane.ring.answer(offer.answer, os.getpid())

    def sweep(self) -> None:
        """Let go, now and then, of rings whose writer has left: its memory is free with that."""
        now = time.monotonic()
        if now - self._swept_at < SWEEP_S:
            return
        self._swept_at = now
        for key, lane in list(self._incoming.items()):
            if lane.ending:  # since the last time: what it had sent has been read
                del self._incoming[key]
                lane.close()
            else:
                lane.ending = lane.ring.writer_left or lane.process.ended

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        self._enabled = False
        for address in list(self._outgoing):
            self.forget(address)
        while self._incoming:
            self._incoming.popitem()[1].close()
