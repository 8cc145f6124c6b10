"""Which hop carries which precision, what that is predicted to take, and what is said of it."""

from __future__ import annotations

import msgspec
import pytest

from exo_lab.cluster.planning import wish_of
from exo_lab.core.errors import BadPlan, ConfigError
from exo_lab.core.pace import Measured
from exo_lab.core.topology import topology
from exo_lab.core.wire import Rounding, row_bytes
from exo_lab.planning.choose import choose
from exo_lab.planning.cost import predict
from exo_lab.planning.explain import explain
from exo_lab.planning.wires import with_wires
from tests.planning.clusters import device, model, problem

HIDDEN = model().hidden_size
# 8 layers of 0.1 ms a position on either device, chunks of 100: 80 ms. A chunk in float32 is 6,400 bytes.
MEASURED = tuple((name, Measured(layer_s=1e-3, prefill_layer_s=1e-4, overhead_s=0.0, head_s=0.0)) for name in "abc")
FAST, SLOW = 6400 / 3.9e-3, 6400 / 4.1e-3  # bytes/s: just under and over 5 % of it


def ring(rate_ab, rate_bc, **fields):
    links = [("a", "b", 1e-3, rate_ab), ("b", "c", 1e-3, rate_bc)]
    fields = {"prompt_tokens": 100, "measured": MEASURED, "order": ("a", "b", "c"), **fields}
    made = problem([device(name) for name in "abc"], links, **fields)
    return made, choose(made, "manual", [3, 3, 2])


def test_a_measured_link_that_is_felt_gets_bfloat16_and_others_stay_exact():
    made, plan = ring(FAST, SLOW, wire="auto")
    plan = with_wires(made, plan)
    assert plan.roundings == (Rounding(6, "bfloat16"),)
    assert [plan.wire_out_of(stage) for stage in range(3)] == ["float32", "bfloat16", "float32"]
    assert [plan.wire_into(stage) for stage in range(3)] == ["float32", "float32", "bfloat16"]
    said = plan.why[-1]
    assert sum("Hidden states" in text for text in plan.why) == 1
    assert "from b to c as bfloat16" in said
    assert "4.1 ms" in said
    (exact,) = explain(made, plan).exact_hops
    assert "from a to b as float32" in exact


def test_a_link_that_nobody_measured_stays_exact():
    made, plan = ring(None, None, wire="auto")
    assert with_wires(made, plan).roundings == ()
    assert all("nobody has measured" in text for text in explain(made, plan).exact_hops)


@pytest.mark.parametrize("wire", ["float32", "bfloat16", "int8"])
def test_what_was_asked_for_is_used_on_every_hop_and_priced(wire):
    made, plan = ring(SLOW, SLOW, wire=wire)
    plan = with_wires(made, plan)
    size = row_bytes(HIDDEN, wire)
    assert [plan.wire_out_of(stage) for stage in (0, 1)] == [wire, wire]
    assert predict(made, plan).hop_s[:2] == pytest.approx([1e-3 + size / SLOW] * 2)
    assert predict(made, plan).chunk_hop_s == pytest.approx([1e-3 + 100 * size / SLOW] * 2)
    stages = next(table for table in explain(made, plan).tables if table.title == "stages")
    assert all(wire in row[5] for row in stages.rows[:2])


def test_fewer_bytes_are_counted_when_the_plan_is_made():
    """A hop so slow that the second device is worth it only if its hidden states are small."""
    links = [("a", "b", 0.0, 30e3)]
    quick = [(name, Measured(layer_s=layer, overhead_s=0.0, head_s=0.0)) for name, layer in (("a", 1e-3), ("b", 3e-4))]
    devices = [device("a"), device("b", memory_bytes=50 * 2**20)]
    used = {}
    for wire in ("float32", "bfloat16", "int8"):
        made = problem(devices, links, measured=tuple(quick), wire=wire, order=("a", "b"), required=())
        used[wire] = choose(made, "optimal")
    value = {wire: predict(made, with_wires(made, plan)).token_s for wire, plan in used.items()}
    assert len(used["float32"].devices) <= len(used["int8"].devices)
    assert value["int8"] <= value["float32"]


def test_hops_are_exact_unless_something_else_is_asked_for_and_float32_weights_ask_for_exact_hops_too():
    wish = {"strategy": "uniform", "context": 64}
    assert wish_of(wish).wire_wanted == "float32"
    assert wish_of({**wish, "dtype": "float32", "wire": "auto"}).wire_wanted == "float32"
    assert wish_of({**wish, "dtype": "float32", "wire": "int8"}).wire_wanted == "int8"
    assert wish_of({**wish, "wire": "auto"}).wire_wanted == "auto"
    with pytest.raises(ConfigError, match="wire"):
        wish_of({**wish, "wire": "int4"})


@pytest.mark.parametrize("layers", [(0,), (8,), (3, 3), (4, 2), (-1,)])
def test_roundings_that_cannot_be_make_the_plan_invalid(layers):
    _, plan = ring(FAST, FAST)
    with pytest.raises(BadPlan, match="rounded"):
        msgspec.structs.replace(plan, roundings=tuple(Rounding(layer, "int8") for layer in layers))


def test_a_topology_that_says_nothing_of_links_is_exact():
    made, plan = ring(FAST, FAST, wire="auto")
    made = msgspec.structs.replace(made, topology=topology(made.topology.sightings))
    assert with_wires(made, plan).roundings == ()
