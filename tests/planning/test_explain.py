"""Explanations say why: what binds each device, what was rejected and by how much, where the numbers come from."""

from __future__ import annotations

import msgspec
import pytest

from exo_lab.core.pace import Measured
from exo_lab.planning.choose import STRATEGIES, choose
from exo_lab.planning.cost import Costs, predict
from exo_lab.planning.explain import Explanation, explain
from tests.planning.clusters import MIB, device, problem
from tests.planning.problems import random_problem

FAST_BUT_SMALL = problem(
    [
        device("fast", 55 * MIB, bandwidth=4e9),
        device("slow", 500 * MIB),
        device("tiny", 5 * MIB),
        device("far", 500 * MIB),
    ],
    [("fast", "slow", 1e-4, 1e8), ("fast", "tiny", 1e-4, 1e8), ("slow", "tiny", 1e-4, 1e8)],
)


def why(explanation: Explanation, name: str) -> str:
    return next(text for text in explanation.sentences[1:] if text.startswith(name))


def test_a_full_device_is_said_to_be_full_with_what_is_left():
    made = explain(FAST_BUT_SMALL, choose(FAST_BUT_SMALL, "optimal"))
    fast = next(stage for stage in made.stages if stage.cost.device == "fast")
    assert fast.binds == "memory"
    assert "its memory is full, another layer takes 10.0 MiB and 5.0 MiB are left" in fast.why
    slow = next(stage for stage in made.stages if stage.cost.device == "slow")
    assert slow.binds in ("memory bandwidth", "nothing")


def test_every_device_left_out_is_explained():
    made = explain(FAST_BUT_SMALL, choose(FAST_BUT_SMALL, "optimal"))
    assert "hold no layer" in why(made, "tiny")
    assert "no chain of links leads to it" in why(made, "far")


def test_a_device_that_would_slow_the_ring_is_said_to_by_how_much():
    both = problem([device("one", 500 * MIB), device("two", 500 * MIB)], [("one", "two", 5e-3, 1e8)])
    plan = choose(both, "optimal")
    assert len(plan.devices) == 1
    made = explain(both, plan)
    other = "two" if plan.devices == ("one",) else "one"
    assert "left out: +" in why(made, other)
    rejected = next(one for one in made.rejected if one.what == other)
    assert rejected.value_s > made.value_s


def test_a_plan_on_slow_links_waits_for_them():
    far = problem([device("one", 50 * MIB), device("two", 60 * MIB)], [("one", "two", 0.5, 1e6)])  # neither holds all
    made = explain(far, choose(far, "optimal"))
    assert made.binds == "link"
    assert "waits most for the links" in made.summary


@pytest.mark.parametrize("objective", ["decode", "prefill", "throughput"])
def test_other_strategies_and_objectives_stand_beside_it_and_none_is_better(objective):
    made_for = random_problem(5, 5, 12, objective, tight=False)
    plan = choose(made_for, "optimal")
    made = explain(made_for, plan)
    assert made.value_s == pytest.approx(Costs(made_for, ()).objective(predict(made_for, plan)))
    what = {one.what: one.value_s for one in made.rejected}
    assert {name for name in STRATEGIES if name not in ("optimal", "manual")} <= what.keys()
    assert sum(name.startswith("optimal for ") for name in what) == 2
    for strategy in STRATEGIES:
        if what.get(strategy) is not None:
            assert what[strategy] >= made.value_s * (1 - 1e-9)
    assert not explain(made_for, plan, compare=False).rejected or all(
        one.what.startswith("node-") for one in explain(made_for, plan, compare=False).rejected
    )


def test_the_tables_name_every_stage_and_every_coefficient_with_its_origin():
    one = msgspec.structs.replace(FAST_BUT_SMALL, measured=(("fast", Measured(layer_s=1e-3)),))
    made = explain(one, choose(one, "optimal"), compare=False)
    stages, _, coefficients = made.tables
    assert [row[0] for row in stages.rows] == list(made.plan.devices)
    assert all(len(row) == len(table.header) for table in made.tables for row in table.rows)
    origins = {(row[0], row[1]): row[3] for row in coefficients.rows}
    assert origins["fast", "one layer, one position"] == "measured"
    assert origins["slow", "memory bandwidth"] == "chip table"
    assert origins["slow", "overhead of a stage"] == "assumed"
    assert any("latency (ethernet)" in what for _, what in origins)


def test_devices_of_one_name_are_told_apart():
    twins = problem([msgspec.structs.replace(device(one, 50 * MIB), name="mac") for one in "xy"])
    made = explain(twins, choose(twins, "optimal"))
    assert {row[0] for row in made.tables[0].rows} == {"mac (x)", "mac (y)"}


def test_an_explanation_is_data():
    made = explain(FAST_BUT_SMALL, choose(FAST_BUT_SMALL, "optimal"))
    assert msgspec.json.decode(msgspec.json.encode(made), type=Explanation) == made
