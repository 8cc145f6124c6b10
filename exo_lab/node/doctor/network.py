"""The steps between machines: discovery, silence, the first connection, Tailscale. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.discovery.announcement import port_of
from exo_lab.discovery.lan import PORT as UDP_PORT
from exo_lab.discovery.tailnet import NoTailscale, TailStatus
from exo_lab.node.doctor.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_lab.node.doctor.facts import Facts


def ways(facts: Facts) -> Iterator[Finding]:
    """What each discovery says."""
    if not facts.control:
        return
    if not facts.ways:
        yield Finding(
            step="discovery",
            verdict="warn",
            seen="no discovery is on: this node is known to whom it is told",
            do="Connect with --discovery udp,mdns, or give the others this node's address with --peers.",
        )
    for one in facts.ways:
        for problem in one.problems:
            yield Finding(step="discovery", verdict="fail", seen=f"{one.name}: {problem}")
        if not one.problems:
            count = len({found.device_id or found.address for found in one.sightings})
            said = f"{one.name} announces this node and sees {count} others" if one.announces else f"{one.name} is on"
            if one.announces and not one.active:
                yield Finding(
                    step="discovery",
                    verdict="warn",
                    seen=f"{one.name} has not announced this node yet",
                    do="It takes a second or two after the start. If it stays like this, look at the steps above.",
                )
            else:
                yield Finding(step="discovery", verdict="ok", seen=said)


def silence(facts: Facts) -> Iterator[Finding]:
    """Announcements go out, none comes in, and yet somebody is there: the network swallows them."""
    announcing = [one for one in facts.ways if one.announces and one.active]
    if not announcing or any(one.sightings or one.other_clusters or one.other_versions for one in announcing):
        return  # who is heard and is not one of us is the business of other steps
    elsewhere = [peer for peer in facts.peers if peer.liveness != "lost" and not peer.same_host]
    names = " and ".join(one.name for one in announcing)
    if elsewhere:
        who = ", ".join(f"{peer.name} ({peer.found_by})" for peer in elsewhere[:4])
        yield Finding(
            step="silence",
            verdict="warn",
            seen=f"{names} hear nobody, although there is {who}",
            do=f"Something drops multicast and broadcast: a firewall on either machine (UDP {UDP_PORT} and 5353), a "
            "guest Wi-Fi that keeps its clients apart, or a switch with IGMP snooping. A peers file needs neither.",
        )
    else:
        yield Finding(
            step="silence",
            verdict="warn",
            seen=f"{names} hear nobody",
            do="Is another node running on this network, with --lan and the same token? If so: see docs/discovery.md, "
            "and try --peers with its address.",
        )


def unmet(facts: Facts) -> Iterator[Finding]:
    """Seen and not met: the datagrams arrive and the connection does not."""
    met = {peer.id for peer in facts.peers if peer.liveness != "lost"}
    told: set[str] = set()
    for one in facts.ways:
        for found in one.sightings:
            if found.device_id in met or found.device_id in told or not found.device_id:
                continue
            told.add(found.device_id)
            why = next((problem for problem in facts.problems if found.address in problem), "")
            yield Finding(
                step="handshake",
                verdict="fail",
                seen=f"{found.name} announces itself at {found.address} ({found.source}) and is not in the cluster",
                do=(f"{why} " if why else "")
                + f"If it stays so, a firewall there blocks TCP ports {port_of(found.address)} and the next one.",
            )
    if met:
        yield Finding(step="handshake", verdict="ok", seen=f"{len(met)} other nodes are in the cluster")


def tailscale(facts: Facts) -> Iterator[Finding]:
    """What Tailscale says."""
    match facts.tailscale:
        case NoTailscale(why=why, is_absent=is_absent):
            if facts.tailscale_wanted:
                yield Finding(step="tailscale", verdict="fail", seen="it is not there", do=why)
            elif not is_absent:
                yield Finding(step="tailscale", verdict="warn", seen="it is installed and does not answer", do=why)
        case TailStatus() as status:
            yield from _tailnet(facts, status)
        case _:
            return


def _tailnet(facts: Facts, status: TailStatus) -> Iterator[Finding]:
    online = sum(peer.online for peer in status.peers)
    if status.state != "Running":
        yield Finding(
            step="tailscale",
            verdict="fail" if facts.tailscale_wanted else "ok",
            seen=f"installed; its state is {status.state}",
            do="Run tailscale up." if facts.tailscale_wanted else "",
        )
        return
    use = "" if facts.tailscale_wanted else "; to use it: --discovery tailscale"
    seen = f"running as {status.address}, {online} of {len(status.peers)} machines online{use}"
    yield Finding(step="tailscale", verdict="ok", seen=seen)
    for said in status.health[:4]:
        yield Finding(step="tailscale", verdict="warn", seen=said, do="Tailscale says so itself; see tailscale status.")
    if facts.tailscale_wanted and facts.control and port_of(facts.control) != facts.tailscale_port:
        yield Finding(
            step="tailscale",
            verdict="fail",
            seen=f"this node listens on port {port_of(facts.control)}, and is looked for on {facts.tailscale_port}",
            do=f"Connect with --port {facts.tailscale_port}, here and on the others.",
        )
