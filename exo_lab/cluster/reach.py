"""A command of the shell may be connected to a part of a cluster only. What it does then must not undo the rest.

To it, a node on the other side of a door that it did not knock at looks like one that is gone: it would plan anew over
those that it sees, and so take layers from a node that answers everybody else. It asks those whom it sees. A node that
none of them sees is gone; with that, commands deal as every node does.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from exo_lab.core.errors import NodeError
from exo_lab.node import planner

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exo_lab.cluster.models import Models
    from exo_lab.core.device import Device

MEET_S = 2.0  # who joined just now may be on its way to us
LOOK_S = 0.1


def check_reach(cluster: Models, why: str, needed: Iterable[str] | None = None) -> None:
    """See that a node that only visits is connected to those that it needs. Any other node may go on at once.

    Args:
        cluster: this process's.
        why: what they are needed for, as a sentence's end.
        needed: ids or names; None: every node of the cluster.

    Raises:
        NodeError: others see a node that this one is not connected to; names it, and the options that help.
    """
    if not cluster.node.device.visits:
        return
    wanted, deadline = None if needed is None else frozenset(needed), time.monotonic() + MEET_S
    while missing := _missing(cluster, wanted):
        if time.monotonic() >= deadline:
            names = ", ".join(sorted(device.name for device in missing))
            raise NodeError(
                f"this command is not connected to {names}, seen by other nodes of the cluster: {why}. Say where to "
                "look: --lan for other machines, --peers tcp://HOST:PORT where an address is known, --discovery "
                "tailscale on a tailnet; --wait looks longer. `%exo doctor` with the same options says what is in the "
                "way."
            )
        time.sleep(LOOK_S)


def _missing(cluster: Models, wanted: frozenset[str] | None) -> list[Device]:
    """Nodes that others see and this one does not."""
    met = planner.residents(cluster.node)
    if wanted is not None and wanted <= met:
        return []
    return [
        device
        for device in cluster.collected().residents.devices
        if device.id not in met and (wanted is None or {device.id, device.name} & wanted)
    ]
