"""Plans of this cluster: what `planning` makes of the devices, links and measurements that a node knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from exo_lab.cluster.catalogue import config_of
from exo_lab.core.status import PlanPreview
from exo_lab.node import planner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.cluster.cluster import Cluster


def preview(
    cluster: Cluster,
    model: str,
    *,
    strategy: str,
    devices: Sequence[str] | None,
    layers: Sequence[int] | None,
    dtype: str,
    engine: str,
    context: int,
    force: bool,
) -> PlanPreview:
    """See `Cluster.plan`."""
    from exo_lab.planning.choose import choose
    from exo_lab.planning.problem import Problem

    config = config_of(model, None)
    topology = cluster.node.topology
    by_name = sorted(topology.devices, key=lambda device: (device.name, device.id))
    chosen = planner.select(by_name, devices)
    listed = devices is not None or layers is not None
    problem = Problem(
        config=config,
        topology=topology,
        order=tuple(device.id for device in chosen) if listed else (),
        context_tokens=context,
        force=force,
    )
    plan = choose(problem, "manual" if layers is not None else strategy, layers)
    plan = msgspec.structs.replace(plan, dtype=dtype, engine=engine)
    return PlanPreview(config=config, plan=plan, devices=topology.devices)
