"""The simulator against the cost model, and the laws that any simulation keeps."""

from __future__ import annotations

import itertools
import math
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.errors import ConfigError, DoesNotFit
from exo_lab.core.topology import link
from exo_lab.node.failover import parts
from exo_lab.planning.choose import choose
from exo_lab.planning.cost import predict
from exo_lab.planning.links import links_of
from exo_lab.planning.problem import PREFILL_CHUNK
from exo_lab.planning.simulation.chance import Chance
from exo_lab.planning.simulation.run import simulate
from exo_lab.planning.simulation.scenario import Fail, Join, Request, Scenario, SlowDown
from exo_lab.planning.simulation.timing import Timing, chunks
from tests.planning.clusters import MIB, device, model, problem
from tests.planning.problems import random_problem

CLOSE = 1e-9
MS = 1e-3


def ring(names="abc", latency=2 * MS, rate=1e7, sessions=1, **fields):
    """Devices that all reach each other, a context of 2,000 tokens, no attention worth speaking of."""
    links = [(a, b, latency, rate) for a, b in itertools.combinations(names, 2)]
    return problem([device(name) for name in names], links, context_tokens=2000, sessions=sessions, **fields)


def run(task, requests, **fields):
    """A simulation of requests (prompt, answer) or (prompt, answer, at_s)."""
    made = tuple(
        Request(prompt_tokens=one[0], answer_tokens=one[1], at_s=one[2] if len(one) > 2 else 0.0) for one in requests
    )
    return simulate(Scenario(problem=task, requests=made, **fields))


def some_plan(seed, task):
    """Devices in any order with any counts."""
    rng = random.Random(seed)
    order = max(links_of(task.topology).groups([one.id for one in task.topology.devices]), key=len)
    rng.shuffle(order)
    order = order[: rng.randint(1, len(order))]
    cuts = sorted(rng.sample(range(1, task.config.n_layers), len(order) - 1))
    counts = [after - before for before, after in itertools.pairwise((0, *cuts, task.config.n_layers))]
    task = msgspec.structs.replace(task, order=tuple(order), context_tokens=4096, force=True)
    return task, choose(task, "manual", counts)


# -- agreement with the cost model ---------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), devices=st.integers(1, 6), prompt=st.sampled_from([1, 100, 128, 384, 1280]))
def test_one_request_takes_what_the_cost_model_says_where_chunks_are_equal(seed, devices, prompt):
    task, plan = some_plan(
        seed, msgspec.structs.replace(random_problem(seed, devices, 12, "decode", tight=False), prompt_tokens=prompt)
    )
    expected = predict(task, plan)
    (session,) = run(task, [(prompt, 5)], plan=plan).sessions
    assert session.ttft_s == pytest.approx(expected.ttft_s, rel=CLOSE)
    waits = [after - before for before, after in itertools.pairwise(session.token_s)]
    assert waits == pytest.approx([expected.token_s] * 4, rel=CLOSE)
    assert session.tokens_per_s == pytest.approx(expected.tokens_per_s, rel=CLOSE)


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), devices=st.integers(1, 6), prompt=st.integers(129, 3000))
def test_a_prompt_of_unequal_chunks_is_within_one_chunk_of_the_cost_model(seed, devices, prompt):
    task, plan = some_plan(
        seed, msgspec.structs.replace(random_problem(seed, devices, 12, "decode", tight=False), prompt_tokens=prompt)
    )
    expected = predict(task, plan)
    (session,) = run(task, [(prompt, 1)], plan=plan).sessions
    timing, full = Timing(task, plan), next(chunks(0, prompt))
    assert full.tokens == PREFILL_CHUNK
    stages = [timing.stage_s(at, full) for at in range(len(plan.devices))]
    busy = [timing.hop_busy_s(at, full) for at in range(len(plan.devices) - 1)]
    way = sum(stages) + sum(busy) + sum(hop.latency.value for hop in timing.hops[: len(busy)])
    assert session.ttft_s is not None
    assert abs(session.ttft_s - expected.ttft_s) <= way + max(stages + busy)


def test_the_first_token_counts_with_its_way_back_and_the_head_once():
    task = ring("ab", latency=3 * MS, rate=1e6)
    plan = choose(msgspec.structs.replace(task, order=("a", "b")), "manual", [4, 4])
    made = run(task, [(256, 1)], plan=plan)
    arrived = made.sessions[0].token_s[0]
    last = max(span.end_s for span in made.spans if span.device == "b" and span.kind == "prefill")
    assert arrived == pytest.approx(last + 256 / 1e6 + 3 * MS, rel=CLOSE)


# -- laws ----------------------------------------------------------------------------------------------------

REQUESTS = st.lists(
    st.tuples(st.integers(1, 600), st.integers(1, 20), st.floats(0, 2, allow_nan=False)), min_size=1, max_size=6
)
HAPPENS = st.lists(
    st.one_of(
        st.builds(SlowDown, at_s=st.floats(0, 3), device=st.sampled_from("abcd"), factor=st.floats(0.5, 8)),
        st.builds(Fail, at_s=st.floats(0, 3), device=st.sampled_from("abcd")),
        st.builds(
            Join,
            at_s=st.floats(0, 3),
            device=st.sampled_from([device("x", bandwidth=1e10), device("y", bandwidth=5e9)]),
        ),
        st.builds(  # gone, and back
            lambda at_s, name, after: (
                Fail(at_s=at_s, device=name),
                Join(at_s=at_s + after, device=device(name), links=(link(name, "d"), link(name, "c"))),
            ),
            at_s=st.floats(0, 2),
            name=st.sampled_from("ab"),
            after=st.floats(0.01, 3),
        ),
    ),
    max_size=5,
    unique_by=lambda one: one.device if isinstance(one, Join) else id(one),
)


@settings(max_examples=120, deadline=None)
@given(requests=REQUESTS, changes=HAPPENS, jitter=st.sampled_from([0.0, 1.0]), sessions=st.integers(1, 4))
def test_whatever_happens_requests_finish_or_say_why_and_nobody_does_two_things_at_once(
    requests, changes, jitter, sessions
):
    task = ring("abcd", sessions=sessions)
    changes = [change for one in changes for change in (one if isinstance(one, tuple) else (one,))]
    made = run(task, requests, changes=tuple(changes), jitter=jitter, strategy="uniform")
    back = {one.device.id for one in changes if isinstance(one, Join)}
    died = {one.device: one.at_s for one in sorted(changes, key=lambda c: -c.at_s) if isinstance(one, Fail)}
    for (_, answer, at), session in zip(requests, made.sessions, strict=True):
        assert bool(session.failed) == (len(session.token_s) < answer)
        assert list(session.token_s) == sorted(session.token_s)
        assert all(moment >= at for moment in session.token_s)
    for one in made.devices:
        mine = [span for span in made.spans if span.device == one.device]
        computed = [span for span in mine if span.kind in ("prefill", "decode")]
        sent = [span for span in mine if span.kind == "link"]
        for spans in (computed, sent):
            assert all(a.end_s <= b.start_s + 1e-12 for a, b in itertools.pairwise(spans))
        assert sum(span.end_s - span.start_s for span in computed) == pytest.approx(one.busy_s)
        assert 0 <= one.utilisation <= 1
        assert one.filled_bytes <= one.memory_bytes
        if one.device in died and one.device not in back:
            assert all(span.end_s <= died[one.device] + 1e-12 for span in (*computed, *sent))
    if all(not session.failed for session in made.sessions):
        assert made.tokens == sum(answer for _, answer, _ in requests)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 100))
def test_a_seed_decides_the_jitter_and_jitter_only_delays(seed):
    requests = [(200, 10), (50, 10, 0.01)]
    task = ring(sessions=2)
    calm = run(task, requests, strategy="uniform")
    one, same, other = (
        run(task, requests, strategy="uniform", jitter=0.5, seed=number) for number in (seed, seed, seed + 1)
    )
    assert one == same
    assert one != other
    assert one.end_s > calm.end_s


@pytest.mark.parametrize("strategy", ["uniform", "performance-first", "ring-memory-weighted"])
@pytest.mark.parametrize("speeds", [(1e9, 1e9, 1e9), (1e9, 4e9), (1e9, 2e9, 4e9, 8e9)])
def test_many_requests_come_near_the_throughput_of_the_busiest_stage_and_never_above_it(strategy, speeds):
    devices = [device(name, bandwidth=speed) for name, speed in zip("abcd", speeds, strict=False)]
    links = [(a.id, b.id, 5 * MS, 1e8) for a, b in itertools.combinations(devices, 2)]
    task = problem(devices, links, context_tokens=300)
    plan = choose(task, strategy)
    expected = predict(task, plan)
    sessions = 2 * expected.sessions_to_fill
    made = run(msgspec.structs.replace(task, sessions=sessions), [(1, 200)] * sessions, plan=plan)
    assert made.tokens_per_s <= expected.throughput_per_s * (1 + CLOSE)
    assert made.tokens_per_s >= 0.95 * expected.throughput_per_s
    assert max(one.utilisation for one in made.devices) > 0.95


def test_one_request_on_a_ring_of_equals_keeps_each_of_them_busy_in_turn():
    made = run(ring("abcd", latency=0.0, rate=1e12), [(1, 100)], strategy="uniform")
    assert [one.utilisation for one in made.devices] == pytest.approx([0.25] * 4, rel=0.02)
    assert all(one.bubble_s == pytest.approx(3 * one.busy_s, rel=0.05) for one in made.devices)


def test_a_request_without_a_place_in_the_caches_waits():
    made = run(ring("ab", sessions=1), [(10, 5), (10, 5)])
    first, second = made.sessions
    assert second.started_s == first.token_s[-1]
    assert second.ttft_s == pytest.approx(second.token_s[0])  # the wait counts


def test_a_long_prompt_does_not_hold_up_the_tokens_of_another_request():
    task = ring("a", sessions=2)
    alone = run(task, [(1, 20)]).sessions[0].token_s[-1]
    beside = run(task, [(1, 20), (1900, 1)]).sessions[0].token_s[-1]
    chunk = Timing(task, choose(task, "uniform")).stage_s(0, next(chunks(0, 1900)))
    assert beside <= alone + 15 * chunk + CLOSE  # a chunk between two tokens, and not fifteen at once
    assert run(task, [(1, 5), (1900, 1)]).sessions[0].token_s[-1] < 15 * chunk


# -- what happens to devices ---------------------------------------------------------------------------------


def test_a_slow_down_counts_from_its_moment_for_the_work_at_hand_too():
    task = ring("a")
    expected = predict(task, choose(task, "uniform"))
    first, token = expected.ttft_s, expected.token_s
    happens = (SlowDown(at_s=first + 0.5 * token, device="a", factor=3.0),)
    (session,) = run(task, [(1, 3)], changes=happens).sessions
    gaps = [session.token_s[0], *(after - before for before, after in itertools.pairwise(session.token_s))]
    assert gaps == pytest.approx([first, token * (0.5 + 0.5 * 3), 3 * token], rel=CLOSE)


def test_after_a_failure_the_ring_stalls_until_it_is_noticed_and_loaded_then_replays_and_goes_on():
    task = ring("abc", sessions=1)
    calm = run(task, [(100, 40)], strategy="uniform")
    middle = calm.sessions[0].token_s[20]
    made = run(
        task,
        [(100, 40)],
        strategy="uniform",
        changes=(Fail(at_s=middle, device="b"),),
        notice_s=0.7,
        load_bytes_per_s=100 * MIB,
    )
    (session,) = made.sessions
    assert len(session.token_s) == 40
    assert session.replays == 1
    longest = max(after - before for before, after in itertools.pairwise(session.token_s))
    loading = max(span.end_s - span.start_s for span in made.spans if span.kind == "load")
    assert loading > 0
    assert longest >= 0.7 + loading
    (_, _), (when, plan) = made.plans
    assert when == pytest.approx(middle + 0.7 + loading)
    assert plan.devices == ("c", "a")
    replayed = [span for span in made.spans if span.kind == "prefill" and span.start_s > middle]
    assert {span.position for span in replayed} == {0}
    assert [event.device for event in made.events[:2]] == ["b", "b"]


def test_a_replay_takes_the_steps_that_a_node_takes_for_it_the_prompt_in_chunks_and_each_drawn_token_by_itself():
    task = ring("abc", sessions=1)
    middle = run(task, [(300, 40)], strategy="uniform").sessions[0].token_s[20]
    made = run(task, [(300, 40)], strategy="uniform", changes=(Fail(at_s=middle, device="b"),), notice_s=0.7)
    when, plan = made.plans[-1]
    (session,) = made.sessions
    drawn = sum(at < when for at in session.token_s)
    assert 20 <= drawn < 25
    steps = list(parts(range(300), range(drawn), plan.chunk))
    computed = [span for span in made.spans if span.device == plan.devices[0] and span.start_s >= when]
    replay = [span for span in computed if span.kind in ("prefill", "decode")][: len(steps)]
    assert [span.position for span in replay] == [position for position, _ in steps]
    assert [span.kind for span in replay] == ["prefill"] * 3 + ["decode"] * drawn
    assert session.token_s[drawn] - when >= sum(span.end_s - span.start_s for span in replay)


def test_when_what_is_left_cannot_hold_the_model_the_request_says_what_is_short():
    task = problem(
        [device(name, memory_bytes=50 * MIB) for name in "ab"],
        [("a", "b", MS, 1e7)],
        config=model(8),
        context_tokens=99,
    )
    made = run(task, [(10, 50)], changes=(Fail(at_s=0.5, device="a"),))
    assert 0 < len(made.sessions[0].token_s) < 50
    assert "short" in made.sessions[0].failed


def test_when_everybody_fails_the_simulation_ends():
    made = run(ring("a"), [(10, 500)], changes=(Fail(at_s=0.1, device="a"),))
    assert "no device" in made.sessions[0].failed


def test_a_device_that_joins_takes_over_and_requests_are_replayed():
    fast = device("z", bandwidth=1e11)
    made = run(ring("ab"), [(10, 200)], changes=(Join(at_s=0.2, device=fast, links=(link("a", "z"), link("b", "z"))),))
    assert made.plans[-1][1].devices == ("z",)
    assert made.sessions[0].replays == 1
    assert made.end_s < run(ring("ab"), [(10, 200)]).end_s


@pytest.mark.parametrize("after", [0.3, 2.0])
def test_a_device_that_failed_and_comes_back_is_used_again_with_everything_loaded_anew(after):
    back = Join(at_s=0.5 + after, device=device("b"), links=(link("a", "b"), link("b", "c")))
    made = run(
        ring("abc"),
        [(100, 60)],
        strategy="uniform",
        changes=(Fail(at_s=0.5, device="b"), back),
        notice_s=1.0,
        load_bytes_per_s=100 * MIB,
    )
    assert len(made.sessions[0].token_s) == 60
    when, plan = made.plans[-1]
    assert set(plan.devices) == {"a", "b", "c"}
    assert sum(span.end_s - span.start_s for span in made.spans if span.device == "b" and span.kind == "load") > 0.2
    assert any(span.device == "b" and span.kind == "decode" and span.start_s > when for span in made.spans)


def test_two_failures_of_which_the_second_is_not_noticed_when_the_first_is_planned_for():
    changes = (Fail(at_s=0.1, device="a"), Fail(at_s=0.5, device="b"))
    made = run(ring("abc"), [(10, 100)], strategy="uniform", changes=changes, notice_s=0.6)
    assert len(made.sessions[0].token_s) == 100
    assert made.plans[-1][1].devices == ("c",)


# -- size, and what cannot be --------------------------------------------------------------------------------


def test_a_thousand_devices_are_simulated_with_as_many_steps_as_there_are():
    count, tokens = 1000, 8
    names = [f"d{at:04d}" for at in range(count)]
    links = [(a, b, MS, 1e8) for a, b in itertools.pairwise([*names, names[0]])]
    task = problem([device(name) for name in names], links, config=model(count), context_tokens=200, order=tuple(names))
    made = run(task, [(130, tokens)], strategy="uniform")
    chunked = 2
    steps = count * (chunked + tokens - 1)
    assert len(made.spans) == 2 * steps - (chunked - 1)  # each computes, each sends; one chunk is not sampled
    assert len(made.devices) == count
    lean = run(task, [(130, tokens)], strategy="uniform", keep_spans=False)
    assert lean.spans == ()
    assert lean.devices == made.devices


def test_delays_have_mean_one_and_are_the_same_everywhere():
    chance = Chance(7)
    found = [chance.exponential() for _ in range(20_000)]
    assert sum(found) / len(found) == pytest.approx(1.0, abs=0.03)
    assert sum(value > 1 for value in found) / len(found) == pytest.approx(math.exp(-1), abs=0.02)
    assert min(found) >= 0
    first = Chance(0).exponential()  # the first output of SplitMix64 from seed 0 is 0xE220A8397B1DCDAF
    assert first == pytest.approx(-math.log(1 - 0xE220A8397B1DCDAF / 2**64), rel=CLOSE)


def test_bad_scenarios_say_what_is_wrong():
    task = ring("ab")
    with pytest.raises(ConfigError, match="needs room for 2500 tokens; the KV caches are planned for 2000, 500 short"):
        run(task, [(2000, 500)])
    with pytest.raises(ConfigError, match="answer_tokens must be 1 or more"):
        run(task, [(10, 0)])
    with pytest.raises(ConfigError, match="1 to 100000 requests, got 0"):
        run(task, [])
    with pytest.raises(ConfigError, match="jitter must be 0 or more and finite, got nan"):
        run(task, [(10, 1)], jitter=math.nan)
    with pytest.raises(ConfigError, match="device q is not in the cluster then"):
        run(task, [(10, 1)], changes=(Fail(at_s=1.0, device="q"),))
    with pytest.raises(ConfigError, match="it is in the cluster from the beginning"):
        run(task, [(10, 1)], changes=(Join(at_s=1.0, device=device("a")),))
    with pytest.raises(DoesNotFit, match="short"):
        run(msgspec.structs.replace(task, config=model(8, 10_000 * MIB)), [(10, 1)])
