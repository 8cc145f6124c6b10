"""Law 1: shards cover every layer exactly once, for any positive weights and any number of devices."""

from __future__ import annotations

import itertools
import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.device import Device
from exo_lab.core.errors import BadPlan, ConfigError, DoesNotFit
from exo_lab.core.topology import Sighting, topology
from exo_lab.planning.allocate import largest_remainder, layers_of_intervals, memory_intervals
from exo_lab.planning.choose import STRATEGIES, choose
from exo_lab.planning.problem import Problem
from tests.tiny import tiny_source

LAYER_COUNTS = st.integers(1, 80)
WEIGHTS = st.lists(st.floats(1e-6, 1e12, allow_nan=False), min_size=1, max_size=100)
MEMORIES = st.lists(st.integers(1, 2**40), min_size=1, max_size=40)
AUTOMATIC = [name for name in STRATEGIES if name != "manual"]


@given(WEIGHTS, LAYER_COUNTS)
def test_every_layer_is_given_out_exactly_once(weights, layers):
    counts = largest_remainder(weights, layers)
    assert sum(counts) == layers
    assert min(counts) >= 0
    assert sum(count > 0 for count in counts) == min(len(weights), layers)  # nobody is left out while there are layers


@given(WEIGHTS, LAYER_COUNTS)
def test_with_enough_layers_a_share_is_within_one_layer_or_the_least_of_one(weights, layers):
    if layers < 4 * len(weights):
        return
    total = sum(weights)
    counts = largest_remainder(weights, layers)
    exact = [layers * weight / total for weight in weights]
    raised = sum(max(0.0, 1 - share) for share in exact)  # what the least of one took from the others
    assert all(share - 1 - raised <= count <= max(1, share + 1) for count, share in zip(counts, exact, strict=True))


@given(WEIGHTS, LAYER_COUNTS, st.data())
def test_caps_are_kept_or_the_shortage_is_named(weights, layers, data):
    caps = data.draw(st.lists(st.integers(0, 40), min_size=len(weights), max_size=len(weights)))
    if sum(min(cap, layers) for cap in caps) < layers:
        with pytest.raises(DoesNotFit, match=f"{layers} layers"):
            largest_remainder(weights, layers, caps)
        return
    counts = largest_remainder(weights, layers, caps)
    assert sum(counts) == layers
    assert all(count <= cap for count, cap in zip(counts, caps, strict=True))


@given(WEIGHTS, LAYER_COUNTS)
def test_a_heavier_device_never_gets_less(weights, layers):
    counts = largest_remainder(weights, layers)
    for (a, count_a), (b, count_b) in itertools.combinations(zip(weights, counts, strict=True), 2):
        if a > b:
            assert count_a >= count_b
        elif b > a:
            assert count_b >= count_a


@pytest.mark.parametrize("weights", [[], [0, 0], [1, -1]])
def test_weights_that_mean_nothing_are_refused(weights):
    with pytest.raises(BadPlan):
        largest_remainder(weights, 4)


def test_the_published_intervals_are_reproduced_to_the_digit():
    intervals = memory_intervals([("a", 1), ("b", 2), ("c", 3), ("d", 3)])
    assert intervals == [("d", 0.0, 0.33333), ("c", 0.33333, 0.66666), ("b", 0.66666, 0.88888), ("a", 0.88888, 0.99999)]


@given(MEMORIES, LAYER_COUNTS)
def test_intervals_become_layers_that_are_each_held_once_whatever_the_rounding(memories, layers):
    intervals = memory_intervals([(f"node-{i:02d}", memory) for i, memory in enumerate(memories)])
    assert intervals[0][1] == 0.0
    assert all(before[2] == after[1] for before, after in itertools.pairwise(intervals))
    counts = layers_of_intervals(intervals, layers)
    assert sum(counts) == layers
    assert min(counts) >= 0


def test_three_unequal_devices_over_32_layers_do_not_lose_the_last():
    # Legacy EXO raised IndexError here.
    counts = layers_of_intervals(memory_intervals([("a", 100), ("b", 1), ("c", 1)]), 32)
    assert sum(counts) == 32


def problem_of(memories: list[int], **changes: object) -> Problem:
    config = tiny_source().config
    devices = [
        Device(id=f"d{i:02d}", name=f"node-{i}", memory_bytes=memory, memory_available_bytes=memory)
        for i, memory in enumerate(memories)
    ]
    return Problem(
        config=config, topology=topology([Sighting(device=device) for device in devices]), context_tokens=64, **changes
    )


@pytest.mark.parametrize("strategy", AUTOMATIC)
@given(memories=st.lists(st.integers(0, 2**34) | st.integers(0, 300_000), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_every_strategy_gives_a_valid_plan_that_fits_or_says_what_is_short(strategy, memories):
    problem = problem_of(memories)
    try:
        plan = choose(problem, strategy)
    except DoesNotFit as exc:
        said = str(exc)
    else:
        said = ""
    if said:
        assert re.search(r"needs .* offer", said)
        return
    assert sum(len(shard) for shard in plan.shards) == problem.config.n_layers
    assert plan.strategy == strategy
    rooms = {device.id: problem.room_bytes(device) for device in problem.devices}
    for device, shard in zip(plan.devices, plan.shards, strict=True):
        assert problem.shard_memory_bytes(problem.device(device), shard.start, shard.end) <= rooms[device]
    assert choose(problem, strategy) == plan


@pytest.mark.parametrize("strategy", AUTOMATIC)
def test_the_users_order_is_kept_and_every_device_of_it_is_used(strategy):
    plan = choose(problem_of([2**30, 2**31, 2**30], order=("d02", "d00")), strategy)
    assert plan.devices == ("d02", "d00")


def test_more_devices_than_layers_leaves_some_out():
    config = tiny_source().config
    plan = choose(problem_of([2**30] * (config.n_layers + 3)), "uniform")
    assert len(plan.devices) == config.n_layers


def test_layers_by_hand_are_taken_as_they_are_and_checked():
    config = tiny_source().config
    counts = [1, config.n_layers - 1]
    plan = choose(problem_of([2**30, 2**30]), "manual", counts)
    assert [len(shard) for shard in plan.shards] == counts
    with pytest.raises(BadPlan, match="add up to"):
        choose(problem_of([2**30, 2**30]), "manual", [1, 1 + config.n_layers])
    with pytest.raises(BadPlan, match="1 layer counts for 2 devices"):
        choose(problem_of([2**30, 2**30]), "manual", [config.n_layers])
    with pytest.raises(ConfigError, match="needs layers"):
        choose(problem_of([2**30, 2**30]), "manual")


def test_a_device_that_is_too_small_is_named_with_what_is_short_unless_forced():
    config = tiny_source().config
    counts = [config.n_layers - 1, 1]
    with pytest.raises(DoesNotFit, match=r"node-0 has .* need .* Give it fewer"):
        choose(problem_of([1000, 2**30]), "manual", counts)
    assert choose(problem_of([1000, 2**30], force=True), "manual", counts).devices == ("d00", "d01")


@pytest.mark.parametrize(("memories", "says"), [([], "no device"), ([0, 0], "memory"), ([1, 1], "offer")])
def test_nothing_to_plan_with_is_a_clear_error(memories, says):
    for strategy in AUTOMATIC:
        with pytest.raises((ConfigError, DoesNotFit), match=says):
            choose(problem_of(memories), strategy)


def test_every_plan_says_for_how_long_a_context_it_was_made():
    problem = msgspec.structs.replace(problem_of([2**30, 2**30]), context_tokens=77)
    n_layers = problem.config.n_layers
    for strategy in (*AUTOMATIC, "manual"):
        assert choose(problem, strategy, [1, n_layers - 1]).context_tokens == 77


def test_an_unknown_strategy_is_answered_with_the_known_ones():
    with pytest.raises(ConfigError, match="ring-memory-weighted"):
        choose(problem_of([2**30]), "best")
