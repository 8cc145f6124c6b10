"""Requests that share a stage share its passes, and nobody's tokens change by that."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from exo_lab.core.messages import Step
from exo_lab.engines import convert, native
from exo_lab.engines.decoder import TorchEngine
from exo_lab.node.steps import StepQueue
from tests.node.clusters import FAST, cluster, over, tokens_of, until
from tests.tiny import tiny_config, tiny_source

PROMPTS = [tuple(range(3 + number, 9 + 2 * number)) for number in range(6)]
SAMPLING = [{"temperature": 0.0}, {"temperature": 0.9, "seed": 5}, {"temperature": 1.2, "top_k": 20, "seed": 9}]
TOGETHER = "steps computed together"


class Fragile(TorchEngine):
    """Cannot compute steps together."""

    def forward_batch(self, parts):
        raise RuntimeError("a batch too many")


def quantised(engine=TorchEngine):
    if native.state().library is None:
        pytest.skip(native.state().why_not)
    source = tiny_source(tiny_config("qwen3", n_layers=4), seed=3, kind="Q4_1")
    return {"source": source, "parts": {"make_engine": lambda name, dtype: engine("quantised", "cpu", 1)}}


def asked(number: int) -> dict:
    return {"prompt": PROMPTS[number], "max_tokens": 40, **SAMPLING[number % len(SAMPLING)]}


@pytest.mark.parametrize("counts", [(4,), (1, 3), (2, 1, 1)], ids=str)
def test_requests_at_once_get_the_tokens_that_each_gets_alone(counts):
    async def check():
        async with cluster(len(counts), **quantised()) as made:
            await made.load(counts)
            alone = [await made.answer(number % len(counts), **asked(number)) for number in range(len(PROMPTS))]
            assert made.count(TOGETHER) == 0
            for _ in range(3):
                requests = [made.ask(number % len(counts), **asked(number)) for number in range(len(PROMPTS))]
                assert [await tokens_of(request) for request in requests] == alone
            assert made.count(TOGETHER) > 0
            await made.free_of_sessions()

    asyncio.run(check())


def test_a_batch_that_breaks_is_computed_one_by_one():
    async def check():
        async with cluster(2, **quantised(Fragile)) as made:
            await made.load((2, 2))
            alone = [await made.answer(**asked(number)) for number in range(4)]
            requests = [made.ask(**asked(number)) for number in range(4)]
            assert [await tokens_of(request) for request in requests] == alone
            assert made.count("batch broke") > 0
            assert made.count(TOGETHER) == 0

    asyncio.run(check())


def test_a_token_that_cannot_be_handed_on_is_its_requests_affair_and_the_batch_is_not_computed_again():
    async def check():
        async with cluster(2, **quantised()) as made:
            await made.load((2, 2))
            alone = [await made.answer(**asked(number)) for number in range(4)]
            chooser, broken = made[1].stages._chooser, []
            real = chooser.choose

            def choose(one, logits, compute_s, *, together):
                if together > 1 and not broken:
                    broken.append(one.step.request)
                    raise ValueError("a mistake of ours")
                return real(one, logits, compute_s, together=together)

            chooser.choose = choose
            requests = [made.ask(**asked(number)) for number in range(4)]
            for request, expected in zip(requests, alone, strict=True):
                await over(request)
                if [request.id] == broken:
                    assert "a mistake of ours" in str(request.error)
                else:
                    assert await tokens_of(request) == expected
            assert broken
            assert made.count("batch broke") == 0
            await made.free_of_sessions()

    asyncio.run(check())


def test_a_token_that_cannot_be_told_is_asked_for_again_and_the_others_of_its_batch_are_told():
    async def check():
        timing = msgspec.structs.replace(FAST, stalled_after_s=0.3)
        async with cluster(2, timing=timing, **quantised()) as made:
            await made.load((2, 2))
            alone = [await made.answer(**asked(number)) for number in range(4)]
            chooser, broken = made[1].stages._chooser, []
            real = chooser._tell

            def tell(one, drawn, compute_s, handling_s, together):
                if together > 1 and not broken:
                    broken.append(one.step.request)
                    raise ValueError("a mistake of ours")
                return real(one, drawn, compute_s, handling_s, together)

            chooser._tell = tell
            requests = [made.ask(**asked(number)) for number in range(4)]
            assert [await tokens_of(request) for request in requests] == alone
            assert [request.id for request in requests if request.notices] == broken
            await made.free_of_sessions()

    asyncio.run(check())


def test_a_cancelled_request_leaves_the_others_in_their_batch_alone():
    async def check():
        async with cluster(2, **quantised()) as made:
            await made.load((2, 2))
            alone = [await made.answer(**asked(number)) for number in range(3)]
            requests = [made.ask(**asked(number)) for number in range(3)]
            leaving = made.ask(prompt=(7, 8), max_tokens=400)
            await until(lambda: made.count(TOGETHER) > 0, "some run together")
            made[0].cancel(leaving)
            assert [await tokens_of(request) for request in requests] == alone
            await made.free_of_sessions()

    asyncio.run(check())


def step(request: str, rows: int = 1, **changes):
    fields = {"model": "m", "epoch": 1, "proposer": "p", "stage": 0, "position": 5, **changes}
    return Step(request=request, **fields), convert.tokens([1] * rows)


def test_only_decoding_on_the_same_shard_runs_together_and_the_rest_keeps_its_turn():
    queue = StepQueue()
    others = [step("prompt", rows=8), step("a"), step("elsewhere", stage=1), step("b"), step("old", epoch=0)]
    others += [step("chunk", final=False), step("c"), step("b", position=6)]
    for one in others:
        queue.add(*one)
    found = queue.pop_alike(step("first")[0], 2)
    assert sorted(one.request for one, _ in found) == ["a", "b"]
    left = [queue.pop()[0] for _ in range(len(queue))]
    assert [one.request for one in left] == ["prompt", "elsewhere", "old", "chunk", "c", "b"]
    assert len(queue) == 0
    assert not queue.full
