"""Speculation by look-up: the same tokens with fewer trips, greedy and sampled, whatever the engines."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest

from exo_lab.core.errors import ConfigError
from exo_lab.core.messages import Step
from exo_lab.core.sampling import LOOKED_UP, MOST_GUESSES, SamplingParams
from exo_lab.engines import convert, native
from exo_lab.engines.decoder import TorchEngine
from exo_lab.engines.numpy_engine import NumpyEngine
from exo_lab.node import guessing
from tests.node.clusters import cluster, over, until
from tests.tiny import tiny_config, tiny_source

SAMPLING = [
    {},
    {"temperature": 0.6, "seed": 5},
    {"temperature": 1.0, "top_k": 4, "seed": 9, "repetition_penalty": 1.1},
]
PROMPT = (5, 6, 7, 8, 5, 6, 7, 8, 5, 6, 7)


class Oracle:
    """Knows the answer, and lies now and then: real guesses of a tiny random model would seldom be right."""

    answer: ClassVar[list[int]] = []

    def __init__(self, tokens=()) -> None:
        self.at = -len(tuple(tokens))
        for _ in range(-self.at):
            self.add(0)

    def add(self, token: int) -> None:
        self.at += 1

    def guess(self, most: int) -> tuple[int, ...]:
        told = self.answer[self.at : self.at + most]
        return tuple((token + 1) % 200 if (self.at + number) % 5 == 3 else token for number, token in enumerate(told))


@pytest.fixture
def oracle(monkeypatch):
    monkeypatch.setattr(guessing, "Lookup", Oracle)
    return Oracle


def engines(*makers):
    """One engine a node, in turn."""
    left = iter(makers)
    source = tiny_source(tiny_config("llama", n_layers=4), seed=3, kind="Q4_1")
    return {"source": source, "parts": {"make_engine": lambda name, dtype: next(left)()}}


def packed():
    return TorchEngine("quantised", "cpu", 1)


@pytest.mark.parametrize("sampling", SAMPLING, ids=["greedy", "sampled", "penalised"])
@pytest.mark.parametrize("kinds", ["packed", "numpy", "both"])
def test_guesses_change_no_token(kinds, sampling, oracle):
    if native.state().library is None and kinds != "numpy":
        pytest.skip(native.state().why_not)

    async def check():
        makers = {"packed": [packed] * 3, "numpy": [NumpyEngine] * 3, "both": [packed, NumpyEngine, packed]}[kinds]
        async with cluster(3, **engines(*makers)) as made:
            await made.load((1, 2, 1))
            plain = oracle.answer = await made.answer(prompt=PROMPT, max_tokens=120, **sampling)
            for speculate in (1, 4, MOST_GUESSES, None):
                assert await made.answer(1, prompt=PROMPT, max_tokens=120, speculate=speculate, **sampling) == plain
            assert made.count("guesses") > made.count("guesses that were right") > 100
            await made.free_of_sessions()

    asyncio.run(check())


def test_right_guesses_save_trips(oracle):
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            plain = oracle.answer = await made.answer(prompt=PROMPT, max_tokens=200)
            before = made.gates["n0"].calls
            assert await made.answer(prompt=PROMPT, max_tokens=200, speculate=4) == plain
            right = made.count("guesses that were right")
            assert right > 100
            # The engine of this test computes guesses one by one: its passes are positions. Trips are what is saved.
            trips = made.gates["n0"].calls - before - made.count("guesses")
            assert trips == 200 - right

    asyncio.run(check())


@pytest.mark.parametrize(("each", "pay"), [(0.1, True), (1.0, False)])
def test_where_nobody_said_how_many_they_are_made_as_they_pay(each, pay, oracle, monkeypatch):
    monkeypatch.setattr(guessing.Costs, "ratio", lambda costs, guesses: 1 + each * guesses)

    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            plain = oracle.answer = await made.answer(prompt=PROMPT, max_tokens=80)
            assert await made.answer(prompt=PROMPT, max_tokens=80, speculate=None) == plain
            assert made.count("guesses that were right") > 30 if pay else made.count("guesses") == 0

    asyncio.run(check())


def test_guesses_end_where_the_answer_must_end(oracle):
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            for length in range(1, 12):
                plain = oracle.answer = await made.answer(prompt=PROMPT, max_tokens=length)
                assert await made.answer(prompt=PROMPT, max_tokens=length, speculate=MOST_GUESSES) == plain
                assert len(plain) == length

    asyncio.run(check())


def test_tokens_of_one_trip_carry_its_timings_once(oracle):
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            oracle.answer = await made.answer(prompt=PROMPT, max_tokens=100)
            request = await over(made.ask(prompt=PROMPT, max_tokens=100, speculate=4))
            arrivals = [request.take(0) for _ in oracle.answer]
            assert [arrival.token.token for arrival in arrivals] == oracle.answer
            with_timings = sum(len(arrival.token.timings) == 2 for arrival in arrivals)
            assert with_timings == 100 - made.count("guesses that were right")
            assert sum(not arrival.token.timings for arrival in arrivals) == 100 - with_timings > 50

    asyncio.run(check())


def test_a_step_with_impossible_guesses_is_refused():
    async def check():
        async with cluster(2) as made:
            plan = await made.load((2, 2))
            request = made.ask(max_tokens=400)
            await until(lambda: request.next_position > 10, "it is at work")
            fields = {"model": plan.model, "epoch": plan.epoch, "proposer": plan.proposer, "stage": 0}
            forged = Step(request=request.wire, position=400, guesses=(1,), **fields)
            made[1].parts.data.send(made[0].parts.data.address, forged, convert.tokens([1]), 1.0)
            await until(lambda: made.count("failed: FrameError") == 1, "it is refused")

    asyncio.run(check())


def test_only_so_many_guesses_may_be_asked_for():
    with pytest.raises(ConfigError, match="speculate must be in"):
        SamplingParams(speculate=MOST_GUESSES + 1)


def test_of_a_long_prompt_only_the_end_travels_for_guesses_and_all_of_it_for_a_penalty():
    told = tuple(range(100_000))
    assert SamplingParams(speculate=0).history(told) == ()
    assert SamplingParams(speculate=0, repetition_penalty=1.1).history(told) == told
    for speculate in (None, 3):
        assert SamplingParams(speculate=speculate).history(told) == told[-LOOKED_UP:]
        assert SamplingParams(speculate=speculate).history(told[:9]) == told[:9]
