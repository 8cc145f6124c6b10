"""The control port over ZeroMQ: one ROUTER socket that answers, one DEALER socket per peer that asks. On asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from typing import TYPE_CHECKING, Any

import zmq
import zmq.asyncio

from exo_lab.core.errors import PeerUnreachable, TransportError
from exo_lab.transport.exchange import Exchange
from exo_lab.transport.frames import MAX_CONTROL_BYTES
from exo_lab.transport.sockets import bind, connect, no_socket, tune

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from exo_lab.transport.base import Handler
    from exo_lab.transport.keys import ClusterKeys

log = logging.getLogger(__name__)

HIGH_WATER_MARK = 256
MAX_PEERS = 256
ANSWER_TIMEOUT_S = 5.0
ANSWER_RETRY_S = 0.02
_link_numbers = itertools.count()
SILENT_REQUESTS = 2  # after so many without an answer a connection is made anew


class _Link:
    """The way to one peer: a socket, what ZeroMQ tells of its connection, and the tasks that read both."""

    def __init__(self, address: str, socket: zmq.asyncio.Socket, events: zmq.asyncio.Socket) -> None:
        self.address, self.socket, self.events = address, socket, events
        self.heard = False
        self.silent = 0
        self.tasks: tuple[asyncio.Task[None], ...] = ()

    def close(self) -> None:
        """Free the sockets."""
        self.socket.disable_monitor()
        self.events.close()
        self.socket.close()


class ZmqControl(Exchange):
    """See `base.ControlPort`. Made by `SecureContext.control`, which also outlives it.

    It listens from the start; what comes before `start` waits. Every other method is for one asyncio loop.

    Args:
        context: a context with a doorkeeper.
        keys: of the cluster.
        host: what to listen on; loopback unless the user opted in to more.
        port: 0 is any free one.
        name: how this node is called in the errors that it reports.
        watch: called with the listening socket before it listens.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[Any]],
        keys: ClusterKeys,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        name: str = "",
        watch: Callable[[zmq.Socket[Any]], None] | None = None,
    ) -> None:
        self._context, self._keys = context, keys
        self._links: dict[str, _Link] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._reader: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._router = self._socket(zmq.ROUTER)
        try:
            # Without it replies to who has left, or reads too slowly, would vanish without a trace.
            self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
            keys.apply_server(self._router)
            if watch is not None:
                watch(self._router)
            address = bind(self._router, host, port)
        except BaseException:
            self._router.disable_monitor()
            self._router.close()
            raise
        super().__init__(address, name)

    def _socket(self, kind: int) -> zmq.asyncio.Socket:
        # pyzmq's own constructor is typed for its plain sockets only.
        socket = zmq.asyncio.Socket(self._context, kind)  # pyright: ignore[reportGeneralTypeIssues]
        tune(socket, high_water_mark=HIGH_WATER_MARK, max_part_bytes=MAX_CONTROL_BYTES)
        return socket

    async def start(self, handler: Handler) -> None:
        """Begin to answer. See `ControlPort.start`."""
        if self._reader is not None or self._closed:
            raise TransportError("this control port was started, or closed, already")
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._reader = self._loop.create_task(self._read_questions(), name=f"control port {self._address}")

    # -- the carrier -------------------------------------------------------------------------------------

    async def _read_questions(self) -> None:
        while True:
            parts = await self._router.recv_multipart()
            if len(parts) == 3:
                self._asked(parts[0], parts[1], parts[2])
            else:
                self._tally.add("packet", f"{len(parts)} parts instead of 3")
            # While packets wait, reading never pauses by itself: give the handlers their turn.
            await asyncio.sleep(0)

    async def _read_answers(self, link: _Link) -> None:
        while True:
            parts = await link.socket.recv_multipart()
            link.heard, link.silent = True, 0
            if len(parts) == 2:
                self._answered(link.address, parts[0], parts[1])
            else:
                self._tally.add("packet", f"{link.address} answered with {len(parts)} parts instead of 2")

    async def _read_events(self, link: _Link) -> None:
        while True:
            await link.events.recv_multipart()
            self._cut(link.address)

    def _ask(self, address: str, head: bytes, body: bytes) -> None:
        link = self._links.get(address)
        if link is None:
            link = self._connect(address)
        try:
            _send_now(link.socket, [head, body])
        except zmq.ZMQError as exc:
            raise PeerUnreachable(f"{address} takes no more messages: {exc}") from exc

    async def _answer(self, peer: Hashable, head: bytes, body: bytes) -> None:
        if self._closed:
            raise PeerUnreachable("this node's control port is closed")
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                while True:
                    try:
                        _send_now(self._router, [peer, head, body])
                    except zmq.Again:
                        await asyncio.sleep(ANSWER_RETRY_S)  # one slow reader; ZeroMQ has no event for it
                        continue
                    return
        except (zmq.ZMQError, TimeoutError) as exc:
            raise PeerUnreachable(f"who asked is gone or does not read: {exc}") from exc

    def _connect(self, address: str) -> _Link:
        loop = asyncio.get_running_loop()
        self._loop = loop
        if len(self._links) >= MAX_PEERS:
            idle = next((one for one in self._links if not self._pending(one)), None)
            if idle is None:
                raise PeerUnreachable(f"{MAX_PEERS} peers are being asked already; {address} not asked")
            self._disconnect(idle)
        try:
            link = self._open_link(address)
        except zmq.ZMQError as exc:
            raise no_socket(address, exc) from exc
        link.tasks = (
            loop.create_task(self._read_answers(link), name=f"answers of {address}"),
            loop.create_task(self._read_events(link), name=f"connection to {address}"),
        )
        self._links[address] = link
        return link

    def _open_link(self, address: str) -> _Link:
        with contextlib.ExitStack() as opened:
            socket = self._socket(zmq.DEALER)
            opened.callback(socket.close)
            events = self._socket(zmq.PAIR)
            opened.callback(events.close)
            self._keys.apply_client(socket)
            name = f"inproc://exo-link-{id(self)}-{next(_link_numbers)}"
            socket.monitor(name, zmq.EVENT_DISCONNECTED)
            opened.callback(socket.disable_monitor)
            events.connect(name)
            connect(socket, address)
            opened.pop_all()
        return _Link(address, socket, events)

    def _gave_up(self, address: str) -> None:
        link = self._links.get(address)
        if link is None:
            return
        link.silent += 1
        if (not link.heard or link.silent >= SILENT_REQUESTS) and not self._pending(address):
            # What waits in its queue would reach a peer that comes back late, long after anyone wanted the answer.
            self._disconnect(address)

    def _disconnect(self, address: str) -> None:
        link = self._links.pop(address)
        for task in link.tasks:
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        link.close()

    # -- the end -----------------------------------------------------------------------------------------

    async def close(self) -> None:
        """End every request, both ways, and free the sockets. See `ControlPort.close`."""
        if self._closed:
            return
        await self._close_exchange()
        if self._reader is not None:
            self._reader.cancel()
            self._ending.add(self._reader)
        for address in list(self._links):
            self._disconnect(address)
        await asyncio.gather(*self._ending, return_exceptions=True)
        self._free()

    def _free(self) -> None:
        self._closed = True
        try:
            self._router.disable_monitor()
        except zmq.ContextTerminated:
            log.debug("the context ended before the control port")
        self._router.close()

    @property
    def closed(self) -> bool:
        """Are the sockets freed?"""
        return self._router.closed

    def abandon(self) -> bool:
        """Free the sockets without a loop, if none runs them any more. False if one does. For `SecureContext`."""
        if self._loop is not None and self._loop.is_running():
            return False
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._free()
        return True


def _send_now(socket: zmq.asyncio.Socket, parts: list[Any]) -> None:
    """Send without waiting, or raise what ZeroMQ says.

    With NOBLOCK the awaitable that pyzmq returns is always a future that is done. Sending through the plain socket
    instead would swallow the event that wakes the reader.
    """
    sent: Any = socket.send_multipart(parts, flags=zmq.NOBLOCK)  # pyright: ignore[reportUnknownMemberType]
    sent.result()
