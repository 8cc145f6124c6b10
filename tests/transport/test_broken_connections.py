"""A process that ends closes its sockets, and who asked it is told at once."""

from __future__ import annotations

import asyncio

from exo_lab.core.messages import Done, Ping
from exo_lab.transport.keys import new_token
from exo_lab.transport.memory import MemoryNetwork
from exo_lab.transport.secure import SecureContext

DEADLINE_S = 10.0


async def answer(message):
    yield Done()


def test_who_was_asked_and_closes_its_sockets_is_reported_once_and_by_its_address():
    async def check():
        token = new_token()
        mine, theirs = SecureContext(token), SecureContext(token)
        here, there = mine.control("127.0.0.1", 0), theirs.control("127.0.0.1", 0)
        cut: list[str] = []
        happened = asyncio.Event()

        def told(address: str) -> None:
            cut.append(address)
            happened.set()

        try:
            await here.start(answer)
            await there.start(answer)
            here.on_cut(told)
            await here.request(there.address, Ping(sequence=1), timeout_s=DEADLINE_S)
            assert cut == []
            await there.close()
            await asyncio.wait_for(happened.wait(), DEADLINE_S)
            assert cut == [there.address]
        finally:
            await here.close()
            mine.close()
            theirs.close()

    asyncio.run(check())


def test_closing_a_connection_oneself_is_no_report():
    async def check():
        token = new_token()
        mine, theirs = SecureContext(token), SecureContext(token)
        here, there = mine.control("127.0.0.1", 0), theirs.control("127.0.0.1", 0)
        cut: list[str] = []
        try:
            await here.start(answer)
            await there.start(answer)
            here.on_cut(cut.append)
            await here.request(there.address, Ping(sequence=1), timeout_s=DEADLINE_S)
            await here.close()
            assert cut == []
        finally:
            await there.close()
            mine.close()
            theirs.close()

    asyncio.run(check())


def test_the_twin_reports_a_killed_port_and_not_a_pulled_cable():
    async def check():
        network = MemoryNetwork()
        here, dead, dark = network.control("here"), network.control("dead"), network.control("dark")
        cut: list[str] = []
        for port in (here, dead, dark):
            await port.start(answer)
        here.on_cut(cut.append)
        network.drop(dark.address)
        network.kill(dead.address)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert cut == [dead.address]
        for port in (here, dead, dark):
            await port.close()

    asyncio.run(check())
