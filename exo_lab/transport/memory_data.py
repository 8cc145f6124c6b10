"""The data port of the in-process twin; see `memory`."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING

from exo_lab.core.errors import PeerUnreachable, TransportError
from exo_lab.transport.base import DATA_TIMEOUT_S, DataStats
from exo_lab.transport.frames import Malformed, decode, encode
from exo_lab.transport.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.messages import DataMessage
    from exo_lab.core.tensor import Tensor
    from exo_lab.transport.memory import MemoryNetwork

log = logging.getLogger(__name__)

HIGH_WATER_MARK = 64
EARLY_PACKETS = 256


class MemoryData:
    """See `base.DataPort`. Made by `MemoryNetwork.data`."""

    def __init__(self, network: MemoryNetwork, address: str, high_water_mark: int, max_tensor_bytes: int) -> None:
        self._network, self._address = network, address
        self._high_water_mark, self._max_tensor_bytes = high_water_mark, max_tensor_bytes
        self._changed = threading.Condition()
        self._frames: deque[tuple[float, str, list[bytes]]] = deque()  # (due on the monotonic clock, from whom, parts)
        self._waiting: Counter[str] = Counter()  # frames by sender: each has a queue of its own, as with sockets
        self._posted: deque[object] = deque()
        self._frames_in = self._frames_out = self._bytes_in = self._bytes_out = 0
        self._tally = Tally(log, f"data port {address}")
        self._closed = False

    @property
    def address(self) -> str:
        """Where others reach it."""
        return self._address

    def send(
        self, address: str, message: DataMessage, tensor: Tensor | None = None, timeout_s: float = DATA_TIMEOUT_S
    ) -> None:
        """Hand a frame to the other port. See `DataPort.send`."""
        if self._closed:
            raise TransportError("the data port is closed")
        # Copied as a wire would: the sender's buffer is its own again when this returns.
        parts = [bytes(part) for part in encode(message, tensor)]
        if self._network.tap is not None:
            self._network.tap(address, parts)
        target = self._network.find_data(self._address, address)
        delay_s = self._network.delay_s(self._address, address)
        if target is None or not target.deliver(self._address, parts, delay_s, timeout_s):
            raise PeerUnreachable(f"{address} took no frame for {timeout_s:g} s. Is it running and in reach?")
        self._frames_out += 1
        self._bytes_out += sum(map(len, parts))

    def deliver(self, source: str, parts: Sequence[bytes], delay_s: float, timeout_s: float) -> bool:
        """Queue a frame of `source`; False if its queue stays full. Any thread."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting[source] < self._high_water_mark, timeout_s)
            if self._closed or self._waiting[source] >= self._high_water_mark:
                return False
            self._waiting[source] += 1
            self._frames.append((time.monotonic() + delay_s, source, list(parts)))
            self._changed.notify_all()
            return True

    def recv(self, timeout_s: float) -> object | None:
        """The next thing that was posted or came in. See `DataPort.recv`."""
        deadline = time.monotonic() + timeout_s
        while True:
            with self._changed:
                if self._posted:
                    return self._posted.popleft()
                if self._closed:
                    raise TransportError("the data port is closed")
                now = time.monotonic()
                if not self._frames or self._frames[0][0] > now:
                    until = min(deadline, self._frames[0][0]) if self._frames else deadline
                    if now >= deadline:
                        return None
                    self._changed.wait(until - now)
                    continue
                _, source, parts = self._frames.popleft()
                self._waiting[source] -= 1
                if not self._waiting[source]:
                    del self._waiting[source]
                self._changed.notify_all()
            frame = self._decode(parts)
            if frame is not None:
                return frame
            if time.monotonic() >= deadline:
                return None

    def _decode(self, parts: list[bytes]) -> tuple[DataMessage, Tensor | None] | None:
        try:
            frame = decode(parts, self._max_tensor_bytes)
        except Malformed as exc:
            self._tally.add(exc.reason, str(exc))
            return None
        self._frames_in += 1
        self._bytes_in += sum(map(len, parts))
        return frame

    def post(self, item: object) -> None:
        """Give the thread an object. Any thread."""
        with self._changed:
            self._posted.append(item)
            self._changed.notify_all()

    def forget(self, address: str) -> None:
        """Nothing is kept per address here."""

    def shares_memory(self, address: str) -> bool:
        """No: nothing is copied between processes here."""
        return False

    def stats(self) -> DataStats:
        """The counters now. Any thread."""
        return DataStats(
            frames_in=self._frames_in,
            frames_out=self._frames_out,
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
            refused=self._tally.snapshot(),
        )

    def close(self) -> None:
        """Leave the network; what waits to be received is dropped. Idempotent."""
        self._network.remove(self)
        with self._changed:
            self._closed = True
            self._frames.clear()
            self._changed.notify_all()
