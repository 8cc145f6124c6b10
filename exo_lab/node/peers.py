"""A node's peers: finding them, greeting them, and who of them is there. `pulse` asks them.

Lives on the control loop. What follows from a change is decided in `membership`; this does the talking.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Protocol

from exo_lab.core.errors import ExoError, FrameError, NodeLost, TransportError
from exo_lab.core.messages import ControlMessage, Hello, Leave, NodeCard
from exo_lab.core.telemetry import warnings_of
from exo_lab.core.topology import Link, LinkKind, Sighting, Topology, link, topology
from exo_lab.node import membership as m
from exo_lab.node.pulse import Pulse
from exo_lab.node.ways import Ways

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence

    from exo_lab.discovery.base import Discovery, Found
    from exo_lab.node.problems import Problems
    from exo_lab.node.timing import Timing
    from exo_lab.node.way import LinkFigures
    from exo_lab.transport.base import ControlPort
    from exo_lab.transport.keys import Identity

log = logging.getLogger(__name__)

MAX_MEMBERS = 256
GREETINGS = 32  # at a time: announcements are free, and each may take a whole `hello_timeout_s`


class Watcher(Protocol):
    """Who is told of changes, on the control loop."""

    def peer_lost(self, peer: m.Peer) -> None:
        """A peer went away."""
        ...

    def peer_back(self, node: str) -> None:
        """A peer is there that was not, perhaps one that had only seemed lost."""
        ...

    def peers_changed(self) -> None:
        """Somebody came, went, or is another than before."""
        ...

    def alerts_changed(self) -> None:
        """A peer has another alert than before, or one less."""
        ...


class Peers:
    """See the module.

    Args:
        control: asks the others.
        identity: checks their cards.
        problems: where trouble with somebody is noted.
        card: this node's own; `start` of the node puts the signed one here.
        watcher: who is told.
        timing: deadlines.
        refused: called with a reason when a card is turned away.
    """

    def __init__(
        self,
        control: ControlPort,
        identity: Identity,
        problems: Problems,
        card: NodeCard,
        watcher: Watcher,
        timing: Timing,
        refused: Callable[[str], object],
    ) -> None:
        self.members = m.Members()
        self.card = card
        self._control, self._identity, self._problems = control, identity, problems
        self._watcher, self._timing, self._refused = watcher, timing, refused
        self._ways = Ways()
        self._greeted: set[str] = set()  # addresses that are being greeted
        self._door = asyncio.Semaphore(GREETINGS)
        self.pulse = Pulse(self, control, timing)
        # What the data thread measured of the way to a peer; the node puts its ring here.
        self.link_figures: Callable[[str], LinkFigures | None] = lambda peer: None
        self.shares_memory: Callable[[str], bool] = lambda data_address: False

    # -- looking -----------------------------------------------------------------------------------------

    @property
    def topology(self) -> Topology:
        """This node, its living peers, and the links between it and them. Any thread."""
        peers = self.members.alive()
        sightings = [Sighting(device=self.card.device, version=self.card.version)]
        sightings += [Sighting(device=peer.card.device, version=peer.card.version) for peer in peers]
        to_wall_clock = time.time() - time.monotonic()
        return topology(sightings, [self._link(peer, to_wall_clock) for peer in peers])

    def _link(self, peer: m.Peer, to_wall_clock: float) -> Link:
        figures = self.link_figures(peer.id)
        # A ping goes through two control loops as well, so it is only better than nothing.
        latency_s = peer.latency_s if figures is None else figures.latency_s
        return link(
            self.card.device.id,
            peer.id,
            kind=self.link_kind(peer),
            latency_s=latency_s,
            bandwidth_bytes_per_s=None if figures is None else figures.bandwidth_bytes_per_s,
            measured_at=0.0 if latency_s is None else to_wall_clock + peer.heard_at,
            description=peer.way_in_words,
            emulated="; ".join(
                f"{device.name}: {device.emulated_link}"
                for device in (self.card.device, peer.card.device)
                if device.emulated_link
            ),
        )

    def link_kind(self, peer: m.Peer) -> LinkKind:
        """What joins this node and a peer. Any thread."""
        if self.shares_memory(peer.data):
            return "shared-memory"
        return "loopback" if peer.card.host == self.card.host and peer.kind == "unknown" else peer.kind

    def data_address(self, node: str, lost_too: bool = False) -> str | None:
        """Where a living peer takes frames, or took them if it is lost and `lost_too`. Any thread."""
        peer = self.members.peers.get(node)
        return None if peer is None or (peer.liveness == "lost" and not lost_too) else peer.data

    def control_address(self, node: str) -> str:
        """Where a node answers; NodeLost if it is not in the cluster. Any thread."""
        if node == self.card.device.id:
            return self.card.control
        peer = self.members.peers.get(node)
        if peer is None or peer.liveness == "lost":
            raise NodeLost(f"node {node} is not in the cluster any more. See `%exo nodes`.")
        return peer.control

    # -- meeting -----------------------------------------------------------------------------------------

    async def discover(self, discovery: Discovery) -> None:
        """Greet everybody whom a discovery finds, for ever."""
        subject = f"discovery {discovery.name}"
        async with asyncio.TaskGroup() as greetings, _closing(discovery.watch(self.card)) as sightings:
            async for found in sightings:
                for address in self._ways.see(discovery.name, found):
                    self._problems.settle(f"peer {address}")
                self._take_better_ways()
                if discovery.problems:
                    self._problems.note(subject, " ".join(discovery.problems))
                else:
                    self._problems.settle(subject)
                self._greet_all(greetings)

    async def greet_missing(self) -> None:
        """Greet again who is in sight and not a living member: it started late, or was lost and came back."""
        async with asyncio.TaskGroup() as greetings:
            while True:
                await asyncio.sleep(self._timing.greet_again_s)
                self._greet_all(greetings)

    def _greet_all(self, greetings: asyncio.TaskGroup) -> None:
        """Greet whom nobody greets already; nobody waits for another, but there are limits to how many at a time."""
        for found in self._ways.to_greet(self.members, self.card.device.id, self.card.control):
            if found.address not in self._greeted:
                self._greeted.add(found.address)
                task = greetings.create_task(self._greet(found))
                task.add_done_callback(lambda _, address=found.address: self._greeted.discard(address))

    async def _greet(self, found: Found) -> None:
        async with self._door:
            await self._hello(found)

    async def _hello(self, found: Found) -> None:
        subject = f"peer {found.address}"
        try:
            hello = Hello(card=self.card)
            reply = await self._control.request(found.address, hello, timeout_s=self._timing.hello_timeout_s)
            if isinstance(reply, Hello):
                self.hear(reply.card, found.source)
                self._ways.prove(found.address, reply.card.device.id)
                self._take_better_ways()
        except ExoError as exc:
            self._problems.note(subject, f"{found.name or found.address} ({found.source}): {exc}")
        else:
            self._problems.settle(subject)

    async def renew(self, peer: m.Peer) -> None:
        """Ask a peer for its card: it has a newer one than we know."""
        try:
            hello = Hello(card=self.card)
            reply = await self._control.request(peer.control, hello, timeout_s=self._timing.hello_timeout_s)
            if isinstance(reply, Hello) and reply.card.device.id == peer.id:
                self.hear(reply.card, peer.found_by)
        except ExoError as exc:
            log.info("%s did not say what is new of it: %s", peer.card.device.name, exc)

    def _take_better_ways(self) -> None:
        """A better link to a peer came in sight, or the one in use went out of it."""
        for peer, way in self._ways.better(self.members):
            self.apply(m.Reached(id=peer, way=way.address, kind=way.kind, found_by=way.source, interface=way.interface))

    def hear(self, card: NodeCard, found_by: str) -> None:
        """Somebody introduced itself.

        Raises:
            FrameError: the card is forged, or is this node's own id from somebody else.
            TransportError: the cluster is full.
        """
        try:
            self._identity.verify_card(card)
            self._check_double(card)
        except FrameError:
            self._refused("card refused")
            raise
        if card.device.id == self.card.device.id:
            return
        if card.device.id not in self.members.peers and len(self.members.peers) >= MAX_MEMBERS:
            self._refused("cluster full")
            raise TransportError(f"node {self.card.device.id} knows {MAX_MEMBERS} others already; no more are taken in")
        self.apply(m.Heard(card=card, found_by=found_by, now=time.monotonic()))

    def _check_double(self, card: NodeCard) -> None:
        """Two nodes with one identity: a key was copied. With this node's own it is refused, else it is reported."""
        remedy = "Give each its own: delete the copied identity file of one of them."
        if card.device.id == self.card.device.id:
            if card.control != self.card.control:
                text = f"{card.control} has the identity of this node ({card.device.name}, {card.device.id}). {remedy}"
                self._problems.note(f"identity {card.device.id}", text)
                raise FrameError(text)
            return
        known = self.members.peers.get(card.device.id)
        if known is not None and known.liveness == "alive" and known.card.control != card.control:
            self._problems.note(
                f"identity {card.device.id}",
                f"{known.card.control} and {card.control} have one identity ({card.device.name}, {card.device.id}); "
                f"the newer is believed. If both run: {remedy}",
            )

    # -- keeping in touch --------------------------------------------------------------------------------

    def doubt_way(self, address: str) -> None:
        """Nobody answers there: perhaps it is the link, and there is another."""
        self._ways.doubt(address)
        self._take_better_ways()

    def left(self, node: str) -> None:
        """A peer said goodbye."""
        self.apply(m.Gone(id=node, now=time.monotonic()))

    def apply(self, event: m.Event) -> None:
        """Let an event change the members, and tell the watcher what came of it."""
        before = self.members
        self.members = m.step(before, event)
        for lost in m.newly_lost(before, self.members):
            self._problems.settle(f"identity {lost}")
            self._watcher.peer_lost(before.peers[lost])
        for back in m.newly_back(before, self.members):
            self._watcher.peer_back(back)
        if _shown(before) != _shown(self.members):
            self._watcher.peers_changed()
        if _alerts(before) != _alerts(self.members):
            self._watcher.alerts_changed()

    async def goodbye(self) -> None:
        """Tell everybody that this node leaves."""
        leave = Leave(node=self.card.device.id)
        await asyncio.gather(
            *(self.tell(peer.control, leave, self._timing.leave_timeout_s) for peer in self.members.alive())
        )

    async def tell(self, address: str, message: ControlMessage, timeout_s: float) -> ExoError | None:
        """Send a message whose answer does not matter; the error if it could not be delivered."""
        try:
            await self._control.request(address, message, timeout_s=timeout_s)
        except ExoError as exc:
            return exc
        return None


@contextlib.asynccontextmanager
async def _closing(sightings: AsyncIterator[Sequence[Found]]) -> AsyncGenerator[AsyncIterator[Sequence[Found]]]:
    """Leave an iterator in order, if it can be closed: its `finally` runs now and not when it is collected."""
    try:
        yield sightings
    finally:
        close = getattr(sightings, "aclose", None)
        if close is not None:
            await close()


def _alerts(members: m.Members) -> set[object]:
    return {(peer.id, one) for peer in members.alive() for one in warnings_of(peer.vitals)}


def _shown(members: m.Members) -> Iterable[tuple[str, str, int, str]]:
    return [(key, peer.liveness, peer.card.version, peer.control) for key, peer in members.peers.items()]
