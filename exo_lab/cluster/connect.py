"""This process's node: one at most, made by `connect()`."""

from __future__ import annotations

import atexit
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from exo_lab.cluster.cluster import Cluster
from exo_lab.core.emulated_link import EmulatedLink, parse_link
from exo_lab.core.errors import NotConnected
from exo_lab.core.watching import watching_of
from exo_lab.node.parts import NodeOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.watching import Watching

_lock = threading.Lock()
_current: Cluster | None = None


@atexit.register
def _leave() -> None:
    """The interpreter ends: say goodbye to the others."""
    if _current is not None:
        _current.close()


def connect(
    name: str | None = None,
    *,
    lan: bool = False,
    bind: str | None = None,
    port: int = 0,
    peers: str | Path | Sequence[str] | None = None,
    discovery: Sequence[str] | None = None,
    token: str | None = None,
    memory: int = 0,
    slow: float = 1.0,
    threads: int = 0,
    engine: str = "auto",
    rebalance: str = "ask",
    power: str = "auto",
    sensors: str | None = None,
    thresholds: str | None = None,
    emulate_link: str | EmulatedLink | None = None,
    visits: bool = False,
) -> Cluster:
    """Make this process a node and return its view of the cluster. A process is one node: a second call returns it.

    Args:
        name: what the node is called; the machine's name if None.
        lan: listen on every interface, not only on this machine's own.
        bind: the address to listen on; overrides `lan`.
        port: control port (the data port is the next one); any free ones if 0.
        peers: a peers file (TOML), or control endpoints `tcp://host:port`.
        discovery: ways of finding others: "loopback", "udp", "mdns", "tailscale". If None: on this machine, and on the
            LAN too if the node listens there.
        token: the cluster's secret; `EXO_LAB_TOKEN`, or this user's own, if None.
        memory: emulate a device with so many bytes.
        slow: emulate a device that is slower by this factor.
        threads: CPU threads for computing; what the engine chooses if 0.
        engine: "auto", "torch", "numpy".
        rebalance: what to do when nodes come, go or change pace and another plan is better: "auto" loads it, "ask"
            says what it would give, "never". Also `Cluster.rebalance`.
        power: "low" pings and measures seldom, and the others ping this node seldom, so that a loss is noticed later;
            "normal"; "auto" is low if this machine runs on its battery now.
        sensors: seconds between readings, `compute=5,memory=3,network=1,device=10` (these are the defaults; 0: never),
            or "off". What is not named is as in `EXO_LAB_SENSORS`.
        thresholds: above which there is an alert, `compute=90,memory=85,latency=100,temperature=80` (percent, percent,
            ms, degrees Celsius; 0: no alert). What is not named is as in `EXO_LAB_THRESHOLDS`.
        emulate_link: emulate a slower network between this node and all others, such as "20ms,100Mbit": each way, for
            what answers are made of. Pings, loading and plans are not slowed.
        visits: be a member only to ask and to look: nobody plans on this node, and it holds no layers.

    Raises:
        ConfigError: an option is wrong.
        TransportError: the address cannot be listened on.
    """
    global _current
    from exo_lab.node.build import default_discoveries
    from exo_lab.transport.keys import check_token, load_or_create_token

    listen = bind or ("0.0.0.0" if lan else "127.0.0.1")
    options = NodeOptions(
        name=name or "",
        bind=listen,
        port=port,
        peers_file=str(peers) if isinstance(peers, str | Path) else "",
        peers=tuple(peers) if peers is not None and not isinstance(peers, str | Path) else (),
        discovery=tuple(discovery) if discovery is not None else default_discoveries(listen),
        memory_bytes=memory,
        slowdown=slow,
        threads=threads,
        engine=engine,
        rebalance=rebalance,
        power=power,
        watching=_watching(sensors or "", thresholds or ""),
        visits=visits,
        link=parse_link(emulate_link) if isinstance(emulate_link, str) else emulate_link,
    )
    with _lock:
        if _current is not None and not _current.closed:
            return _current
        secret = load_or_create_token() if token is None else check_token(token)
        _current = Cluster(options, secret)
        return _current


def _watching(sensors: str, thresholds: str) -> Watching:
    """The user's settings on top of those of the environment. ConfigError if one of them is wrong."""
    base = watching_of(os.environ.get("EXO_LAB_SENSORS", ""), os.environ.get("EXO_LAB_THRESHOLDS", ""))
    return watching_of(sensors, thresholds, base)


def current() -> Cluster | None:
    """This process's cluster; None if it is no node."""
    return None if _current is None or _current.closed else _current


def require() -> Cluster:
    """This process's cluster. NotConnected if it is no node."""
    found = current()
    if found is None:
        raise NotConnected("this kernel is not a node yet. Run %exo connect (or exo_lab.connect()) first.")
    return found
