"""A probe reports what it measured, and nothing that it did not."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.core.errors import ConfigError, PeerUnreachable, TransportError
from exo_lab.core.messages import Done, Pong
from exo_lab.transport.memory import MemoryNetwork
from exo_lab.transport.probe import measure, summarise


async def echo(message):
    yield Pong(sequence=message.sequence, payload=message.payload)


def probe(network, handler=echo, **options):
    async def main():
        a, b = network.control("a"), network.control("b")
        await b.start(handler)
        try:
            return await measure(a, b.address, **options)
        finally:
            await a.close()
            await b.close()

    return asyncio.run(main())


def test_latency_is_half_a_round_trip_and_the_connection_is_not_part_of_it(network):
    sample = probe(network, samples=9)
    assert 0 < sample.latency_s < 0.2
    assert sample.jitter_s < 0.2
    assert sample.bandwidth_bytes_per_s is None
    assert sample.samples == 9


def test_bandwidth_is_measured_only_with_a_payload(network):
    sample = probe(network, samples=5, payload=1 << 20)
    assert sample.bandwidth_bytes_per_s is None or sample.bandwidth_bytes_per_s > 1e6


def test_a_slow_way_back_counts():
    network = MemoryNetwork()
    network.delay = lambda source, target: 0.02 if source == "memory://b" else 0.0
    assert 0.01 <= probe(network, samples=3).latency_s < 0.1


def test_figures_are_medians_of_what_was_seen():
    sample = summarise([0.010, 0.012, 0.500], [0.112, 0.110, 0.115], 1000)
    assert sample.latency_s == 0.006
    assert sample.jitter_s == pytest.approx(0.001)
    assert sample.bandwidth_bytes_per_s == pytest.approx(2000 / 0.1)
    assert summarise([0.010, 0.012, 0.014], [0.012, 0.013, 0.014], 1000).bandwidth_bytes_per_s is None


@given(st.lists(st.floats(1e-6, 10), min_size=1), st.lists(st.floats(1e-6, 10)), st.integers(1, 1 << 20))
def test_no_figure_is_negative_or_infinite(empty, loaded, payload):
    sample = summarise(empty, loaded, payload)
    assert min(empty) <= 2 * sample.latency_s <= max(empty)
    assert sample.jitter_s >= 0
    assert sample.bandwidth_bytes_per_s is None or 0 < sample.bandwidth_bytes_per_s < float("inf")


def test_wrong_answers_and_silence_are_errors():
    async def other(message):
        yield Done()

    with pytest.raises(TransportError, match="not with its Pong"):
        probe(MemoryNetwork(), other)

    async def silent(message):
        await asyncio.Event().wait()
        yield Done()

    with pytest.raises(PeerUnreachable):
        probe(MemoryNetwork(), silent, timeout_s=0.05)


@pytest.mark.parametrize("options", [{"samples": 0}, {"payload": -1}, {"payload": (1 << 20) + 1}])
def test_a_probe_out_of_range_is_not_run(options):
    with pytest.raises(ConfigError, match="samples >= 1"):
        probe(MemoryNetwork(), **options)
