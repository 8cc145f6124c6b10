"""Does this machine hear its own datagrams? Sends one by multicast and one by broadcast on an interface, and listens.

A yes says that the sockets, this machine's firewall and the interface let them through. It says nothing of the network
behind: that shows when another node answers.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.discovery.interfaces import Interface
    from exo_lab.discovery.lan import Lan

WITHIN_S = 1.0
_MARK = b"doctor "  # nodes that hear it count it as no announcement and go on


class Echo(msgspec.Struct, frozen=True, kw_only=True):
    """What came back on one interface. None: it was not tried, since the interface has none."""

    interface: str
    address: str
    multicast: bool | None = None
    broadcast: bool | None = None


class Echoes(msgspec.Struct, frozen=True, kw_only=True):
    """What came back on each, and what was wrong with the sockets, as sentences."""

    echoes: tuple[Echo, ...] = ()
    problems: tuple[str, ...] = ()


async def echoes(interfaces: Sequence[Interface], lan: Lan, within_s: float = WITHIN_S) -> Echoes:
    """Try every LAN interface; takes as long as the slowest answer, `within_s` at most. Never raises."""
    tried = [one for one in interfaces if one.is_lan]
    waiting: dict[bytes, tuple[Interface, str]] = {}
    heard: set[bytes] = set()
    all_heard = asyncio.Event()

    def deliver(data: bytes, host: str) -> None:
        if data in waiting:
            heard.add(data)
            if len(heard) == len(waiting):
                all_heard.set()

    port = await lan.open(tried, deliver)
    try:
        for one in tried:
            for way, only in (
                ("multicast", msgspec.structs.replace(one, broadcast="")),
                ("broadcast", msgspec.structs.replace(one, multicast=False)),
            ):
                if getattr(one, way):
                    mark = _MARK + secrets.token_bytes(16)
                    waiting[mark] = (one, way)
                    port.send(only, mark)
        if waiting:
            try:
                async with asyncio.timeout(within_s):
                    await all_heard.wait()
            except TimeoutError:
                pass  # what is missing is the answer
        problems = port.problems
    finally:
        await port.close()
    came = {(one.name, one.address, way): mark in heard for mark, (one, way) in waiting.items()}
    return Echoes(
        echoes=tuple(
            Echo(
                interface=one.name,
                address=one.address,
                multicast=came.get((one.name, one.address, "multicast")),
                broadcast=came.get((one.name, one.address, "broadcast")),
            )
            for one in tried
        ),
        problems=problems,
    )
