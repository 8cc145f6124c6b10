"""Datagrams to everybody, in one process: the twin of `lan` for tests and for trying things out. No sockets.

Every interface whose network holds the sender's address hears; a cable can be cut. Delivery is at the loop's next turn.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.discovery.interfaces import Interface
    from exo_lab.discovery.lan import Deliver


class MemoryLan:
    """See `lan.Lan`. Give the same one to every node that shall be on this network.

    `cut` holds the addresses of interfaces whose cable is pulled: nothing goes out there and nothing comes in.
    `log` holds what was sent, as (address, data).
    """

    def __init__(self) -> None:
        self.ports: list[MemoryLanPort] = []
        self.cut: set[str] = set()
        self.log: list[tuple[str, bytes]] = []

    async def open(self, interfaces: Sequence[Interface], deliver: Deliver) -> MemoryLanPort:
        """Take a place in the network."""
        made = MemoryLanPort(self, tuple(interfaces), deliver)
        self.ports.append(made)
        return made

    def spread(self, address: str, data: bytes) -> None:
        """Hand a datagram from an address to everybody in its network, the sender included (as multicast does)."""
        self.log.append((address, data))
        if address in self.cut:
            return
        loop = asyncio.get_running_loop()
        for port in self.ports:
            if any(one.address not in self.cut and one.reaches(address) for one in port.interfaces):
                loop.call_soon(port.take, data, address)


class MemoryLanPort:
    """See `lan.LanPort`."""

    problems: tuple[str, ...] = ()

    def __init__(self, lan: MemoryLan, interfaces: tuple[Interface, ...], deliver: Deliver) -> None:
        self._lan, self.interfaces, self._deliver = lan, interfaces, deliver

    def send(self, interface: Interface, data: bytes) -> None:
        """Twice, as multicast and broadcast both arrive."""
        for _ in range(2):
            self._lan.spread(interface.address, data)

    def take(self, data: bytes, host: str) -> None:
        """A datagram arrives."""
        if self in self._lan.ports:
            self._deliver(data, host)

    async def close(self) -> None:
        """Leave the network. Idempotent."""
        if self in self._lan.ports:
            self._lan.ports.remove(self)
