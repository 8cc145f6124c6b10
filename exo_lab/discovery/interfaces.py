"""The network interfaces of this machine: address, prefix, true broadcast address, and a guess at what they are.

`usable` is pure and takes what the operating system says, in psutil's words; `interfaces` asks for it. Knows nothing of
who is behind an interface.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from exo_lab.core.topology import LinkKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

TAILNET_V4 = ipaddress.ip_network("100.64.0.0/10")  # RFC 6598, which Tailscale takes its addresses from
TAILNET_V6 = ipaddress.ip_network("fd7a:115c:a1e0::/48")
LIMITED_BROADCAST = "255.255.255.255"
WILDCARDS = ("0.0.0.0", "::", "*", "")
ASK_TIMEOUT_S = 2.0
_IS_MACOS = sys.platform == "darwin"

# What a name begins with, tried in this order, lower case. Names of macOS say little: see `parse_hardware_ports`.
_NAMES: tuple[tuple[str, LinkKind], ...] = (
    ("tailscale", "tailscale"),
    ("thunderbolt", "thunderbolt"),
    ("ib", "infiniband"),
    ("infiniband", "infiniband"),
    ("wl", "wifi"),
    ("wi-fi", "wifi"),
    ("wifi", "wifi"),
    ("ath", "wifi"),
    ("wireless", "wifi"),
    ("eth", "ethernet"),
    ("en", "ethernet"),
    ("em", "ethernet"),
    ("veth", "ethernet"),
    ("vethernet", "ethernet"),
    ("br", "ethernet"),
    ("bond", "ethernet"),
    ("docker", "ethernet"),
    ("virbr", "ethernet"),
    ("local area connection", "ethernet"),
)
_PORTS: tuple[tuple[str, LinkKind], ...] = (
    ("wi-fi", "wifi"),
    ("airport", "wifi"),
    ("ethernet", "ethernet"),  # before Thunderbolt: a network card in a Thunderbolt dock is an Ethernet card
    ("thunderbolt", "thunderbolt"),
    ("lan", "ethernet"),
)


class RawAddress(NamedTuple):
    """One address as psutil gives it (`snicaddr`); `family` is a number of `socket`."""

    family: int
    address: str
    netmask: str | None = None
    broadcast: str | None = None
    ptp: str | None = None


class RawState(NamedTuple):
    """An interface's state as psutil gives it. `flags` is comma separated, and empty on Windows."""

    isup: bool
    flags: str = ""


class Interface(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One address of one interface that is up.

    `prefix` is the length of the network part in bits. `broadcast` is empty where the network has none (IPv6, point to
    point, /31 and /32). `multicast` says whether datagrams to a group can go out here.
    """

    name: str
    address: str
    prefix: int
    broadcast: str = ""
    kind: LinkKind = "unknown"
    multicast: bool = True

    @property
    def is_lan(self) -> bool:
        """Can an IPv4 announcement be sent to everybody here?"""
        return ":" not in self.address and self.kind not in ("loopback", "tailscale") and bool(self.broadcast)

    def reaches(self, host: str) -> bool:
        """Is this IP address in the interface's own network? False for what is no address."""
        try:
            network = ipaddress.ip_network(f"{self.address.partition('%')[0]}/{self.prefix}", strict=False)
            return ipaddress.ip_address(host.partition("%")[0]) in network
        except ValueError:
            return False


def usable(
    addresses: Mapping[str, Sequence[RawAddress]],
    states: Mapping[str, RawState],
    hints: Mapping[str, LinkKind] | None = None,
) -> tuple[Interface, ...]:
    """Every IPv4 and IPv6 address of the interfaces that are up, sorted.

    Args:
        addresses: by interface name.
        states: by interface name; an interface without one is taken for up.
        hints: what is known of an interface from elsewhere; goes before what its name says.
    """
    found: list[Interface] = []
    for name, raws in addresses.items():
        state = states.get(name, RawState(isup=True))
        if not state.isup:
            continue
        for raw in raws:
            one = _interface(name, raw, state, (hints or {}).get(name))
            if one is not None:
                found.append(one)
    return tuple(sorted(found))


def _interface(name: str, raw: RawAddress, state: RawState, hint: LinkKind | None) -> Interface | None:
    if raw.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        address = ipaddress.ip_address(raw.address.partition("%")[0])
        network = ipaddress.ip_network(f"{address}/{_prefix(address, raw.netmask)}", strict=False)
    except ValueError:
        return None  # not an address: psutil hands through what the system says
    if address.is_unspecified:
        return None
    flags = state.flags.split(",") if state.flags else []
    kind = _kind(name, address, "loopback" in flags, hint)
    point_to_point = raw.ptp is not None or "pointopoint" in flags or "pointtopoint" in flags
    broadcast = ""
    if address.version == 4 and not point_to_point and kind != "loopback":
        broadcast = _broadcast(network, raw)
    return Interface(
        name=name,
        address=raw.address,
        prefix=network.prefixlen,
        broadcast=broadcast,
        kind=kind,
        multicast=not flags or "multicast" in flags,
    )


def _prefix(address: ipaddress.IPv4Address | ipaddress.IPv6Address, netmask: str | None) -> int:
    """Bits of the network part. Without a netmask the address stands alone: nothing is guessed."""
    if not netmask:
        return address.max_prefixlen
    if netmask.isdigit():
        return int(netmask)
    mask = int(ipaddress.ip_address(netmask.partition("/")[0]))
    return mask.bit_count()


def _broadcast(network: ipaddress.IPv4Network | ipaddress.IPv6Network, raw: RawAddress) -> str:
    # Linux names the address itself where nobody set a broadcast address (`ip addr add` without `brd`).
    if raw.broadcast and raw.broadcast not in (raw.address, "0.0.0.0"):
        return raw.broadcast
    if raw.netmask is None:
        return LIMITED_BROADCAST
    return str(network.broadcast_address) if network.prefixlen < 31 else ""


def _kind(
    name: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address, is_loopback: bool, hint: LinkKind | None
) -> LinkKind:
    if is_loopback or address.is_loopback:
        return "loopback"
    if address in (TAILNET_V4 if address.version == 4 else TAILNET_V6):
        return "tailscale"
    if hint is not None:
        return hint
    low = name.lower()
    for start, kind in _NAMES:
        if low.startswith(start):
            return kind
    return "unknown"


def parse_hardware_ports(text: str) -> dict[str, LinkKind]:
    """What macOS's `networksetup -listallhardwareports` says of each device: {"en0": "wifi", ...}."""
    found: dict[str, LinkKind] = {}
    for port, device in re.findall(r"Hardware Port: *(.+)\nDevice: *(\S+)", text):
        low = port.lower()
        for word, kind in _PORTS:
            if word in low:
                found[device] = kind
                break
    return found


@cache
def _hints_of_macos() -> Mapping[str, LinkKind]:
    try:
        said = subprocess.run(
            ["/usr/sbin/networksetup", "-listallhardwareports"],
            capture_output=True,
            text=True,
            timeout=ASK_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return {}  # names alone must do: a kind is a guess in any case
    return parse_hardware_ports(said.stdout)


def hints(names: Iterable[str]) -> Mapping[str, LinkKind]:
    """What this machine knows of its interfaces beyond their names. May take up to two seconds the first time."""
    if sys.platform == "darwin":
        return _hints_of_macos()
    if sys.platform.startswith("linux"):
        return {name: "wifi" for name in names if Path("/sys/class/net", name, "wireless").is_dir()}
    return {}


def interfaces() -> tuple[Interface, ...]:
    """Every usable interface of this machine, now."""
    import psutil

    addresses = {
        name: [RawAddress(int(one.family), one.address, one.netmask, one.broadcast, one.ptp) for one in ones]
        for name, ones in psutil.net_if_addrs().items()
    }
    states = {
        name: RawState(isup=state.isup, flags=getattr(state, "flags", ""))
        for name, state in psutil.net_if_stats().items()
    }
    return usable(addresses, states, hints(addresses))


async def first_look(look: Callable[[], Sequence[Interface]] = interfaces) -> tuple[Interface, ...]:
    """The interfaces, the first time, without holding up the loop: macOS is asked what its ports are, for a moment."""
    return tuple(await asyncio.to_thread(look) if _IS_MACOS else look())


def path_to(host: str, ours: Sequence[Interface]) -> Interface | None:
    """The interface whose own network an address is in, the narrowest network first; None if there is none."""
    reaching = [one for one in ours if one.reaches(host)]
    return max(reaching, key=lambda one: one.prefix, default=None)


def kind_of(host: str, ours: Sequence[Interface]) -> LinkKind:
    """What kind of link leads to an IP address: `loopback` if it is this machine's own, `unknown` if nothing says."""
    bare = host.strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return "loopback" if host == "localhost" else "unknown"
    if address.is_loopback or any(one.address.partition("%")[0] == bare for one in ours):
        return "loopback"
    if address in (TAILNET_V4 if address.version == 4 else TAILNET_V6):
        return "tailscale"
    path = path_to(bare, ours)
    return "unknown" if path is None else path.kind


def reachable(ours: Sequence[Interface], bind: str) -> tuple[Interface, ...]:
    """The interfaces on whose LAN others can reach a port that listens on `bind`."""
    bare = bind.strip("[]")
    return tuple(one for one in ours if one.is_lan and (bare in WILDCARDS or bare == one.address))


def why_unreachable(ours: Sequence[Interface], bind: str) -> str:
    """Why nobody on a LAN can reach a port that listens on `bind`, and what to do; empty if somebody can."""
    if reachable(ours, bind):
        return ""
    if kind_of(bind, ()) == "loopback":
        return (
            f"this node listens on {bind} only, so it is not announced on the network. Connect with --lan to be found "
            "by other machines."
        )
    others = ", ".join(f"{one.address} ({one.name})" for one in ours if one.is_lan)
    if others:
        return f"no LAN interface has the address {bind}, which this node listens on. Use --lan, or one of {others}."
    return "no network interface is up that others could be found on. Check the cable or the Wi-Fi."
