"""Questions and answers over any carrier of bytes: request ids, deadlines, streams, handlers.

Both control ports are this plus a carrier. A packet is `[op + 8-byte request id][control frame]`. Knows no socket.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from exo_lab.core.errors import BY_NAME, ExoError, PeerUnreachable, TransportError, from_wire
from exo_lab.core.messages import ControlMessage, Refused
from exo_lab.transport.base import ControlStats
from exo_lab.transport.frames import Buffer, Malformed, decode_control, encode_control
from exo_lab.transport.tally import Tally

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Hashable

    from exo_lab.transport.base import Handler

log = logging.getLogger(__name__)

MAX_HANDLERS = 64  # requests in work at once; more are refused, so that a flood cannot fill the memory
MAX_HANDLERS_PER_PEER = 32  # so that one peer which does not read its answers cannot keep out the others
MAX_PENDING = 1024
MAX_UNREAD_REPLIES = 1024
MAX_REFUSAL_CHARACTERS = 4000  # it may quote what the asker sent
CLOSE_TIMEOUT_S = 5.0

ASK_ONE, ASK_ALL, STOP, REPLY, END = b"Q", b"A", b"S", b"R", b"E"
_ID = struct.Struct("<Q")
HEAD_BYTES = 1 + _ID.size


class Call:
    """A question of ours that waits for replies. A None in the queue is the end of the answer."""

    __slots__ = ("address", "ended", "id", "replies")

    def __init__(self, call_id: int, address: str) -> None:
        self.id, self.address, self.ended = call_id, address, False
        self.replies: asyncio.Queue[ControlMessage | ExoError | None] = asyncio.Queue()


class Exchange(ABC):
    """The part of a control port that does not depend on the carrier; see `base.ControlPort` for its promises.

    A carrier calls `_asked` and `_answered` for every packet that comes, on the port's loop, and provides `_ask` and
    `_answer` to send one.

    Args:
        address: where others reach this port.
        name: how this node is called in the errors that it reports; the address if empty.
    """

    def __init__(self, address: str, name: str = "") -> None:
        self._address, self.name = address, name or address
        self._handler: Handler | None = None
        self._cut_listener: Callable[[str], object] | None = None
        self._calls: dict[int, Call] = {}
        self._tasks: dict[tuple[Hashable, int], asyncio.Task[None]] = {}
        self._next_id = self._answered_count = self._late = 0
        self._tally = Tally(log, f"control port {address}")
        self._closed = False

    @property
    def address(self) -> str:
        """Where others reach it."""
        return self._address

    # -- the carrier -------------------------------------------------------------------------------------

    @abstractmethod
    def _ask(self, address: str, head: bytes, body: bytes) -> None:
        """Send a packet to a listening port; returns at once. PeerUnreachable if that is impossible."""

    @abstractmethod
    async def _answer(self, peer: Hashable, head: bytes, body: bytes) -> None:
        """Send a packet back to who asked. PeerUnreachable if it is gone, or takes nothing for some seconds."""

    def _gave_up(self, address: str) -> None:  # noqa: B027 - a carrier without connections has nothing to do
        """A request to this address ended without an answer."""

    def on_cut(self, listener: Callable[[str], object]) -> None:
        """Be told of broken connections. See `ControlPort.on_cut`."""
        self._cut_listener = listener

    def _cut(self, address: str) -> None:
        """The connection to an address broke."""
        if self._cut_listener is not None and not self._closed:
            self._cut_listener(address)

    # -- asking ------------------------------------------------------------------------------------------

    async def request(self, address: str, message: ControlMessage, *, timeout_s: float) -> ControlMessage:
        """Ask, and return the last reply. See `ControlPort.request`."""
        call = self._open(address, message, ASK_ONE)
        try:
            reply = await self._next(call, message, timeout_s)
        finally:
            self._end(call)
        if reply is None:
            raise TransportError(f"{address} answered {type(message).__name__} with nothing")
        return reply

    async def stream(
        self, address: str, message: ControlMessage, *, timeout_s: float
    ) -> AsyncGenerator[ControlMessage]:
        """Ask, and yield every reply. See `ControlPort.stream`."""
        call = self._open(address, message, ASK_ALL)
        try:
            while (reply := await self._next(call, message, timeout_s)) is not None:
                yield reply
        finally:
            self._end(call)

    def _open(self, address: str, message: ControlMessage, how: bytes) -> Call:
        if self._closed:
            raise TransportError("this node's control port is closed; connect again")
        if len(self._calls) >= MAX_PENDING:
            raise PeerUnreachable(f"{MAX_PENDING} requests of this node wait for answers already; {address} not asked")
        self._next_id += 1
        call = Call(self._next_id, address)
        body = encode_control(message)
        self._ask(address, how + _ID.pack(call.id), body)
        self._calls[call.id] = call
        return call

    async def _next(self, call: Call, message: ControlMessage, timeout_s: float) -> ControlMessage | None:
        try:
            async with asyncio.timeout(timeout_s):
                reply = await call.replies.get()
        except TimeoutError as exc:
            raise PeerUnreachable(
                f"{call.address} did not answer {type(message).__name__} within {timeout_s:g} s. "
                "Is it running, in reach, and does it have the same token?"
            ) from exc
        if isinstance(reply, ExoError):
            raise reply
        if isinstance(reply, Refused):
            call.ended = True
            raise from_wire(reply.error, reply.message, reply.node)
        return reply

    def _end(self, call: Call) -> None:
        self._calls.pop(call.id, None)
        if call.ended or self._closed:
            return
        try:
            self._ask(call.address, STOP + _ID.pack(call.id), b"")
        except PeerUnreachable:
            log.debug("no way to tell %s that its answer is not wanted", call.address)
        self._gave_up(call.address)

    def _pending(self, address: str) -> bool:
        return any(call.address == address for call in self._calls.values())

    def _answered(self, address: str, head: bytes, body: Buffer) -> None:
        """A packet came back from `address`. Never raises."""
        op = head[:1]
        if len(head) != HEAD_BYTES or op not in (REPLY, END):
            self._tally.add("packet", f"{address} answered with a packet that is none")
            return
        call = self._calls.get(_ID.unpack(head[1:])[0])
        if call is None or call.address != address:
            # The end of an answer that nobody waits for is ordinary: a reader may leave after the reply it wanted.
            self._late += op == REPLY
            return
        if op == END and len(body) == 0:
            call.ended = True
            call.replies.put_nowait(None)
            return
        try:
            reply: ControlMessage | ExoError = decode_control(body)
        except Malformed as exc:
            self._tally.add(exc.reason, f"{address}: {exc}")
            reply = exc
        if op == REPLY and call.replies.qsize() >= MAX_UNREAD_REPLIES:
            self._tally.add("unread replies", f"{address} answers faster than it is read")
            return
        call.ended |= op == END
        call.replies.put_nowait(reply)

    # -- answering ---------------------------------------------------------------------------------------

    def _asked(self, peer: Hashable, head: bytes, body: Buffer) -> None:
        """A packet came from a port that asks. Never raises. Packets before `start` are refused."""
        op = head[:1]
        if len(head) != HEAD_BYTES or op not in (ASK_ONE, ASK_ALL, STOP):
            self._tally.add("packet", "a packet without an operation and a request id")
            return
        key = (peer, _ID.unpack(head[1:])[0])
        task = self._tasks.get(key)
        if op == STOP:
            if task is not None:
                task.cancel()
            return
        if self._closed or task is not None:
            self._tally.add("request id", "a request with an id that is in use")
            return
        if len(self._tasks) >= 2 * MAX_HANDLERS:
            self._tally.add("busy", "too many requests even to say no")
            return
        mine = sum(1 for who, _ in self._tasks if who == peer)
        busy = len(self._tasks) >= MAX_HANDLERS or mine >= MAX_HANDLERS_PER_PEER
        work = self._refuse_busy(key) if busy else self._serve(key, op == ASK_ALL, body)
        task = asyncio.get_running_loop().create_task(work, name=f"control request {key[1]}")
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._served(key, done))

    def _served(self, key: tuple[Hashable, int], task: asyncio.Task[None]) -> None:
        del self._tasks[key]
        if not task.cancelled() and task.exception() is not None:
            log.error("control port %s: answering failed", self._address, exc_info=task.exception())

    async def _refuse_busy(self, key: tuple[Hashable, int]) -> None:
        self._tally.add("busy", f"{len(self._tasks)} requests are in work")
        text = (
            f"this node answers at most {MAX_HANDLERS} requests at once, {MAX_HANDLERS_PER_PEER} of one peer; "
            "ask again in a moment"
        )
        await self._conclude(key, Refused(error="TransportError", message=text, node=self.name))

    async def _serve(self, key: tuple[Hashable, int], all_replies: bool, body: Buffer) -> None:
        last: ControlMessage | None = None
        try:
            message = decode_control(body)
            if self._handler is None:
                raise TransportError("this node only asks, it does not answer")
            self._answered_count += 1
            replies = self._handler(message)
            try:
                async for reply in replies:
                    if all_replies:
                        await self._answer(key[0], REPLY + _ID.pack(key[1]), encode_control(reply))
                    else:
                        last = reply
            finally:
                # A handler is left in order, whatever happened: its own `finally` runs before this task ends.
                aclose = getattr(replies, "aclose", None)
                if aclose is not None:
                    await aclose()
        except PeerUnreachable as exc:
            if all_replies:
                log.info("control port %s: the answer was not finished: %s", self._address, exc)
            last = _refusal(exc, self.name)
        except ExoError as exc:
            if isinstance(exc, Malformed):
                self._tally.add(exc.reason, str(exc))
            last = _refusal(exc, self.name)
        except Exception as exc:
            log.exception("control port %s: a handler failed", self._address)
            last = Refused(error="ExoError", message=f"{type(exc).__name__}: {exc}", node=self.name)
        await self._conclude(key, last)

    async def _conclude(self, key: tuple[Hashable, int], last: ControlMessage | None) -> None:
        head = END + _ID.pack(key[1])
        try:
            try:
                body = b"" if last is None else encode_control(last)
            except ExoError as exc:
                body = encode_control(_refusal(exc, self.name))
            await self._answer(key[0], head, body)
        except PeerUnreachable as exc:
            log.info("control port %s: nobody is left to answer: %s", self._address, exc)

    # -- the end -----------------------------------------------------------------------------------------

    def stats(self) -> ControlStats:
        """The counters now. Any thread."""
        return ControlStats(
            answered=self._answered_count,
            asked=self._next_id,
            late_replies=self._late,
            refused=self._tally.snapshot(),
        )

    async def _close_exchange(self) -> None:
        """End every request, both ways. Tasks that do not end within `CLOSE_TIMEOUT_S` are reported."""
        self._closed = True
        for call in self._calls.values():
            call.replies.put_nowait(TransportError(f"this node was closed while it waited for {call.address}"))
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT_S)
            if late:
                log.warning("control port %s: %d requests did not end when told to", self._address, len(late))


def _refusal(error: ExoError, node: str) -> Refused:
    """The error as a message, under the name of the nearest class that the other side knows."""
    kind = next(cls.__name__ for cls in type(error).__mro__ if BY_NAME.get(cls.__name__) is cls)
    return Refused(error=kind, message=str(error)[:MAX_REFUSAL_CHARACTERS], node=node)
