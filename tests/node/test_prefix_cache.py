"""A prompt's beginning is computed once: the same tokens and logits as without, whatever happens on the way."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.errors import DoesNotFit
from exo_lab.core.messages import Lacks, Step
from exo_lab.core.prefix import extend
from exo_lab.engines import calibrate, convert
from exo_lab.engines.base import PREFILL_CHUNK
from exo_lab.engines.decoder import TorchEngine
from exo_lab.engines.numpy_engine import NumpyEngine
from exo_lab.node.holds import key_of
from exo_lab.node.reuse import REUSED
from tests.node.clusters import MODEL, cluster, over, tokens_of, until
from tests.tiny import tiny_config, tiny_source

LACKING = "kept by others only"
CUTS = [(4,), (1, 3), (2, 1, 1)]
BASE = [int(token) for token in np.random.default_rng(7).integers(3, 250, 400)]
LONG = BASE[:390]  # three whole chunks, and a rest


class Recording:
    """Writes down what is computed, and the logits that come of it."""

    rows: ClassVar[list[tuple[int, int, int]]] = []  # (first layer, position, positions)
    logits: ClassVar[list[bytes]] = []

    def forward(self, session, x, position, want="last"):
        out = super().forward(session, x, position, want)
        if session != calibrate.SESSION:
            self.rows.append((self.shard.start, position, x.shape[0]))
            if out is not None and self.shard.is_last:
                self.logits.append(bytes(out.data))
        return out


class Numpy(Recording, NumpyEngine):
    """The reference."""


class Torch(Recording, TorchEngine):
    """Four-bit weights."""

    def __init__(self):
        super().__init__("quantised", "cpu", 1)


@pytest.fixture(autouse=True)
def _forget():
    Recording.rows.clear()
    Recording.logits.clear()


def recorded(engine):
    source = tiny_source(tiny_config("llama", n_layers=4, hidden_size=64, intermediate_size=128), seed=3, kind="Q4_1")
    return {"source": source, "parts": {"make_engine": lambda name, dtype: engine()}}


def prompt(shared: int, own: int, number: int = 0) -> tuple[int, ...]:
    """A prompt that begins like all others and goes on by itself."""
    return (*BASE[:shared], *((token + 1 + number) % 250 for token in BASE[shared : shared + own]))


async def said(made, prompts, **options) -> list[tuple[list[int], list[bytes]]]:
    """Tokens and logits of each answer, one after the other, asked by every node in turn."""
    found = []
    for number, one in enumerate(prompts):
        Recording.logits.clear()
        tokens = await made.answer(number % len(made.nodes), one, max_tokens=6, **options)
        found.append((tokens, list(Recording.logits)))
    return found


@pytest.mark.parametrize("engine", [Numpy, Torch])
@given(
    cuts=st.sampled_from(CUTS),
    prompts=st.lists(
        st.builds(prompt, st.integers(0, 300), st.integers(1, 100), st.integers(0, 2)), min_size=2, max_size=5
    ),
    params=st.sampled_from(
        ({}, {"temperature": 0.8, "seed": 3}, {"repetition_penalty": 1.3}, {"speculate": 4}, {"speculate": None})
    ),
)
@settings(max_examples=8, deadline=None)
def test_prompts_with_shared_beginnings_get_the_logits_that_they_get_without_the_cache(engine, cuts, prompts, params):
    async def check():
        async with cluster(len(cuts), **recorded(engine)) as made:
            await made.load(cuts)
            without = await said(made, prompts, prefix_cache=False, **params)
            assert made.count(REUSED) == 0
            assert await said(made, prompts * 2, **params) == without * 2
            # Asked again, all of each prompt's whole chunks are there but one that ends it.
            again = sum((len(one) - 1) // PREFILL_CHUNK * PREFILL_CHUNK for one in prompts)
            assert made.count(REUSED) >= again * len(cuts)
            await made.free_of_sessions()

    asyncio.run(check())


@pytest.mark.parametrize("counts", CUTS, ids=str)
def test_the_same_beginning_is_not_computed_twice(counts):
    async def check():
        async with cluster(len(counts), **recorded(Numpy)) as made:
            await made.load(counts)
            first = await over(made.ask(prompt=LONG, max_tokens=1))
            assert first.reused == 0
            assert {position for _, position, _ in Recording.rows} == {0, 128, 256, 384}
            Recording.rows.clear()
            second = await over(made.ask(len(counts) - 1, prompt=[*LONG, 7, 8], max_tokens=1))
            assert second.reused == 384
            assert {(position, rows) for _, position, rows in Recording.rows} == {(384, len(LONG) + 2 - 384)}
            assert made.count(REUSED) == 384 * len(counts)
            assert all(node.stats().kept_bytes > 0 for node in made.nodes)

    asyncio.run(check())


def test_requests_at_once_share_what_each_computes_and_none_gets_another_token():
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            prompts = [prompt(300, 20 + number, number) for number in range(6)]
            alone = [await made.answer(prompt=one, prefix_cache=False) for one in prompts]
            requests = [made.ask(number % 2, prompt=one) for number, one in enumerate(prompts)]
            assert [await tokens_of(request) for request in requests] == alone
            assert [await made.answer(prompt=one) for one in prompts] == alone

    asyncio.run(check())


def forget_some(node, positions: int) -> None:
    """A stage gives up what it keeps from some position on."""
    prefixes = node.stages.shelf.prefixes
    for name in [name for name, kept in prefixes._kept.items() if kept.position >= positions]:
        prefixes._drop(name)


@pytest.mark.parametrize("left", [0, 128, 256])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_stage_that_does_not_keep_what_others_do_costs_a_trip_and_no_token(stage, left):
    async def check():
        async with cluster(3, **recorded(Numpy)) as made:
            await made.load((1, 1, 2))
            plain = await made.answer(prompt=LONG)
            forget_some(made[stage], left)
            request = made.ask(1, prompt=LONG)
            assert await tokens_of(request) == plain
            assert request.reused == left
            assert made.count(LACKING) == (stage > 0)
            assert not request.notices
            again = made.ask(2, prompt=LONG)
            assert await tokens_of(again) == plain
            assert again.reused == 384
            await made.free_of_sessions()

    asyncio.run(check())


def test_a_request_that_is_cancelled_while_it_reuses_leaves_nothing_behind():
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            plain = await made.answer(prompt=LONG)
            for call in range(3):
                gate = made.gates["n1"]
                gate.close_before(call)
                leaving = made.ask(prompt=LONG, max_tokens=100)
                await until(gate.reached.is_set, "it is at work")
                made[0].cancel(leaving)
                gate.open()
                await made.free_of_sessions()
                assert await made.answer(prompt=LONG) == plain

    asyncio.run(check())


@pytest.mark.parametrize("call", [0, 1, 4])
def test_a_stage_that_dies_takes_its_cache_along_and_the_text_goes_on(call):
    async def check():
        async with cluster(3) as made:
            await made.load((2, 1, 1))
            plain = await made.answer(prompt=LONG)
            gate = made.gates["n1"]
            gate.close_before(call)
            request = made.ask(prompt=LONG)
            await until(gate.reached.is_set, "it is at work")
            made.kill(1)
            gate.open()
            assert await tokens_of(request) == plain
            assert await made.answer(prompt=LONG) == plain
            made.stopped.append(made[1])
            await made.free_of_sessions()

    asyncio.run(check())


@given(call=st.integers(0, 12), victim=st.sampled_from((1, 2)), how=st.sampled_from(("killed", "moved", "lacking")))
@settings(max_examples=10, deadline=None)
def test_whatever_happens_while_a_prompt_is_reused_the_tokens_are_the_same(call, victim, how):
    async def check():
        async with cluster(3) as made:
            old = await made.load((1, 2, 1))
            plain = await made.answer(prompt=LONG)
            made[0].recovery.shapes[made.source.config.digest] = made.source.config
            if how == "lacking":
                made[victim].stages.shelf.prefixes.forget(key_of(old))
            gate = made.gates[f"n{victim}"]
            gate.close_before(call)
            requests = [made.ask(number, LONG) for number in (0, 0)]
            await until(lambda: gate.reached.is_set() or all(one.over.is_set() for one in requests), "they are at work")
            if how != "moved":
                made.kill(victim)
                made.stopped.append(made[victim])
            gate.open()
            if how == "moved":
                await made[0].recovery.change(old, made.plan((2, 1, 1)), made[0].models[MODEL], "layers were moved")
            assert [await tokens_of(one) for one in requests] == [plain] * 2
            assert await made.answer(prompt=LONG) == plain
            await made.free_of_sessions()

    asyncio.run(check())


def test_another_plan_begins_with_nothing_kept():
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            plain = await made.answer(prompt=LONG)
            kept = made[0].stats().kept_bytes
            await made.load((1, 3))
            request = made.ask(prompt=LONG)
            assert await tokens_of(request) == plain
            assert request.reused == 0
            await until(lambda: made[0].stats().kept_bytes == kept // 2, "what the old plan computed is gone")

    asyncio.run(check())


def test_an_emulated_device_gives_up_what_it_keeps_before_it_refuses_a_request():
    async def check():
        source = tiny_source()
        per_token = 4 * 2 * 2 * 16 * 4  # of four layers
        weights = sum(weight.stored.nbytes for weight in source.weights.values())
        async with cluster(0, source=source) as made:
            memory = weights + (512 + 200) * per_token
            node = await made.add(memory_bytes=memory, emulated="a small one")
            await made.load((4,))
            for number in range(4):
                await made.answer(prompt=prompt(0, 140, number), max_tokens=1)
                assert 0 < node.stats().kept_bytes <= (memory - weights) / 4
            request = made.ask(prompt=LONG, max_tokens=512 - len(LONG))
            await until(lambda: request.next_position > len(LONG), "it began")
            assert node.stats().kept_bytes == 0  # a quarter of what is left is less than a chunk
            with pytest.raises(DoesNotFit):
                await made.answer(prompt=LONG, max_tokens=10)
            assert await tokens_of(request)

    asyncio.run(check())


def test_what_is_kept_is_given_back_when_the_machine_runs_out_of_memory():
    async def check():
        free = [1 << 30]
        async with cluster(1, parts={"free_memory": lambda: free[0]}) as made:
            await made.load((4,))
            plain = await made.answer(prompt=LONG)
            assert made[0].stats().kept_bytes > 0
            free[0] = 0
            await until(lambda: made[0].stats().kept_bytes == 0, "it is given back")
            assert await made.answer(prompt=LONG) == plain

    asyncio.run(check())


def forged(plan, request: str, spec, position: int, **changes) -> Step:
    fields = {"model": plan.model, "epoch": plan.epoch, "proposer": plan.proposer, "stage": 0, "final": False}
    return Step(request=request, position=position, spec=spec, **{**fields, **changes})


def test_nobody_can_have_something_else_kept_under_a_prompts_name():
    async def check():
        async with cluster(2) as made:
            plan = await made.load((2, 2))
            true, false = list(LONG[:PREFILL_CHUNK]), [3] * PREFILL_CHUNK
            spec = made.ask(prompt=LONG).spec
            await made.free_of_sessions()
            before = made.count("failed: FrameError")
            send = made[1].parts.data.send
            to = made[0].parts.data.address
            # Tokens under another's name; a chunk under the name that it would have at the beginning.
            send(to, forged(plan, "a", spec, 0, prefix=extend(b"", true)), convert.tokens(false), 1.0)
            send(to, forged(plan, "b", spec, 0), convert.tokens(false), 1.0)
            send(to, forged(plan, "b", spec, PREFILL_CHUNK, prefix=extend(b"", true)), convert.tokens(true), 1.0)
            send(to, forged(plan, "c", spec, 0, prefix=extend(b"", true)), None, 1.0)
            await until(lambda: made.count("failed: FrameError") == before + 3, "they are refused")
            assert await made.answer(prompt=LONG) == await made.answer(prompt=LONG, prefix_cache=False)

    asyncio.run(check())


def test_a_lack_that_nobody_has_changes_nothing():
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            plain = await made.answer(prompt=LONG, max_tokens=60)
            gate = made.gates["n1"]
            gate.close_before(20)
            request = made.ask(prompt=LONG, max_tokens=60)
            await until(gate.reached.is_set, "it is at work")
            for positions in (0, -1, 10**9, 5):
                lack = Lacks(request=request.wire, positions=positions, node="x")
                made[1].parts.data.send(made[0].parts.data.address, lack, None, 1.0)
            await until(lambda: made.count("late lack") >= 3, "they are taken")
            gate.open()
            assert await tokens_of(request) == plain
            await made.free_of_sessions()

    asyncio.run(check())


def test_a_chunk_is_handed_on_before_it_is_kept_and_a_copy_that_fails_costs_nothing():
    async def check():
        async with cluster(2, **recorded(Numpy)) as made:
            await made.load((2, 2))
            first, sent = made[0], []
            without = await made.answer(0, LONG, prefix_cache=False)
            engine = next(iter(first.stages.shelf._holds.values())).engine
            outbox = first.ring._outbox
            real_send, real_cut = outbox.send, engine.cut_kv

            def send(address, message, *rest):
                if isinstance(message, Step):
                    sent.append(message.position)
                return real_send(address, message, *rest)

            def cut(session, start, end):
                assert start in sent
                if start == 256:
                    raise RuntimeError("out of memory")
                return real_cut(session, start, end)

            outbox.send, engine.cut_kv = send, cut
            assert await made.answer(0, LONG) == without
            assert made.count("chunk not kept") == 1
            assert await made.answer(0, LONG) == without
            assert first.stages.counters[REUSED] == 256

    asyncio.run(check())
