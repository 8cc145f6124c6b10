"""The plan that the cost model says is best: which devices, in which order, with which layers.

Exact for an order that the user gave, and over all orders of up to `EXACT_DEVICES` devices; beyond that a local search
with a reported gap to a lower bound. Never worse, by the cost model, than any other strategy or than one device alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.core.errors import PlanError
from exo_lab.core.plan import Plan, plan_from_counts
from exo_lab.planning.cost import Costs, predict
from exo_lab.planning.order_dp import Cut, Tables, best_cut
from exo_lab.planning.problem import does_not_fit
from exo_lab.planning.search import lower_bound, search
from exo_lab.planning.strategies import performance_first, ring_memory_weighted, uniform
from exo_lab.planning.subset_dp import best_order

if TYPE_CHECKING:
    from exo_lab.planning.problem import Problem

EXACT_DEVICES = 6
_OTHERS = (ring_memory_weighted.plan, performance_first.plan, uniform.plan)


def plan(problem: Problem) -> Plan:
    """See `choose.choose`.

    Raises:
        DoesNotFit: no distribution fits; says what is short by how much.
    """
    devices = sorted(problem.devices, key=lambda device: device.id) if not problem.order else problem.devices
    costs = Costs(problem, devices)
    tables = Tables(costs)
    exact = True
    if problem.order:
        best = best_cut(tables, range(len(devices)), every=len(devices) <= problem.config.n_layers)
    elif len(devices) <= EXACT_DEVICES:
        best = best_order(tables)
    else:
        exact = False
        best = _better(costs, search(costs, tables), problem)
    if best is None:
        raise does_not_fit(problem)
    counts = tuple(end - start for start, end in zip(best.cuts, best.cuts[1:], strict=False))
    ids = tuple(devices[place].id for place in best.places)
    why = _why(costs, best, exact=exact)
    return plan_from_counts(problem.config.name, ids, counts, strategy="optimal", why=why)


def _better(costs: Costs, found: Cut | None, problem: Problem) -> Cut | None:
    """What was found, or another strategy's plan if that is better: the search is no proof."""
    places = {device.id: place for place, device in enumerate(costs.devices)}
    for other in _OTHERS:
        try:
            made = other(problem)
        except PlanError:
            continue
        value = costs.objective(predict(problem, made))
        if found is None or value < found.value * (1 - 1e-12):
            cuts = (*(shard.start for shard in made.shards), made.n_layers)
            found = Cut(value, tuple(places[device] for device in made.devices), cuts)
    return found


def _why(costs: Costs, best: Cut, *, exact: bool) -> tuple[str, ...]:
    what = {
        "decode": "a token of one request",
        "prefill": f"the first token after a prompt of {costs.problem.prompt_tokens}",
        "throughput": "a token of many requests",
    }[costs.problem.objective]
    notes = [f"predicted: {best.value * 1e3:.3g} ms for {what}"]
    if exact:
        notes.append("no other order or cut of these devices is better, by the cost model")
    else:
        bound = lower_bound(costs)
        notes.append(
            f"at most {best.value / bound - 1:.1%} above a bound that no plan can beat" if bound > 0 else "searched"
        )
    notes += [
        f"{device.name} is left out: with it the plan is predicted to be slower, or it has no room for a layer"
        for place, device in enumerate(costs.devices)
        if place not in best.places
    ]
    return tuple(notes)
