"""What every socket of ours has in common: bounds, keep-alives, binding, connecting."""

from __future__ import annotations

import ipaddress
import re
import socket as plain
from typing import Any

import psutil
import zmq

from exo_lab.core.errors import PeerUnreachable, TransportError

HANDSHAKE_MS = 5_000
HEARTBEAT_EVERY_MS = 2_000
HEARTBEAT_TIMEOUT_MS = 8_000
RECONNECT_MS = 100
RECONNECT_MAX_MS = 2_000
ENCRYPTION_BYTES = 1_024  # what CURVE adds to a part, and more

_ENDPOINT = re.compile(r"tcp://(\[[0-9A-Fa-f:.%\w]+\]|[A-Za-z0-9._-]+):(\d{1,5})")


def tune(socket: zmq.Socket[Any], *, high_water_mark: int, max_part_bytes: int) -> None:
    """Bound a socket's queues (in messages) and parts (in bytes), and have it notice dead peers."""
    for option, value in (
        (zmq.LINGER, 0),
        (zmq.SNDHWM, high_water_mark),
        (zmq.RCVHWM, high_water_mark),
        (zmq.MAXMSGSIZE, max_part_bytes + ENCRYPTION_BYTES),
        (zmq.TCP_KEEPALIVE, 1),
        (zmq.HANDSHAKE_IVL, HANDSHAKE_MS),
        (zmq.HEARTBEAT_IVL, HEARTBEAT_EVERY_MS),
        (zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS),
        (zmq.RECONNECT_IVL, RECONNECT_MS),
        (zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS),
    ):
        socket.setsockopt(option, value)


def bind(socket: zmq.Socket[Any], host: str, port: int = 0) -> str:
    """Listen, and return the IP address and port for others. Port 0: any free one.

    Raises:
        TransportError: the host is not one of this machine's, or the port is taken.
    """
    bare = host.strip("[]")
    if ":" in bare:
        socket.setsockopt(zmq.IPV6, 1)
        host = f"[{bare}]"
    try:
        socket.bind(f"tcp://{host}:{port or '*'}")
    except zmq.ZMQError as exc:
        raise TransportError(
            f"cannot listen on {host} port {port or 'any'}: {exc}. Give an address of this machine and a free port."
        ) from exc
    chosen = socket.getsockopt(zmq.LAST_ENDPOINT)
    text = (chosen.decode() if isinstance(chosen, bytes) else str(chosen)).rstrip("\0").removeprefix("tcp://")
    address, _, chosen_port = text.rpartition(":")
    return f"tcp://{_advertised(address.strip('[]'))}:{chosen_port}"


def connect(socket: zmq.Socket[Any], address: str) -> None:
    """Begin to connect; ZeroMQ goes on trying.

    Names are refused, but for `localhost`: ZeroMQ looks them up in the thread that carries every connection of this
    node, and any peer may write one in its card.

    Raises:
        PeerUnreachable: the address is not `tcp://host:port` with an IP address as the host.
    """
    match = _ENDPOINT.fullmatch(address)
    # Anything but tcp is refused: an address comes from a peer, and inproc: or ipc: would reach into this machine.
    if match is None or not 0 < int(match[2]) < 65536:
        raise PeerUnreachable(f"{address[:200]!r} is not an address of the form tcp://host:port")
    host = match[1] if match[1] != "localhost" else "127.0.0.1"
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError as exc:
        raise PeerUnreachable(
            f"{address[:200]} names its machine; nodes connect to IP addresses only. Is it exo_lab that runs there? It "
            "announces addresses; in a peers file and after --peers names are looked up."
        ) from exc
    if host.startswith("["):
        socket.setsockopt(zmq.IPV6, 1)
    try:
        socket.connect(f"tcp://{host}:{match[2]}")
    except zmq.ZMQError as exc:
        raise PeerUnreachable(f"cannot connect to {address}: {exc}") from exc


def no_socket(address: str, exc: zmq.ZMQError) -> PeerUnreachable:
    """What it means that no socket could be opened for an address."""
    return PeerUnreachable(
        f"no connection to {address} can be opened: {exc}. If too many files are open, close some or raise the limit "
        "(ulimit -n)."
    )


def _of_some_interface(family: int, fallback: str) -> str:
    """An address of an interface that is up and not loopback; `fallback` if there is none."""
    states = psutil.net_if_stats()
    found = [
        ipaddress.ip_address(one.address)
        for name, ones in psutil.net_if_addrs().items()
        for one in ones
        if one.family == family and "%" not in one.address and name in states and states[name].isup
    ]
    outward = [one for one in found if not (one.is_loopback or one.is_unspecified)]
    # Link-local ones last: they are only reached from the same cable.
    return str(min(outward, key=lambda one: (one.is_link_local, str(one)), default=fallback))


def _advertised(host: str) -> str:
    """How others write the address of a listener on an IP address: a wildcard becomes the outward address."""
    parsed = ipaddress.ip_address(host)
    if not parsed.is_unspecified:
        return f"[{host}]" if parsed.version == 6 else host
    family, target, fallback = (
        (plain.AF_INET6, "2001:db8::1", "::1") if parsed.version == 6 else (plain.AF_INET, "192.0.2.1", "127.0.0.1")
    )
    try:
        # Connecting a datagram socket sends nothing; it only asks for the route. The targets are documentation ones.
        with plain.socket(family, plain.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            outward = str(probe.getsockname()[0])
    except OSError:
        outward = _of_some_interface(family, fallback)  # a LAN without a way out has no default route
    return f"[{outward}]" if ":" in outward else outward
