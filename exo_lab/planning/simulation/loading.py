"""How long devices read the weights that a new plan gives them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from exo_lab.core.plan import Plan
    from exo_lab.planning.problem import Problem


def loading_s(
    problem: Problem, before: Plan, plan: Plan, bytes_per_s: float, empty: AbstractSet[str]
) -> dict[str, float]:
    """Seconds by device id, of those that must read something: what they hold already is not read again.

    Those in `empty` hold nothing, whatever the plan before says.
    """
    found: dict[str, float] = {}
    for device, shard in zip(plan.devices, plan.shards, strict=True):
        was = None if device in empty else before.stage_of(device)
        old = None if was is None else before.shards[was]
        held = range(0) if old is None else range(old.start, old.end)
        config = problem.config
        size = (
            sum(config.layer_bytes[layer] for layer in range(shard.start, shard.end) if layer not in held)
            if config.layer_bytes
            else 0
        )
        if shard.start == 0 and 0 not in held:
            size += config.embedding_bytes
        if shard.end == config.n_layers and config.n_layers - 1 not in held:
            size += config.head_bytes
        if size:
            found[device] = size / bytes_per_s
    return found
