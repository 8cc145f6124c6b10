"""Echoes between data threads: latency from small frames, bandwidth from large ones, nothing from strangers."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from exo_lab.core.messages import Echo
from exo_lab.node.echoes import BULK_BYTES, WAITING, Echoes
from exo_lab.node.orders import Measure
from tests.node.clusters import cluster, until


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def passed(echoes: Echoes, clock: Clock, took_s: float, *, bulk: bool = False) -> None:
    asked, tensor = echoes.ask("b", bulk=bulk)
    assert (tensor is not None) == bulk
    clock.now += took_s
    assert echoes.came(msgspec.structs.replace(asked, back=True))


def test_half_the_median_round_trip_is_the_latency():
    echoes = Echoes("a", clock := Clock())
    for took_s in (0.002, 0.002, 0.9):
        passed(echoes, clock, took_s)
    assert echoes.links["b"].latency_s == pytest.approx(0.001)
    assert echoes.links["b"].bandwidth_bytes_per_s is None


def test_what_a_large_frame_takes_longer_is_the_bandwidth():
    echoes = Echoes("a", clock := Clock())
    passed(echoes, clock, 0.002)
    passed(echoes, clock, 0.002 + BULK_BYTES / 1e8, bulk=True)
    assert echoes.links["b"].bandwidth_bytes_per_s == pytest.approx(1e8)
    assert echoes.links["b"].latency_s == pytest.approx(0.001)


def test_a_large_frame_that_was_faster_than_a_small_one_says_nothing():
    echoes = Echoes("a", clock := Clock())
    passed(echoes, clock, 0.002)
    passed(echoes, clock, 0.001, bulk=True)
    assert echoes.links["b"].bandwidth_bytes_per_s is None


def test_an_echo_counts_once_and_those_that_never_come_back_are_forgotten():
    echoes = Echoes("a", Clock())
    asked = [echoes.ask("b", bulk=False)[0] for _ in range(WAITING + 1)]
    assert not echoes.came(asked[0])
    assert echoes.came(asked[-1])
    assert not echoes.came(asked[-1])
    echoes.forget("b")
    assert echoes.links == {}


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
