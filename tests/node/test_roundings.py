"""Lower precision on the wire: where hidden states are rounded belongs to the plan, and only that decides tokens."""

from __future__ import annotations

import asyncio
from unittest import mock

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.errors import FrameError
from exo_lab.core.messages import ModelRef, Step
from exo_lab.core.plan import plan_from_counts
from exo_lab.core.sampling import SamplingParams
from exo_lab.core.wire import Rounding
from exo_lab.engines import convert, sampling, wire
from exo_lab.engines.base import PREFILL_CHUNK
from exo_lab.engines.numpy_engine import NumpyEngine
from exo_lab.engines.rounded import RoundedEngine
from exo_lab.node import planner
from exo_lab.node.checks import check_step
from exo_lab.node.failover import parts
from exo_lab.node.moves import moved
from tests.node.clusters import MODEL, cluster, tokens_of, until
from tests.tiny import tiny_config, tiny_source

PROMPT = tuple(range(5, 25))
PRECISIONS = st.sampled_from(("bfloat16", "int8"))


def expected(source, roundings, prompt, max_tokens=12, chunk=PREFILL_CHUNK):
    """What an uncut model says that rounds at the same places and takes the prompt in the same pieces."""
    engine = RoundedEngine(NumpyEngine, roundings)
    engine.load(source, whole(source))
    for position, part in parts(prompt, (), chunk):
        out = engine.forward("s", convert.tokens(part), position)
    seen = list(prompt)
    while True:
        seen.append(sampling.sample(convert.to_numpy(out)[0], SamplingParams(), len(seen), seen).token)
        if len(seen) == len(prompt) + max_tokens:
            return seen[len(prompt) :]
        out = engine.forward("s", convert.tokens([seen[-1]]), len(seen) - 1)


def whole(source):
    return plan_from_counts(MODEL, ("a",), (source.config.n_layers,)).shards[0]


async def load(made, counts, roundings, nodes=None, by=0):
    plan = msgspec.structs.replace(made.plan(counts, nodes), roundings=tuple(roundings))
    return await planner.load(made[by], plan, reference(made))


def reference(made):
    return ModelRef(name=MODEL, digest=made.source.config.digest)


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_any_cut_gives_the_tokens_of_the_uncut_model_that_rounds_at_the_same_places(data):
    cuts = sorted(data.draw(st.sets(st.integers(1, 5), max_size=2)))
    places = sorted(data.draw(st.sets(st.integers(1, 5), min_size=1, max_size=3)))
    roundings = [Rounding(layer, data.draw(PRECISIONS)) for layer in places]
    counts = [end - start for start, end in zip([0, *cuts], [*cuts, 6], strict=True)]
    source = tiny_source(tiny_config("qwen3", n_layers=6), seed=data.draw(st.integers(0, 3)))

    async def check():
        async with cluster(3, source=source) as made:
            await load(made, counts, roundings)
            prompt = tuple(range(3, 3 + PREFILL_CHUNK + 9))
            for _ in range(2):
                assert await made.answer(0, prompt) == expected(source, roundings, prompt)

    asyncio.run(check())


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
@pytest.mark.parametrize("after", [0, 1, 7])
def test_a_stage_that_is_lost_changes_no_token_though_the_new_plan_is_cut_elsewhere(precision, after):
    roundings = (Rounding(1, precision), Rounding(3, precision))

    async def check():
        async with cluster(4) as made:
            await load(made, (1, 2, 1), roundings, (1, 2, 3))
            made.gates["n2"].close_before(after)
            request = made.ask(0, PROMPT)
            await until(made.gates["n2"].reached.is_set, "it is at work")
            made.kill(2)
            made.gates["n2"].open()
            assert await tokens_of(request) == expected(made.source, roundings, PROMPT)
            assert request.plan.roundings == roundings
            assert [shard.start for shard in request.plan.shards] != [0, 1, 3]

    asyncio.run(check())


@pytest.mark.parametrize("after", [1, 4, 9])
def test_a_replay_takes_the_prompt_in_the_pieces_of_the_plan_that_was_lost(after):
    prompt = tuple(range(3, 3 + 100))

    async def check():
        async with cluster(4) as made:
            plan = msgspec.structs.replace(made.plan((2, 1, 1), (1, 2, 3)), chunk=24, context_tokens=4000)
            await planner.load(made[0], plan, reference(made))
            made.gates["n2"].close_before(after)
            request = made.ask(0, prompt)
            await until(made.gates["n2"].reached.is_set, "it is at work")
            made.kill(2)
            made.gates["n2"].open()
            assert await tokens_of(request) == expected(made.source, (), prompt, chunk=24)
            assert (request.plan.chunk, request.plan.context_tokens) == (24, 4000)
            assert len(request.plan.devices) < 3 or made[2].id not in request.plan.devices

    asyncio.run(check())


@pytest.mark.parametrize("along", [True, False])
def test_layers_that_move_are_rounded_as_before(along):
    roundings = (Rounding(2, "int8"),)

    async def check():
        async with cluster(3) as made:
            old = await load(made, (2, 2), roundings, (1, 2))
            made[0].recovery.shapes[made.source.config.digest] = made.source.config
            made.gates["n1"].close_before(4)
            request = made.ask(0, PROMPT)
            await until(made.gates["n1"].reached.is_set, "it is at work")
            plan = msgspec.structs.replace(moved(old, 1, 2, made[2].id), roundings=())
            with mock.patch("exo_lab.node.recovery.migrates", return_value=along):
                await made[0].recovery.change(old, plan, reference(made), "layers were moved")
            made.gates["n1"].open()
            assert await tokens_of(request) == expected(made.source, roundings, PROMPT)

    asyncio.run(check())


def test_hidden_states_in_another_precision_than_the_plans_are_refused():
    config = tiny_config()
    step = Step(request="r", model=MODEL, epoch=1, proposer="a", stage=1, position=0)
    for came in ("float32", "bfloat16", "int8"):
        tensor = wire.pack(convert.from_numpy(np.ones((3, config.hidden_size), "float32")), came)
        for wanted in ("bfloat16", "int8"):
            if came == wanted:
                assert check_step(step, tensor, config, wanted).shape == (3, config.hidden_size)
            else:
                with pytest.raises(FrameError, match=f"takes {wanted}"):
                    check_step(step, tensor, config, wanted)
    with pytest.raises(FrameError, match="takes float32"):
        check_step(step, tensor, config)
