"""The cost model against figures reckoned by hand, and where each of its numbers comes from."""

from __future__ import annotations

import math
import subprocess
import sys

import msgspec
import pytest

from exo_lab.core.device import DeviceSpeed, Flops, with_speed
from exo_lab.core.errors import ConfigError
from exo_lab.core.pace import Measured
from exo_lab.core.topology import Sighting, link, topology
from exo_lab.planning.choose import choose
from exo_lab.planning.coefficients import BANDWIDTH_EFFICIENCY, OVERHEAD_S, speed_of
from exo_lab.planning.cost import ACTIVATION_BYTES, TOKEN_BYTES, Costs, predict
from exo_lab.planning.links import LINK_DEFAULTS, Links
from exo_lab.planning.problem import Mix, Problem
from tests.planning.clusters import MIB, device, model, problem

A = device("a")
CLOSE = 1e-9


def two(**fields):
    """Two devices with everything measured: 1 ms a layer on a, 2 ms on b."""
    measured = tuple(
        (name, Measured(layer_s=layer, prefill_layer_s=layer / 10, overhead_s=0.5e-3, embedding_s=0.1e-3, head_s=4e-3))
        for name, layer in (("a", 1e-3), ("b", 2e-3))
    )
    return problem([device("a"), device("b")], [("a", "b", 3e-3, 1e6)], measured=measured, order=("a", "b"), **fields)


def test_a_token_takes_stages_and_as_many_hops_as_stages_the_last_carrying_a_token_only():
    made = predict(two(), choose(two(), "manual", [5, 3]))
    hidden = 16 * ACTIVATION_BYTES
    stages = (5 * 1e-3 + 0.5e-3 + 0.1e-3, 3 * 2e-3 + 0.5e-3 + 4e-3)
    assert made.stage_s == pytest.approx(stages, rel=CLOSE)
    assert made.hop_s == pytest.approx((3e-3 + hidden / 1e6, 3e-3 + TOKEN_BYTES / 1e6), rel=CLOSE)
    assert made.token_s == pytest.approx(sum(stages) + sum(made.hop_s), rel=CLOSE)
    assert made.tokens_per_s == pytest.approx(1 / made.token_s)


def test_one_stage_alone_has_no_hop():
    only = msgspec.structs.replace(two(), order=("a",))
    made = predict(only, choose(only, "manual", [8]))
    assert made.hop_s == ()
    assert made.token_s == pytest.approx(8e-3 + 0.5e-3 + 0.1e-3 + 4e-3, rel=CLOSE)


def test_a_prompt_takes_one_chunk_all_the_way_and_the_slowest_part_for_every_other_chunk():
    long = two(prompt_tokens=300)  # three chunks of 100 on average
    made = predict(long, choose(long, "manual", [5, 3]))
    chunks = (5 * 1e-4 * 100 + 0.5e-3 + 0.1e-3 * 100, 3 * 2e-4 * 100 + 0.5e-3)
    bulk = 100 * 16 * ACTIVATION_BYTES / 1e6
    back = 3e-3 + TOKEN_BYTES / 1e6
    assert made.chunk_s == pytest.approx(chunks, rel=CLOSE)
    assert made.ttft_s == pytest.approx(sum(chunks) + 3e-3 + bulk + 2 * max(*chunks, bulk) + 4e-3 + back, rel=CLOSE)


def test_many_requests_wait_for_the_busiest_stage_or_link_and_latency_keeps_no_link_busy():
    made = predict(two(), choose(two(), "manual", [5, 3]))
    assert made.bottleneck_s == pytest.approx(max(made.stage_s), rel=CLOSE)
    slow = msgspec.structs.replace(
        two(), topology=topology(two().topology.sightings, [link("a", "b", latency_s=9.0, bandwidth_bytes_per_s=1e3)])
    )
    made = predict(slow, choose(slow, "manual", [5, 3]))
    assert made.bottleneck_s == pytest.approx(TOKEN_BYTES / 1e3, rel=CLOSE)
    assert made.sessions_to_fill == -(-made.token_s // made.bottleneck_s)


def test_a_layer_takes_the_longer_of_its_arithmetic_and_its_bytes():
    costs = Costs(problem([device("a", bandwidth=1e9)]), [device("a", bandwidth=1e9)])
    cached = costs.config.kv_bytes_per_token_per_layer
    assert costs.layer_s(0)[0] == pytest.approx((10 * MIB + cached) / (1e9 * BANDWIDTH_EFFICIENCY), rel=1e-6)
    assert costs.stage(0, 0, 8).limit == "memory bandwidth"
    slow = device("b", bandwidth=1e20)
    assert Costs(problem([slow]), [slow]).stage(0, 0, 8).limit == "compute"


def test_an_emulated_device_is_as_much_slower_as_it_says_but_for_what_was_measured_on_it():
    fast, slow = device("a"), device("b", slowdown=2.0, emulated="2x slower")
    costs = Costs(problem([fast, slow]), [fast, slow])
    assert costs.layer_s(1)[0] == pytest.approx(2 * costs.layer_s(0)[0])
    measured = problem([slow], measured=(("b", Measured(layer_s=1e-3)),))
    assert Costs(measured, [slow]).layer_s(0)[0] == pytest.approx(1e-3)


def test_every_number_says_where_it_comes_from():
    known, unknown = device("a"), device("b", bandwidth=0.0, flops=Flops())
    assert {speed_of(known).flops.origin, speed_of(known).bandwidth.origin} == {"chip table"}
    assert {speed_of(unknown).flops.origin, speed_of(unknown).bandwidth.origin} == {"assumed"}
    assert speed_of(known).overhead == speed_of(unknown).overhead
    assert speed_of(known).overhead.value == OVERHEAD_S
    assert speed_of(known, Measured(overhead_s=1.0)).overhead.origin == "measured"


def test_what_a_probe_measured_beats_the_table_and_is_not_scaled_down():
    known = device("a", slowdown=2.0, emulated="2x slower")
    probed = with_speed(known, DeviceSpeed(flops=Flops(fp32=0.2, fp16=0.3), memory_bandwidth_bytes_per_s=3e10))
    speed = speed_of(probed)
    assert {speed.flops.origin, speed.bandwidth.origin} == {"measured"}
    assert (speed.flops.value, speed.bandwidth.value) == (pytest.approx(0.15e12), pytest.approx(1.5e10))
    for figure in (0.0, -1.0, math.inf, math.nan):  # what another node says may be anything
        nothing = with_speed(known, DeviceSpeed(flops=Flops(fp32=figure), memory_bandwidth_bytes_per_s=figure))
        assert {speed_of(nothing).flops.origin, speed_of(nothing).bandwidth.origin} == {"assumed"}


def test_a_link_that_was_not_measured_is_assumed_by_its_kind():
    hop = Links(topology([], [link("a", "b", kind="wifi", latency_s=1e-3)])).hop("b", "a")
    assert (hop.latency.value, hop.latency.origin) == (1e-3, "measured")
    assert (hop.bandwidth.value, hop.bandwidth.origin) == (LINK_DEFAULTS["wifi"][1], "assumed")


def test_of_two_links_the_one_with_less_latency_is_taken():
    links = [link("a", "b", kind="wifi"), link("a", "b", kind="thunderbolt")]
    assert Links(topology([], links)).hop("a", "b").kind == "thunderbolt"


def test_a_pair_without_a_link_takes_the_worse_of_what_joins_it_to_a_third():
    links = Links(topology([], [link("hub", "a", kind="ethernet"), link("hub", "b", kind="wifi", latency_s=5e-3)]))
    hop = links.hop("a", "b")
    assert (hop.kind, hop.latency.value, hop.latency.origin) == ("wifi", 5e-3, "assumed")


def test_without_any_link_everybody_is_taken_to_reach_everybody():
    links = Links(topology([Sighting(device=device("a"))]))
    assert links.reachable("a", "b")
    assert links.hop("a", "b").kind == "unknown"
    assert links.hop("a", "a").seconds(1e9) == 0


def test_memory_of_a_shard_counts_ends_caches_and_working_space_and_tied_ends_once():
    config = model(ends_bytes=MIB)
    made = problem([device("a")], config=config, context_tokens=100, sessions=3)
    caches = 100 * 3 * config.kv_bytes_per_token_per_layer
    rest = made.activation_bytes
    assert made.shard_memory_bytes(A, 0, 8) == 80 * MIB + 2 * MIB + 8 * caches + rest
    assert made.shard_memory_bytes(A, 0, 3) == 31 * MIB + 3 * caches + rest
    assert made.shard_memory_bytes(A, 3, 7) == 40 * MIB + 4 * caches + rest
    tied = msgspec.structs.replace(made, config=msgspec.structs.replace(config, tied_embeddings=True))
    assert tied.shard_memory_bytes(A, 0, 8) == made.shard_memory_bytes(A, 0, 8) - MIB
    costs = Costs(tied, tied.devices)
    for start, end in ((0, 8), (0, 3), (3, 7), (3, 8)):
        assert costs.memory_bytes(0, start, end) == tied.shard_memory_bytes(A, start, end)


def test_a_model_loaded_as_a_wider_type_needs_more_memory_and_more_time():
    config = model(layer_bytes=1000)
    plain = problem([device("a")], config=config)
    wide = problem([device("a")], config=config, dtype="float32")
    more = config.flops_per_token_per_layer // 2 * 4 - 1000 + config.kv_bytes_per_token_per_layer
    assert wide.shard_memory_bytes(A, 1, 3) - plain.shard_memory_bytes(A, 1, 3) == 2 * more
    assert Costs(wide, wide.devices).layer_s(0)[0] > Costs(plain, plain.devices).layer_s(0)[0]


def test_a_mix_is_the_weighted_sum_of_the_objectives():
    plan = choose(two(), "manual", [5, 3])
    made = predict(two(), plan)
    mixed = two(mix=Mix(decode=3, prefill=2, throughput=1))
    expected = 3 * made.token_s + 2 * made.ttft_s + made.bottleneck_s
    assert Costs(mixed, mixed.devices).objective(made) == pytest.approx(expected, rel=CLOSE)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"context_tokens": 0}, "context_tokens must be 1 or more, got 0"),
        ({"sessions": -1}, "sessions"),
        ({"prompt_tokens": 0}, "prompt_tokens"),
        ({"memory_margin": 1.0}, "memory_margin"),
        ({"order": ("a", "a")}, "repeats"),
        ({"objective": "speed"}, "decode, throughput, prefill"),
        ({"mix": Mix()}, "above 0"),
        ({"mix": Mix(decode=-1, prefill=2)}, "0 or more"),
    ],
)
def test_a_problem_that_makes_no_sense_is_refused_by_field(fields, says):
    with pytest.raises(ConfigError, match=says):
        problem([device("a")], **fields)


def test_negative_memory_is_refused_by_name():
    with pytest.raises(ConfigError, match="a says that it has -5 bytes"):
        choose(problem([device("a", memory_bytes=-5)]), "uniform")


def test_the_structs_are_there_without_numpy():
    code = (
        "import sys; sys.modules['numpy'] = None\n"
        "import exo_lab.planning.problem, exo_lab.planning.cost, exo_lab.planning.whatif, exo_lab.planning.explain\n"
        "import exo_lab.planning.choose"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_problem_survives_the_wire():
    made = two()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(made), type=Problem) == made
