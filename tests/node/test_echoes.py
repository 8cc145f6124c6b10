"""Echoes between data threads: latency from small frames, bandwidth from large ones, nothing from strangers."""

from __future__ import annotations

import asyncio
import itertools
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.cluster.looking import link_history
from exo_lab.core.messages import Echo
from exo_lab.core.tensor import Tensor
from exo_lab.node.echoes import PASSIVE_BYTES, WAITING, Echoes
from exo_lab.node.orders import Measure
from exo_lab.node.way import (
    FIRST_BULK_BYTES,
    HISTORY,
    HISTORY_EVERY_S,
    IDLE_EVERY_S,
    KEPT,
    LATELY,
    LEAST_BEYOND_S,
    LEAST_BULK_BYTES,
    MOST_BULK_BYTES,
    WINDOW,
    YOUNG,
    YOUNG_EVERY_S,
    Way,
)
from tests.node.clusters import cluster, until

MB = 1 << 20


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def passed(echoes: Echoes, clock: Clock, took_s: float, *, prompt: bool = True) -> Tensor | None:
    """One frame, there and back."""
    asked, tensor = echoes.ask("b")
    clock.now += took_s
    assert echoes.came(msgspec.structs.replace(asked, back=True, prompt=prompt))
    return tensor


def known(round_trip_s: float = 0.002) -> Way:
    way = Way()
    for at in range(3):
        way.small(round_trip_s, float(at))
    return way


# -- a way ----------------------------------------------------------------------------------------------------


def test_half_the_shortest_of_the_latest_round_trips_is_the_latency():
    way = Way()
    for took_s in (0.9, 0.002, 0.7):
        way.small(took_s, 0.0)
    assert way.figures == (pytest.approx(0.001), None)
    for _ in range(LATELY):
        way.small(0.04, 1.0)
    assert way.figures == (pytest.approx(0.02), None)


def test_a_new_way_is_asked_in_quick_succession_and_then_it_is_not_young_any_more():
    echoes = Echoes("a", clock := Clock())
    for _ in range(YOUNG):
        assert echoes.young("b")
        passed(echoes, clock, 0.002)
    assert not echoes.young("b")
    assert echoes.young("c")


def test_the_second_highest_of_the_latest_rates_is_the_bandwidth_since_busy_machines_make_the_others_low():
    way = known()
    for took_s in (0.5, 0.012, 0.5, 0.012, 0.006):
        way.large(MB, took_s, 0.0)
    assert way.figures.bandwidth_bytes_per_s == pytest.approx(MB / 0.01)


@given(st.lists(st.floats(1e-5, 1e-3), min_size=1, max_size=KEPT), st.lists(st.floats(0, 0.01), max_size=20))
def test_no_rate_is_ever_told_that_was_not_measured_over_a_time_long_enough(small, large):
    way = Way()
    for took_s in small:
        way.small(took_s, 0.0)
    for took_s in large:
        way.large(MB, took_s, 0.0)
    rate = way.figures.bandwidth_bytes_per_s
    assert rate is None or 0 < rate <= MB / LEAST_BEYOND_S


def test_where_small_frames_are_spread_a_short_difference_says_nothing():
    way = Way()
    for took_s in (0.001, 0.002, 0.003, 0.004, 0.005):
        way.small(took_s, 0.0)
    way.large(MB, 0.005, 0.0)  # a millisecond is the spread
    assert way.figures.bandwidth_bytes_per_s is None
    way.large(MB, 0.013, 0.0)
    assert way.figures.bandwidth_bytes_per_s == pytest.approx(MB / 0.01)


def test_a_fast_link_is_measured_with_larger_frames_and_a_slow_one_with_smaller():
    fast, slow = known(), known()
    for _ in range(10):
        fast.large(fast.bulk_bytes, 0.0021, 0.0)
        slow.large(slow.bulk_bytes, 1.0, 0.0)
    assert fast.figures.bandwidth_bytes_per_s is None
    assert (fast.bulk_bytes, slow.bulk_bytes) == (MOST_BULK_BYTES, LEAST_BULK_BYTES)


def test_what_held_up_a_frame_on_a_fast_link_is_not_taken_for_its_bandwidth():
    way = known()
    for took_s in (0.0021, 0.0021, 0.3, 0.0021, 0.0021, 0.3, 0.0021, 0.0021, 0.0021, 0.0021, 0.3):
        way.large(MOST_BULK_BYTES, took_s, 0.0)
    assert way.figures.bandwidth_bytes_per_s is None


def test_a_probe_is_due_often_at_first_then_seldom_and_never_where_traffic_tells():
    way = Way()
    assert not way.wants_bulk(0.0)  # before anything is known of small frames
    way.small(0.001, 0.0)
    assert way.wants_bulk(0.0)
    assert not way.wants_bulk(YOUNG_EVERY_S / 2)
    for number in range(WINDOW):
        way.large(MB, 0.1, float(number))
    now = WINDOW - 1.0
    assert not way.wants_bulk(now + IDLE_EVERY_S / 2)
    assert way.wants_bulk(now + IDLE_EVERY_S)
    way.large(MB, 0.9, now)  # the link may have changed
    assert way.wants_bulk(now + YOUNG_EVERY_S)


def test_the_history_is_bounded_in_time_and_number():
    way = Way()
    for number in range(3 * HISTORY):
        way.small(0.001, number * HISTORY_EVERY_S / 2)
    assert len(way.moments) == HISTORY
    assert all(later.at - earlier.at >= HISTORY_EVERY_S for earlier, later in itertools.pairwise(way.moments))
    assert way.moments[-1].at >= (3 * HISTORY - 2) * HISTORY_EVERY_S / 2


# -- echoes ---------------------------------------------------------------------------------------------------


def test_a_large_frame_is_sent_where_no_traffic_tells():
    echoes = Echoes("a", clock := Clock())
    assert passed(echoes, clock, 0.002) is None
    large = passed(echoes, clock, 0.012)
    assert large.nbytes == FIRST_BULK_BYTES
    assert echoes.links["b"].bandwidth_bytes_per_s == pytest.approx(FIRST_BULK_BYTES / 0.01)
    assert echoes.links["b"].latency_s == pytest.approx(0.001)
    assert passed(echoes, clock, 0.002) is None


def test_the_rings_own_frames_are_timed_if_nothing_is_in_front_of_them():
    echoes = Echoes("a", clock := Clock())
    assert echoes.behind("b", MB) is None  # nothing is known yet to compare with
    passed(echoes, clock, 0.002)
    assert echoes.behind("b", PASSIVE_BYTES - 1) is None
    first = echoes.behind("b", MB)
    assert echoes.behind("b", MB) is None  # would have to wait for the first one
    clock.now += 0.012
    echoes.came(msgspec.structs.replace(first, back=True))
    assert echoes.links["b"].bandwidth_bytes_per_s == pytest.approx(MB / 0.01)
    assert echoes.behind("b", MB) is None  # the second may still be on its way
    asked, large = echoes.ask("b")
    assert large is None  # traffic told
    echoes.came(msgspec.structs.replace(asked, back=True))
    assert echoes.behind("b", MB) is not None


def test_an_echo_that_waited_for_a_step_tells_nothing_of_the_link():
    echoes = Echoes("a", clock := Clock())
    passed(echoes, clock, 0.002)
    before = echoes.links["b"]
    passed(echoes, clock, 5.0, prompt=False)
    passed(echoes, clock, 5.0, prompt=False)
    behind = echoes.behind("b", MB)
    assert behind is not None  # but it says that what was before it has arrived
    clock.now += 5.0
    echoes.came(msgspec.structs.replace(behind, back=True, prompt=False))
    assert echoes.links["b"] == before
    echoes.prompt = False
    assert not echoes.answer(Echo(node="b", stamp=1)).prompt
    echoes.prompt = True
    assert echoes.answer(Echo(node="b", stamp=1)) == Echo(node="b", stamp=1, back=True)


def test_an_echo_counts_once_and_those_that_never_come_back_are_forgotten():
    echoes = Echoes("a", Clock())
    asked = [echoes.ask("b")[0] for _ in range(WAITING + 1)]
    assert not echoes.came(asked[0])
    assert echoes.came(asked[-1])
    assert not echoes.came(asked[-1])
    assert len(echoes.history("b")) == 1
    echoes.forget("b")
    assert echoes.links == {}
    assert echoes.history("b") == ()


def test_a_prompt_of_many_positions_measures_the_link_it_takes():
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            await until(lambda: made[1].id in made[0].ring.echoes.links, "the link is known")
            made.network.delay = lambda source, to: 0.003
            sent = []
            behind = made[0].ring.echoes.behind
            made[0].ring.echoes.behind = lambda node, size: sent.append(size) or behind(node, PASSIVE_BYTES)
            await made.answer(0, prompt=tuple(range(1, 40)))
            assert max(sent) > 39 * 4
            way = made[0].ring.echoes._ways[made[1].id]
            await until(lambda: way.confirmed == way.sent > 0, "what came back behind it says that it has arrived")
            now = time.time()
            (*_, latest) = link_history(made[0], made[1].id)
            assert now - 60 < latest.at_s <= now + 1
            assert latest.latency_s > 0
            assert link_history(made[0], made[0].id) == ()

    asyncio.run(check())


def test_links_are_not_measured_while_an_answer_is_computed():
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            gate = made.gates["n1"]
            gate.close_before(1)
            request = made.ask(0, max_tokens=4)
            await until(gate.reached.is_set, "it is at work")
            before = made[0].ring.echoes._stamp
            for _ in range(5):
                made[0].ring.post(Measure((made[1].id,)))
            made[0].ring.post(Measure(()))
            gate.open()
            await until(request.over.is_set, "it is over")
            assert made[0].ring.echoes._stamp == before

    asyncio.run(check())


def test_an_echo_of_a_stranger_is_counted_and_goes_nowhere():
    async def check():
        async with cluster(2) as made:
            echo = Echo(node="f" * 12, stamp=1)
            made[1].parts.data.send(made[0].parts.data.address, echo, None, 1.0)
            await until(lambda: made[0].stages.counters["echo for a stranger"] == 1, "it is counted")
            made[1].parts.data.send(made[0].parts.data.address, Echo(node=made[1].id, stamp=99, back=True), None, 1.0)
            await until(lambda: made[0].stages.counters["late echo"] == 1, "so is one that nobody asked for")

    asyncio.run(check())
