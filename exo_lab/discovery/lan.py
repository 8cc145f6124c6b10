"""Datagrams to everybody on each interface, over real sockets: multicast, and broadcast to each network's own address.

One socket listens for all; one more per interface sends, so that a datagram leaves where it should and its source is
that interface's address. Asyncio only. Knows nothing of what is in a datagram. `lan_memory` is the in-process twin.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from exo_lab.discovery.interfaces import Interface

PORT = 52418
GROUP = "239.255.77.18"  # site-local scope (RFC 2365); routers do not pass it on, and the TTL is 1 in any case

Deliver = Callable[[bytes, str], None]


class LanPort(Protocol):
    """An open place in the LAN."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What does not work now, as sentences that say what to do."""
        ...

    def send(self, interface: Interface, data: bytes) -> None:
        """Send to everybody on one interface. Never raises: what fails shows up in `problems`."""
        ...

    async def close(self) -> None:
        """Free the sockets. Idempotent."""
        ...


class Lan(Protocol):
    """A way to everybody near."""

    async def open(self, interfaces: Sequence[Interface], deliver: Deliver) -> LanPort:
        """Listen and be able to send on these interfaces.

        `deliver(data, host)` is called on the loop for every datagram; `host` is the source's address. Never raises:
        what could not be opened is in the port's `problems`.
        """
        ...


class SocketLan:
    """See `Lan`.

    Args:
        port: UDP port, the same on every node.
        group: multicast group, the same on every node.
    """

    def __init__(self, port: int = PORT, group: str = GROUP) -> None:
        self.port, self.group = port, group

    async def open(self, interfaces: Sequence[Interface], deliver: Deliver) -> SocketLanPort:
        """Open the sockets. Cancelled or not, what was opened is closed again if it is not returned."""
        made = SocketLanPort(self.port, self.group)
        try:
            await made.listen(interfaces, deliver)
            for one in interfaces:
                await made.add(one)
        except BaseException:
            await made.close()
            raise
        return made


class _Listener(asyncio.DatagramProtocol):
    def __init__(self, deliver: Deliver, failed: Callable[[OSError], None]) -> None:
        self._deliver, self._failed = deliver, failed

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._deliver(data, addr[0])

    def error_received(self, exc: Exception) -> None:
        if isinstance(exc, OSError):
            self._failed(exc)


class SocketLanPort:
    """See `LanPort`. Made by `SocketLan.open`."""

    def __init__(self, port: int, group: str) -> None:
        self._port, self._group = port, group
        self._senders: dict[tuple[str, str], asyncio.DatagramTransport] = {}
        self._listener: asyncio.DatagramTransport | None = None
        self._problems: dict[str, str] = {}

    @property
    def problems(self) -> tuple[str, ...]:
        """What does not work now."""
        return tuple(self._problems.values())

    async def listen(self, interfaces: Sequence[Interface], deliver: Deliver) -> None:
        """Open the socket that hears everybody, and join the group on every interface."""
        try:
            heard = _bound(self._port)
        except OSError as exc:
            self._problems["listen"] = (
                f"cannot listen on UDP port {self._port}: {exc}. Another program holds it; end it, or use mDNS or a "
                "peers file. This node announces itself and does not hear others by UDP. It tries again now and then."
            )
            return
        for one in interfaces:
            if not one.multicast:
                continue
            try:
                join = socket.inet_aton(self._group) + socket.inet_aton(one.address)
                heard.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, join)
            except OSError as exc:
                # Two addresses of one interface: the group was joined by the first.
                if exc.errno != errno.EADDRINUSE:
                    self._problems[f"join {one.name}"] = (
                        f"cannot join the multicast group {self._group} on {one.name} ({one.address}): {exc}. "
                        "Broadcast is used there; if that is blocked too, use a peers file."
                    )
        self._listener = await self._transport(heard, deliver, "listen", f"hearing on UDP port {self._port}")

    async def add(self, one: Interface) -> None:
        """Open the socket that sends on one interface."""
        where = f"{one.name} ({one.address})"
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sender.setblocking(False)
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(one.address))
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
            sender.bind((one.address, 0))
        except OSError as exc:
            sender.close()
            self._problems[f"send {where}"] = f"cannot send on {where}: {exc}. Is the interface still there?"
            return
        self._senders[one.name, one.address] = await self._transport(
            sender, lambda data, host: None, f"send {where}", f"sending on {where}"
        )

    async def _transport(
        self, opened: socket.socket, deliver: Deliver, subject: str, doing: str
    ) -> asyncio.DatagramTransport:
        def failed(exc: OSError) -> None:
            self._problems[subject] = (
                f"{doing} failed: {exc}. Check the cable or the Wi-Fi, and whether a firewall forbids UDP."
            )

        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_datagram_endpoint(lambda: _Listener(deliver, failed), sock=opened)
        except BaseException:
            opened.close()
            raise
        return transport

    def send(self, interface: Interface, data: bytes) -> None:
        """To the group, and to the network's broadcast address."""
        transport = self._senders.get((interface.name, interface.address))
        if transport is None or transport.is_closing():
            return
        self._problems.pop(f"send {interface.name} ({interface.address})", None)
        if interface.multicast:
            transport.sendto(data, (self._group, self._port))
        if interface.broadcast:
            transport.sendto(data, (interface.broadcast, self._port))

    async def close(self) -> None:
        """Free the sockets. Idempotent."""
        for transport in (*self._senders.values(), *([self._listener] if self._listener is not None else [])):
            transport.close()
        self._senders, self._listener = {}, None
        await asyncio.sleep(0)  # asyncio frees a closed transport's socket at the loop's next turn


def _bound(port: int) -> socket.socket:
    """A socket on a port that several nodes of one machine share. OSError if another program has it for itself."""
    # Linux and Windows hand multicast and broadcast to everybody who set REUSEADDR; BSD and macOS ask for REUSEPORT.
    attempts = [(socket.SO_REUSEADDR,)]
    if hasattr(socket, "SO_REUSEPORT"):
        both = (socket.SO_REUSEADDR, socket.SO_REUSEPORT)
        attempts = [(socket.SO_REUSEADDR,), both] if sys.platform.startswith("linux") else [both, attempts[0]]
    failure: OSError | None = None
    for options in attempts:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            for option in options:
                made.setsockopt(socket.SOL_SOCKET, option, 1)
            made.bind(("0.0.0.0", port))
        except OSError as exc:
            made.close()
            failure = exc
        else:
            return made
    assert failure is not None
    raise failure
