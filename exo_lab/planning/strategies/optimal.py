"""The plan that the cost model says is best: which devices, in which order, with which layers.

Exact for an order that the user gave, and over all orders of up to `EXACT_DEVICES` devices; beyond that a local search
with a reported gap to a lower bound, and exact all the same where the two meet. Never worse, by the cost model, than
any other strategy or than one device alone.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

from exo_lab.core.errors import PlanError
from exo_lab.core.plan import Plan, plan_from_counts
from exo_lab.planning.bound import Relaxation
from exo_lab.planning.cost import Costs
from exo_lab.planning.links import links_of
from exo_lab.planning.minimise import minimise
from exo_lab.planning.order_dp import order_solver, thinned_solver
from exo_lab.planning.search import AT_ONCE, Search
from exo_lab.planning.shortage import does_not_fit, layers_that_fit, too_small, unreachable
from exo_lab.planning.strategies import performance_first, ring_memory_weighted, uniform
from exo_lab.planning.subset_dp import TooLarge, subset_solver
from exo_lab.planning.tables import Cut, Tables

if TYPE_CHECKING:
    from exo_lab.planning.problem import Problem

EXACT_DEVICES = 12
TRIED_DEVICES = 24  # the exact search is tried, and given up after so much work
TRIED_CELLS = {True: 250_000, False: 800_000}  # (states x layers), with peaks (solved many times) and without
PROVEN = 1e-9  # relative gap that is rounding
_OTHERS = (ring_memory_weighted.plan, performance_first.plan, uniform.plan)


class Solution(NamedTuple):
    """A solution and what no plan can beat; equal where it is proven best."""

    cut: Cut
    bound: float
    costs: Costs

    @property
    def gap(self) -> float:
        """How far, at most, the solution is above the best there is; 0.0 if it is the best."""
        if self.cut.value <= self.bound * (1 + PROVEN):
            return 0.0
        return self.cut.value / self.bound - 1 if self.bound > 0 else float("inf")


def plan(problem: Problem) -> Plan:
    """See `choose.choose`.

    Raises:
        DoesNotFit: no distribution fits; says what is short by how much.
    """
    found = solve(problem)
    counts = tuple(end - start for start, end in itertools.pairwise(found.cut.cuts))
    ids = tuple(found.costs.devices[place].id for place in found.cut.places)
    return plan_from_counts(problem.config.name, ids, counts, strategy="optimal", why=_why(found))


def solve(problem: Problem) -> Solution:
    """The best plan as places and cuts, with its bound.

    Raises:
        DoesNotFit: as `plan`.
    """
    devices = problem.devices if problem.order else sorted(problem.devices, key=lambda device: device.id)
    costs = Costs(problem, devices)
    tables = Tables(costs)
    if sum(tables.must) > tables.layers:
        tables.must = [False] * tables.count  # more devices than layers: some get none
    if problem.order:
        every = all(tables.must)
        solver = (order_solver if every else thinned_solver)(tables, range(tables.count))
        cut = minimise(tables, solver, at_once=AT_ONCE if every else 1)
        if cut is None:
            raise _short(problem)
        return Solution(cut, cut.value, costs)
    relaxation = Relaxation(tables)
    relaxed = relaxation.best()
    search = Search(tables, relaxed)
    if relaxed is None:
        raise _short(problem)
    search.start()
    if not search.proven(relaxed.value):
        search.offer(_best_of_others(tables, problem))
        search.improve(relaxed.value, rounds=2 if tables.count <= TRIED_DEVICES else 6)
    bound = min(relaxed.value, search.best.value) if search.best is not None else relaxed.value
    if tables.count <= TRIED_DEVICES and not search.proven(bound):
        cells = float("inf") if tables.count <= EXACT_DEVICES else TRIED_CELLS[bool(tables.peaks)]
        solver = subset_solver(tables, cells, relaxation.solve if tables.peaks else None)
        try:
            floor, ceiling = relaxation.floor(), relaxation.ceiling(search.best)
            search.offer(minimise(tables, solver, start=search.best, floor=floor, ceiling=ceiling))
        except TooLarge:
            pass  # the bound stands, and so does what the search found
        else:
            bound = search.best.value if search.best is not None else bound
    if search.best is None:
        raise _short(problem)
    return Solution(search.best, bound, costs)


def _best_of_others(tables: Tables, problem: Problem) -> Cut | None:
    """The best of the other strategies' plans: the search is no proof."""
    places = {device.id: place for place, device in enumerate(tables.costs.devices)}
    found: list[Cut] = []
    for other in _OTHERS:
        try:
            made = other(problem)
        except PlanError:
            continue  # it says itself why; here it is only one offer among several
        cuts = (*(shard.start for shard in made.shards), made.n_layers)
        found.append(tables.cut([places[device] for device in made.devices], cuts))
    return min(found, key=lambda cut: cut.rank, default=None)


def _short(problem: Problem) -> PlanError:
    must = [problem.device(device) for device in sorted(problem.must_use)]
    links = links_of(problem.topology)
    for a, b in itertools.pairwise(must):
        if not links.reachable(a.id, b.id):
            return unreachable(problem, a.id, b.id)
    for device in must:
        if not layers_that_fit(problem, device):
            return too_small(problem, device)
    return does_not_fit(problem)


def _why(found: Solution) -> tuple[str, ...]:
    problem = found.costs.problem
    what = {
        "decode": "a token of one request",
        "prefill": f"the first token after a prompt of {problem.prompt_tokens}",
        "throughput": "a token of many requests",
    }[problem.objective]
    if problem.mix is not None:
        what = "the weighted mix of objectives"
    notes = [f"predicted: {found.cut.value * 1e3:.3g} ms for {what}"]
    fixed = " in this order" if problem.order else ", in any order,"
    if found.gap:
        notes.append(f"at most {found.gap:.1%} above a bound that no plan can beat")
    else:
        notes.append(f"no other plan of these devices{fixed} is better, by the cost model")
    notes += [
        f"{device.name} is left out: with it the plan is predicted to be slower, or it has no room for a layer"
        for place, device in enumerate(found.costs.devices)
        if place not in found.cut.places
    ]
    return tuple(notes)
