"""A data port behind an emulated link: frames go and come as late as a slower network would bring them.

A thread of its own owns the real port and holds each frame back until it is due: frames follow each other at the
link's rate, and each then takes its latency. So a frame becomes due while its node computes, as on a real network.
Both directions are alike and do not disturb each other. Control messages are not slowed. Everything that uses it says
"emulated".
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from exo_lab.core.errors import PeerUnreachable, TransportError
from exo_lab.core.tensor import Tensor
from exo_lab.transport.base import DATA_TIMEOUT_S, DataStats
from exo_lab.transport.frames import encode

if TYPE_CHECKING:
    from exo_lab.core.emulated_link import EmulatedLink
    from exo_lab.core.messages import DataMessage
    from exo_lab.transport.base import DataPort

log = logging.getLogger(__name__)

MAX_FRAMES = 64  # on their way to one address before a sender has to wait, as with sockets
RETRY_S = 0.005  # where the network takes nothing yet
PATIENCE_S = 1.0
CLOSE_TIMEOUT_S = 5.0


class _Forget(NamedTuple):
    address: str


class _Wake(NamedTuple):
    """There is something new to do."""


class _Outgoing(NamedTuple):
    due: float
    message: DataMessage
    tensor: Tensor | None


class _Wire:
    """When what enters a link now comes out of it."""

    def __init__(self, link: EmulatedLink) -> None:
        self._link, self._free_at = link, 0.0

    def due(self, now: float, size_bytes: int) -> float:
        """Reserve the link for so many bytes; when the last of them is there."""
        rate = self._link.bandwidth_bytes_per_s
        self._free_at = max(now, self._free_at) + (size_bytes / rate if rate else 0.0)
        return self._free_at + self._link.latency_s


class EmulatedPort:
    """See the module and `base.DataPort`. `send` never waits: it takes a frame or raises PeerUnreachable.

    Args:
        port: the real one; nobody else touches it from now on.
        link: what is emulated.
    """

    def __init__(self, port: DataPort, link: EmulatedLink) -> None:
        self._port = port
        self._out, self._in = _Wire(link), _Wire(link)
        self._lock = threading.Lock()  # of lanes
        self._lanes: dict[str, deque[_Outgoing]] = {}
        self._retry_at: dict[str, float] = {}
        self._coming: deque[tuple[float, object]] = deque()
        self._there: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """Where others reach it."""
        return self._port.address

    def stats(self) -> DataStats:
        """The real port's counters."""
        return self._port.stats()

    def shares_memory(self, address: str) -> bool:
        """Never: a network is emulated."""
        return False

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name=f"exo-link-{self.address}", daemon=True)
            self._thread.start()

    # -- for the thread that uses it ---------------------------------------------------------------------

    def send(
        self, address: str, message: DataMessage, tensor: Tensor | None = None, timeout_s: float = DATA_TIMEOUT_S
    ) -> None:
        """Let a frame enter the link. See `DataPort.send`."""
        if self._closed.is_set():
            raise TransportError("the data port is closed")
        size = sum(map(len, encode(message, tensor)))
        kept = None if tensor is None else Tensor(tensor.dtype, tensor.shape, bytes(tensor.data))
        with self._lock:
            lane = self._lanes.setdefault(address, deque())
            if len(lane) >= MAX_FRAMES:
                raise PeerUnreachable(f"{address}: the emulated link is full. Is it running and in reach?")
            lane.append(_Outgoing(self._out.due(time.monotonic(), size), message, kept))
        self._start()
        self._port.post(_Wake())

    def recv(self, timeout_s: float) -> object | None:
        """The next thing that was posted or came out of the link. See `DataPort.recv`."""
        self._start()
        try:
            item = self._there.get(timeout=timeout_s) if timeout_s > 0 else self._there.get_nowait()
        except queue.Empty:
            item = None
        if item is None and self._closed.is_set():
            raise TransportError("the data port is closed")
        return item

    def post(self, item: object) -> None:
        """Give the thread an object. Any thread."""
        self._there.put(item)

    def forget(self, address: str) -> None:
        """Drop what is under way to an address, and close the way to it."""
        with self._lock:
            self._lanes.pop(address, None)
        self._start()
        self._port.post(_Forget(address))

    def close(self) -> None:
        """End the thread, which closes the real port. Idempotent."""
        self._closed.set()
        if self._thread is None:
            self._port.close()
            return
        self._port.post(_Wake())
        self._thread.join(CLOSE_TIMEOUT_S)

    # -- the link ----------------------------------------------------------------------------------------

    def _loop(self) -> None:
        try:
            while not self._closed.is_set():
                self._turn()
        except TransportError as exc:
            log.info("the emulated link of %s ends: %s", self.address, exc)
        finally:
            self._closed.set()
            self._there.put(None)  # wakes who waits, to hear of it
            self._port.close()

    def _turn(self) -> None:
        before = self._port.stats().bytes_in
        item = self._port.recv(max(0.0, self._next_due() - time.monotonic()))
        if isinstance(item, _Forget):
            self._port.forget(item.address)
        elif item is not None and not isinstance(item, _Wake):
            size = self._port.stats().bytes_in - before
            self._coming.append((self._in.due(time.monotonic(), size), item))
        now = time.monotonic()
        while self._coming and self._coming[0][0] <= now:
            self._there.put(self._coming.popleft()[1])
        with self._lock:
            due = {address: lane for address, lane in self._lanes.items() if lane and lane[0].due <= now}
        for address, lane in due.items():
            if self._retry_at.get(address, 0.0) <= now:
                self._deliver(address, lane, now)

    def _deliver(self, address: str, lane: deque[_Outgoing], now: float) -> None:
        """Hand what is due to the real network, in order. What nobody takes is lost, as on a real link."""
        while lane and lane[0].due <= now:
            try:
                self._port.send(address, lane[0].message, lane[0].tensor, 0.0)
            except PeerUnreachable:
                if now - lane[0].due < PATIENCE_S:
                    self._retry_at[address] = now + RETRY_S
                    return
                log.info("the emulated link of %s lost a frame: %s takes none", self.address, address)
            with self._lock:
                if lane:  # it may have been forgotten meanwhile
                    lane.popleft()
        self._retry_at.pop(address, None)
        with self._lock:
            if not lane and self._lanes.get(address) is lane:
                del self._lanes[address]

    def _next_due(self) -> float:
        """When there is something to do, at the latest in a second."""
        found = [time.monotonic() + 1.0]
        if self._coming:
            found.append(self._coming[0][0])
        with self._lock:
            found += [
                max(lane[0].due, self._retry_at.get(address, 0.0)) for address, lane in self._lanes.items() if lane
            ]
        return min(found)
