"""Asking the peers whether they are still there, and believing it late enough and early enough.

A ping that is not answered makes a peer suspect; silence beyond its patience, or a broken connection and a last ping
that nobody answers, makes it lost. Lives on the control loop. What follows is decided in `membership`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from exo_lab.core.errors import ExoError, PeerUnreachable
from exo_lab.core.messages import Ping, Pong
from exo_lab.core.telemetry import believed
from exo_lab.node import membership as m
from exo_lab.node.cadence import Due, interval_s
from exo_lab.node.processes import process_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from exo_lab.node.peers import Peers
    from exo_lab.node.tasks import Tasks
    from exo_lab.node.timing import Timing
    from exo_lab.transport.base import ControlPort

log = logging.getLogger(__name__)

MAX_PLANS_TOLD = 64
BEATS = 4  # between two rounds of pings, this loop looks so often whether it ran in time
STALL_S = 0.2  # later than that it counts as not listening
LAST_BREATHS, LAST_BREATH_S = 3, 0.02


class Pulse:
    """See the module."""

    def __init__(self, peers: Peers, control: ControlPort, timing: Timing) -> None:
        self._peers, self._control, self._timing = peers, control, timing
        self._beat_at = time.monotonic()
        self._due = Due(timing.ping_every_s, self._ask_every_s)

    def _every_s(self, peer: m.Peer) -> float:
        return interval_s(self._timing.ping_every_s, peer.card.heartbeat_s)

    def _ask_every_s(self, peer: m.Peer) -> float:
        """Who did not answer is asked again soon, battery or not: whether it is lost is to be known."""
        return self._timing.ping_every_s if peer.liveness == "suspect" else self._every_s(peer)

    def watch(self, tasks: Tasks) -> None:
        """Look after broken connections, in tasks of the node's."""
        self._control.on_cut(lambda address: tasks.start(self.confirm_cut(address), f"broken connection to {address}"))

    async def ping_all(self, after: Callable[[], Awaitable[object]]) -> None:
        """Ping every peer now and then, for ever; `after` is awaited after each round. Nobody waits for another."""
        sequence = 0
        async with asyncio.TaskGroup() as pings:
            under_way: dict[str, asyncio.Task[object]] = {}
            while True:
                sequence += 1
                for peer in self._due.take(self._peers.members.alive(), time.monotonic()):
                    if peer.id not in under_way or under_way[peer.id].done():
                        under_way[peer.id] = pings.create_task(self._ping(peer, sequence, self._timing.ping_timeout_s))
                under_way = {key: task for key, task in under_way.items() if not task.done()}
                self._peers.apply(m.Ticked(now=time.monotonic()))
                if "" not in under_way:
                    under_way[""] = pings.create_task(_awaited(after))
                for _ in range(BEATS):
                    await asyncio.sleep(self._timing.ping_every_s / BEATS)
                    self._note_own_stall()

    def _note_own_stall(self) -> None:
        """This loop did not run for a while (a frozen process, an import): nobody was listened to meanwhile."""
        now, beat_s = time.monotonic(), self._timing.ping_every_s / BEATS
        late_s, self._beat_at = now - self._beat_at - beat_s, now
        if late_s > max(beat_s, STALL_S):
            self._peers.apply(m.Stalled(seconds=late_s))

    async def _ping(self, peer: m.Peer, sequence: int, timeout_s: float) -> bool:
        """One ping and what follows from it. True if it was answered."""
        sent = time.perf_counter()
        try:
            reply = await self._control.request(peer.control, Ping(sequence=sequence), timeout_s=timeout_s)
        except PeerUnreachable:
            self._silent(peer)
            return False
        except ExoError as exc:
            log.info("%s refused a ping, so it is there: %s", peer.card.device.name, exc)
            return True
        if isinstance(reply, Pong):
            self._peers.apply(
                m.Answered(
                    id=peer.id,
                    round_trip_s=time.perf_counter() - sent,
                    load=reply.load,
                    memory_available_bytes=reply.memory_available_bytes,
                    plans=reply.plans[:MAX_PLANS_TOLD],
                    paces=reply.paces[:MAX_PLANS_TOLD],
                    busy=reply.busy,
                    vitals=believed(reply.vitals, peer.id),
                    now=time.monotonic(),
                )
            )
            if reply.card_version > peer.card.version:
                await self._peers.renew(peer)
        return True

    def _silent(self, peer: m.Peer) -> None:
        self._note_own_stall()
        now, process = time.monotonic(), process_of(peer.card, self._peers.card)
        if process == "gone":
            self._peers.apply(m.Gone(id=peer.id, now=now))
            return
        known = self._peers.members.peers.get(peer.id, peer)
        patience_s = m.patience_s(
            known, process, self._timing.lost_after_s, self._timing.busy_lost_after_s, self._every_s(known)
        )
        self._peers.apply(m.Silent(id=peer.id, now=now, lost_after_s=patience_s))
        if peer.liveness == "suspect":  # the second time in a row: perhaps it is the link, and there is another
            self._peers.doubt_way(peer.control)

    async def ask(self, peer: str) -> None:
        """Ping one peer now, if it is there."""
        known = self._peers.members.peers.get(peer)
        if known is not None and known.liveness != "lost":
            await self._ping(known, 0, self._timing.ping_timeout_s)

    async def confirm(self, ids: Iterable[str]) -> None:
        """Ask peers of which something seems wrong, briefly; who is dead for certain is lost when this returns."""
        doubtful = [peer for peer in self._peers.members.alive() if peer.id in ids]
        await asyncio.gather(*(self._ping(peer, 0, self._timing.confirm_s) for peer in doubtful))

    async def confirm_cut(self, address: str) -> None:
        """The connection to an address broke. A process that ended closes its sockets, so this may be its death."""
        for peer in self._peers.members.alive():
            if peer.control != address:
                continue
            for _ in range(LAST_BREATHS):  # its sockets close a moment before it is gone
                if process_of(peer.card, self._peers.card) == "gone":
                    self._peers.apply(m.Gone(id=peer.id, now=time.monotonic()))
                    return
                await asyncio.sleep(LAST_BREATH_S)
            answered = await self._ping(peer, 0, self._timing.confirm_s)
            if not answered and process_of(peer.card, self._peers.card) in ("unknown", "stopped"):
                self._peers.apply(m.Gone(id=peer.id, now=time.monotonic()))


async def _awaited(work: Callable[[], Awaitable[object]]) -> None:
    await work()
