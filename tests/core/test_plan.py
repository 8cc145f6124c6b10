"""A plan is valid by construction: every layer once, every shard with its device (law 1)."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.core.errors import BadPlan
from exo_lab.core.plan import MAX_EPOCH, MAX_STAGES, Plan, plan_from_counts
from exo_lab.core.shard import Shard

counts = st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any)


def names(count):
    return tuple(f"d{i}" for i in range(count))


@given(counts)
def test_layer_counts_become_shards_that_cover_every_layer_once(counts):
    plan = plan_from_counts("m", names(len(counts)), tuple(counts))
    held = [layer for shard in plan.shards for layer in range(shard.start, shard.end)]
    assert held == list(range(sum(counts)))
    assert plan.shards[0].is_first
    assert plan.shards[-1].is_last


@given(counts)
def test_shard_i_belongs_to_device_i_also_after_an_empty_one(counts):
    devices = names(len(counts))
    plan = plan_from_counts("m", devices, tuple(counts))
    assert {device: len(shard) for device, shard in zip(plan.devices, plan.shards, strict=True)} == {
        device: count for device, count in zip(devices, counts, strict=True) if count
    }
    for stage, device in enumerate(plan.devices):
        assert plan.stage_of(device) == stage
    assert plan.stage_of("nobody") is None


@given(counts, st.data())
def test_any_shard_moved_widened_or_dropped_makes_the_plan_invalid(counts, data):
    plan = plan_from_counts("m", names(len(counts)), tuple(counts))
    at = data.draw(st.integers(0, len(plan.shards) - 1))
    shard = plan.shards[at]
    wider = msgspec.structs.replace(shard, end=shard.end + 1, n_layers=shard.n_layers + 1)
    with pytest.raises(BadPlan):
        msgspec.structs.replace(plan, shards=(*plan.shards[:at], wider, *plan.shards[at + 1 :]))
    with pytest.raises(BadPlan):
        msgspec.structs.replace(
            plan, shards=plan.shards[:at] + plan.shards[at + 1 :], devices=plan.devices[:at] + plan.devices[at + 1 :]
        )
    if len(plan.shards) > 1:
        with pytest.raises(BadPlan):
            msgspec.structs.replace(plan, shards=plan.shards[::-1])


def shard(start, end, n_layers=4, model="m"):
    return Shard(model=model, start=start, end=end, n_layers=n_layers)


@pytest.mark.parametrize(("devices", "shards", "says"), [
    ((), (), "0 devices but 0 shards"),
    (("a",), (), "1 devices but 0 shards"),
    (("a", "a"), (shard(0, 2), shard(2, 4)), "appears in two stages"),
    (("a", "b"), (shard(0, 2), shard(3, 4)), "layer 2 is missing"),
    (("a", "b"), (shard(0, 3), shard(2, 4)), "layer 2 is held twice"),
    (("a",), (shard(0, 3),), "layers 3 to 3 are held by nobody"),
    (("a",), (shard(1, 4),), "layer 0 is missing"),
    (("a",), (shard(0, 4, model="n"),), "belongs to n"),
    (("a",), (shard(0, 5, 5),), "belongs to m .5 layers."),
])  # fmt: skip
def test_what_is_wrong_with_a_plan_is_named(devices, shards, says):
    with pytest.raises(BadPlan, match=says):
        Plan(model="m", n_layers=4, devices=devices, shards=shards)


@pytest.mark.parametrize("epoch", [-1, MAX_EPOCH])
def test_an_epoch_out_of_range_is_no_plan(epoch):
    with pytest.raises(BadPlan, match="epoch"):
        msgspec.structs.replace(plan_from_counts("m", ("a",), (4,)), epoch=epoch)


def test_a_plan_of_absurd_size_is_refused():
    count = MAX_STAGES + 1
    with pytest.raises(BadPlan, match=f"{count} stages"):
        plan_from_counts("m", names(count), (1,) * count)
    with pytest.raises(BadPlan, match="at most"):
        plan_from_counts("m", ("a",), (10**9,))


@pytest.mark.parametrize(("start", "end", "n_layers"), [(0, 0, 4), (-1, 2, 4), (2, 1, 4), (0, 5, 4), (4, 4, 4)])
def test_a_shard_is_a_range_of_its_model(start, end, n_layers):
    with pytest.raises(ValueError, match="are not a range within"):
        shard(start, end, n_layers)


@pytest.mark.parametrize("counts", [(0, 0), (-1, 5), (1,)])
def test_counts_that_cannot_be_meant_are_refused(counts):
    with pytest.raises(BadPlan):
        plan_from_counts("m", ("a", "b"), counts)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("xyz")), min_size=2, max_size=6))
def test_rank_orders_plans_alike_everywhere(ranks):
    plan = plan_from_counts("m", ("a",), (4,))
    plans = [msgspec.structs.replace(plan, epoch=epoch, proposer=proposer) for epoch, proposer in ranks]
    newest = max(plans, key=lambda one: one.rank)
    assert all(newest.rank >= one.rank for one in plans)
    assert all((one.rank == newest.rank) == (one == newest) for one in plans)
