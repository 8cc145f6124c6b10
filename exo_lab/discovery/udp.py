"""Nodes on one LAN find each other with nothing configured: signed announcements by multicast and broadcast.

Each interface announces its own control address, to its network's true broadcast address and to a multicast group. A
node that is heard for the first time is answered at once, so that both know within a moment. By the cluster's tag two
clusters leave each other alone, by its key strangers are not listened to; the handshake decides. IPv4 only.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING

import msgspec

from exo_lab.discovery.announcement import (
    MAX_CONTROLS,
    Announcement,
    endpoint,
    port_of,
    printable,
    seal,
)
from exo_lab.discovery.base import Found
from exo_lab.discovery.ear import Ear
from exo_lab.discovery.interfaces import Interface, first_look, interfaces, reachable, why_unreachable
from exo_lab.discovery.lan import SocketLan
from exo_lab.discovery.waiting import first

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from exo_lab.core.messages import NodeCard
    from exo_lab.discovery.announcement import Signer
    from exo_lab.discovery.lan import Lan, LanPort

ANNOUNCE_EVERY_S = 2.0
TTL_S = 9.0  # four announcements may get lost, which Wi-Fi does
OPEN_AGAIN_S = 10.0  # after this, what could not be opened is tried again
HASTE_S = 0.2  # the least time between two announcements, however many newcomers there are


class UdpStats(msgspec.Struct, frozen=True, kw_only=True):
    """What went on since the start. For `doctor`.

    `announced` counts rounds, `heard` genuine announcements of others. `echoes` counts this node's own that came back,
    by interface: sending and hearing works there. `refused` counts datagrams by reason; `other_clusters` and
    `other_versions` are addresses that announced another tag or protocol in the last minute, with what they said.
    """

    announced: int = 0
    heard: int = 0
    sightings: tuple[Found, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    echoes: dict[str, int] = {}
    refused: dict[str, int] = {}
    other_clusters: dict[str, str] = {}
    other_versions: dict[str, str] = {}


class UdpDiscovery:
    """See `Discovery`. For one asyncio loop.

    Args:
        identity: signs; its id and public key go out.
        cluster_tag: public name of the cluster; who announces another is left alone.
        cluster_key: secret of the cluster; who announces without it is refused.
        bind: what the node's control port listens on: its wildcard, or the one address that others can reach.
        every_s: how often it announces, and looks whether the interfaces changed.
        ttl_s: how long an address counts without being announced again.
        look: the interfaces of this machine.
        lan: how datagrams travel.
        now: a monotonic clock, in seconds.
        wait: how it waits for some seconds.
    """

    name = "udp"

    def __init__(
        self,
        identity: Signer,
        *,
        cluster_tag: str,
        cluster_key: bytes,
        bind: str = "0.0.0.0",
        every_s: float = ANNOUNCE_EVERY_S,
        ttl_s: float = TTL_S,
        look: Callable[[], Sequence[Interface]] = interfaces,
        lan: Lan | None = None,
        now: Callable[[], float] = time.monotonic,
        wait: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._identity, self._tag, self._key, self._bind = identity, cluster_tag, cluster_key, bind
        self._every_s = every_s
        self._look, self._lan, self._now, self._wait = look, lan or SocketLan(), now, wait
        self._run, self._sequence = secrets.randbits(63), 0
        self._ear = Ear(own_id=identity.device_id, own_run=self._run, tag=cluster_tag, key=cluster_key, ttl_s=ttl_s)
        self._port: LanPort | None = None
        self._all: tuple[Interface, ...] = ()  # this machine's interfaces
        self._lans: tuple[Interface, ...] = ()  # those that are announced on
        self._unreachable = ""
        self._card: NodeCard | None = None
        self._due = self._last = self._opened = float("-inf")
        self._kick, self._news = asyncio.Event(), asyncio.Event()
        self._announced = 0

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong now."""
        own = (self._unreachable,) if self._unreachable else ()
        return (*own, *(self._port.problems if self._port is not None else ()), *self._ear.problems)

    def stats(self) -> UdpStats:
        """The counters now."""
        ear = self._ear
        return UdpStats(
            announced=self._announced,
            heard=ear.heard,
            sightings=ear.sightings,
            interfaces=self._lans,
            echoes=dict(ear.echoes),
            refused=ear.strangers.refused,
            other_clusters=ear.strangers.other_clusters,
            other_versions=ear.strangers.other_versions,
        )

    async def watch(self, card: NodeCard) -> AsyncIterator[Sequence[Found]]:
        """Announce the card and yield who else is there, at once and on every change.

        Announcing goes on in a task of its own while the reader is busy; the task ends with the iterator.
        """
        self._card = card
        working = asyncio.create_task(self._work(), name="udp discovery")
        seen: tuple[Found, ...] | None = None
        told: tuple[str, ...] = ()
        try:
            while True:
                self._news.clear()
                now = self._ear.sightings
                if now != seen or self.problems != told:
                    seen, told = now, self.problems
                    yield now
                await first(working, self._news.wait())
                if working.done():
                    working.result()  # it never ends by itself: this raises what broke it
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            await self.close()

    # -- the work ----------------------------------------------------------------------------------------

    async def _work(self) -> None:
        await first_look(self._look)
        while True:
            await self._rescan()
            if self._now() >= self._due:
                self._announce()
            self._ear.forget(self._now())
            self._news.set()  # the reader compares; problems of the sockets come up by themselves
            await self._pause()

    async def _rescan(self) -> None:
        """Open the sockets anew if the interfaces changed (another network, a cable), or if some do not work."""
        self._all = tuple(self._look())
        wanted = reachable(self._all, self._bind)[:MAX_CONTROLS]
        self._unreachable = why_unreachable(self._all, self._bind)
        port, now = self._port, self._now()
        is_well = port is not None and (not port.problems or now < self._opened + OPEN_AGAIN_S)
        if is_well and wanted == self._lans:
            return
        await self._shut()
        self._lans = wanted
        self._port = await self._lan.open(wanted, self._take)
        self._due = self._opened = now

    def _take(self, data: bytes, host: str) -> None:
        heard = self._ear.take(data, host, self._all, self._now())
        if heard.news:
            self._news.set()
        # Somebody who does not know this node yet; but never more often than HASTE_S, however many there are.
        soon = max(self._now(), self._last + HASTE_S)
        if heard.newcomer and soon < self._due:
            self._due = soon
            self._kick.set()

    def _announce(self, *, leaving: bool = False) -> None:
        now = self._now()
        # The first of two nodes that start together may be heard by nobody: once more, soon.
        self._last, self._due = now, now + (self._every_s if self._announced else min(HASTE_S, self._every_s))
        card, port = self._card, self._port
        if card is None or port is None:
            return
        controls = [endpoint(one.address, port_of(card.control)) for one in self._lans]
        for one, control in zip(self._lans, controls, strict=True):
            self._sequence += 1
            said = Announcement(
                tag=self._tag,
                device_id=self._identity.device_id,
                name=printable(card.device.name),
                controls=(control, *(other for other in controls if other != control)),
                public_key=self._identity.public_key,
                protocol=card.protocol,
                version=card.version,
                run=self._run,
                sequence=self._sequence,
                leaving=leaving,
            )
            port.send(one, seal(said, self._identity, self._key))
        self._announced += 1

    async def _pause(self) -> None:
        """Wait until something is due."""
        now, expiry = self._now(), self._ear.next_expiry
        until = min(self._due, now + self._every_s, self._due if expiry is None else expiry)
        await first(self._wait(max(0.0, until - now)), self._kick.wait())
        self._kick.clear()

    # -- the end -----------------------------------------------------------------------------------------

    async def _shut(self) -> None:
        if self._port is not None:
            port, self._port = self._port, None
            await port.close()

    async def close(self) -> None:
        """Say goodbye and free the sockets. Idempotent."""
        if self._port is not None:
            self._announce(leaving=True)
        await self._shut()
