"""What-if: both plans priced, memory of each device, and what a change that cannot be is short of."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.errors import BadPlan
from exo_lab.planning.choose import choose
from exo_lab.planning.cost import predict
from exo_lab.planning.whatif import LeaveOut, MoveBoundary, SetCounts, what_if
from tests.planning.clusters import MIB, device, problem

DEVICES = [device("a", 60 * MIB), device("b", 90 * MIB, bandwidth=2e9), device("c", 200 * MIB)]
PROBLEM = problem(DEVICES, order=("a", "b", "c"))
PLAN = choose(PROBLEM, "manual", [2, 3, 3])


@given(st.integers(0, 1), st.integers(-2, 2))
@settings(max_examples=30, deadline=None)
def test_moving_a_boundary_predicts_what_planning_so_by_hand_would(boundary, layers):
    counts = [2, 3, 3]
    counts[boundary] += layers
    counts[boundary + 1] -= layers
    found = what_if(PROBLEM, PLAN, MoveBoundary(boundary=boundary, layers=layers))
    expected = predict(PROBLEM, choose(PROBLEM, "manual", counts))
    assert found.after == expected
    assert found.before == predict(PROBLEM, PLAN)
    assert found.tokens_per_s_change == pytest.approx(expected.tokens_per_s - found.before.tokens_per_s)
    assert found.ttft_change_s == pytest.approx(expected.ttft_s - found.before.ttft_s)
    assert [one.layers_after for one in found.devices] == counts
    assert found.fits


def test_a_change_that_does_not_fit_is_priced_and_says_what_is_short():
    found = what_if(PROBLEM, PLAN, MoveBoundary(boundary=0, layers=3))
    assert [len(shard) for shard in found.plan.shards] == [5, 3]  # b holds nothing any more
    assert found.fits
    found = what_if(PROBLEM, PLAN, SetCounts(devices=("a", "b", "c"), counts=(6, 1, 1)))
    assert not found.fits
    assert len(found.problems) == 1
    assert found.problems[0].startswith("a is 896 bytes short: 6 layers need 60.0 MiB")
    assert found.after.token_s > 0


def test_another_order_and_a_device_more_are_changes_too():
    alone = choose(problem(DEVICES, order=("c",)), "manual", [8])
    found = what_if(PROBLEM, alone, SetCounts(devices=("b", "c"), counts=(4, 4)))
    by_id = {one.device: one for one in found.devices}
    assert (by_id["b"].layers_before, by_id["b"].layers_after) == (0, 4)
    assert by_id["b"].memory_before_bytes == 0 < by_id["b"].memory_after_bytes
    assert by_id["b"].stage_before_s is None
    assert by_id["c"].memory_after_bytes < by_id["c"].memory_before_bytes


@pytest.mark.parametrize("gone", ["a", "b", "c"])
def test_leaving_a_device_out_gives_its_layers_to_the_others(gone):
    found = what_if(PROBLEM, PLAN, LeaveOut(device=gone))
    assert gone not in found.plan.devices
    assert found.plan.n_layers == 8
    left = next(one for one in found.devices if one.device == gone)
    assert (left.layers_after, left.memory_after_bytes, left.stage_after_s) == (0, 0, None)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (MoveBoundary(boundary=2), "no 2"),
        (MoveBoundary(boundary=0, layers=4), "not 4 layers"),
        (SetCounts(devices=("a",), counts=(7,)), "add up to 7"),
        (LeaveOut(device="z"), "not in the plan"),
    ],
)
def test_a_change_that_is_none_of_this_plan_is_refused(change, says):
    with pytest.raises(BadPlan, match=says):
        what_if(PROBLEM, PLAN, change)
