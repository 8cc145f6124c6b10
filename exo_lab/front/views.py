"""Every view by name, and which one shows a given value. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exo_lab.front.generation_view import GenerationView, State
from exo_lab.front.nodes_view import NodesView
from exo_lab.front.plan_view import PlanView
from exo_lab.front.status_view import StatusView
from exo_lab.front.view import View

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exo_lab.core.device import Device
    from exo_lab.core.status import LoadedModel
    from exo_lab.generation import Generation

__all__ = ["GenerationView", "NodesView", "PlanView", "StatusView", "View", "generation_view"]


def generation_view(
    generation: Generation,
    devices: Sequence[Device] = (),
    models: Sequence[LoadedModel] = (),
    *,
    state: State | None = None,
    warnings: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
) -> GenerationView:
    """A generation as it is now. It is not polled: what has arrived and was not taken is not shown."""
    stats = generation.stats
    config = next((model.config for model in models if model.plan.model == stats.model), None)
    return GenerationView(
        generation.text,
        stats,
        devices,
        config=config,
        tokens=generation.tokens,
        state=state,
        error=str(generation.error or ""),
        warnings=warnings,
        metadata=metadata,
    )
