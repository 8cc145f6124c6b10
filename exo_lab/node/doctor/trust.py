"""The steps about agreement: keys, versions, identities. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.core.messages import PROTOCOL_VERSION
from exo_lab.node.doctor.finding import Finding
from exo_lab.transport.zap import HANDSHAKE, WRONG_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_lab.node.doctor.facts import Facts

PROTOCOL = "protocol version"  # the transport's reason for frames of another version


def keys(facts: Facts) -> Iterator[Finding]:
    """Who was met with another token."""
    # Several discoveries see the same nodes at other addresses: each name is enough once.
    others: dict[str, str] = {}
    for one in facts.ways:
        for host, name in sorted(one.other_clusters.items()):
            others.setdefault(name or host, f"{name or 'a node'} at {host}")
    knocks = {reason: facts.refused[reason] for reason in (WRONG_KEY, HANDSHAKE) if facts.refused.get(reason)}
    if others:
        who = ", ".join(list(others.values())[:4])
        yield Finding(
            step="keys",
            verdict="warn",
            seen=f"another cluster is near: {who}",
            do="If these shall be yours, give them this cluster's token (exo-lab token, on both) and start them again.",
        )
    if knocks:
        said = ", ".join(f"{count} x {reason}" for reason, count in sorted(knocks.items()))
        yield Finding(
            step="keys",
            verdict="warn",
            seen=f"turned away at the door: {said}",
            do="Somebody without this cluster's token tried to join, or scanned the port. Compare the fingerprints "
            "that exo-lab token prints on both machines.",
        )
    if facts.control and not others and not knocks:
        yield Finding(step="keys", verdict="ok", seen="nobody with another token was met")


def versions(facts: Facts) -> Iterator[Finding]:
    """Who speaks another protocol."""
    others = {host: said for one in facts.ways for host, said in one.other_versions.items()}
    frames = facts.refused.get(PROTOCOL, 0)
    if others or frames:
        said = [f"{host}: {what or 'another version'}" for host, what in sorted(others.items())[:4]]
        said += [f"{frames} frames of another protocol version"] if frames else []
        yield Finding(
            step="version",
            verdict="fail",
            seen="; ".join(said),
            do=f"Install the same exo_lab everywhere; here it speaks protocol {PROTOCOL_VERSION}.",
        )
    else:
        yield Finding(step="version", verdict="ok", seen=f"protocol {PROTOCOL_VERSION}, and nobody speaks another")


def identity(facts: Facts) -> Iterator[Finding]:
    """Two nodes with one id."""
    told = [problem for one in facts.ways for problem in one.problems if "identity file" in problem]
    if told:
        yield Finding(
            step="identity",
            verdict="fail",
            seen="two nodes have one id",
            do="Delete the copied identity file on one of the machines and start that node again.",
        )
    elif facts.control:
        yield Finding(step="identity", verdict="ok", seen="every id is used by one node")
