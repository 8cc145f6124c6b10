"""A name server that is silent, or knows nothing, holds nobody up."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from exo_lab.discovery import names
from exo_lab.discovery.base import Found
from exo_lab.discovery.names import AGAIN_S, FRESH_S, Names, look_up

WITHIN_S = 10.0


def found(*addresses: str) -> list[Found]:
    return [Found(address=one, source="a file") for one in addresses]


def addresses(ones) -> list[str]:
    return [one.address for one in ones]


class Book:
    """A name server. A name without an address is not known; one in `silent` is never answered."""

    def __init__(self, **known: str) -> None:
        self.known, self.silent, self.asked = known, set(), []

    async def __call__(self, host: str) -> str:
        self.asked.append(host)
        if host in self.silent:
            await asyncio.Event().wait()
        if host not in self.known:
            raise OSError("Name or service not known")
        return self.known[host]


def test_addresses_are_not_looked_up_and_what_is_none_is_left_to_who_connects():
    async def run():
        book = Book()
        given = found("tcp://10.0.0.1:5", "tcp://[fe80::1]:5", "memory://a", "tcp://a b:1", "")
        assert await Names(book).resolve(given) == tuple(given)
        assert book.asked == []

    asyncio.run(run())


def test_a_silent_name_server_delays_nobody_else_and_is_told_after_the_deadline(monkeypatch):
    async def run():
        book = Book(box="10.0.0.1")
        book.silent.add("lost")
        looked_up = Names(book, patience_s=0.01)
        given = found("tcp://lost:5", "tcp://box:5", "tcp://10.0.0.9:5")
        assert addresses(await looked_up.resolve(given)) == ["tcp://10.0.0.1:5", "tcp://10.0.0.9:5"]
        assert looked_up.problems == ()
        async with asyncio.timeout(WITHIN_S):
            while not looked_up.problems:
                await looked_up.resolve(given)
        assert "no name server answered within 0.2 s" in looked_up.problems[0]
        assert book.asked.count("lost") == 1
        await looked_up.close()

    monkeypatch.setattr(names, "DEADLINE_S", 0.2)
    asyncio.run(run())


def test_an_address_is_looked_up_again_now_and_then_and_kept_when_nobody_knows_it_any_more():
    async def run():
        now, book = [0.0], Book(box="10.0.0.1")
        looked_up = Names(book, now=lambda: now[0])
        given = found("tcp://box:5")

        async def at(time_s: float) -> list[str]:
            now[0] = time_s
            return addresses(await looked_up.resolve(given))

        assert await at(0.0) == await at(FRESH_S - 1) == ["tcp://10.0.0.1:5"]
        assert len(book.asked) == 1
        book.known["box"] = "10.0.0.2"
        assert await at(FRESH_S) == ["tcp://10.0.0.2:5"]
        del book.known["box"]
        assert await at(2 * FRESH_S) == ["tcp://10.0.0.2:5"]
        assert "the name box cannot be looked up" in looked_up.problems[0]
        book.known["box"] = "10.0.0.3"
        assert await at(2 * FRESH_S + AGAIN_S) == ["tcp://10.0.0.3:5"]
        assert looked_up.problems == ()

    asyncio.run(run())


def test_what_is_no_longer_in_the_list_is_forgotten_and_closing_ends_what_is_asked():
    async def run():
        book = Book()
        book.silent.add("slow")
        looked_up = Names(book, patience_s=0.001)
        await looked_up.resolve(found("tcp://slow:1", "tcp://unknown:1"))
        assert len(looked_up.problems) == 1
        await looked_up.resolve([])
        assert looked_up.problems == ()
        await looked_up.close()
        await looked_up.close()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


def test_the_system_is_asked_in_a_thread_that_nothing_waits_for(monkeypatch):
    asked, go_on = threading.Event(), threading.Event()

    def getaddrinfo(host, *_, **__):
        asked.set()
        assert go_on.wait(WITHIN_S)
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::7", 0, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.7", 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def run():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await look_up("box")
        assert asked.is_set()
        answer = asyncio.create_task(look_up("box"))
        go_on.set()
        assert await answer == "10.0.0.7"  # nodes listen on IPv4 unless they are told otherwise

    asyncio.run(run())


@pytest.mark.parametrize("name", ["a..b", "x" * 80])
def test_a_malformed_name_is_not_found(name):
    with pytest.raises(OSError, match="not a name"):
        asyncio.run(look_up(name))


def test_this_machine_finds_itself():
    assert asyncio.run(look_up("localhost")) in ("127.0.0.1", "::1")
