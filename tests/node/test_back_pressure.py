"""Queues that are full: nothing is lost, nobody locks up, and a slow node holds up only what needs it."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.core.errors import FrameError, PeerUnreachable, TransportError
from exo_lab.core.messages import Cancel, Step
from exo_lab.engines import convert
from exo_lab.engines.base import PREFILL_CHUNK
from exo_lab.node import outbox as outboxes
from exo_lab.node import steps as step_queues
from exo_lab.node.outbox import Outbox
from exo_lab.node.steps import StepQueue
from tests.node.clusters import cluster, tokens_of, until
from tests.tiny import tiny_config, tiny_source

TIGHT = {"data_options": {"high_water_mark": 1}}
LONG = tuple(3 + i % 200 for i in range(4000))


@pytest.fixture(scope="module")
def wide():
    """A tiny model with room for a long prompt."""
    return tiny_source(tiny_config(context_length=4200, hidden_size=32, intermediate_size=32, head_dim=8))


def test_a_prompt_of_four_thousand_tokens_passes_through_queues_of_one_frame(wide):
    async def check():
        async with cluster(3, source=wide, parts=TIGHT) as made:
            await made.load((1, 2, 1))
            assert await made.answer(1, LONG, max_tokens=3) == made.expected(LONG, max_tokens=3)

    asyncio.run(check())


def test_the_chunks_of_a_prompt_overlap_along_the_ring(wide):
    async def check():
        async with cluster(3, source=wide) as made:
            await made.load((1, 2, 1))
            last = made.gates["n2"]
            last.close_before(0)  # the last stage does not even begin ...
            request = made.ask(0, LONG, max_tokens=2)
            chunks = -(-len(LONG) // PREFILL_CHUNK)
            await until(lambda: made.gates["n0"].calls == chunks, "the first stage is through with the whole prompt")
            await until(lambda: made.gates["n1"].calls == chunks, "and so is the second")
            last.open()
            assert await tokens_of(request) == made.expected(LONG, max_tokens=2)

    asyncio.run(check())


def test_requests_of_all_nodes_through_queues_of_one_frame_do_not_lock_each_other_up(wide):
    async def check():
        async with cluster(3, source=wide, parts=TIGHT) as made:
            await made.load((1, 2, 1))
            prompts = [LONG[start : start + 700] for start in range(0, 90, 10)]
            expected = [made.expected(prompt, max_tokens=4) for prompt in prompts]  # now: it holds up the control loop
            await made.all_met()
            requests = [made.ask(index % 3, prompt, max_tokens=4) for index, prompt in enumerate(prompts)]
            for request, tokens in zip(requests, expected, strict=True):
                assert await tokens_of(request) == tokens
            await made.free_of_sessions()

    asyncio.run(check())


def test_a_stage_that_stands_still_holds_up_only_the_plans_it_is_part_of():
    async def check():
        async with cluster(3, parts=TIGHT) as made:
            await made.load((2, 2), (0, 1))
            made.gates["n1"].close_before(0)
            stuck = [made.ask(0, range(3, 250)) for _ in range(8)]
            await until(made.gates["n1"].reached.is_set, "one stage stands still")
            # Node 0 has frames for it that it does not take, and still serves another ring at once.
            await asyncio.wait_for(made.load((2, 2), (0, 2)), 10)
            assert await made.answer(2) == made.expected()
            made.gates["n1"].open()
            for request in stuck:
                assert await tokens_of(request) == made.expected(range(3, 250))

    asyncio.run(check())


def test_a_token_of_one_request_does_not_wait_for_the_whole_prompt_of_another():
    queue = StepQueue()
    for position in range(0, 4000, PREFILL_CHUNK):
        queue.add(step("long", position), None)
    queue.add(step("short", 7), None)
    assert [queue.pop()[0].request for _ in range(2)] == ["long", "short"]


# -- steps that wait ---------------------------------------------------------------------------------------


def step(request, position=0):
    return Step(request=request, model="m", epoch=1, proposer="p", stage=0, position=position)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), max_size=30), st.sampled_from("abcd"))
def test_steps_of_a_request_stay_in_order_and_requests_take_turns(arrivals, dropped):
    queue = StepQueue()
    for position, (request, size) in enumerate(arrivals):
        queue.add(step(request, position), convert.tokens([1] * size))
    assert queue.drop(dropped) == sum(request == dropped for request, _ in arrivals)
    left = [(request, position) for position, (request, _) in enumerate(arrivals) if request != dropped]
    assert len(queue) == len(left)
    popped = []
    while len(queue):
        waiting = {request for request, _ in left} - {request for request, _ in popped[-1:]}
        made, _ = queue.pop()
        popped.append((made.request, made.position))
        left.remove(popped[-1])
        if waiting and len(popped) > 1 and made.request == popped[-2][0]:
            assert not any(request != made.request for request, _ in left)  # only who is alone goes twice
    for name in "abc":
        mine = [position for request, position in popped if request == name]
        assert mine == sorted(mine)
    assert queue._bytes == 0
    with pytest.raises(LookupError):
        queue.pop()


def test_a_queue_is_full_by_count_or_by_bytes(monkeypatch):
    monkeypatch.setattr(step_queues, "MAX_STEPS", 3)
    monkeypatch.setattr(step_queues, "MAX_BYTES", 100)
    queue = StepQueue()
    for _ in range(3):
        assert not queue.full
        queue.add(step("a"), None)
    assert queue.full
    queue.drop("a")
    queue.add(step("a"), convert.tokens([1] * 25))
    assert queue.full
    queue.pop()
    assert not queue.full


# -- frames on their way out -------------------------------------------------------------------------------


class Port:
    """Takes as many frames per address as `room` says. The clock is the test's."""

    def __init__(self):
        self.now = 0.0
        self.room: dict[str, int] = {}
        self.sent: list[tuple[str, str]] = []
        self.forgotten: list[str] = []
        self.error: TransportError | None = None

    def send(self, address, message, tensor=None, timeout_s=1.0):
        assert timeout_s == 0.0  # the data thread never waits
        if self.error is not None:
            raise self.error
        if self.room.get(address, 0) <= 0:
            raise PeerUnreachable(f"{address} is full")
        self.room[address] -= 1
        self.sent.append((address, message.request))

    def forget(self, address):
        self.forgotten.append(address)


@pytest.fixture
def port():
    return Port()


@pytest.fixture
def outbox(port):
    return Outbox(port, 5.0, lambda: port.now)


def test_what_can_go_goes_at_once(port, outbox):
    port.room["a"] = 2
    outbox.send("a", Cancel(request="1"))
    assert port.sent == [("a", "1")]
    assert not outbox.waiting
    assert outbox.flush() == []


def test_what_cannot_go_waits_in_order_and_holds_up_no_other_address(port, outbox):
    port.room["b"] = 9
    for request in "12":
        outbox.send("a", Cancel(request=request))
    outbox.send("b", Cancel(request="3"))
    assert port.sent == [("b", "3")]
    port.room["a"] = 1
    outbox.send("a", Cancel(request="4"))  # behind those that wait, although there is room for one
    port.now += 0.01
    assert outbox.flush() == []
    assert port.sent[1:] == [("a", "1")]
    port.room["a"] = 9
    port.now += outbox.pause_s
    outbox.flush()
    assert port.sent[2:] == [("a", "2"), ("a", "4")]
    assert not outbox.waiting
    assert outbox._frames == outbox._bytes == 0


def test_an_address_that_takes_nothing_for_too_long_is_given_up_and_one_that_takes_a_little_is_not(port, outbox):
    for request in "123":
        outbox.send("dead", Cancel(request=request))
        outbox.send("slow", Cancel(request=request))
    unsent = []
    for second in range(1, 8):
        port.now = float(second)
        port.room["slow"] = second == 3
        unsent += outbox.flush()
    assert [(one.address, one.message.request) for one in unsent] == [("dead", r) for r in "123"]
    assert "took no frame for 5 s" in str(unsent[0].error)
    port.now = 8.5
    assert [one.address for one in outbox.flush()] == ["slow", "slow"]
    assert not outbox.waiting
    assert outbox._frames == 0


def test_tries_become_rarer_while_an_address_takes_nothing(port, outbox):
    outbox.send("a", Cancel(request="1"))
    pauses = []
    for _ in range(8):
        pauses.append(outbox.pause_s)
        port.now += outbox.pause_s
        outbox.flush()
    assert pauses == sorted(pauses)
    assert pauses[0] == outboxes.FIRST_PAUSE_S
    assert pauses[-1] == pytest.approx(outboxes.LAST_PAUSE_S)


def test_a_frame_that_can_never_go_is_reported_and_a_closed_port_is_an_error(port, outbox):
    port.error = FrameError("too large")
    outbox.send("a", Cancel(request="1"))
    assert outbox.waiting
    assert outbox.pause_s == 0.0
    assert [str(one.error) for one in outbox.flush()] == ["too large"]
    port.error = TransportError("the data port is closed")
    with pytest.raises(TransportError):
        outbox.send("a", Cancel(request="2"))


def test_a_cancelled_request_and_a_lost_node_leave_nothing_behind(port, outbox):
    for request in "121":
        outbox.send("a", step(request), convert.tokens([1, 2]), "node a")
        outbox.send("b", step(request), convert.tokens([1, 2]))
    outbox.drop("1")
    assert (outbox._frames, outbox._bytes) == (2, 16)
    dropped = outbox.forget("a")
    assert [(one.message.request, one.node) for one in dropped] == [("2", "node a")]
    assert outbox.forget("nobody") == []
    assert port.forgotten == ["a", "nobody"]
    assert (outbox._frames, outbox._bytes) == (1, 8)
    port.room["b"] = 9
    port.now += 1
    outbox.flush()
    assert port.sent == [("b", "2")]


def test_the_word_that_a_request_is_over_is_not_forgotten_with_what_waits_of_it(port, outbox):
    outbox.send("a", step("1"), convert.tokens([1, 2]))
    outbox.send("a", Cancel(request="1"))
    outbox.drop("1")
    assert (outbox._frames, outbox._bytes) == (1, 0)
    port.room["a"] = 1
    port.now += 1
    outbox.flush()
    assert port.sent == [("a", "1")]


def test_too_much_on_its_way_out_is_said(port, outbox, monkeypatch):
    monkeypatch.setattr(outboxes, "MAX_FRAMES", 2)
    monkeypatch.setattr(outboxes, "MAX_BYTES", 100)
    outbox.send("a", Cancel(request="1"))
    assert not outbox.full
    outbox.send("a", step("1"), convert.tokens([1] * 25))
    assert outbox.full
    outbox.drop("1")
    assert not outbox.full
    assert not outbox.flush()
