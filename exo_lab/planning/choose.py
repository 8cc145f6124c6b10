"""A plan by strategy name. Deterministic: every node that is given the same problem makes the same plan. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.errors import ConfigError
from exo_lab.planning.strategies import manual, optimal, performance_first, ring_memory_weighted, uniform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.plan import Plan
    from exo_lab.planning.problem import Problem
    from exo_lab.planning.strategies.base import Strategy

_BY_NAME: dict[str, Strategy] = {
    "ring-memory-weighted": ring_memory_weighted.plan,
    "uniform": uniform.plan,
    "performance-first": performance_first.plan,
    "optimal": optimal.plan,
}
STRATEGIES: tuple[str, ...] = (*_BY_NAME, "manual")


def choose(problem: Problem, strategy: str = "ring-memory-weighted", counts: Sequence[int] | None = None) -> Plan:
    """Make a plan, for the problem's context.

    Args:
        problem: what to plan.
        strategy: one of `STRATEGIES`.
        counts: layers per device, for "manual".

    Raises:
        ConfigError: no such strategy, or counts are missing.
        PlanError: it cannot be planned; says what is short by how much.
    """
    if strategy == "manual":
        if counts is None:
            raise ConfigError("strategy 'manual' needs layers, one number for each device")
        made = manual.plan(problem, counts)
    elif strategy in _BY_NAME:
        made = _BY_NAME[strategy](problem)
    else:
        raise ConfigError(f"no strategy {strategy!r}; there are {', '.join(STRATEGIES)}")
    return msgspec.structs.replace(made, context_tokens=problem.context_tokens, chunk=problem.chunk)
