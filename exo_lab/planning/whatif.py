"""What would change if the plan did: tokens a second, time to first token, memory of each device. Pure, and fast.

Fast enough to follow a finger that drags a boundary: nothing is searched, two plans are priced. A change that does not
fit is priced all the same and says what is short; whether to make it is not decided here.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.errors import BadPlan
from exo_lab.core.plan import Plan, plan_from_counts
from exo_lab.planning.cost import Costs, Prediction
from exo_lab.planning.text import size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.planning.problem import Problem


class MoveBoundary(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Stage `boundary` takes so many layers from the stage after it; a negative number gives them."""

    boundary: int
    layers: int = 1


class SetCounts(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """These devices in this ring order with these layers; 0 leaves one out."""

    devices: tuple[str, ...]
    counts: tuple[int, ...]


class LeaveOut(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One device holds nothing; its layers go to the others in proportion to their free memory."""

    device: str


Change = MoveBoundary | SetCounts | LeaveOut


class DeviceChange(msgspec.Struct, frozen=True, kw_only=True):
    """One device before and after; `stage_s` is one decoded token there, None without layers."""

    device: str
    layers_before: int
    layers_after: int
    memory_before_bytes: int
    memory_after_bytes: int
    room_bytes: int
    stage_before_s: float | None = None
    stage_after_s: float | None = None


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """The changed plan with both predictions. `problems` says what is short; empty if it fits."""

    plan: Plan
    before: Prediction
    after: Prediction
    devices: tuple[DeviceChange, ...]
    problems: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Has every device room, and can stages reach each other?"""
        return not self.problems

    @property
    def tokens_per_s_change(self) -> float:
        """After less before, of one request."""
        return self.after.tokens_per_s - self.before.tokens_per_s

    @property
    def ttft_change_s(self) -> float:
        """After less before."""
        return self.after.ttft_s - self.before.ttft_s


def what_if(problem: Problem, plan: Plan, change: Change) -> WhatIf:
    """Price a change.

    Raises:
        BadPlan: the change is none of this plan: no such boundary, layers that do not add up, nobody left.
        ConfigError: a device that the cluster has not.
    """
    changed = changed_plan(problem, plan, change)
    ids = tuple(dict.fromkeys((*plan.devices, *changed.devices)))
    costs = Costs(problem, [problem.device(device) for device in ids])
    place = {device: at for at, device in enumerate(ids)}
    before, after = (
        costs.predict([place[device] for device in one.devices], [shard.start for shard in one.shards] + [one.n_layers])
        for one in (plan, changed)
    )
    devices = tuple(_device(costs, place[device], device, plan, before, changed, after) for device in ids)
    return WhatIf(
        plan=changed, before=before, after=after, devices=devices, problems=tuple(_problems(costs, devices, changed))
    )


def changed_plan(problem: Problem, plan: Plan, change: Change) -> Plan:
    """The plan that a change makes. BadPlan as `what_if`."""
    counts = [len(shard) for shard in plan.shards]
    match change:
        case MoveBoundary(boundary=boundary, layers=layers):
            if not 0 <= boundary < len(counts) - 1:
                raise BadPlan(f"the plan has boundaries 0 to {len(counts) - 2}, there is no {boundary}")
            counts[boundary] += layers
            counts[boundary + 1] -= layers
            if min(counts) < 0:
                raise BadPlan(f"there are not {abs(layers)} layers to move across boundary {boundary}")
            return _plan(plan, plan.devices, counts)
        case SetCounts(devices=devices, counts=given):
            if sum(given) != plan.n_layers:
                raise BadPlan(f"{plan.model} has {plan.n_layers} layers, {list(given)} add up to {sum(given)}")
            return _plan(plan, devices, given)
        case LeaveOut(device=device):
            if device not in plan.devices or len(counts) == 1:
                why = "it is not in the plan" if device not in plan.devices else "nobody else is in the plan"
                raise BadPlan(f"{device} cannot be left out: {why}")
            gone = plan.devices.index(device)
            left = [one for one in range(len(counts)) if one != gone]
            staying = [(problem.device(plan.devices[one]), plan.shards[one]) for one in left]
            spare = [
                max(problem.room_bytes(device) - problem.shard_memory_bytes(device, shard.start, shard.end), 1)
                for device, shard in staying
            ]
            edges = [round(counts[gone] * part / sum(spare)) for part in (0, *itertools.accumulate(spare))]
            more = [after - before for before, after in itertools.pairwise(edges)]
            devices = [plan.devices[one] for one in left]
            return _plan(plan, devices, [counts[one] + extra for one, extra in zip(left, more, strict=True)])


def _plan(plan: Plan, devices: Sequence[str], counts: Sequence[int]) -> Plan:
    made = plan_from_counts(plan.model, tuple(devices), tuple(counts), why=("changed by hand",))
    return msgspec.structs.replace(made, dtype=plan.dtype, engine=plan.engine)


def _device(
    costs: Costs, place: int, device: str, plan: Plan, before: Prediction, changed: Plan, after: Prediction
) -> DeviceChange:
    was, will = plan.stage_of(device), changed.stage_of(device)
    return DeviceChange(
        device=device,
        layers_before=0 if was is None else len(plan.shards[was]),
        layers_after=0 if will is None else len(changed.shards[will]),
        memory_before_bytes=0 if was is None else before.memory_bytes[was],
        memory_after_bytes=0 if will is None else after.memory_bytes[will],
        room_bytes=costs.problem.room_bytes(costs.devices[place]),
        stage_before_s=None if was is None else before.stage_s[was],
        stage_after_s=None if will is None else after.stage_s[will],
    )


def _problems(costs: Costs, devices: Sequence[DeviceChange], changed: Plan) -> list[str]:
    name = {device.id: device.name for device in costs.devices}
    found = [
        f"{name[a]} and {name[b]} do not reach each other: no chain of links joins them"
        for a, b in itertools.pairwise(changed.devices)
        if not costs.links.reachable(a, b)
    ]
    if costs.problem.force:
        return found
    return found + [
        f"{name[one.device]} is {size_text(one.memory_after_bytes - one.room_bytes)} short: {one.layers_after} layers "
        f"need {size_text(one.memory_after_bytes)}, it has {size_text(one.room_bytes)}"
        for one in devices
        if one.memory_after_bytes > one.room_bytes
    ]
