"""The in-process twin of the network: both ports without sockets, for tests and for nodes that share a process.

Everything still goes through `frames`, so limits and versions are checked as on the wire. Addresses are
`memory://name`. Faults are made on purpose: `drop` cuts an address off, `part` a pair of them, `kill` ends one, `delay`
slows what travels. One difference:
a data frame for an address where nobody listens is refused at once and not after the deadline, since that is known.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

from exo_lab.core.errors import PeerUnreachable, TransportError
from exo_lab.transport.base import DATA_TIMEOUT_S
from exo_lab.transport.exchange import Exchange
from exo_lab.transport.frames import MAX_TENSOR_BYTES
from exo_lab.transport.memory_data import EARLY_PACKETS, HIGH_WATER_MARK, MemoryData

if TYPE_CHECKING:
    from exo_lab.transport.base import Handler

log = logging.getLogger(__name__)


Delay = Callable[[str, str], float]  # (from address, to address) -> seconds


class MemoryNetwork:
    """Holds the ports that can reach each other. Thread-safe: ports may live on different loops and threads."""

    def __init__(self) -> None:
        self.delay: Delay | None = None
        self._lock = threading.Lock()
        self._controls: dict[str, MemoryControl] = {}
        self._datas: dict[str, MemoryData] = {}
        self._dropped: set[str] = set()
        self._parted: set[frozenset[str]] = set()
        self.tap: Callable[[str, list[bytes]], object] | None = None  # sees every data frame and where it goes

    def control(self, name: str) -> MemoryControl:
        """A control port at `memory://name`. TransportError if the name is taken."""
        port = MemoryControl(self, f"memory://{name}", name)
        with self._lock:
            if port.address in self._controls:
                raise TransportError(f"{port.address} has a control port already")
            self._controls[port.address] = port
        return port

    def data(
        self, name: str, *, high_water_mark: int = HIGH_WATER_MARK, max_tensor_bytes: int = MAX_TENSOR_BYTES
    ) -> MemoryData:
        """A data port at `memory://name`. TransportError if the name is taken."""
        port = MemoryData(self, f"memory://{name}", high_water_mark, max_tensor_bytes)
        with self._lock:
            if port.address in self._datas:
                raise TransportError(f"{port.address} has a data port already")
            self._datas[port.address] = port
        return port

    def drop(self, address: str) -> None:
        """From now on nothing reaches or leaves this address."""
        with self._lock:
            self._dropped.add(address)

    def part(self, one: str, other: str) -> None:
        """From now on nothing travels between these two addresses."""
        with self._lock:
            self._parted.add(frozenset((one, other)))

    def kill(self, address: str) -> None:
        """From now on nothing reaches or leaves this address, and its connections break: its process has ended."""
        self.drop(address)
        with self._lock:
            others = [port for port in self._controls.values() if port.address != address]
        for port in others:
            port.broken(address)

    def restore(self, address: str) -> None:
        """Undo `drop`, and every `part` of this address."""
        with self._lock:
            self._dropped.discard(address)
            self._parted = {pair for pair in self._parted if address not in pair}

    def inject(self, address: str, parts: Sequence[bytes], *, control: bool = False) -> None:
        """Deliver raw parts, as a hostile member would send them, to a data port or a control port."""
        if control:
            port = self.find_control("", address)
            if port is not None:
                port.arrived("memory://nobody", list(parts))
            return
        target = self.find_data("", address)
        if target is not None:
            target.deliver("memory://nobody", parts, 0.0, DATA_TIMEOUT_S)

    # -- for the ports -----------------------------------------------------------------------------------

    def find_control(self, source: str, address: str) -> MemoryControl | None:
        """The control port at an address; None if there is none, or if the way from `source` is cut."""
        with self._lock:
            return None if self._is_cut(source, address) else self._controls.get(address)

    def find_data(self, source: str, address: str) -> MemoryData | None:
        """The data port at an address; None if there is none, or if the way from `source` is cut."""
        with self._lock:
            return None if self._is_cut(source, address) else self._datas.get(address)

    def _is_cut(self, source: str, address: str) -> bool:
        return bool(self._dropped & {source, address}) or frozenset((source, address)) in self._parted

    def delay_s(self, source: str, address: str) -> float:
        """How long a packet takes from `source` to `address`, in seconds."""
        return 0.0 if self.delay is None else self.delay(source, address)

    def remove(self, port: MemoryControl | MemoryData) -> None:
        """Free a port's name."""
        ports = self._controls if isinstance(port, MemoryControl) else self._datas
        with self._lock:
            ports.pop(port.address, None)


class MemoryControl(Exchange):
    """See `base.ControlPort`. Made by `MemoryNetwork.control`."""

    def __init__(self, network: MemoryNetwork, address: str, name: str) -> None:
        super().__init__(address, name)
        self._network = network
        self._loop: asyncio.AbstractEventLoop | None = None
        self._early: deque[tuple[str, list[bytes]]] = deque(maxlen=EARLY_PACKETS)

    async def start(self, handler: Handler) -> None:
        """Begin to answer. See `ControlPort.start`."""
        if self._handler is not None or self._closed:
            raise TransportError("this control port was started, or closed, already")
        self._handler, self._loop = handler, asyncio.get_running_loop()
        while self._early:
            self._question(*self._early.popleft())

    def arrived(self, source: str, parts: list[bytes]) -> None:
        """Take a packet from `source`: an address, or the port's own loop-free sender. Any thread."""
        if self._handler is None:
            self._early.append((source, parts))
        else:
            self._deliver(lambda: self._question(source, parts), self._network.delay_s(source, self._address))

    def _deliver(self, take: Callable[[], None], delay_s: float) -> None:
        loop = self._loop
        if loop is None:
            return
        try:
            if delay_s > 0:
                loop.call_soon_threadsafe(lambda: loop.call_later(delay_s, take))
            else:
                loop.call_soon_threadsafe(take)
        except RuntimeError:
            log.debug("%s: its loop is closed, a packet is lost", self._address)

    def broken(self, address: str) -> None:
        """The connection to an address broke. Any thread."""
        self._deliver(lambda: self._cut(address), 0.0)

    def _question(self, source: str, parts: list[bytes]) -> None:
        if len(parts) == 2:
            self._asked(source, parts[0], parts[1])
        else:
            self._tally.add("packet", f"{len(parts)} parts instead of 2")

    def _ask(self, address: str, head: bytes, body: bytes) -> None:
        if not address.startswith("memory://"):
            raise PeerUnreachable(f"{address[:200]!r} is not an address of the form memory://name")
        self._loop = asyncio.get_running_loop()
        target = self._network.find_control(self._address, address)
        if target is not None:
            target.arrived(self._address, [head, body])

    async def _answer(self, peer: Hashable, head: bytes, body: bytes) -> None:
        asker = self._network.find_control(self._address, str(peer))
        if asker is None:
            raise PeerUnreachable(f"{peer} is gone")
        delay_s = self._network.delay_s(self._address, str(peer))
        asker._deliver(lambda: asker._answered(self._address, head, body), delay_s)

    async def close(self) -> None:
        """End every request, both ways. See `ControlPort.close`."""
        if not self._closed:
            self._network.remove(self)
            await self._close_exchange()
