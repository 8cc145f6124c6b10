"""Shards that a node holds, by the plan they belong to. Built on the control side, used by the data thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from exo_lab.node.guessing import Costs

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


class _Users:
    """How many shards use an engine. Any thread."""

    def __init__(self) -> None:
        self._count, self._lock = 1, threading.Lock()

    def one_more(self) -> bool:
        """False if nobody uses it any more."""
        with self._lock:
            self._count += self._count > 0
            return self._count > 0

    def one_less(self) -> bool:
        """True if that was the last one."""
        with self._lock:
            self._count -= 1
            return self._count == 0


class Hold:
    """A loaded stage: the engine belongs to the data thread from `install` on.

    Plans that give a node the same layers share its engine; `close` frees it with the last of them.
    """

    __slots__ = ("_users", "config", "costs", "engine", "meter", "plan", "stage")

    def __init__(
        self, plan: Plan, stage: int, engine: Engine, config: ModelConfig, meter: Meter, users: _Users | None = None
    ) -> None:
        self.plan, self.stage, self.engine, self.config, self.meter = plan, stage, engine, config, meter
        self._users = users or _Users()
        self.costs = Costs(together=engine.info.together > 1)

    def for_plan(self, plan: Plan, stage: int, digest: str) -> Hold | None:
        """The same engine for another plan of the same weights; None if it is not the same shard, or closed."""
        if _what(self.plan, self.stage, self.config.digest) != _what(plan, stage, digest) or not self._users.one_more():
            return None
        return Hold(plan, stage, self.engine, self.config, self.meter, self._users)

    def close(self) -> None:
        """This plan does not need the engine any more. Once."""
        if self._users.one_less():
            self.engine.close()

    @property
    def key(self) -> PlanKey:
        """The plan it belongs to."""
        return key_of(self.plan)

    @property
    def is_last(self) -> bool:
        """Does this stage choose tokens?"""
        return self.stage == len(self.plan.devices) - 1


def _what(plan: Plan, stage: int, digest: str) -> tuple[object, ...]:
    """What an engine holds and does for a stage."""
    return plan.shards[stage], plan.roundings_within(stage), plan.dtype, plan.engine, digest
