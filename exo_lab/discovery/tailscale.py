"""Nodes on machines of one tailnet find each other, across networks and through NAT.

Tailscale knows which machines there are, and not where a node listens on them: every node listens on one well-known
port, `CONTROL_PORT`, or on the one that all are given. A machine counts when something answers on that port. Nothing is
announced. Knows no trust: the handshake decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Protocol

from exo_lab.discovery.announcement import endpoint, port_of
from exo_lab.discovery.base import Found
from exo_lab.discovery.tailnet import NoTailscale, Tailscale, TailStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from exo_lab.core.messages import NodeCard
    from exo_lab.discovery.announcement import Signer
    from exo_lab.discovery.tailnet import TailPeer

CONTROL_PORT = 52415
LOOK_EVERY_S = 10.0
TRY_TIMEOUT_S = 2.0
TRY_AGAIN_S = 300.0  # a port that answered is not tried again so soon: its doorkeeper counts every try as a stranger
AT_ONCE = 16


class Asks(Protocol):
    """What says who is in the tailnet."""

    async def status(self) -> TailStatus | NoTailscale:
        """The status now."""
        ...


async def listens(address: str, port: int) -> bool:
    """Does something accept TCP connections there, within `TRY_TIMEOUT_S`?"""
    try:
        async with asyncio.timeout(TRY_TIMEOUT_S):
            _, writer = await asyncio.open_connection(address, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(TRY_TIMEOUT_S):
            await writer.wait_closed()
    return True


class TailscaleDiscovery:
    """See `Discovery`. It only reads: this node is found by its port.

    Args:
        identity: not used; every discovery is made alike.
        cluster_tag: not used: two clusters of one tailnet use two ports.
        bind: what the node's control port listens on.
        port: the control port of every node of the cluster.
        required: the user asked for it by name, so that its absence is a problem.
        every_s: how often it looks.
        ask: says who is in the tailnet.
        tries: does something listen there?
        now: a monotonic clock, in seconds.
        wait: how it waits for some seconds.
    """

    name = "tailscale"

    def __init__(
        self,
        identity: Signer | None = None,
        *,
        cluster_tag: str = "",
        bind: str = "0.0.0.0",
        port: int = CONTROL_PORT,
        required: bool = True,
        every_s: float = LOOK_EVERY_S,
        ask: Asks | None = None,
        tries: Callable[[str, int], Awaitable[bool]] = listens,
        now: Callable[[], float] = time.monotonic,
        wait: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._bind, self.port, self._required, self._every_s = bind.strip("[]"), port or CONTROL_PORT, required, every_s
        self._ask, self._tries, self._now, self._wait = ask or Tailscale(), tries, now, wait
        self._answered: dict[str, float] = {}  # when the port of an address last answered
        self._problems: tuple[str, ...] = ()
        self.status: TailStatus | NoTailscale | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong now."""
        return self._problems

    async def watch(self, card: NodeCard) -> AsyncIterator[Sequence[Found]]:
        """Yield the machines of the tailnet that listen on the port, at once and on every change."""
        seen: tuple[Found, ...] | None = None
        told: tuple[str, ...] = ()
        while True:
            self.status = status = await self._ask.status()
            now = () if isinstance(status, NoTailscale) else await self._look(status)
            self._problems = self._wrong(status, card)
            if now != seen or self._problems != told:
                seen, told = now, self._problems
                yield now
            await self._wait(self._every_s)

    async def _look(self, status: TailStatus) -> tuple[Found, ...]:
        if status.state != "Running":
            self._answered.clear()
            return ()
        online = [peer for peer in status.peers if peer.online]
        now = self._now()
        self._answered = {
            peer.address: self._answered[peer.address] for peer in online if peer.address in self._answered
        }
        gate = asyncio.Semaphore(AT_ONCE)
        doubtful = [peer for peer in online if now - self._answered.get(peer.address, -TRY_AGAIN_S) >= TRY_AGAIN_S]
        await asyncio.gather(*(self._try(peer.address, gate) for peer in doubtful))
        return tuple(self._found(peer) for peer in online if peer.address in self._answered)

    async def _try(self, address: str, gate: asyncio.Semaphore) -> None:
        async with gate:
            if await self._tries(address, self.port):
                self._answered[address] = self._now()
            else:
                self._answered.pop(address, None)

    def _found(self, peer: TailPeer) -> Found:
        return Found(
            address=endpoint(peer.address, self.port),
            source=f"Tailscale, {peer.how}" if peer.how else "Tailscale",
            name=peer.name,
            kind="tailscale",
        )

    def _wrong(self, status: TailStatus | NoTailscale, card: NodeCard) -> tuple[str, ...]:
        if isinstance(status, NoTailscale):
            return (status.why,) if self._required or not status.is_absent else ()
        if status.state != "Running":
            do = "Run `tailscale login`." if status.state == "NeedsLogin" else "Run `tailscale up`."
            return (f"Tailscale is not running (its state is {status.state}). {do}",) if self._required else ()
        wrong: list[str] = []
        if self._bind not in ("0.0.0.0", "::", "*", "", status.address):
            wrong.append(
                f"this node listens on {self._bind}, where machines of the tailnet do not reach it. Connect with --lan "
                f"or with --bind {status.address}."
            )
        if port_of(card.control) != self.port:
            wrong.append(
                f"this node listens on port {port_of(card.control)}; over Tailscale nodes are looked for on port "
                f"{self.port}. Connect with --port {self.port}, here and on the others."
            )
        return tuple(wrong)

    async def close(self) -> None:
        """Nothing is held open."""
