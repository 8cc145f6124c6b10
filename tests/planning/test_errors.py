"""What cannot be planned gets an error that says what is short by how much, from every strategy."""

from __future__ import annotations

import msgspec
import pytest

from exo_lab.core.errors import BadPlan, DoesNotFit
from exo_lab.planning.choose import STRATEGIES, choose
from exo_lab.planning.strategies.manual import counts_of
from tests.planning.clusters import MIB, device, model, problem

AUTOMATIC = [name for name in STRATEGIES if name != "manual"]
each = pytest.mark.parametrize("strategy", AUTOMATIC)


@each
def test_too_little_memory_in_all_is_named_with_what_is_missing(strategy):
    with pytest.raises(DoesNotFit, match=r"round needs 80.0 MiB .* the 2 nodes offer 50.0 MiB .* 30.0 MiB short"):
        choose(problem([device("a", 20 * MIB), device("b", 30 * MIB)]), strategy)


@each
def test_enough_memory_in_portions_too_small_says_how_many_layers_are_missing(strategy):
    many = problem([device(f"d{i}", 19 * MIB) for i in range(6)])  # 114 MiB for 80, one layer of 10 each
    with pytest.raises(DoesNotFit, match=r"room is for 6 of 8 layers \(d0 1, .* 20.0 MiB short"):
        choose(many, strategy)


@each
def test_ends_that_fit_nowhere_are_named(strategy):
    heavy = model(ends_bytes=100 * MIB)
    many = problem([device(f"d{i}", 90 * MIB) for i in range(4)], config=heavy)
    with pytest.raises(DoesNotFit, match=r"100.0 MiB of embedding, the last one 100.0 MiB of head"):
        choose(many, strategy)


@each
def test_a_device_that_must_be_used_and_holds_no_layer_is_named_with_what_it_lacks(strategy):
    asked = problem([device("big"), device("watch", 4 * MIB)], order=("big", "watch"))
    with pytest.raises(DoesNotFit, match=r"watch has room for 4.0 MiB; one layer of round needs 10.0 MiB, 6.0"):
        choose(asked, strategy)
    free = msgspec.structs.replace(asked, order=())
    assert choose(free, strategy).devices == ("big",)


ISLANDS = [("a", "b", 1e-3, 1e8), ("c", "d", 1e-3, 1e8)]


@each
def test_devices_that_no_link_joins_are_not_planned_together(strategy):
    apart = problem([device(one, size * MIB) for one, size in (("a", 60), ("b", 60), ("c", 30), ("d", 30))], ISLANDS)
    plan = choose(apart, strategy)
    assert set(plan.devices) == {"a", "b"}
    assert sum("is left out" in note for note in plan.why) >= 2


@each
def test_a_topology_in_pieces_of_which_none_holds_the_model_says_what_the_largest_lacks(strategy):
    apart = problem([device(one, 30 * MIB) for one in "abcd"], ISLANDS)
    with pytest.raises(DoesNotFit, match=r"2 nodes that reach each other offer 60.0 MiB .* no link .* to c, d"):
        choose(apart, strategy)


@pytest.mark.parametrize("strategy", [*AUTOMATIC, "manual"])
def test_devices_asked_for_that_cannot_reach_each_other_are_named(strategy):
    apart = problem([device(one) for one in "abcd"], ISLANDS, order=("a", "c"))
    with pytest.raises(DoesNotFit, match=r"a and c .* no chain of links"):
        choose(apart, strategy, [4, 4] if strategy == "manual" else None)


@each
def test_the_memory_check_can_be_overridden(strategy):
    plan = choose(problem([device("a", 20 * MIB), device("b", 30 * MIB)], force=True), strategy)
    assert sum(len(shard) for shard in plan.shards) == 8


@each
def test_more_devices_asked_for_than_layers_leaves_some_out(strategy):
    names = tuple(f"d{i}" for i in range(11))
    plan = choose(problem([device(one) for one in names], order=names), strategy)
    assert sum(len(shard) for shard in plan.shards) == 8
    assert set(plan.devices) <= set(names)


def test_layers_flow_to_devices_with_room_and_the_plan_says_so():
    plan = choose(problem([device("small", 25 * MIB), device("large", 200 * MIB)]), "uniform")
    assert {one: len(shard) for one, shard in zip(plan.devices, plan.shards, strict=True)} == {"large": 6, "small": 2}
    assert any("small would have got 4 layers" in note and "gets 2" in note for note in plan.why)


def test_a_device_that_is_required_without_an_order_gets_a_layer():
    slow = problem([device("quick", bandwidth=1e12), device("slow", bandwidth=1e6)], required=("slow",))
    assert "slow" in choose(slow, "optimal").devices
    assert "slow" not in choose(msgspec.structs.replace(slow, required=None), "optimal").devices


def test_an_order_whose_devices_are_optional_may_lose_some():
    names = ("quick", "slow")
    chosen = problem([device("quick", bandwidth=1e12), device("slow", bandwidth=1e6)], order=names, required=())
    assert choose(chosen, "optimal").devices == ("quick",)
    assert choose(msgspec.structs.replace(chosen, required=None), "optimal").devices == names


def test_boundaries_are_counts():
    assert counts_of((3, 20), 30) == (3, 17, 10)
    assert counts_of((), 30) == (30,)
    with pytest.raises(BadPlan, match="must rise"):
        counts_of((20, 3), 30)
