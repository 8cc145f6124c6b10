"""Layers move when a gain lasts, and for nothing less: noise moves none, nothing flaps, the cost of moving counts."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.device import Device, Flops
from exo_lab.core.pace import Measured
from exo_lab.core.plan import plan_from_counts
from exo_lab.core.topology import Sighting, link, topology
from exo_lab.planning import drift as d
from exo_lab.planning.choose import choose
from exo_lab.planning.cost import Costs, predict
from exo_lab.planning.known_models import config_of
from exo_lab.planning.problem import Problem

PLAN = plan_from_counts("m", ("a", "b"), (2, 2))
CONFIG = config_of("TinyLlama 1.1B", "Q8_0")
LOOK_S = 1.0


def offer(before: float, after: float, move_s: float = 1.0) -> d.Offer:
    return d.Offer(plan=PLAN, before=before, after=after, move_s=move_s)


def run(offers, drift=None, now=0.0):
    """One look a second; when layers moved."""
    drift, moves = drift or d.Drift(), []
    for one in offers:
        now += LOOK_S
        drift = d.step(drift, one, now)
        if d.due(drift, now):
            moves.append(now)
            drift = d.replaced(d.moved(drift, now))
    return moves


STEADY = [offer(10, 10)] * 3
SLOWED = [offer(4, 8)]


def test_one_that_stays_slow_is_relieved_once_after_a_while_and_not_before():
    assert run([*STEADY, *SLOWED * 6]) == [3 + 6]  # the first look at it, and `SUSTAIN_S` later
    assert run([*STEADY, *SLOWED * 5]) == []
    # From then on the best plan is the present one.
    assert run([*STEADY, *SLOWED * 6, *[offer(8, 8)] * 1000]) == [9]


@given(st.lists(st.floats(0.5, d.GAIN - 1e-6), max_size=200), st.floats(0.1, 1e3))
def test_no_gain_within_the_margin_moves_anything_however_long(gains, rate):
    assert run([offer(rate, max(rate, gain * rate)) for gain in gains]) == []


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), max_size=30))
def test_a_gain_that_does_not_last_moves_nothing_however_often_it_comes(bursts):
    offers = [one for slow, good in bursts for one in [*SLOWED * slow, *[offer(10, 10)] * good]]
    assert run([*STEADY, *offers]) == []


@given(st.floats(1.2, 5.0))
def test_what_the_users_strategy_gives_away_from_the_start_is_no_reason(gap):
    assert run([offer(10, 10 * gap)] * 500) == []
    # That it becomes worse is one.
    assert len(run([*[offer(10, 10 * gap)] * 3, *[offer(10, 10 * gap * 1.3)] * 8])) == 1


def test_a_move_must_pay_within_the_horizon():
    gain = (d.GAIN + 0.1 - 1) * d.HORIZON_S / d.PAYS  # s of the present pace that it may cost
    assert len(run([*STEADY, *[offer(10, 10 * (d.GAIN + 0.1), gain * 0.99)] * 10])) == 1
    assert run([*STEADY, *[offer(10, 10 * (d.GAIN + 0.1), gain * 1.01)] * 10]) == []


def test_going_back_takes_longer_each_time_and_a_node_that_goes_up_and_down_does_not_make_it_flap():
    drift, now, moves = d.Drift(), 0.0, []
    for _ in range(600):  # the better plan is always the other one
        now += LOOK_S
        drift = d.step(drift, offer(4, 8) if now > 1 else offer(8, 8), now)
        if d.due(drift, now):
            moves.append(now)
            drift = d.step(d.replaced(d.moved(drift, now)), offer(8, 8), now)
    pauses = [after - before for before, after in zip([2.0, *moves], moves, strict=False)]
    assert pauses[0] == d.SUSTAIN_S
    assert all(after > 1.9 * before for before, after in itertools.pairwise(pauses))
    assert len(moves) <= 6
    # After ten quiet minutes it is as quick as the first time.
    assert d.patience_s(drift, now + d.REMEMBER_S) == d.SUSTAIN_S
    assert d.patience_s(d.Drift(moves=(0.0,) * 50), 1.0) == d.LONGEST_S


def cluster(factors: tuple[float, ...]) -> Problem:
    """Three alike devices, each with room for half of the layers, whose layers take a factor of 2 ms."""
    room = int(0.6 * CONFIG.total_bytes)
    devices = [Device(id=n, name=n, memory_bytes=room, flops=Flops(fp32=1.0)) for n in "abc"]
    links = [link(a, b, kind="loopback", latency_s=1e-4, bandwidth_bytes_per_s=1e9) for a, b in ("ab", "bc", "ac")]
    paces = tuple(
        (device.id, Measured(layer_s=2e-3 * f, head_s=4e-3 * f, overhead_s=1e-4))
        for device, f in zip(devices, factors, strict=True)
    )
    return Problem(
        config=CONFIG, topology=topology([Sighting(device=one) for one in devices], links), context_tokens=64,
        measured=paces,
    )  # fmt: skip


NOISE = st.floats(0.94, 1.06)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NOISE, NOISE, NOISE), min_size=8, max_size=20))
def test_six_per_cent_of_noise_in_every_stage_time_moves_no_layer(looks):
    plan = choose(cluster((1.0, 1.0, 1.0)), "optimal")

    def at(factors):
        problem = cluster(factors)
        best = choose(problem, "optimal")
        return offer(predict(problem, plan).tokens_per_s, predict(problem, best).tokens_per_s, 0.0)

    assert run([at(factors) for factors in looks]) == []


def test_a_stage_that_takes_four_times_as_long_gives_layers_away():
    plan = choose(cluster((1.0, 1.0, 1.0)), "optimal")
    slow = tuple(4.0 if device == plan.devices[0] else 1.0 for device in "abc")
    best = choose(cluster(slow), "optimal")
    after = dict(zip(best.devices, best.shards, strict=True)).get(plan.devices[0], ())
    assert len(after) < len(plan.shards[0])
    found = d.Offer(
        plan=best,
        before=predict(cluster(slow), plan).tokens_per_s,
        after=predict(cluster(slow), best).tokens_per_s,
        move_s=d.move_s(CONFIG, plan, best),
    )
    assert d.worth(found)


def test_a_move_costs_what_the_node_that_loads_most_has_to_load_and_nothing_for_who_keeps_its_layers():
    old = plan_from_counts("m", ("a", "b", "c"), (8, 8, 6))
    new = plan_from_counts("m", ("a", "b", "c"), (8, 4, 10))
    size = CONFIG.shard_bytes(12, 22)
    assert d.move_s(CONFIG, old, new, 1e6) == pytest.approx(d.MOVE_S + size / 1e6)
    assert d.move_s(CONFIG, old, msgspec.structs.replace(old, epoch=3), 1e6) == d.MOVE_S


def test_a_slow_device_that_never_held_the_head_is_not_given_it_as_if_it_were_quick():
    problem = cluster((1.0, 1.0, 1.0))
    paces = tuple((name, Measured(layer_s=2e-3 * factor)) for name, factor in (("a", 1.0), ("b", 8.0)))
    problem = msgspec.structs.replace(problem, measured=paces)
    costs = Costs(problem, problem.devices)
    quick, slow = costs.head_s(0), costs.head_s(1)
    assert slow == pytest.approx(8 * quick)
    assert quick == pytest.approx(2e-3 * CONFIG.head_bytes / CONFIG.layer_bytes[0])
