"""Memory that plans count on: what is free now, once for all nodes that draw on it."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.core.plan import plan_from_counts
from exo_lab.planning.choose import choose
from exo_lab.planning.memory import held_bytes, with_free_memory
from exo_lab.planning.sizing import with_one_more
from tests.planning.clusters import MIB, device, model, problem

TOTAL = 1000 * MIB


def shared(count: int, **fields):
    """So many nodes of one machine, and one on another."""
    return [device(f"k{at}", TOTAL, memory_id="one", **fields) for at in range(count)] + [
        device("far", TOTAL, memory_id="other")
    ]


@given(st.integers(1, 6), st.lists(st.integers(0, TOTAL), min_size=7, max_size=7), st.booleans())
def test_the_nodes_of_a_machine_never_offer_more_than_is_free_on_it_and_nobody_more_than_its_memory(count, free, all_):
    devices = shared(count)
    told = {one.id: size for one, size in zip(devices, free, strict=False)}
    known = problem(devices)
    now = msgspec.structs.replace(known, topology=with_free_memory(known.topology, told))
    mine = [one for one in now.topology.devices if one.memory_id == "one"]
    order = () if all_ else tuple(one.id for one in mine[: max(1, count // 2)])
    asked = msgspec.structs.replace(now, order=order)
    offered = sum(asked.room_bytes(one) for one in asked.devices if one.memory_id == "one")
    least = min(told[one.id] for one in mine)
    assert least - count <= offered <= max(1, least)
    far = now.topology.device("far")
    assert now.room_bytes(far) == max(1, told["far"])


def test_a_single_node_that_is_named_may_use_all_that_is_free():
    made = problem(shared(3))
    assert made.room_bytes(made.device("k0")) == TOTAL // 3
    alone = msgspec.structs.replace(made, order=("k0",))
    assert alone.room_bytes(alone.device("k0")) == TOTAL


def test_what_the_loaded_plan_gives_back_is_counted_once_for_the_machine():
    known, config = problem(shared(2)), model()
    plan = plan_from_counts("round", ("k0", "far", "gone"), (4, 3, 1))
    held = held_bytes(plan, config, known.topology)
    assert held == {"k0": 40 * MIB, "far": 30 * MIB}
    free = {"k0": 100 * MIB, "k1": 120 * MIB, "far": 10 * MIB}
    now = with_free_memory(known.topology, free, held)
    sizes = {one.id: one.memory_available_bytes for one in now.devices}
    assert sizes == {"k0": 140 * MIB, "k1": 140 * MIB, "far": 40 * MIB}
    assert now.links == known.topology.links


def test_emulated_memory_and_who_says_nothing_stay_as_they_are():
    devices = [device("emulated", 50 * MIB), device("silent", TOTAL, memory_id="x", memory_available_bytes=7 * MIB)]
    known = problem(devices).topology
    assert with_free_memory(known, {"emulated": TOTAL}) == known


def test_shares_decide_the_layers_of_ring_memory_weighted():
    links = [("k0", "k1", 1e-4, 1e9), ("k1", "far", 1e-3, 1e8)]
    plan = choose(problem(shared(2), links), "ring-memory-weighted")
    assert dict(zip(plan.devices, map(len, plan.shards), strict=True)) == {"far": 4, "k0": 2, "k1": 2}


def test_one_more_device_is_another_machine():
    known = with_one_more(problem(shared(1)).topology, device("k0", TOTAL, memory_id="one"))
    assert [one.memory_id for one in known.devices if one.name.startswith("one more")] == [""]
