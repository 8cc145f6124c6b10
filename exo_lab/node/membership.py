"""Who is in the cluster, as a pure function: (members, event) -> members. No clock, no sockets.

Time comes in with the events, in seconds of any one monotonic clock. A peer is `alive` while it answers,
`suspect` once a ping went unanswered, `lost` when it has been silent for too long, when its process is known
to be gone, or when it said goodbye. How long is too long depends on what is known of it, see `patience_s`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from exo_lab.core.messages import NodeCard
from exo_lab.core.pace import Pace
from exo_lab.core.status import Liveness
from exo_lab.core.telemetry import Vitals
from exo_lab.core.topology import LinkKind
from exo_lab.discovery.merge import move

LOST_AFTER_S = 2.0  # silence that means loss, where nothing is known that excuses it
BUSY_LOST_AFTER_S = 8.0  # where something does
MISSED_PINGS = 3  # a peer that is pinged seldom is not lost before so many went unanswered
SLOW_ROUND_TRIPS = 8  # a peer that answers slowly may be silent for so many of its round trips
NEVER = float("-inf")
FORGET_AFTER_S = 120.0  # a lost peer stays visible so long


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """One other node. `heard_at` is when it last spoke, `gone_at` when it said goodbye or ended.

    `way` is the control address by which it is reached, if that is another than its card says; `kind` what link it is,
    `interface` this machine's end of it, `found_by` who saw it.
    """

    card: NodeCard
    liveness: Liveness
    heard_at: float
    way: str = ""
    kind: LinkKind = "unknown"
    interface: str = ""
    found_by: str = ""
    latency_s: float | None = None
    load: float | None = None
    memory_available_bytes: int | None = None
    busy: bool = False
    plans: tuple[tuple[str, int, str], ...] = ()
    paces: tuple[Pace, ...] = ()
    vitals: Vitals = Vitals()
    gone_at: float = NEVER

    @property
    def id(self) -> str:
        """The device id."""
        return self.card.device.id

    @property
    def control(self) -> str:
        """Where it answers."""
        return self.way or self.card.control

    @property
    def way_in_words(self) -> str:
        """How it is reached, such as "mDNS on eth0" or "peers.toml, peer 'box'"."""
        said = not self.interface or self.interface in self.found_by.split()
        return self.found_by if said else f"{self.found_by} on {self.interface}"

    @property
    def data(self) -> str:
        """Where it takes frames: on the same way."""
        return move(self.card.data, self.way) if self.way else self.card.data


class Members(msgspec.Struct, frozen=True, kw_only=True):
    """All peers by id. Never contains the node itself."""

    peers: dict[str, Peer] = {}

    def alive(self) -> tuple[Peer, ...]:
        """Peers that are not lost, sorted by id."""
        return tuple(self.peers[key] for key in sorted(self.peers) if self.peers[key].liveness != "lost")

    def there(self, me: str) -> frozenset[str]:
        """The ids of all of them, and of this node."""
        return frozenset({me, *(peer.id for peer in self.alive())})


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """A verified card came."""

    card: NodeCard
    found_by: str
    now: float


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """It is to be reached by this way from now on."""

    id: str
    way: str
    kind: LinkKind
    found_by: str
    interface: str = ""


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """A ping was answered after `round_trip_s`."""

    id: str
    round_trip_s: float
    load: float
    memory_available_bytes: int
    plans: tuple[tuple[str, int, str], ...]
    now: float
    paces: tuple[Pace, ...] = ()
    busy: bool = False
    vitals: Vitals = Vitals()


class Silent(msgspec.Struct, frozen=True, kw_only=True):
    """A ping was not answered in time. `lost_after_s`: so much silence means that it is lost."""

    id: str
    now: float
    lost_after_s: float = LOST_AFTER_S


class Gone(msgspec.Struct, frozen=True, kw_only=True):
    """It said goodbye, or its process has ended."""

    id: str
    now: float


class Stalled(msgspec.Struct, frozen=True, kw_only=True):
    """This node itself did not listen for so many seconds: nobody else's silence is to be counted from them."""

    seconds: float


class Ticked(msgspec.Struct, frozen=True, kw_only=True):
    """Time passed."""

    now: float


Event = Heard | Reached | Answered | Silent | Gone | Stalled | Ticked

Process = Literal["gone", "stopped", "running", "unknown"]  # what this machine says of a peer's process


def step(members: Members, event: Event) -> Members:
    """The members after an event. Unknown ids change nothing."""
    match event:
        case Heard(card=card, found_by=found_by, now=now):
            known = members.peers.get(card.device.id)
            if known is not None and known.liveness != "lost" and known.card.version > card.version:
                return members
            same = known is not None and known.card == card
            if known is not None and known.liveness != "lost" and (same or _same_process(known.card, card)):
                # It only greets again, or describes itself anew: what is known of it and the way to it stay.
                return _with(members, msgspec.structs.replace(known, card=card, liveness="alive", heard_at=now))
            if known is None or not same:
                return _with(members, Peer(card=card, liveness="alive", heard_at=now, found_by=found_by))
            return _with(
                members,
                Peer(
                    card=card,
                    liveness="alive",
                    heard_at=now,
                    way=known.way,
                    kind=known.kind,
                    interface=known.interface,
                    found_by=known.found_by if known.way or known.kind != "unknown" else found_by,
                    latency_s=known.latency_s,
                ),
            )
        case Reached(id=peer_id, way=way) if peer_id in members.peers:
            peer = members.peers[peer_id]
            moved = msgspec.structs.replace(
                peer,
                way="" if way == peer.card.control else way,
                kind=event.kind,
                interface=event.interface,
                found_by=event.found_by,
                latency_s=peer.latency_s if way == peer.control else None,
            )
            return _with(members, moved)
        case Answered(id=peer_id, now=now) if peer_id in members.peers:
            if now - event.round_trip_s < members.peers[peer_id].gone_at:
                return members  # asked before it left, and answered on its way out
            return _with(
                members,
                msgspec.structs.replace(
                    members.peers[peer_id],
                    liveness="alive",
                    heard_at=now,
                    latency_s=event.round_trip_s / 2,
                    load=event.load,
                    memory_available_bytes=event.memory_available_bytes,
                    plans=event.plans,
                    paces=event.paces,
                    busy=event.busy,
                    vitals=event.vitals,
                ),
            )
        case Silent(id=peer_id, now=now) if peer_id in members.peers:
            peer = members.peers[peer_id]
            if peer.liveness == "lost":
                return members
            silent_s = now - peer.heard_at
            state: Liveness = "lost" if silent_s >= event.lost_after_s else "suspect"
            return _with(members, msgspec.structs.replace(peer, liveness=state))
        case Gone(id=peer_id, now=now) if peer_id in members.peers:
            return _with(members, msgspec.structs.replace(members.peers[peer_id], liveness="lost", gone_at=now))
        case Stalled(seconds=seconds):
            later = {key: _shifted(peer, seconds) for key, peer in members.peers.items()}
            return Members(peers=later)
        case Ticked(now=now):
            kept = {
                key: peer
                for key, peer in members.peers.items()
                if peer.liveness != "lost" or now - peer.heard_at < FORGET_AFTER_S
            }
            return members if len(kept) == len(members.peers) else Members(peers=kept)
        case _:
            return members


def patience_s(
    peer: Peer, process: Process, lost_after_s: float, busy_lost_after_s: float, every_s: float = 0.0
) -> float:
    """How long a peer may be silent.

    One whose process runs on this machine, or which said that it was loading, is only busy: an import of a large
    library alone stops a control thread for a second. A stopped process is not going to answer. Of one that is asked
    every `every_s` only, silence of that length says nothing.
    """
    if process == "stopped":
        return lost_after_s
    few_s = MISSED_PINGS * every_s
    if process == "running" or peer.busy:
        return max(busy_lost_after_s, few_s)
    slow_s = SLOW_ROUND_TRIPS * 2 * (peer.latency_s or 0.0)
    return max(lost_after_s, min(slow_s, busy_lost_after_s), few_s)


def newly_lost(before: Members, after: Members) -> tuple[str, ...]:
    """Ids that are lost or forgotten in `after` and were not lost in `before`."""
    return tuple(
        key
        for key, peer in sorted(before.peers.items())
        if peer.liveness != "lost" and (key not in after.peers or after.peers[key].liveness == "lost")
    )


def _same_process(one: NodeCard, other: NodeCard) -> bool:
    return (one.host, one.pid, one.control, one.data) == (other.host, other.pid, other.control, other.data)


def newly_back(before: Members, after: Members) -> tuple[str, ...]:
    """Ids that are not lost in `after` and were lost, or not known, in `before`."""
    return newly_lost(after, before)


def _with(members: Members, peer: Peer) -> Members:
    return Members(peers={**members.peers, peer.id: peer})


def _shifted(peer: Peer, seconds: float) -> Peer:
    return peer if peer.liveness == "lost" else msgspec.structs.replace(peer, heard_at=peer.heard_at + seconds)
