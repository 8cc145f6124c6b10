"""Commands of the shell among the nodes: members for as long as they take, without layers, and no part of a cluster.

They are told by their names. Who holds layers is a node, whatever its name. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exo_lab.core.device import Device
    from exo_lab.core.status import LoadedModel, NodeStatus

_NAME = re.compile(r"shell-\d+")


def visitor_name(process: int) -> str:
    """What a command of that process id is called."""
    return f"shell-{process}"


def visitors(devices: Iterable[Device], models: Sequence[LoadedModel] = ()) -> frozenset[str]:
    """The ids of those that are commands of a shell."""
    holding = {device for model in models for device in model.plan.devices}
    return frozenset(one.id for one in devices if _NAME.fullmatch(one.name) and one.id not in holding)


def residents(nodes: Iterable[NodeStatus], models: Sequence[LoadedModel] = ()) -> tuple[NodeStatus, ...]:
    """The nodes without commands of a shell, whether they are still there or not."""
    nodes = tuple(nodes)
    gone = visitors((node.device for node in nodes), models)
    return tuple(node for node in nodes if node.device.id not in gone)
