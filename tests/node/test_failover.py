"""Generations go on when a stage is lost (law 3): the same tokens, none doubled, none missing, or a clear error."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.errors import DoesNotFit, ExoError, NodeError, NodeLost, PeerUnreachable, PlanError, StaleEpoch
from exo_lab.core.messages import Cancel, Step
from exo_lab.core.plan import plan_from_counts
from exo_lab.node import failover as f
from exo_lab.node.orders import RequesterLost
from tests.node.clusters import FAST, arrived, cluster, over, tokens_of, until

PROMPT = tuple(range(5, 25))
SHORT = {"max_tokens": 24}


def lose(made, how, victim):
    """Take a node away in one of the ways in which they go."""
    made.stopped.append(made[victim])
    match how:
        case "killed":
            made.kill(victim)
        case "cut off":
            made.cut_off(victim)
        case "stopped":
            return asyncio.ensure_future(made[victim].stop())
    return None


@settings(max_examples=12, deadline=None)
@given(
    victim=st.integers(0, 2),
    after=st.integers(0, 9),
    how=st.sampled_from(("killed", "cut off", "stopped")),
    params=st.sampled_from(
        ({}, {"temperature": 0.8, "seed": 3}, {"repetition_penalty": 1.3}, {"speculate": 4}, {"speculate": None})
    ),
)
def test_a_stage_lost_at_any_token_changes_nothing_but_a_notice(victim, after, how, params):
    async def check():
        async with cluster(4) as made:
            await made.load((2, 1, 1))
            gate = made.gates[f"n{victim}"]
            gate.close_before(after)
            request = made.ask(3, PROMPT, **SHORT, **params)
            await until(gate.reached.is_set, "the request is at work")
            leaving = lose(made, how, victim)
            gate.open()
            assert await tokens_of(request) == made.expected(PROMPT, **SHORT, **params)
            assert f"n{victim}" in request.notices[0] or made[victim].id in request.notices[0]
            assert "replayed" in request.notices[-1]
            assert made[victim].id not in request.plan.devices
            if leaving is not None:
                await leaving
            await made.free_of_sessions()
            assert await made.answer(3) == made.expected()

    asyncio.run(check())


def test_a_stage_lost_while_a_long_prompt_is_computed_changes_nothing():
    async def check():
        async with cluster(3) as made:
            await made.load((2, 2), (1, 2))
            prompt = tuple(n % 200 for n in range(300))  # three chunks
            gate = made.gates["n2"]
            gate.close_before(1)
            request = made.ask(0, prompt, **SHORT)
            await until(gate.reached.is_set, "the second chunk is at work")
            made.kill(2)
            made.stopped.append(made[2])
            gate.open()
            assert await tokens_of(request) == made.expected(prompt, **SHORT)

    asyncio.run(check())


def test_requests_of_one_requester_share_one_new_plan():
    async def check():
        async with cluster(3) as made:
            before = await made.load((2, 2), (1, 2))
            gate = made.gates["n2"]
            gate.close_before(6)
            requests = [made.ask(0, (5 + n, 6), **SHORT) for n in range(5)]
            await until(gate.reached.is_set, "they are at work")
            made.kill(2)
            made.stopped.append(made[2])
            gate.open()
            for n, request in enumerate(requests):
                assert await tokens_of(request) == made.expected((5 + n, 6), **SHORT)
            assert {request.plan.epoch for request in requests} == {before.epoch + 1}
            await made.free_of_sessions()

    asyncio.run(check())


def test_two_requesters_that_lose_the_same_stage_both_go_on():
    async def check():
        async with cluster(4) as made:
            await made.load((1, 1, 2), (0, 1, 2))
            gate = made.gates["n2"]
            gate.close_before(5)
            requests = [made.ask(0, (5, 6), **SHORT), made.ask(1, (6, 7), **SHORT), made.ask(3, (7, 8), **SHORT)]
            await until(gate.reached.is_set, "they are at work")
            made.kill(2)
            made.stopped.append(made[2])
            gate.open()
            for n, request in enumerate(requests):
                assert await tokens_of(request) == made.expected((5 + n, 6 + n), **SHORT)
            await made.free_of_sessions()

    asyncio.run(check())


def test_a_node_lost_while_the_failover_loads_on_it_is_survived_too():
    async def check():
        async with cluster(4) as made:
            await made.load((2, 1, 1), (1, 2, 3))
            gate = made.gates["n2"]
            gate.close_before(4)
            request = made.ask(0, PROMPT, **SHORT)
            await until(gate.reached.is_set, "it is at work")
            real, loading = made[3].loader._open_model, asyncio.Event()
            loop = asyncio.get_running_loop()

            def slow(name):
                loop.call_soon_threadsafe(loading.set)
                return real(name)

            made[3].loader._open_model = slow
            made.kill(2)
            gate.open()
            await asyncio.wait_for(loading.wait(), 20)
            made.kill(3)
            made.stopped += [made[2], made[3]]
            assert await tokens_of(request) == made.expected(PROMPT, **SHORT)
            assert request.plan.devices == (made[1].id,)

    asyncio.run(check())


def test_when_nobody_left_has_room_the_error_says_what_is_short_and_what_had_come_is_right():
    async def check():
        async with cluster(1, parts={"memory_bytes": 10_000}) as made:
            for name in ("big", "bigger"):
                await made.add(name, memory_bytes=1 << 30)
            await made.all_met()
            await made.load((2, 2), (1, 2))
            gate = made.gates["bigger"]
            gate.close_before(5)
            made[1].loader._memory_limit_bytes = 1000  # from now on it can hold nothing more
            request = made.ask(0, PROMPT, **SHORT)
            await until(gate.reached.is_set, "it is at work")
            made.kill(2)
            made.stopped.append(made[2])
            gate.open()
            await over(request)
            assert isinstance(request.error, DoesNotFit)
            assert "bigger went away" in str(request.error)
            assert request.notices == ()
            assert "KiB short" in str(request.error)
            tokens = arrived(request)
            assert tokens == made.expected(PROMPT, **SHORT)[: len(tokens)]
            await made.free_of_sessions()

    asyncio.run(check())


def test_a_cancel_during_the_failover_ends_it():
    async def check():
        async with cluster(3) as made:
            await made.load((2, 2), (1, 2))
            gate = made.gates["n2"]
            gate.close_before(5)
            request = made.ask(0, PROMPT, **SHORT)
            await until(gate.reached.is_set, "it is at work")
            made.kill(2)
            made.stopped.append(made[2])
            await until(lambda: request.suspended, "it is being moved")
            made[0].cancel(request)
            gate.open()
            assert request.over.is_set()
            assert request.error is not None
            await made.free_of_sessions()
            await until(lambda: not made[0].ring.requests, "it is forgotten")

    asyncio.run(check())


def test_a_frame_that_is_lost_on_the_way_costs_a_moment_and_no_token():
    async def check():
        timing = msgspec.structs.replace(FAST, stalled_after_s=0.3)
        async with cluster(3, timing=timing) as made:
            plan = await made.load((2, 2), (1, 2))
            gate = made.gates["n1"]
            gate.close_before(6)
            request = made.ask(0, PROMPT, **SHORT)
            await until(gate.reached.is_set, "it is at work")
            real, lost = made[2].ring._message, []

            def lossy(message, tensor):
                if isinstance(message, Step) and not lost:
                    lost.append(message)
                else:
                    real(message, tensor)

            made[2].ring._message = lossy
            gate.open()
            assert await tokens_of(request) == made.expected(PROMPT, **SHORT)
            assert lost
            assert "no token came for" in request.notices[0]
            assert request.plan == plan
            await made.free_of_sessions()

    asyncio.run(check())


def test_a_first_token_that_does_not_come_is_asked_for_again():
    async def check():
        timing = msgspec.structs.replace(FAST, stalled_after_s=0.3)
        async with cluster(3, timing=timing) as made:
            plan = await made.load((2, 2), (1, 2))
            real, lost = made[2].ring._message, []

            def lossy(message, tensor):
                if isinstance(message, Step) and not lost:
                    lost.append(message)
                else:
                    real(message, tensor)

            made[2].ring._message = lossy
            request = made.ask(0, PROMPT, timeout_s=3.0, **SHORT)
            assert await tokens_of(request) == made.expected(PROMPT, **SHORT)
            assert lost
            assert "no token came for" in request.notices[0]
            assert request.plan == plan
            await made.free_of_sessions()

    asyncio.run(check())


@pytest.mark.parametrize("stage", [1, 2])
def test_a_cut_between_two_stages_that_the_requester_does_not_see_is_told_to_it(stage):
    async def check():
        async with cluster(4) as made:
            await made.load((2, 2), (1, 2))
            gate = made.gates[f"n{stage}"]
            gate.close_before(6)
            request = made.ask(0, PROMPT, **SHORT)
            await until(gate.reached.is_set, "it is at work")
            made.network.part(made[1].card.control, made[2].card.control)
            gate.open()
            assert await tokens_of(request, 9.0) == made.expected(PROMPT, **SHORT)  # before it would have stalled
            assert len(made[0].members.alive()) == 3
            assert len(request.plan.devices) == 1
            await made.free_of_sessions()

    asyncio.run(check())


def test_a_stage_that_loses_sight_of_another_says_so_to_who_waits_for_both():
    async def check():
        async with cluster(3) as made:
            await made.load((2, 2), (1, 2))
            gate = made.gates["n2"]
            gate.close_before(6)
            request = made.ask(0, PROMPT, **SHORT)
            await until(gate.reached.is_set, "it is at work")
            made[1].ring.post(RequesterLost(made[2].id, made[2].card.data))
            await until(lambda: request.notices, "the requester hears of it")
            gate.open()
            assert f"lost sight of node {made[2].id}" in request.notices[0]
            assert await tokens_of(request) == made.expected(PROMPT, **SHORT)
            await made.free_of_sessions()

    asyncio.run(check())


def test_who_could_not_be_reached_is_left_out_and_not_who_says_so():
    async def check():
        timing = msgspec.structs.replace(FAST, send_timeout_s=0.5)
        async with cluster(4, timing=timing) as made:
            plan = await made.load((1, 1, 2), (1, 2, 3))
            send = made[2].ring._outbox._port.send

            def blocked(address, message, tensor, timeout_s):
                if address == made[3].card.data and isinstance(message, Step):
                    raise PeerUnreachable("full")
                send(address, message, tensor, timeout_s)

            made[2].ring._outbox._port.send = blocked
            request = made.ask(0, PROMPT, **SHORT)
            assert await tokens_of(request) == made.expected(PROMPT, **SHORT)
            assert set(request.plan.devices) == set(plan.devices[:2])
            await made.free_of_sessions()

    asyncio.run(check())


def test_a_stage_that_missed_the_end_of_a_request_hears_of_it_when_it_is_back():
    async def check():
        async with cluster(3) as made:
            await made.load((2, 2), (1, 2))
            gate = made.gates["n2"]
            gate.close_before(4)
            request = made.ask(0, PROMPT, **SHORT)
            await until(gate.reached.is_set, "it is at work")
            outbox, control = made[0].ring._outbox, made[2].parts.control
            send, handler = outbox.send, control._handler
            outbox.send = lambda address, message, *rest: (
                None if isinstance(message, Cancel) else send(address, message, *rest)
            )
            control._handler = None  # its pings are answered no more
            assert await tokens_of(request) == made.expected(PROMPT, **SHORT)
            gate.open()
            assert made[2].stages.session_count == 1
            outbox.send, control._handler = send, handler
            await made.free_of_sessions()

    asyncio.run(check())


# -- decisions ---------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.lists(st.integers(0, 9), max_size=9), st.integers(1, 7))
def test_a_replay_covers_every_token_once_in_order_and_in_the_same_parts(prompt, drawn, chunk):
    steps = list(f.parts(prompt, drawn, chunk))
    at = 0
    for position, tokens in steps:
        assert position == at
        at += len(tokens)
    assert [token for _, tokens in steps for token in tokens] == prompt + drawn
    assert steps[: len(steps) - len(drawn)] == list(f.parts(prompt, (), chunk))
    assert all(len(tokens) == 1 for _, tokens in steps[len(steps) - len(drawn) :])


def test_only_what_is_a_nodes_fault_is_recovered_and_not_for_ever():
    for good in (NodeLost("x"), StaleEpoch("x"), PeerUnreachable("x")):
        assert f.is_recoverable(good, 0)
        assert not f.is_recoverable(good, f.MAX_TRIES)
    for bad in (PlanError("x"), NodeError("full"), ExoError("the engine failed")):
        assert not f.is_recoverable(bad, 0)


def test_who_held_layers_before_comes_first():
    plan = plan_from_counts("m", ("a", "b", "c"), (1, 1, 1))
    assert f.candidates(plan, {"a", "c", "z"}, set(), everybody=False) == ("a", "c")
    assert f.candidates(plan, {"a", "c", "z"}, {"c"}, everybody=False) == ("a",)
    assert f.candidates(plan, {"a", "c", "z"}, {"c"}, everybody=True) == ("a", "z")
    assert f.candidates(plan, {"y", "z"}, set(), everybody=False) == ("y", "z")


@pytest.mark.parametrize(("tries", "error", "expected"), [(0, NodeLost("x"), True), (1, NodeLost("x"), False)])
def test_the_same_plan_is_tried_once_more_only(tries, error, expected):
    assert f.may_retry(error, tries) is expected
    assert not f.may_retry(StaleEpoch("x"), 0)
