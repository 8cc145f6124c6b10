"""What a plan is not: devices left out, other strategies, other objectives, and what each would have given. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.errors import PlanError
from exo_lab.planning.choose import STRATEGIES, choose
from exo_lab.planning.cost import Costs, predict
from exo_lab.planning.minimise import minimise
from exo_lab.planning.order_dp import Batch, order_solver
from exo_lab.planning.problem import OBJECTIVES
from exo_lab.planning.shortage import layers_that_fit
from exo_lab.planning.tables import Tables
from exo_lab.planning.text import count_text, seconds_text, size_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_lab.core.device import Device
    from exo_lab.core.plan import Plan
    from exo_lab.planning.problem import Problem

TRIED = 24  # devices left out that are tried in the plan; beyond that it is only said how many there are


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """Something else that was possible. `value_s` is what the objective would be, None if it cannot be."""

    what: str
    value_s: float | None
    why: str

    @property
    def row(self) -> tuple[str, str, str]:
        """For a table."""
        return self.what, "-" if self.value_s is None else seconds_text(self.value_s), self.why


def left_out(problem: Problem, plan: Plan, value: float, names: dict[str, str]) -> Iterator[Rejected]:
    """Why each device of the problem has no layer."""
    others = [device for device in problem.devices if plan.stage_of(device.id) is None]
    for device in others[:TRIED]:
        yield _left_out(problem, plan, device, value, names[device.id])
    if len(others) > TRIED:
        more = len(others) - TRIED
        yield Rejected(what=f"{more} more devices", value_s=None, why=f"{more} more are left out and were not tried.")


def _left_out(problem: Problem, plan: Plan, device: Device, value: float, name: str) -> Rejected:
    devices = [*(problem.device(one) for one in plan.devices), device]
    costs = Costs(problem, devices)
    if not all(costs.links.reachable(device.id, one) for one in plan.devices):
        return Rejected(what=name, value_s=None, why=f"{name} is left out: no chain of links leads to it.")
    if not layers_that_fit(problem, device):
        room = size_text(problem.room_bytes(device))
        return Rejected(what=name, value_s=None, why=f"{name} is left out: {room} hold no layer.")
    if len(devices) > plan.n_layers:
        return Rejected(what=name, value_s=None, why=f"{name} is left out: every layer has a device already.")
    best = _joined(costs, len(plan.devices))
    if best is None:
        return Rejected(what=name, value_s=None, why=f"{name} is left out: with it in this ring nothing fits.")
    change = f"{best / value - 1:+.1%} with it in the best place of this ring"
    helps = ", and would help" if best < value * (1 - 1e-9) else ""
    return Rejected(what=name, value_s=best, why=f"{name} is left out{helps}: {change}.")


def _joined(costs: Costs, place: int) -> float | None:
    """The objective with one device more, at the place of the ring where that is best."""
    import numpy as np

    tables = Tables(costs)
    tables.must = [False] * tables.count
    orders = [(*range(i), place, *range(i, place)) for i in range(place + 1)]
    if tables.peaks:
        found = [minimise(tables, order_solver(tables, order), at_once=8) for order in orders]
        return min((cut.value for cut in found if cut is not None), default=None)
    least = float(Batch(tables, np.array(orders), [tables.windows()]).sums.min())
    return least if least < float("inf") else None


def other_strategies(problem: Problem, plan: Plan, value: float) -> Iterator[Rejected]:
    """What the other strategies would give, by the same objective."""
    costs = Costs(problem, ())
    for strategy in STRATEGIES:
        if strategy in ("manual", plan.strategy):
            continue
        try:
            other = choose(problem, strategy)
        except PlanError as exc:
            yield Rejected(what=strategy, value_s=None, why=f"{strategy}: {exc}")
            continue
        seconds = costs.objective(predict(problem, other))
        same = other.devices == plan.devices and other.shards == plan.shards
        ratio = "the same plan" if same else f"{seconds / value - 1:+.1%}"
        yield Rejected(what=strategy, value_s=seconds, why=f"{strategy} would give {ratio}.")


def other_objectives(problem: Problem) -> Iterator[Rejected]:
    """What the best plan for each other objective would give, in that objective and in this one."""
    costs = Costs(problem, ())
    for objective in OBJECTIVES:
        if objective == problem.objective and problem.mix is None:
            continue
        changed = msgspec.structs.replace(problem, objective=objective, mix=None)
        try:
            other = choose(changed, "optimal")
        except PlanError:
            continue  # then it does not fit for any objective, and that has been said
        made = predict(problem, other)
        yield Rejected(
            what=f"optimal for {objective}",
            value_s=costs.objective(made),
            why=f"Planned for {objective}: {made.tokens_per_s:.3g} tokens/s of one request, "
            f"{made.throughput_per_s:.3g} of many, first token after {seconds_text(made.ttft_s)}, "
            f"on {count_text(len(other.devices), 'device')}.",
        )
