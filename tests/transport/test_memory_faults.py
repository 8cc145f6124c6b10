"""Faults of the in-process network: cut off, slowed, fed with nonsense. What the sockets cannot do on command."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from exo_lab.core.errors import PeerUnreachable, TransportError
from exo_lab.core.messages import Cancel, Ping, Pong
from exo_lab.transport.frames import encode, encode_control
from exo_lab.transport.memory import MemoryNetwork

WITHIN_S = 10.0


async def echo(message):
    yield Pong(sequence=message.sequence)


def test_nothing_reaches_or_leaves_an_address_that_was_dropped_until_it_is_restored():
    network = MemoryNetwork()
    data_a, data_b = network.data("a"), network.data("b")

    async def scenario() -> None:
        a, b = network.control("a"), network.control("b")
        await a.start(echo)
        await b.start(echo)
        for dropped in (a.address, b.address):
            network.drop(dropped)
            for asker, other in ((a, b), (b, a)):
                with pytest.raises(PeerUnreachable):
                    await asker.request(other.address, Ping(sequence=1), timeout_s=0.05)
            with pytest.raises(PeerUnreachable):
                data_a.send(data_b.address, Cancel(request="x"), timeout_s=0.05)
            network.restore(dropped)
        assert await a.request(b.address, Ping(sequence=2), timeout_s=5) == Pong(sequence=2)
        await a.close()
        await b.close()

    asyncio.run(scenario())
    data_a.send(data_b.address, Cancel(request="y"))
    assert data_b.recv(WITHIN_S) == (Cancel(request="y"), None)


def test_delayed_frames_come_late_and_in_order():
    network = MemoryNetwork()
    a, b = network.data("a"), network.data("b")
    network.delay = lambda source, target: 0.1 if (source, target) == (a.address, b.address) else 0.0
    began = time.monotonic()
    a.send(b.address, Cancel(request="1"))
    assert time.monotonic() - began < 0.09
    assert b.recv(0.0) is None
    assert b.recv(WITHIN_S) == (Cancel(request="1"), None)
    assert time.monotonic() - began >= 0.1


def test_injected_nonsense_is_refused_and_counted():
    network = MemoryNetwork()
    data = network.data("a")
    network.inject(data.address, [b"D\x01", b"?"])
    network.inject(data.address, [b"nothing"])
    network.inject(data.address, [bytes(part) for part in encode(Cancel(request="good"))])
    assert data.recv(WITHIN_S) == (Cancel(request="good"), None)
    assert data.stats().refused == {"header": 1, "number of parts": 1}

    async def scenario() -> None:
        port, asker = network.control("a"), network.control("b")
        await port.start(echo)
        for parts in ([b""], [b"Q" + bytes(8), b"C\x09?"], [b"?" + bytes(8), encode_control(Ping(sequence=1))]):
            network.inject(port.address, parts, control=True)
        assert await asker.request(port.address, Ping(sequence=2), timeout_s=5) == Pong(sequence=2)
        assert port.stats().refused == {"packet": 2, "protocol version": 1}
        await port.close()
        await asker.close()

    asyncio.run(scenario())


def test_ports_on_loops_of_different_threads_reach_each_other():
    network = MemoryNetwork()
    a, b = network.control("a"), network.control("b")
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        await b.start(echo)
        ready.set()
        await asyncio.to_thread(over.wait, WITHIN_S)
        await b.close()

    async def ask() -> None:
        for sequence in range(50):
            assert await a.request(b.address, Ping(sequence=sequence), timeout_s=5) == Pong(sequence=sequence)
        await a.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(WITHIN_S)
        asyncio.run(ask())
    finally:
        over.set()
        thread.join(WITHIN_S)
    assert not thread.is_alive()


def test_a_name_belongs_to_one_port_of_a_kind_until_it_is_closed():
    network = MemoryNetwork()
    data = network.data("a")
    network.control("a")
    with pytest.raises(TransportError, match="already"):
        network.data("a")
    with pytest.raises(TransportError, match="already"):
        network.control("a")
    data.close()
    assert network.data("a").address == "memory://a"
