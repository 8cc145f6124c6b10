"""A plan says what would be much faster, by the cost model; and says nothing where nothing would be."""

from __future__ import annotations

import re

import msgspec
import pytest

from exo_lab.planning.advice import FELT, MUCH, with_advice
from exo_lab.planning.choose import choose
from exo_lab.planning.cost import predict
from exo_lab.planning.wires import with_wires
from tests.planning.clusters import device, problem
from tests.planning.test_wires import FAST, SLOW, ring


def unequal(factor: float, **fields):
    """A device, and one that reads its weights so many times as quickly; between them a link without a price."""
    both = [device("slow", bandwidth=1e9), device("quick", bandwidth=factor * 1e9)]
    return problem(both, [("slow", "quick", 0.0, 1e12)], **fields)


def added(made, plan):
    return with_advice(made, plan).why[len(plan.why) :]


def test_a_much_better_plan_is_named_with_what_is_predicted_of_both():
    made = unequal(3.0)
    plan = choose(made)
    (said,) = added(made, plan)
    best = choose(made, "optimal")
    gain = predict(made, plan).token_s / predict(made, best).token_s
    assert gain > MUCH
    assert f"`--strategy optimal` is predicted to be {gain:.1f} times as fast" in said
    assert said.endswith("on quick.")


@pytest.mark.parametrize("factor", [1.0, 1.3, 1.5, 2.0])
def test_a_plan_is_named_just_where_the_gain_is_at_least_what_is_much(factor):
    made = unequal(factor)
    plan = choose(made)
    gain = predict(made, plan).token_s / predict(made, choose(made, "optimal")).token_s
    assert bool(added(made, plan)) == (gain >= MUCH)


def test_the_gain_is_that_of_the_users_objective():
    made = unequal(3.0, objective="throughput")
    (said,) = added(made, choose(made))
    assert "(throughput: " in said


@pytest.mark.parametrize("strategy", ["optimal", "manual"])
def test_the_best_plan_and_one_by_hand_are_left_alone(strategy):
    made = unequal(3.0)
    assert added(made, choose(made, strategy, [4, 4])) == ()


def test_a_slow_link_names_the_rounding_that_would_relieve_it_and_its_gain():
    made, plan = ring(FAST, SLOW / 10)
    (said,) = added(made, plan)
    rounded = with_wires(msgspec.structs.replace(made, wire="auto"), plan)
    then, now = predict(made, rounded), predict(made, plan)
    assert now.ttft_s / then.ttft_s > FELT
    assert "link from b to c is slow" in said
    assert "`--wire auto`" in said
    shown = [float(number) for number in re.findall(r"([\d.]+) ms", said)]
    assert shown == pytest.approx([1e3 * x for x in (then.ttft_s, now.ttft_s, then.token_s, now.token_s)], rel=0.01)


@pytest.mark.parametrize(
    ("rates", "fields"),
    [
        ((FAST, FAST), {}),  # links that nobody feels
        ((None, None), {}),  # that nobody measured
        ((SLOW / 10, SLOW / 10), {"wire": "bfloat16"}),
        ((SLOW / 10, SLOW / 10), {"wire": "auto"}),
        ((SLOW / 10, SLOW / 10), {"dtype": "float32"}),
    ],
)
def test_nothing_is_said_of_links_that_are_fast_or_unknown_or_where_the_user_said_what_they_carry(rates, fields):
    made, plan = ring(*rates, **fields)
    assert added(made, plan) == ()
