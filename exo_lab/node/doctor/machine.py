"""The steps that concern this machine alone: interfaces, address, port, datagrams, clock. Pure."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from exo_lab.discovery.announcement import port_of
from exo_lab.discovery.interfaces import WILDCARDS, kind_of, reachable, why_unreachable
from exo_lab.discovery.lan import PORT as UDP_PORT
from exo_lab.node.doctor.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_lab.node.doctor.facts import Facts

CLOCK_AHEAD_S = 60.0


def interfaces(facts: Facts) -> Iterator[Finding]:
    """The interfaces that others could find this node on."""
    lans = [one for one in facts.interfaces if one.is_lan]
    if not lans:
        others = ", ".join(sorted({one.name for one in facts.interfaces})) or "none at all"
        yield Finding(
            step="interfaces",
            verdict="warn",
            seen=f"no LAN interface is up (there is {others})",
            do="Check the cable or the Wi-Fi. Nodes on this machine find each other without one.",
        )
        return
    said = "; ".join(f"{one.name} {one.address}/{one.prefix} ({one.kind}, to {one.broadcast})" for one in lans)
    yield Finding(step="interfaces", verdict="ok", seen=said)


def address(facts: Facts) -> Iterator[Finding]:
    """What the node listens on."""
    if kind_of(facts.bind, ()) == "loopback":
        yield Finding(
            step="address",
            verdict="warn",
            seen=f"listens on {facts.bind}: nodes of this machine only",
            do="To let other machines in, connect with --lan (or --bind ADDRESS).",
        )
    elif reachable(facts.interfaces, facts.bind):
        where = "every interface" if facts.bind.strip("[]") in WILDCARDS else facts.bind
        yield Finding(step="address", verdict="ok", seen=f"listens on {where}")
    elif facts.bind.strip("[]") in WILDCARDS:
        yield Finding(step="address", verdict="warn", seen="listens on every interface, and no LAN interface is up")
    else:
        yield Finding(
            step="address",
            verdict="fail",
            seen=f"listens on {facts.bind}",
            do=why_unreachable(facts.interfaces, facts.bind),
        )


def port(facts: Facts) -> Iterator[Finding]:
    """Does the port answer?"""
    if not facts.control:
        yield Finding(
            step="port",
            verdict="warn",
            seen="this process is no node, so nothing listens",
            do="Run %exo connect (or exo-lab node) first; the steps below are about this machine only.",
        )
    elif facts.listening is False:
        yield Finding(
            step="port",
            verdict="fail",
            seen=f"{facts.control} does not answer, although this node listens there",
            do=f"A firewall of this machine, most likely: allow TCP ports {port_of(facts.control)} and the next one.",
        )
    elif facts.listening:
        yield Finding(step="port", verdict="ok", seen=f"{facts.control} answers this machine")


def echoes(facts: Facts) -> Iterator[Finding]:
    """Do datagrams leave and come back?"""
    for problem in facts.echoes.problems:
        yield Finding(step="datagrams", verdict="fail", seen=problem, do=f"UDP port {UDP_PORT} must be free or shared.")
    for one in facts.echoes.echoes:
        ways = {"multicast": one.multicast, "broadcast": one.broadcast}
        tried = {way: came for way, came in ways.items() if came is not None}
        lost = [way for way, came in tried.items() if not came]
        where = f"{one.interface} ({one.address})"
        if not lost:
            yield Finding(
                step="datagrams", verdict="ok", seen=f"{' and '.join(tried)} on {where} come back to this machine"
            )
            continue
        yield Finding(
            step="datagrams",
            verdict="warn" if len(lost) < len(tried) else "fail",
            seen=f"{' and '.join(lost)} on {where} did not come back",
            do=f"A firewall of this machine, most likely: allow UDP port {UDP_PORT} and, for mDNS, 5353 in and out.",
        )


def clocks(facts: Facts) -> Iterator[Finding]:
    """For information: nothing here depends on wall clocks, but logs and records are hard to compare."""
    ahead = [peer for peer in facts.peers if peer.started_at - facts.wall_clock_s > CLOCK_AHEAD_S]
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(facts.wall_clock_s))
    if ahead:
        who = ", ".join(f"{peer.name} by {peer.started_at - facts.wall_clock_s:.0f} s or more" for peer in ahead[:4])
        yield Finding(
            step="clock",
            verdict="warn",
            seen=f"it is {now} here; ahead of that: {who}",
            do="Nodes work all the same. Set the clocks (NTP), so that logs can be compared.",
        )
    else:
        yield Finding(step="clock", verdict="ok", seen=f"{now}; nodes do not depend on it")


def kernels(facts: Facts) -> Iterator[Finding]:
    """Do quantised models run through our own kernels, as quick as they can?"""
    found = facts.kernels
    if found is None:
        return
    slower = "quantised models run with PyTorch's operators, which is slower"
    if not found.possible:
        yield Finding(step="kernels", verdict="ok", seen=f"{found.why_not}: {slower}")
    elif found.why_not:
        yield Finding(
            step="kernels",
            verdict="warn",
            seen=f"{found.why_not}: {slower}",
            do="Mend that, if it matters, and restart the kernel; answers are right without.",
        )
    else:
        when = "are in use for quantised models" if found.made else "are compiled when a model is loaded first"
        yield Finding(step="kernels", verdict="ok", seen=f"our own kernels {when}")
