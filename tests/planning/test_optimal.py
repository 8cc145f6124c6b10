"""Law 7: an optimal plan is never worse than any other strategy, and equals brute force where that is possible."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.errors import DoesNotFit, PlanError
from exo_lab.planning.bound import Relaxation
from exo_lab.planning.choose import STRATEGIES, choose
from exo_lab.planning.cost import Costs, predict
from exo_lab.planning.minimise import minimise
from exo_lab.planning.order_dp import thinned_solver
from exo_lab.planning.search import Search
from exo_lab.planning.strategies import optimal
from exo_lab.planning.subset_dp import subset_solver
from exo_lab.planning.tables import Tables
from exo_lab.planning.window_min import window_min
from tests.planning.problems import MIXES, brute_force, random_problem

OBJECTIVES = ("decode", "prefill", "throughput", *MIXES)


def value_of(problem, plan) -> float:
    return Costs(problem, problem.devices).objective(predict(problem, plan))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("devices", [1, 2, 3, 4])
def test_over_all_orders_it_equals_brute_force(objective, devices):
    solved = 0
    for seed in range(120):
        problem = random_problem(seed, devices, 1 + seed % 6, objective)
        expected = brute_force(problem)
        if expected == float("inf"):
            with pytest.raises(DoesNotFit):
                choose(problem, "optimal")
            continue
        plan = choose(problem, "optimal")
        assert value_of(problem, plan) == pytest.approx(expected, rel=1e-9)
        solved += 1
    assert solved > 30


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_for_a_given_order_the_cut_equals_brute_force_and_every_device_is_used(objective):
    for seed in range(150):
        problem = random_problem(seed, 3, 3 + seed % 4, objective)
        order = tuple(device.id for device in problem.devices)[:: 1 if seed % 2 else -1]
        problem = msgspec.structs.replace(problem, order=order)
        expected = brute_force(problem, orders=[(0, 1, 2)])
        if expected == float("inf"):
            with pytest.raises(DoesNotFit):
                choose(problem, "optimal")
            continue
        plan = choose(problem, "optimal")
        assert plan.devices == order
        assert value_of(problem, plan) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_leaving_out_all_but_the_first_of_an_order_equals_brute_force(objective):
    for seed in range(80):
        problem = random_problem(seed, 4, 5, objective)
        costs = Costs(problem, problem.devices)
        orders = [(0, *rest) for size in range(4) for rest in itertools.combinations((1, 2, 3), size)]
        expected = brute_force(problem, orders)
        tables = Tables(costs)
        tables.must[0] = True
        found = minimise(tables, thinned_solver(tables, range(4)))
        assert (float("inf") if found is None else found.value) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_it_is_never_worse_than_any_other_strategy_or_than_one_device_alone(objective):
    for seed in range(25):
        problem = random_problem(seed, 7 + seed % 5, 24, objective, tight=bool(seed % 2))
        try:
            best = value_of(problem, choose(problem, "optimal"))
        except DoesNotFit:
            best = float("inf")
        for strategy in STRATEGIES:
            if strategy in ("manual", "optimal"):
                continue
            try:
                plan = choose(problem, strategy)
            except PlanError:
                continue
            assert best <= value_of(problem, plan) * (1 + 1e-9), (seed, strategy)
        costs = Costs(problem, problem.devices)
        for place in range(len(costs.devices)):
            if costs.fits(place, 0, 24):
                assert best <= costs.objective(costs.predict([place], [0, 24])) * (1 + 1e-9), seed


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_lower_bound_is_one_and_the_search_is_near_the_optimum(objective):
    gaps = []
    for seed in range(60):
        problem = random_problem(seed, 4, 5, objective, tight=bool(seed % 2))
        costs = Costs(problem, problem.devices)
        expected = brute_force(problem)
        if expected == float("inf"):
            continue
        tables = Tables(costs)
        relaxed = Relaxation(tables).best()
        assert relaxed is not None
        assert relaxed.value <= expected * (1 + 1e-9), seed
        found = Search(tables, relaxed)
        found.start()
        found.improve(relaxed.value)
        gaps.append(found.best.value / expected if found.best else float("inf"))
    assert sorted(gaps)[len(gaps) // 2] < 1.05  # what the search finds is the optimum, or near it, as a rule


def test_a_model_that_fits_on_the_best_device_is_not_cut_for_one_request():
    problem = random_problem(3, 4, 6, "decode", tight=False)
    plan = choose(problem, "optimal")
    costs = Costs(problem, problem.devices)
    alone = min(costs.predict([place], [0, 6]).token_s for place in range(4))
    assert predict(problem, plan).token_s <= alone
    left_out = [device.name for device in problem.devices if device.id not in plan.devices]
    assert left_out
    assert all(any(name in note and "left out" in note for note in plan.why) for name in left_out)
    assert any("predicted" in note for note in plan.why)


SCRIPT = """
import msgspec
from exo_lab.planning.choose import choose
from tests.planning.problems import random_problem
for seed in range(4):
    for devices in (4, 9, 14):
        for objective in ("decode", "prefill", "throughput"):
            plan = choose(random_problem(seed, devices, 12, objective, tight=False), "optimal")
            print(msgspec.json.encode(plan).decode())
"""


def test_every_process_makes_the_same_plan():
    outputs = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for hash_seed in ("0", "1", "random")
    }
    assert len(outputs) == 1
    assert len(next(iter(outputs)).splitlines()) == 36


def test_what_does_not_fit_says_what_is_short():
    problem = random_problem(0, 3, 6, "decode")
    tiny = msgspec.structs.replace(problem, context_tokens=10**9)
    with pytest.raises(DoesNotFit, match=r"needs .* offer"):
        choose(tiny, "optimal")
    assert choose(msgspec.structs.replace(tiny, force=True), "optimal").n_layers == 6


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_exact_search_over_all_orders_equals_brute_force_without_any_start(objective):
    # No local search before it, no bound that spares it: the subset search by itself.
    for seed in range(60):
        problem = random_problem(seed, 4, 3 + seed % 4, objective)
        tables = Tables(Costs(problem, problem.devices))
        expected = brute_force(problem)
        found = minimise(tables, subset_solver(tables))
        assert (float("inf") if found is None else found.value) == pytest.approx(expected, rel=1e-9), seed


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_six_devices_equal_brute_force(objective):
    problem = random_problem(8, 6, 7, objective)
    expected = brute_force(problem)
    assert expected < float("inf")
    assert value_of(problem, choose(problem, "optimal")) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_with_devices_that_must_be_used_it_equals_brute_force(objective):
    for seed in range(60):
        problem = random_problem(seed, 4, 5, objective)
        must = problem.devices[seed % 4].id
        problem = msgspec.structs.replace(problem, required=(must,))
        orders = (
            order for size in range(1, 5) for order in itertools.permutations(range(4), size) if seed % 4 in order
        )
        expected = brute_force(problem, orders)
        if expected == float("inf"):
            with pytest.raises(DoesNotFit):
                choose(problem, "optimal")
            continue
        plan = choose(problem, "optimal")
        assert must in plan.devices
        assert value_of(problem, plan) == pytest.approx(expected, rel=1e-9), seed


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_optional_devices_of_an_order_are_left_out_as_brute_force_would(objective):
    for seed in range(60):
        problem = random_problem(seed, 4, 5, objective)
        order = tuple(device.id for device in problem.devices)
        problem = msgspec.structs.replace(problem, order=order, required=(order[seed % 4],))
        orders = [o for size in range(1, 5) for o in itertools.combinations(range(4), size) if seed % 4 in o]
        expected = brute_force(problem, orders)
        if expected == float("inf"):
            with pytest.raises(DoesNotFit):
                choose(problem, "optimal")
            continue
        assert value_of(problem, choose(problem, "optimal")) == pytest.approx(expected, rel=1e-9), seed


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_many_devices_are_planned_within_the_reported_gap_and_the_gap_is_honest(objective):
    for seed in range(3):
        problem = random_problem(seed, 9, 12, objective)
        try:
            exact = optimal.solve(problem)
        except DoesNotFit:
            continue
        assert exact.gap == 0
        tables = Tables(Costs(problem, problem.devices))
        bound = Relaxation(tables).best()
        assert bound is not None
        assert bound.value <= exact.cut.value * (1 + 1e-9)
    many = random_problem(1, 30, 40, objective, tight=False)
    large = optimal.solve(many)
    assert large.bound <= large.cut.value
    assert value_of(many, optimal.plan(many)) == pytest.approx(large.cut.value, rel=1e-9)


@given(st.integers(0, 10**6), st.integers(3, 40), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_a_window_minimum_is_the_minimum_of_the_window(seed, size, columns):
    rng = np.random.default_rng(seed)
    values = rng.random((size, columns))
    values[rng.random((size, columns)) < 0.3] = np.inf
    lo = np.sort(rng.integers(1, size + 1, (size, columns)), axis=0)
    for windows in (lo, lo[:, 0]):
        found = window_min(values, windows)
        for end, column in itertools.product(range(size), range(columns)):
            start = windows[end, column] if windows.ndim == 2 else windows[end]
            assert found[end, column] == min(values[start:end, column], default=np.inf)
