"""What `doctor` looks at, gathered from a node (or from a machine that is none yet): interfaces, sockets, counters."""

from __future__ import annotations

import asyncio
import importlib.util
import time
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.errors import TransportError
from exo_lab.core.messages import Ping
from exo_lab.core.status import Liveness
from exo_lab.discovery.base import Found
from exo_lab.discovery.echo import Echoes, echoes
from exo_lab.discovery.interfaces import Interface, first_look, interfaces
from exo_lab.discovery.lan import SocketLan
from exo_lab.discovery.loopback import LoopbackRegistry
from exo_lab.discovery.mdns import MdnsDiscovery
from exo_lab.discovery.tailnet import NoTailscale, Tailscale, TailStatus
from exo_lab.discovery.tailscale import CONTROL_PORT, Asks, TailscaleDiscovery
from exo_lab.discovery.udp import UdpDiscovery
from exo_lab.engines import native

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exo_lab.discovery.base import Discovery
    from exo_lab.discovery.lan import Lan
    from exo_lab.node.node import Node

ANSWER_TIMEOUT_S = 3.0


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """One discovery. `announces` says whether it tells others of this node, `active` whether it does so now."""

    name: str
    announces: bool = False
    active: bool = False
    sightings: tuple[Found, ...] = ()
    problems: tuple[str, ...] = ()
    other_clusters: dict[str, str] = {}
    other_versions: dict[str, str] = {}


class KnownPeer(msgspec.Struct, frozen=True, kw_only=True):
    """A peer that this node knows. `started_at` is what its own wall clock said, seconds since the epoch."""

    id: str
    name: str
    liveness: Liveness
    found_by: str = ""
    same_host: bool = False
    started_at: float = 0.0


class Kernels(msgspec.Struct, frozen=True, kw_only=True):
    """Our own kernels. `made`: they are there; `possible`: on such a machine they could be."""

    made: bool = False
    possible: bool = True
    why_not: str = ""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at one moment. `control` is empty if there is no node; `listening` is None if it was not tried."""

    interfaces: tuple[Interface, ...] = ()
    bind: str = "127.0.0.1"
    control: str = ""
    listening: bool | None = None
    echoes: Echoes = Echoes()
    ways: tuple[Way, ...] = ()
    peers: tuple[KnownPeer, ...] = ()
    problems: tuple[str, ...] = ()
    refused: dict[str, int] = {}
    tailscale: TailStatus | NoTailscale | None = None
    tailscale_wanted: bool = False
    tailscale_port: int = CONTROL_PORT
    wall_clock_s: float = 0.0
    kernels: Kernels | None = None  # None: without PyTorch there is nothing to say


def kernels_here() -> Kernels | None:
    """Our own kernels, as far as that takes no time: they are made when a model is loaded first."""
    if importlib.util.find_spec("torch") is None:
        return None
    possible, why_not = native.is_for_this_machine(), native.obstacle()
    if why_not or not native.state.cache_info().currsize:
        return Kernels(possible=possible, why_not=why_not)
    state = native.state()
    return Kernels(made=state.library is not None, why_not=state.why_not)


async def gather(
    node: Node | None,
    bind: str,
    *,
    look: Callable[[], Sequence[Interface]] = interfaces,
    lan: Lan | None = None,
    ask: Asks | None = None,
    wall_clock: Callable[[], float] = time.time,
    kernels: Callable[[], Kernels | None] = kernels_here,
) -> Facts:
    """Look at everything; takes a few seconds at most, and changes nothing. On the node's own loop.

    Args:
        node: this process's; None before it is one.
        bind: the address that it listens on, or shall.
        look: the interfaces of this machine.
        lan: how datagrams travel.
        ask: says who is in the tailnet; asked whether or not Tailscale is used.
        wall_clock: seconds since the epoch.
        kernels: looks at our own kernels; called in a thread.
    """
    ours = await first_look(look)
    control = node.card.control if node is not None else ""
    discoveries = tuple(node.parts.discoveries) if node is not None else ()
    tailscale = next((one for one in discoveries if isinstance(one, TailscaleDiscovery)), None)
    heard, listening, tailnet, made = await asyncio.gather(
        echoes(ours, lan or SocketLan()),
        _listening(node),
        (ask or Tailscale()).status(),
        asyncio.to_thread(kernels),
    )
    return Facts(
        interfaces=ours,
        bind=bind,
        control=control,
        listening=listening,
        echoes=heard,
        ways=tuple(_way(one) for one in discoveries),
        peers=_peers(node) if node is not None else (),
        problems=tuple(node.problems.values()) if node is not None else (),
        refused=node.parts.refused() if node is not None else {},
        tailscale=tailnet,
        tailscale_wanted=tailscale is not None,
        tailscale_port=tailscale.port if tailscale is not None else CONTROL_PORT,
        wall_clock_s=wall_clock(),
        kernels=made,
    )


def _way(one: Discovery) -> Way:
    match one:
        case UdpDiscovery():
            udp = one.stats()
            return Way(
                name=one.name,
                announces=True,
                active=udp.announced > 0 and bool(udp.interfaces),
                sightings=udp.sightings,
                problems=one.problems,
                other_clusters=udp.other_clusters,
                other_versions=udp.other_versions,
            )
        case MdnsDiscovery():
            mdns = one.stats()
            return Way(
                name=one.name,
                announces=True,
                active=mdns.registered,
                sightings=mdns.sightings,
                problems=one.problems,
                other_clusters=mdns.other_clusters,
                other_versions=mdns.other_versions,
            )
        case LoopbackRegistry():
            return Way(name=one.name, problems=one.problems, other_clusters=one.other_clusters)
        case _:
            return Way(name=one.name, problems=one.problems)


def _peers(node: Node) -> tuple[KnownPeer, ...]:
    return tuple(
        KnownPeer(
            id=key,
            name=peer.card.device.name,
            liveness=peer.liveness,
            found_by=peer.found_by,
            same_host=peer.card.host == node.card.host,
            started_at=peer.card.version / 1000,
        )
        for key, peer in sorted(node.members.peers.items())
    )


async def _listening(node: Node | None) -> bool | None:
    """Does this node answer itself at the address that it announces, with the whole handshake?"""
    if node is None:
        return None
    try:
        await node.parts.control.request(node.card.control, Ping(sequence=0), timeout_s=ANSWER_TIMEOUT_S)
    except TransportError:
        return False
    return True
