"""Nodes find each other as DNS-SD services `_exo-lab._tcp.local.`, so that `avahi-browse` and Bonjour see them too.

The TXT record says who it is in plain words (id, name, cluster tag, protocol, card version), and carries the signed
announcement that UDP discovery sends too, in pieces: only that is believed, and only with the proof that its writer has
the cluster's key. The handshake decides.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.messages import PROTOCOL_VERSION
from exo_lab.discovery.announcement import (
    Announcement,
    Refused,
    check,
    check_member,
    endpoint,
    host_of,
    port_of,
    printable,
    read,
    seal,
)  # fmt: skip
from exo_lab.discovery.base import Found
from exo_lab.discovery.interfaces import Interface, first_look, interfaces, kind_of, path_to, reachable, why_unreachable
from exo_lab.discovery.services import Service, ZeroconfServices
from exo_lab.discovery.strangers import Strangers
from exo_lab.discovery.txt import from_text, to_text
from exo_lab.discovery.waiting import first

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

    from exo_lab.core.messages import NodeCard
    from exo_lab.discovery.announcement import Signer
    from exo_lab.discovery.services import Services, ServicesPort

LOOK_EVERY_S = 2.0
MAX_ADDRESSES = 8  # so that the whole answer fits one packet


class MdnsStats(msgspec.Struct, frozen=True, kw_only=True):
    """What is there now. For `doctor`. `refused` counts services by reason since the start."""

    sightings: tuple[Found, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    registered: bool = False
    echoed: bool = False
    refused: dict[str, int] = {}
    other_clusters: dict[str, str] = {}
    other_versions: dict[str, str] = {}


class MdnsDiscovery:
    """See `Discovery`. For one asyncio loop.

    Args:
        identity: signs; its id and public key go out.
        cluster_tag: public name of the cluster; who announces another is left alone.
        cluster_key: secret of the cluster; who announces without it is refused.
        bind: what the node's control port listens on: its wildcard, or the one address that others can reach.
        every_s: how often it looks whether the interfaces changed.
        look: the interfaces of this machine.
        services: how services are announced and seen.
        now: a monotonic clock, in seconds.
        wait: how it waits for some seconds.
    """

    name = "mdns"

    def __init__(
        self,
        identity: Signer,
        *,
        cluster_tag: str,
        cluster_key: bytes,
        bind: str = "0.0.0.0",
        every_s: float = LOOK_EVERY_S,
        look: Callable[[], Sequence[Interface]] = interfaces,
        services: Services | None = None,
        now: Callable[[], float] = time.monotonic,
        wait: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._identity, self._tag, self._key = identity, cluster_tag, cluster_key
        self._bind, self._every_s = bind, every_s
        self._look, self._services, self._now, self._wait = look, services or ZeroconfServices(), now, wait
        self._run, self._sequence = secrets.randbits(63), 0
        self._strangers = Strangers()
        self._port: ServicesPort | None = None
        self._all: tuple[Interface, ...] = ()
        self._lans: tuple[Interface, ...] = ()
        self._seen: dict[str, Announcement] = {}  # by instance
        self._unreachable = self._failed = ""
        self._registered = self._echoed = False
        self._news = asyncio.Event()

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong now."""
        own = tuple(one for one in (self._unreachable, self._failed) if one)
        port = self._port.problems if self._port is not None else ()
        return (*own, *port, *self._duplicates(), *self._strangers.problems())

    def stats(self) -> MdnsStats:
        """The counters now."""
        return MdnsStats(
            sightings=sightings(self._seen.values(), self._all),
            interfaces=self._lans,
            registered=self._registered,
            echoed=self._echoed,
            refused=self._strangers.refused,
            other_clusters=self._strangers.other_clusters,
            other_versions=self._strangers.other_versions,
        )

    async def watch(self, card: NodeCard) -> AsyncIterator[Sequence[Found]]:
        """Announce the card and yield who else is there, at once and on every change.

        Looking after the interfaces goes on in a task of its own; the task ends with the iterator.
        """
        working = asyncio.create_task(self._work(card), name="mdns discovery")
        seen: tuple[Found, ...] | None = None
        told: tuple[str, ...] = ()
        try:
            while True:
                self._news.clear()
                now = sightings(self._seen.values(), self._all)
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

    async def _work(self, card: NodeCard) -> None:
        await first_look(self._look)
        while True:
            await self._rescan(card)
            self._strangers.forget(self._now())
            self._news.set()
            await self._wait(self._every_s)

    async def _rescan(self, card: NodeCard) -> None:
        """Announce anew if the interfaces changed. What was seen on the former ones is looked for again."""
        self._all = tuple(self._look())
        wanted = reachable(self._all, self._bind)[:MAX_ADDRESSES]
        self._unreachable = why_unreachable(self._all, self._bind)
        if (self._port is not None or not wanted) and wanted == self._lans:
            return
        await self.close()
        self._lans = wanted
        if not wanted:
            return
        try:
            self._port = await self._services.open([one.address for one in wanted], self._take)
        except OSError as exc:
            self._failed = (
                f"mDNS cannot be used: {exc}. Another program may hold UDP port 5353 for itself; end it, or use UDP "
                "discovery or a peers file. Trying again."
            )
            return
        self._failed = ""
        await self._port.register(self._service(card))
        self._registered = not self._port.problems

    def _service(self, card: NodeCard) -> Service:
        self._sequence += 1
        port, name = port_of(card.control), printable(card.device.name)
        said = Announcement(
            tag=self._tag,
            device_id=self._identity.device_id,
            name=name,
            controls=tuple(endpoint(one.address, port) for one in self._lans),
            public_key=self._identity.public_key,
            protocol=card.protocol,
            version=card.version,
            run=self._run,
            sequence=self._sequence,
        )
        label = "".join(char if char.isalnum() and char.isascii() else "-" for char in name)[:40].strip("-")
        return Service(
            instance=f"{label or 'node'}-{said.device_id}",
            host=f"exo-lab-{said.device_id}",
            port=port,
            addresses=tuple(one.address for one in self._lans),
            text={
                "id": said.device_id,
                "name": name,
                "cluster": self._tag,
                "protocol": str(said.protocol),
                "version": str(said.version),
                **to_text(seal(said, self._identity, self._key)),
            },
        )

    def _take(self, instance: str, text: Mapping[str, str] | None) -> None:
        """A service appeared, changed or is gone."""
        if text is None:
            self._seen.pop(instance, None)
        else:
            said = self._read(text)
            if isinstance(said, Refused):
                self._seen.pop(instance, None)
                self._strangers.refuse(said, instance, self._now())
            elif said is not None:
                self._seen[instance] = said
        self._news.set()

    def _read(self, text: Mapping[str, str]) -> Announcement | Refused | None:
        """What a service's text says; None if it is this node's own."""
        sealed = read(from_text(text))
        if isinstance(sealed, Refused):
            return sealed
        said = sealed.announcement
        if said.tag != self._tag:
            return Refused("another cluster", said.name)
        stranger = check_member(sealed, self._key)
        if stranger is not None:
            return stranger
        if said.device_id == self._identity.device_id and said.run == self._run:
            self._echoed = True
            return None
        if said.protocol != PROTOCOL_VERSION:
            return Refused("another protocol", f"{said.name} speaks protocol {said.protocol}")
        wrong = check(sealed)
        if wrong is not None:
            return wrong
        if said.device_id == self._identity.device_id:
            return Refused("same identity", said.name)
        return said

    def _duplicates(self) -> tuple[str, ...]:
        runs: dict[str, set[int]] = {}
        for said in self._seen.values():
            runs.setdefault(said.device_id, set()).add(said.run)
        return tuple(
            f"{len(runs[node])} nodes use the id {node} at once: an identity file was copied. Delete it on all "
            "machines but one and start those nodes again."
            for node in sorted(runs)
            if len(runs[node]) > 1
        )

    async def close(self) -> None:
        """Take the service back and free the sockets. Idempotent."""
        self._seen.clear()
        self._registered = False
        if self._port is not None:
            port, self._port = self._port, None
            await port.close()


def sightings(announced: Iterable[Announcement], ours: Sequence[Interface]) -> tuple[Found, ...]:
    """The addresses of every announced node that can be reached from these interfaces, in a fixed order."""
    found = {one for said in announced for one in _sightings(said, ours)}
    return tuple(sorted(found, key=lambda one: (one.device_id, one.address)))


def _sightings(said: Announcement, ours: Sequence[Interface]) -> list[Found]:
    own = {one.address for one in ours}
    foreign = [control for control in said.controls if host_of(control) not in own]
    # An address that is ours as well (every Docker host has 172.17.0.1) leads to ourselves, unless all of them are
    # ours: then the node is on this machine.
    controls = foreign or list(said.controls)
    near = [control for control in controls if path_to(host_of(control), ours) is not None]
    found: list[Found] = []
    for control in near or controls:
        path = path_to(host_of(control), ours)
        found.append(
            Found(
                address=control,
                source=f"mDNS on {path.name}" if path is not None else "mDNS",
                name=said.name,
                device_id=said.device_id,
                interface=path.name if path is not None else "",
                kind=kind_of(host_of(control), ours),
            )
        )
    return found
