"""Datagrams over real sockets, on this machine's loopback: heard by everybody who shares the port, and only there."""

from __future__ import annotations

import asyncio
import socket

import pytest

from exo_lab.discovery.interfaces import Interface
from exo_lab.discovery.lan import SocketLan

WITHIN_S = 10.0
# Loopback has a broadcast address on Linux; multicast goes through it too when it is told to.
LO = Interface(name="lo", address="127.0.0.1", prefix=8, broadcast="127.255.255.255", kind="ethernet")
GONE = Interface(name="gone0", address="192.0.2.77", prefix=24, broadcast="192.0.2.255", kind="ethernet")


@pytest.fixture
def udp_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("only", ["multicast", "broadcast"])
def test_several_nodes_of_one_machine_hear_each_other_and_themselves(udp_port, only):
    interface = Interface(
        name="lo",
        address="127.0.0.1",
        prefix=8,
        broadcast=LO.broadcast if only == "broadcast" else "",
        multicast=only == "multicast",
    )

    async def run():
        heard = [asyncio.Queue() for _ in range(3)]
        ports = [
            await SocketLan(udp_port).open([interface], lambda data, host, q=queue: q.put_nowait((data, host)))
            for queue in heard
        ]
        assert [port.problems for port in ports] == [(), (), ()]
        ports[0].send(interface, b"hello")
        async with asyncio.timeout(WITHIN_S):
            for queue in heard:
                assert await queue.get() == (b"hello", "127.0.0.1")
        for port in ports:
            await port.close()
            await port.close()
        assert all(queue.empty() for queue in heard)

    asyncio.run(run())


def test_a_port_that_another_program_holds_is_named_with_what_to_do(udp_port):
    async def run():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("0.0.0.0", udp_port))
            port = await SocketLan(udp_port).open([LO], lambda data, host: None)
            assert f"cannot listen on UDP port {udp_port}" in port.problems[0]
            assert "Another program holds it" in port.problems[0]
            port.send(LO, b"announcing goes on")
            await port.close()

    asyncio.run(run())


def test_a_port_that_is_shared_by_reuse_port_only_is_shared(udp_port):
    async def run():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            other.bind(("0.0.0.0", udp_port))
            port = await SocketLan(udp_port).open([LO], lambda data, host: None)
            assert port.problems == ()
            await port.close()

    asyncio.run(run())


def test_an_interface_that_is_gone_is_a_problem_and_not_a_crash(udp_port):
    async def run():
        port = await SocketLan(udp_port).open([GONE, LO], lambda data, host: None)
        assert any("gone0" in problem for problem in port.problems)
        assert not any("127.0.0.1" in problem for problem in port.problems)
        port.send(GONE, b"to nobody")
        port.send(LO, b"to somebody")
        await port.close()

    asyncio.run(run())


def test_what_is_too_large_for_the_network_is_a_problem_of_that_interface(udp_port):
    async def run():
        port = await SocketLan(udp_port).open([LO], lambda data, host: None)
        port.send(LO, bytes(70_000))
        await asyncio.sleep(0)
        assert "sending on lo (127.0.0.1) failed" in port.problems[0]
        await port.close()

    asyncio.run(run())
