"""The data port over ZeroMQ: one PULL socket that listens, one PUSH socket per peer. Plain and blocking.

For one thread. Measured on 2 shared cores, two processes on loopback, 2304 bytes there and back: 154 us at the median,
bare and unencrypted ZeroMQ 109 us.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import zmq

from exo_lab.core.errors import PeerUnreachable, TransportError
from exo_lab.transport.base import DATA_TIMEOUT_S, DataStats
from exo_lab.transport.frames import MAX_PARTS, MAX_TENSOR_BYTES, Malformed, Part, decode, encode
from exo_lab.transport.mailbox import Mailbox
from exo_lab.transport.shared_memory import SharedMemory
from exo_lab.transport.sockets import bind, connect, no_socket, tune
from exo_lab.transport.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.core.messages import DataMessage
    from exo_lab.core.tensor import Tensor
    from exo_lab.transport.base import SideChannel
    from exo_lab.transport.keys import ClusterKeys

log = logging.getLogger(__name__)

HIGH_WATER_MARK = 64  # frames queued per peer and direction, before a sender waits
MAX_PEERS = 256

_SEND = zmq.NOBLOCK
_SEND_MORE = zmq.NOBLOCK | zmq.SNDMORE


class ZmqData:
    """See `base.DataPort`. Made by `SecureContext.data`, which also outlives it.

    Args:
        context: a context with a doorkeeper.
        keys: of the cluster.
        host: what to listen on; loopback unless the user opted in to more.
        port: 0 is any free one.
        watch: called with the listening socket before it listens.
        high_water_mark: frames queued per peer and direction.
        max_tensor_bytes: larger ones are refused.
        side: another way for large tensors; shared memory if None.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[Any]],
        keys: ClusterKeys,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        watch: Callable[[zmq.Socket[Any]], None] | None = None,
        high_water_mark: int = HIGH_WATER_MARK,
        max_tensor_bytes: int = MAX_TENSOR_BYTES,
        side: SideChannel | None = None,
    ) -> None:
        self._side = side or SharedMemory()
        self._context, self._keys = context, keys
        self._high_water_mark, self._max_tensor_bytes = high_water_mark, max_tensor_bytes
        self._peers: dict[str, zmq.Socket[Any]] = {}  # least recently connected first
        self._frames_in = self._frames_out = self._bytes_in = self._bytes_out = 0
        self._shared_in = self._shared_out = 0
        self._closed = False
        self._user: threading.Thread | None = None  # the thread that calls `recv`
        self._pull = context.socket(zmq.PULL)
        try:
            tune(self._pull, high_water_mark=high_water_mark, max_part_bytes=max_tensor_bytes)
            keys.apply_server(self._pull)
            if watch is not None:
                watch(self._pull)
            self._address = bind(self._pull, host, port)
        except BaseException:
            self._pull.disable_monitor()
            self._pull.close()
            raise
        self._mailbox = Mailbox()
        self._poller = zmq.Poller()
        self._poller.register(self._pull, zmq.POLLIN)
        self._poller.register(self._mailbox.receiver, zmq.POLLIN)
        self._tally = Tally(log, f"data port {self._address}")

    @property
    def address(self) -> str:
        """Where others reach it."""
        return self._address

    # -- sending -----------------------------------------------------------------------------------------

    def send(
        self, address: str, message: DataMessage, tensor: Tensor | None = None, timeout_s: float = DATA_TIMEOUT_S
    ) -> None:
        """Hand a frame to the network. See `DataPort.send`."""
        parts = encode(message, tensor)
        socket = self._peers.get(address)
        if socket is None:
            socket = self._connect(address)
        packed = self._side.pack(address, parts)
        try:
            if not self._sent(socket, packed, timeout_s):
                raise PeerUnreachable(
                    f"{address} took no frame for {timeout_s:g} s. "
                    "Is it running, in reach, and does it have the same token?"
                )
            self._frames_out += 1
            self._bytes_out += sum(map(len, parts))
            self._shared_out += packed is not parts
            more = self._side.sent(address, packed)
            if more is not None and self._sent(socket, more, 0.0):
                self._side.sent(address, more)
        except zmq.ContextTerminated as exc:
            raise TransportError("the data port is closed") from exc

    def _sent(self, socket: zmq.Socket[Any], parts: list[Part], timeout_s: float) -> bool:
        """Queue all the parts, or none."""
        last = len(parts) - 1
        try:
            socket.send(parts[0], _SEND_MORE)
        except zmq.Again:
            # Nobody is connected, or the queue is full.
            if not socket.poll(max(0, round(timeout_s * 1000)), zmq.POLLOUT):
                return False
            try:
                socket.send(parts[0], _SEND_MORE)
            except zmq.Again:
                return False
        try:
            for part in parts[1:last]:
                socket.send(part, _SEND_MORE)
            # Copied, also when large: without the copy 1 MiB went no faster (2.9-3.1 ms there and back, most of it
            # encryption), and the engine may write to its buffer again at once.
            socket.send(parts[last], _SEND)
        except zmq.Again:
            # The connection broke between two parts. ZeroMQ has dropped the first ones; a fresh socket cannot be
            # left in the middle of a frame.
            self._drop(socket)
            return False
        return True

    def _connect(self, address: str) -> zmq.Socket[Any]:
        if self._closed:
            raise TransportError("the data port is closed")
        while len(self._peers) >= MAX_PEERS:
            self.forget(next(iter(self._peers)))
        try:
            socket = self._context.socket(zmq.PUSH)
        except zmq.ContextTerminated as exc:
            raise TransportError("the data port is closed") from exc
        except zmq.ZMQError as exc:
            raise no_socket(address, exc) from exc
        try:
            tune(socket, high_water_mark=self._high_water_mark, max_part_bytes=0)
            # Queue for connected peers only, so that a frame for a dead one is refused and not kept.
            socket.setsockopt(zmq.IMMEDIATE, 1)
            self._keys.apply_client(socket)
            connect(socket, address)
        except BaseException:
            socket.close()
            raise
        self._peers[address] = socket
        return socket

    def forget(self, address: str) -> None:
        """Close the way to an address. See `DataPort.forget`."""
        self._side.forget(address)
        socket = self._peers.pop(address, None)
        if socket is not None:
            socket.close()

    def shares_memory(self, address: str) -> bool:
        """Do large tensors for an address go through memory that both share? Any thread."""
        return self._side.carries(address)

    def _drop(self, socket: zmq.Socket[Any]) -> None:
        for address in [address for address, one in self._peers.items() if one is socket]:
            self.forget(address)

    # -- receiving ---------------------------------------------------------------------------------------

    def recv(self, timeout_s: float) -> object | None:
        """The next thing that was posted or came in. See `DataPort.recv`."""
        if self._user is None:
            self._user = threading.current_thread()
        self._side.sweep()
        deadline = time.monotonic() + timeout_s
        wait_ms = round(timeout_s * 1000)
        try:
            while True:
                item = self._mailbox.take()
                if item is not None:
                    return item
                if self._closed:
                    raise TransportError("the data port is closed")
                ready = dict(self._poller.poll(wait_ms))
                if self._mailbox.receiver.fileno() in ready:
                    self._mailbox.quiet()
                # Orders before frames: what was posted before a frame was sent may change what that frame means.
                item = self._mailbox.take()
                if item is not None:
                    return item
                if self._pull in ready:
                    frame = self._receive()
                    if frame is not None:
                        return frame
                wait_ms = round((deadline - time.monotonic()) * 1000)
                if wait_ms <= 0:
                    return None
        except zmq.ContextTerminated as exc:
            raise TransportError("the data port is closed") from exc

    def _receive(self) -> tuple[DataMessage, Tensor | None] | None:
        """Read one frame that is there; None if it was refused, or if there is none after all."""
        try:
            part = self._pull.recv(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            # ZeroMQ may report a socket as readable for a message of its own, which it then keeps to itself.
            return None
        buffers = [part.buffer]
        while part.more:
            part = self._pull.recv(zmq.NOBLOCK, copy=False)
            if len(buffers) <= MAX_PARTS:  # one more than allowed is enough to refuse it
                buffers.append(part.buffer)
        try:
            meant = self._side.unpack(buffers)
            if meant is None:
                return None
            frame = decode(meant, self._max_tensor_bytes)
        except Malformed as exc:
            self._tally.add(exc.reason, str(exc))
            return None
        self._frames_in += 1
        self._bytes_in += sum(map(len, meant))
        self._shared_in += meant is not buffers
        return frame

    def post(self, item: object) -> None:
        """Give the thread an object. Any thread."""
        self._mailbox.post(item)

    # -- the end -----------------------------------------------------------------------------------------

    def stats(self) -> DataStats:
        """The counters now. Any thread."""
        return DataStats(
            frames_in=self._frames_in,
            frames_out=self._frames_out,
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
            shared_in=self._shared_in,
            shared_out=self._shared_out,
            refused=self._tally.snapshot(),
        )

    @property
    def closed(self) -> bool:
        """Are the sockets freed?"""
        return self._closed

    def close(self) -> None:
        """Free the sockets. Idempotent; in the thread that used the port."""
        if self._closed:
            return
        self._closed = True
        for address in list(self._peers):
            self.forget(address)
        self._side.close()
        try:
            self._pull.disable_monitor()
        except zmq.ContextTerminated:
            log.debug("the context ended before the data port")
        self._pull.close()
        self._mailbox.close()

    def abandon(self) -> bool:
        """Close it in another thread, if its own has ended or never was. False if it lives. For `SecureContext`."""
        user = self._user
        if user is not None and user.is_alive() and user is not threading.current_thread():
            return False
        self.close()
        return True
