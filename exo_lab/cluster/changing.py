"""Changing a plan that is in use: layers move, and running generations go along."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.core.status import LoadedModel
from exo_lab.node import planner
from exo_lab.node.moves import layers_of, moved

if TYPE_CHECKING:
    from exo_lab.cluster.models import Models
    from exo_lab.core.messages import ModelRef
    from exo_lab.core.plan import Plan
    from exo_lab.node.planner import PlanProgress


def planned_move(cluster: Models, layers: str | tuple[int, int], node: str, old: Plan) -> Plan:
    """See `Cluster.move`."""
    (device,) = planner.select(cluster.node.topology.residents.devices, (node,))
    start, end = layers_of(layers) if isinstance(layers, str) else layers
    return moved(old, start, end, device.id)


async def change(
    cluster: Models, loaded: LoadedModel, plan: Plan, model: ModelRef, why: str, progress: PlanProgress | None
) -> LoadedModel:
    """Load another plan and take along what runs."""
    cluster.node.recovery.shapes[model.digest] = loaded.config
    made = await cluster.node.recovery.change(loaded.plan, plan, model, why, progress)
    return LoadedModel(config=loaded.config, plan=made)
