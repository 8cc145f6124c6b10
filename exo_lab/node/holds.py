"""Shards that a node holds, by the plan they belong to. Built on the control side, used by the data thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from exo_lab.core.model import ModelConfig
    from exo_lab.core.plan import Plan
    from exo_lab.engines.base import Engine
    from exo_lab.node.pace import Meter


class PlanKey(NamedTuple):
    """Names one plan of one model."""

    model: str
    epoch: int
    proposer: str


def key_of(plan: Plan) -> PlanKey:
    """The key of a plan."""
    return PlanKey(plan.model, plan.epoch, plan.proposer)


class Hold:
    """A loaded stage: the engine belongs to the data thread from `install` on."""

    __slots__ = ("config", "engine", "meter", "plan", "stage")

    def __init__(self, plan: Plan, stage: int, engine: Engine, config: ModelConfig, meter: Meter) -> None:
        self.plan, self.stage, self.engine, self.config, self.meter = plan, stage, engine, config, meter

    @property
    def key(self) -> PlanKey:
        """The plan it belongs to."""
        return key_of(self.plan)

    @property
    def is_last(self) -> bool:
        """Does this stage choose tokens?"""
        return self.stage == len(self.plan.devices) - 1
