"""Generation over nodes that share a process: the ring says what the uncut model says, whoever asks (law 2)."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.errors import DoesNotFit, NodeError, PromptTooLong
from exo_lab.core.messages import SessionSpec, Step
from exo_lab.core.sampling import SamplingParams
from exo_lab.engines.base import PREFILL_CHUNK
from exo_lab.node.outgoing import MAX_ERROR_CHARACTERS
from exo_lab.node.ring import Ring
from exo_lab.node.shelf import MAX_SESSIONS
from exo_lab.node.stage import Stages
from exo_lab.transport import frames
from exo_lab.transport.memory import MemoryNetwork
from tests.node.clusters import DEADLINE_S, FAST, arrived, cluster, over, tokens_of, until
from tests.tiny import tiny_config, tiny_source

LONG = tuple(range(3, 3 + 2 * PREFILL_CHUNK + 17))  # two whole chunks and a bit


@pytest.mark.parametrize("counts", [(4,), (1, 3), (3, 1), (2, 1, 1), (1, 1, 1, 1)], ids=str)
def test_any_cut_of_the_model_gives_the_tokens_of_the_uncut_one(counts):
    async def check():
        async with cluster(len(counts)) as made:
            await made.load(counts)
            for prompt in [(9,), range(5, 40), LONG]:
                assert await made.answer(prompt=prompt) == made.expected(prompt)

    asyncio.run(check())


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_cut_in_any_order_of_nodes_gives_the_tokens_of_the_uncut_model(data):
    order = data.draw(st.permutations(range(4)))
    stages = data.draw(st.integers(1, 4))
    cuts = sorted(data.draw(st.sets(st.integers(1, 5), min_size=stages - 1, max_size=stages - 1)))
    counts = [end - start for start, end in zip([0, *cuts], [*cuts, 6], strict=True)]
    requester = data.draw(st.integers(0, 3))
    source = tiny_source(tiny_config("qwen3", n_layers=6), seed=data.draw(st.integers(0, 3)))

    async def check():
        async with cluster(4, source=source) as made:
            await made.load(counts, order[:stages], by=requester)
            await until(lambda: all("tiny" in node.plans for node in made.nodes), "every node knows the plan")
            assert await made.answer(requester, max_tokens=6) == made.expected(max_tokens=6)

    asyncio.run(check())


def test_every_node_may_ask_also_one_that_holds_nothing():
    async def check():
        async with cluster(4) as made:
            await made.load((1, 2, 1))
            for requester in range(4):
                assert await made.answer(requester) == made.expected()

    asyncio.run(check())


def test_many_requests_of_many_nodes_at_once_do_not_mix():
    async def check():
        async with cluster(3) as made:
            await made.load((2, 1, 1))
            prompts = [tuple(range(start, start + 5 + start)) for start in range(3, 21)]
            requests = [made.ask(index % 3, prompt) for index, prompt in enumerate(prompts)]
            for request, prompt in zip(requests, prompts, strict=True):
                assert await tokens_of(request) == made.expected(prompt)
            await made.free_of_sessions()

    asyncio.run(check())


def test_a_second_plan_takes_over_and_a_request_on_the_first_goes_on_to_its_end():
    async def check():
        async with cluster(2) as made:
            first = await made.load((2, 2))
            made.gates["n1"].close_before(3)
            running = made.ask(0)
            await until(made.gates["n1"].reached.is_set, "the request is at work")
            loading = asyncio.create_task(made.load((4,), (0,)))
            second = await loading
            assert (first.epoch, second.epoch) == (1, 2)
            made.gates["n1"].open()
            assert await tokens_of(running) == made.expected()
            assert await made.answer(1) == made.expected()
            await until(lambda: made.engines["n1"][0].closed, "the shard of the first plan is freed")

    asyncio.run(check())


def test_sampling_gives_the_same_tokens_through_the_ring_as_without_it():
    options = {"temperature": 0.9, "top_k": 40, "top_p": 0.95, "min_p": 0.01, "repetition_penalty": 1.3, "seed": 7}

    async def check():
        async with cluster(3) as made:
            await made.load((1, 1, 2))
            assert await made.answer(0, LONG, **options) == made.expected(LONG, **options)

    asyncio.run(check())


def test_a_repetition_penalty_counts_the_prompt_and_the_answer():
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            plain = await made.answer(0, repetition_penalty=1.0, max_tokens=24)
            without = await made.answer(0, repetition_penalty=1000.0, max_tokens=24)
            assert len(set(without)) == 24
            assert not set(without) & {5, 6, 7}
            assert without == made.expected(repetition_penalty=1000.0, max_tokens=24) != plain

    asyncio.run(check())


def test_a_seed_replays_an_answer_and_another_seed_gives_another():
    async def check():
        async with cluster(2) as made:
            await made.load((3, 1))
            first, again, other = [
                await made.answer(0, temperature=1.5, seed=seed, max_tokens=16) for seed in (11, 11, 12)
            ]
            assert first == again != other

    asyncio.run(check())


def test_a_generation_ends_at_its_last_token_or_at_the_end_of_text():
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            whole = made.expected(max_tokens=30)
            request = made.ask(max_tokens=1)
            assert await tokens_of(request) == whole[:1]
            stop = next(token for index, token in enumerate(whole) if index > 3 and token not in whole[:index])
            request = made.ask(1, eos=(stop,), max_tokens=30)
            await over(request)
            finishes = []
            tokens = []
            while (arrival := request.take(0)) is not None:
                tokens.append(arrival.token.token)
                finishes.append(arrival.token.finish)
            assert tokens == whole[: whole.index(stop) + 1]
            assert finishes == [None] * (len(tokens) - 1) + ["stop"]
            await made.free_of_sessions()

    asyncio.run(check())


def test_every_token_tells_what_each_stage_spent_and_the_alternatives_asked_for():
    async def check():
        async with cluster(3) as made:
            plan = await made.load((1, 1, 2))
            request = await over(made.ask(2, logprobs=3))
            seen = 0
            while (arrival := request.take(0)) is not None:
                token = arrival.token
                assert [timing.node for timing in token.timings] == list(plan.devices)
                assert all(0 < timing.compute_s <= timing.handling_s for timing in token.timings)
                assert len(token.alternatives) == 3
                assert token.alternatives[0] == (token.token, pytest.approx(token.logprob))
                seen += 1
            assert seen == 12

    asyncio.run(check())


def test_a_request_that_the_context_has_no_room_for_is_refused_at_once():
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            with pytest.raises(PromptTooLong, match="tiny-llama has room for 512"):
                await made.answer(prompt=range(3, 200), max_tokens=400)
            assert await made.answer(prompt=range(3, 200), max_tokens=3) == made.expected(range(3, 200), max_tokens=3)

    asyncio.run(check())


def test_a_cache_that_would_outgrow_an_emulated_device_is_refused_and_what_fits_goes_on():
    async def check():
        source = tiny_source()
        token_bytes = 2 * 2 * 2 * 16 * 4  # two layers, keys and values, 2 heads of 16 in float32
        weights = source.config.shard_bytes(0, 2)
        async with cluster(1) as made:
            await made.add(memory_bytes=weights + 40 * token_bytes, emulated="memory")
            await made.all_met()
            await made.load((2, 2), (1, 0))
            with pytest.raises(DoesNotFit, match=rf"node {made[1].id} has 0.0 MiB left.*60 tokens"):
                await made.answer(max_tokens=57)
            made.gates["n1"].close_before(3)
            first = made.ask(max_tokens=27)  # 30 tokens are set aside at once
            await until(made.gates["n1"].reached.is_set, "the first request is at work")
            second = made.ask(max_tokens=17)
            made.gates["n1"].open()
            assert await tokens_of(first) == made.expected(max_tokens=27)
            with pytest.raises(DoesNotFit):
                await tokens_of(second)
            assert await made.answer(max_tokens=27) == made.expected(max_tokens=27)

    asyncio.run(check())


def test_the_shard_of_a_replaced_plan_gives_way_where_memory_is_short():
    async def check():
        weights = tiny_source().config.shard_bytes(0, 2)
        # The old shard is kept for late requests; here it would leave no room for new ones.
        slow = msgspec.structs.replace(FAST, retire_after_s=DEADLINE_S)
        async with cluster(1, timing=slow) as made:
            await made.add(memory_bytes=weights + 10_000, emulated="memory")
            await made.all_met()
            for counts in ((2, 2), (1, 3), (2, 2)):
                await made.load(counts, (1, 0))
                assert await made.answer(max_tokens=4) == made.expected(max_tokens=4)
            assert [engine.closed for engine in made.engines["n1"]] == [True, True, False]

    asyncio.run(check())


def test_sessions_of_a_node_are_bounded_and_the_one_too_many_is_told():
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            made.gates["n1"].close_before(0)
            requests = [made.ask(max_tokens=1) for _ in range(MAX_SESSIONS + 1)]
            await until(lambda: any(request.over.is_set() for request in requests), "one is refused")
            made.gates["n1"].open()
            for request in requests:
                await over(request)
            refused = [request.error for request in requests if request.error is not None]
            assert len(refused) == 1
            assert isinstance(refused[0], NodeError)
            assert f"{MAX_SESSIONS} requests in work" in str(refused[0])
            await made.free_of_sessions()

    asyncio.run(check())


def test_an_emulated_slow_device_says_the_same_only_later():
    async def check():
        async with cluster(1) as made:
            await made.add(slowdown=3.0, emulated="3x slower")
            await made.all_met()
            plan = await made.load((2, 2))
            request = await over(made.ask())
            timings = {timing.node: timing for timing in request.take(0).token.timings}
            assert timings[plan.devices[1]].handling_s >= timings[plan.devices[1]].compute_s
            assert [made.expected()[0], *arrived(request)] == made.expected()

    asyncio.run(check())


def test_what_a_requester_is_told_of_a_step_that_cannot_be_sent_is_bounded():
    network = MemoryNetwork()
    sent = []
    network.tap = lambda address, parts: sent.append((address, frames.decode(parts)[0]))
    ring = Ring("n0", network.data("n0"), Stages("n0"), lambda node, lost: None)
    network.data("asker")
    spec = SessionSpec(
        requester="a", reply_to="memory://asker", sampling=SamplingParams(), eos=(), prompt_tokens=1, total_tokens=2
    )
    step = Step(request="r", model="m", epoch=1, proposer="a", stage=0, position=0, spec=spec)
    ring._undelivered.step(step, "b", NodeError("x" * 100_000))
    ((address, told),) = sent
    assert (address, told.error, told.node, told.blamed) == ("memory://asker", "NodeError", "n0", "b")
    assert len(told.message) == MAX_ERROR_CHARACTERS
    ring.port.close()
