"""What a control port promises, on sockets and on their in-process twin alike."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from contextlib import AsyncExitStack, aclosing

import pytest

from exo_lab.core.errors import DoesNotFit, ExoError, FrameError, PeerUnreachable, TransportError
from exo_lab.core.messages import Done, GetStats, Leave, Ping, Pong, Progress, Stats
from exo_lab.transport import exchange
from exo_lab.transport.frames import Malformed

WITHIN_S = 10.0


async def echo(message):
    """A handler: echoes pings, counts in progress steps on GetStats."""
    match message:
        case Ping(sequence=sequence, payload=payload):
            yield Pong(sequence=sequence, payload=payload)
        case GetStats():
            for done in range(5):
                yield Progress(done=done, total=5)
            yield Stats(sessions=5)


def run(network, scenario, handler=echo) -> None:
    """Run `scenario(a, b)` with two ports, of which b answers by `handler`; every wait in it has this deadline."""

    async def main() -> None:
        a, b = network.control("a"), network.control("b")
        async with AsyncExitStack() as stack:
            stack.push_async_callback(a.close)
            stack.push_async_callback(b.close)
            await b.start(handler)
            async with asyncio.timeout(WITHIN_S):
                await scenario(a, b)
        assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    asyncio.run(main())


def test_a_request_is_answered(network):
    async def scenario(a, b):
        for sequence in range(20):
            reply = await a.request(b.address, Ping(sequence=sequence, payload=b"x" * 1000), timeout_s=5)
            assert reply == Pong(sequence=sequence, payload=b"x" * 1000)
        assert (a.stats().asked, b.stats().answered) == (20, 20)

    run(network, scenario)


def test_a_node_may_ask_itself(network):
    async def scenario(a, b):
        assert await b.request(b.address, Ping(sequence=1), timeout_s=5) == Pong(sequence=1)

    run(network, scenario)


def test_requests_at_the_same_time_get_their_own_answers(network):
    async def reversing(message):
        await asyncio.sleep((20 - message.sequence) / 1000)  # later ones are answered first
        yield Pong(sequence=message.sequence)

    async def scenario(a, b):
        replies = await asyncio.gather(*(a.request(b.address, Ping(sequence=n), timeout_s=5) for n in range(20)))
        assert [reply.sequence for reply in replies] == list(range(20))

    run(network, scenario, reversing)


def test_a_stream_yields_every_reply_and_a_request_the_last(network):
    async def scenario(a, b):
        replies = [reply async for reply in a.stream(b.address, GetStats(), timeout_s=5)]
        assert replies == [*(Progress(done=n, total=5) for n in range(5)), Stats(sessions=5)]
        assert await a.request(b.address, GetStats(), timeout_s=5) == Stats(sessions=5)

    run(network, scenario)


def test_replies_stream_while_the_handler_works(network):
    async def scenario(a, b):
        async with aclosing(a.stream(b.address, GetStats(), timeout_s=5)) as replies:
            async for reply in replies:
                seen.append(reply)
                go_on.set()
        assert len(seen) == 3

    async def waiting(message):
        # Each reply is read before the next is made, or this never ends.
        for done in range(3):
            yield Progress(done=done, total=3)
            await go_on.wait()
            go_on.clear()

    seen: list[object] = []
    go_on = asyncio.Event()
    run(network, scenario, waiting)


def test_a_stream_may_last_longer_than_its_deadline_but_not_be_silent_for_so_long(network):
    async def ticking(message):
        for done in range(6):
            await asyncio.sleep(0.1)
            yield Progress(done=done, total=6)
        await asyncio.Event().wait()

    async def scenario(a, b):
        seen: list[object] = []
        with pytest.raises(PeerUnreachable, match=r"GetStats within 0\.4 s"):
            async for reply in a.stream(b.address, GetStats(), timeout_s=0.4):
                seen.append(reply)
        assert len(seen) == 6

    run(network, scenario, ticking)


def test_leaving_a_stream_early_stops_the_handler(network):
    stopped = asyncio.Event()

    async def endless(message):
        try:
            while True:
                yield Progress(done=0, total=0)
                await asyncio.sleep(0.01)
        finally:
            stopped.set()

    async def scenario(a, b):
        async for _ in a.stream(b.address, GetStats(), timeout_s=5):
            break
        await stopped.wait()

    run(network, scenario, endless)


def test_no_answer_is_unreachable_in_time_and_stops_the_handler(network):
    stopped = asyncio.Event()

    async def silent(message):
        try:
            await asyncio.Event().wait()
            yield Done()
        finally:
            stopped.set()

    async def scenario(a, b):
        # A connection that has answered once, and then one that never did, end the same way.
        began = time.monotonic()
        with pytest.raises(PeerUnreachable, match=r"did not answer Ping within 0\.3 s"):
            await a.request(b.address, Ping(sequence=1), timeout_s=0.3)
        assert time.monotonic() - began < 2

    run(network, scenario, silent)

    async def scenario_of_one_known(a, b):
        await a.request(b.address, Leave(node="x"), timeout_s=5)
        with pytest.raises(PeerUnreachable):
            await a.request(b.address, Ping(sequence=1), timeout_s=0.2)
        await stopped.wait()

    async def sometimes(message):
        if isinstance(message, Leave):
            yield Done()
            return
        async for reply in silent(message):
            yield reply

    stopped.clear()
    run(network, scenario_of_one_known, sometimes)


def test_asking_where_nobody_listens_is_unreachable(network):
    async def scenario(a, b):
        address = b.address
        await b.close()
        for where in (address, "memory://nobody" if network.kind == "memory" else "tcp://127.0.0.1:9", "nonsense"):
            with pytest.raises(PeerUnreachable):
                await a.request(where, Ping(sequence=1), timeout_s=0.2)

    run(network, scenario)


def test_a_late_reply_is_dropped_and_counted(network):
    async def late(message):
        # A handler that insists on its answer, so that it comes after the asker left.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(5 if message.sequence else 0)
        yield Progress(done=message.sequence, total=0)

    async def scenario(a, b):
        await a.request(b.address, Ping(sequence=0), timeout_s=5)
        async with aclosing(a.stream(b.address, Ping(sequence=1), timeout_s=0.1)) as replies:
            with pytest.raises(PeerUnreachable):
                await anext(replies)
        assert await a.request(b.address, Ping(sequence=0), timeout_s=5) == Progress(done=0, total=0)
        assert a.stats().late_replies == 1

    run(network, scenario, late)


class Particular(DoesNotFit):
    """An error that only one side knows."""


@pytest.mark.parametrize(
    ("raised", "seen", "text"),
    [
        (DoesNotFit("short by 3 GiB"), DoesNotFit, "short by 3 GiB [reported by node b]"),
        (Particular("short by 4 GiB"), DoesNotFit, "short by 4 GiB [reported by node b]"),
        (Malformed("dtype", "odd"), FrameError, "odd [reported by node b]"),
        (ZeroDivisionError("oops"), ExoError, "ZeroDivisionError: oops [reported by node b]"),
    ],
)
@pytest.mark.parametrize("after", [0, 1])
def test_an_error_of_the_handler_is_raised_where_it_was_asked(network, raised, seen, text, after, caplog):
    async def failing(message):
        for done in range(after):
            yield Progress(done=done, total=0)
        raise raised

    async def scenario(a, b):
        with pytest.raises(ExoError) as one:
            await a.request(b.address, Ping(sequence=1), timeout_s=5)
        replies: list[object] = []
        with pytest.raises(ExoError) as other:
            async for reply in a.stream(b.address, Ping(sequence=1), timeout_s=5):
                replies.append(reply)
        assert len(replies) == after
        for got in (one.value, other.value):
            assert type(got) is seen
            assert str(got) == text
        # The port goes on.
        assert "Traceback" in caplog.text or isinstance(raised, ExoError)

    with caplog.at_level(logging.ERROR):
        run(network, scenario, failing)


def test_a_handler_that_answers_nothing_is_an_error_for_a_request_and_an_end_for_a_stream(network):
    async def mute(message):
        return
        yield

    async def scenario(a, b):
        with pytest.raises(TransportError, match="with nothing"):
            await a.request(b.address, Ping(sequence=1), timeout_s=5)
        assert [reply async for reply in a.stream(b.address, Ping(sequence=1), timeout_s=5)] == []

    run(network, scenario, mute)


def test_an_answer_too_large_to_send_is_refused_and_not_awaited(network, monkeypatch):
    async def large(message):
        yield Pong(sequence=1, payload=bytes(17 << 20))

    async def scenario(a, b):
        with pytest.raises(FrameError, match="at most 16777216"):
            await a.request(b.address, Ping(sequence=1), timeout_s=5)
        with pytest.raises(FrameError, match="at most 16777216"):
            await a.request(b.address, Ping(sequence=1, payload=bytes(17 << 20)), timeout_s=5)

    run(network, scenario, large)


def test_questions_wait_for_the_port_to_start(network):
    async def scenario(a, b):
        asking = asyncio.create_task(b.request(a.address, Ping(sequence=4), timeout_s=5))
        await asyncio.sleep(0)
        await a.start(echo)
        assert await asking == Pong(sequence=4)
        with pytest.raises(TransportError, match="started"):
            await a.start(echo)

    run(network, scenario)


def test_work_at_the_same_time_is_bounded_and_what_is_too_much_is_told_so(network):
    go_on = asyncio.Event()
    at_once = most = 0

    async def slow(message):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await go_on.wait()
        at_once -= 1
        yield Pong(sequence=message.sequence)

    async def scenario(a, b):
        asked = [asyncio.create_task(a.request(b.address, Ping(sequence=n), timeout_s=5)) for n in range(50)]
        waiting: set[asyncio.Task] = set(asked)
        while len(waiting) > exchange.MAX_HANDLERS_PER_PEER:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        go_on.set()  # only now do those in work go on, so what ended before was refused
        done = await asyncio.gather(*asked, return_exceptions=True)
        refused = [one for one in done if isinstance(one, TransportError)]
        assert most == exchange.MAX_HANDLERS_PER_PEER
        assert len(refused) == 50 - most
        assert "at once" in str(refused[0])
        assert b.stats().refused == {"busy": 50 - most}

    run(network, scenario, slow)


def test_closing_the_asker_ends_what_it_waits_for(network):
    async def silent(message):
        started.set()
        await asyncio.Event().wait()
        yield Done()

    async def scenario(a, b):
        one = asyncio.create_task(a.request(b.address, Ping(sequence=1), timeout_s=60))
        await started.wait()
        await a.close()
        with pytest.raises(TransportError, match="closed while"):
            await one
        with pytest.raises(TransportError, match="closed"):
            await a.request(b.address, Ping(sequence=1), timeout_s=1)
        await a.close()

    started = asyncio.Event()
    run(network, scenario, silent)


def test_closing_the_answerer_lets_its_handlers_clean_up(network):
    async def silent(message):
        started.set()
        try:
            await asyncio.Event().wait()
            yield Done()
        finally:
            cleaned.append(message.sequence)

    async def scenario(a, b):
        one = asyncio.create_task(a.request(b.address, Ping(sequence=8), timeout_s=60))
        await started.wait()
        await b.close()
        assert cleaned == [8]
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one

    cleaned: list[int] = []
    started = asyncio.Event()
    run(network, scenario, silent)


def test_a_peer_that_returns_is_found_again(network):
    async def scenario(a, b):
        await a.request(b.address, Ping(sequence=1), timeout_s=5)
        address = b.address
        await b.close()
        with pytest.raises(PeerUnreachable):
            await a.request(address, Ping(sequence=2), timeout_s=0.2)
        if network.kind == "memory":
            back = network.control("b")
        else:
            back = network.context().control(port=int(address.rpartition(":")[2]))
        await back.start(echo)
        assert await a.request(address, Ping(sequence=3), timeout_s=5) == Pong(sequence=3)
        await back.close()

    run(network, scenario)


def test_large_answers_arrive_whole(network):
    async def many(message):
        for done in range(40):
            yield Pong(sequence=done, payload=bytes(1 << 20))

    async def scenario(a, b):
        replies = [reply async for reply in a.stream(b.address, Ping(sequence=1), timeout_s=5)]
        assert [reply.sequence for reply in replies] == list(range(40))
        assert {len(reply.payload) for reply in replies} == {1 << 20}

    run(network, scenario, many)
