"""Why do nodes not find each other? Walks from the cable to the handshake and says at each step what was seen.

`facts.gather` looks; `examine` is pure: facts in, findings out. A finding that is not well says what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exo_lab.node.doctor import machine, network, trust
from exo_lab.node.doctor.facts import Facts, gather
from exo_lab.node.doctor.finding import Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from exo_lab.node.node import Node

STEPS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    machine.interfaces,
    machine.address,
    machine.port,
    machine.echoes,
    network.ways,
    network.silence,
    network.unmet,
    trust.keys,
    trust.versions,
    trust.identity,
    machine.clocks,
    network.tailscale,
    machine.kernels,
)


async def doctor(node: Node | None, bind: str, **edges: Any) -> tuple[Finding, ...]:
    """Look and judge. On the node's own loop; takes a few seconds at most. `edges` are those of `facts.gather`."""
    return examine(await gather(node, bind, **edges))


def examine(facts: Facts) -> tuple[Finding, ...]:
    """The findings of every step, in the order in which a connection comes about."""
    return tuple(finding for step in STEPS for finding in step(facts))


def rows(findings: Iterable[Finding]) -> list[tuple[str, str, str, str]]:
    """The findings as rows of text: verdict, step, what was seen, what to do."""
    return [(one.verdict, one.step, one.seen, one.do) for one in findings]


__all__ = ["Facts", "Finding", "STEPS", "Verdict", "doctor", "examine", "gather", "rows"]
