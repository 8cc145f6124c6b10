"""A draft on the requester: the same tokens and logits with fewer trips, whatever it guesses and whatever happens."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.sampling import MOST_GUESSES
from exo_lab.core.shard import Shard
from exo_lab.engines import native
from exo_lab.engines.decoder import TorchEngine
from exo_lab.engines.numpy_engine import NumpyEngine
from exo_lab.node.draft import Draft
from tests.node.clusters import MODEL, arrived, cluster, over, tokens_of, until
from tests.tiny import TinySource, tiny_config, tiny_source

PARAMS = [{}, {"temperature": 0.8, "seed": 3}, {"temperature": 1.1, "top_k": 9, "repetition_penalty": 1.3}]
PROMPT = (5, 6, 7, 8, 9)


def first_layers(source: TinySource, count: int) -> TinySource:
    """A smaller model: the first layers of another, with its embedding and head."""
    config = msgspec.structs.replace(
        source.config, n_layers=count, layer_bytes=source.config.layer_bytes[:count], digest=f"first {count}"
    )
    return TinySource(config, source.weights)


def draft_of(source: TinySource, engine=None, context: int = 512) -> Draft:
    """A draft of all layers of a model."""
    made = engine or NumpyEngine()
    made.load(source, Shard(model="d", start=0, end=source.config.n_layers, n_layers=source.config.n_layers))
    return Draft(made, source.config.vocab_size, context)


class Broken(NumpyEngine):
    """Breaks when it has computed a while."""

    def forward(self, session, x, position, want="last"):
        if position > 20:
            raise RuntimeError("no draft any more")
        return super().forward(session, x, position, want)


def drafts(source: TinySource) -> dict[str, Draft]:
    return {
        "itself": draft_of(source),
        "its first layers": draft_of(first_layers(source, 2)),
        "a stranger": draft_of(tiny_source(source.config, seed=77)),
        "a broken one": draft_of(source, Broken()),
        "of little context": draft_of(source, context=30),
    }


@pytest.mark.parametrize("params", PARAMS, ids=["greedy", "sampled", "penalised"])
@pytest.mark.parametrize("counts", [(4,), (1, 2, 1)], ids=str)
def test_whatever_a_draft_guesses_the_tokens_are_those_without_it(counts, params, caplog):
    async def check():
        async with cluster(len(counts)) as made:
            await made.load(counts)
            plain = await made.answer(prompt=PROMPT, max_tokens=32, **params)
            made_drafts = drafts(made.source)
            for name, draft in made_drafts.items():
                for speculate in (1, 4, MOST_GUESSES, None):
                    request = made.ask(
                        len(counts) - 1, PROMPT, max_tokens=32, draft=draft, speculate=speculate, **params
                    )
                    assert await tokens_of(request) == plain, (name, speculate)
            await made.free_of_sessions()
            await until(lambda: all(not draft._sessions for draft in made_drafts.values()), "drafts forget")

    asyncio.run(check())
    assert all("the draft model failed" in record.message for record in caplog.records if record.levelname == "ERROR")


@pytest.mark.parametrize("params", PARAMS, ids=["greedy", "sampled", "penalised"])
def test_a_model_that_drafts_for_itself_is_always_right(params):
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            request = await over(
                made.ask(prompt=PROMPT, max_tokens=61, draft=draft_of(made.source), speculate=4, **params)
            )
            assert request.error is None
            assert made.count("guesses that were right") == made.count("guesses") == 48
            with_timings = [arrival.token for arrival in iter(lambda: request.take(0), None) if arrival.token.timings]
            assert len(with_timings) == 13  # the prompt's trip, and one for each five tokens

    asyncio.run(check())


def test_a_draft_of_four_bits_guesses_for_packed_engines():
    if native.state().library is None:
        pytest.skip(native.state().why_not)

    async def check():
        source = tiny_source(tiny_config("llama"), seed=3, kind="Q4_1")
        engine = {"make_engine": lambda name, dtype: TorchEngine("quantised", "cpu", 1)}
        async with cluster(2, source=source, parts=engine) as made:
            await made.load((2, 2))
            draft = draft_of(source, TorchEngine("bfloat16", "cpu", 1))
            for params in PARAMS:
                plain = await made.answer(prompt=PROMPT, max_tokens=60, **params)
                assert await made.answer(prompt=PROMPT, max_tokens=60, draft=draft, speculate=5, **params) == plain
            assert made.count("guesses that were right") > 20

    asyncio.run(check())


def test_an_answer_ends_where_it_must_however_much_was_guessed():
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            draft = draft_of(made.source)
            for length in range(1, 9):
                plain = await made.answer(prompt=PROMPT, max_tokens=length)
                assert await made.answer(prompt=PROMPT, max_tokens=length, draft=draft, speculate=4) == plain
            plain = await made.answer(prompt=PROMPT, max_tokens=30)
            eos = (plain[7],)
            short = await made.answer(prompt=PROMPT, max_tokens=30, eos=eos)
            assert await made.answer(prompt=PROMPT, max_tokens=30, eos=eos, draft=draft, speculate=4) == short

    asyncio.run(check())


@given(
    call=st.integers(0, 12),
    victim=st.sampled_from((1, 2)),
    how=st.sampled_from(("killed", "moved", "cancelled")),
    params=st.sampled_from(PARAMS),
)
@settings(max_examples=10, deadline=None)
def test_a_drafted_answer_survives_what_others_survive(call, victim, how, params):
    async def check():
        async with cluster(3) as made:
            old = await made.load((1, 2, 1))
            plain = await made.answer(prompt=PROMPT, max_tokens=40, **params)
            made[0].recovery.shapes[made.source.config.digest] = made.source.config
            gate = made.gates[f"n{victim}"]
            gate.close_before(call)
            draft = draft_of(first_layers(made.source, 2))
            request = made.ask(0, PROMPT, max_tokens=40, draft=draft, speculate=3, **params)
            await until(lambda: gate.reached.is_set() or request.over.is_set(), "it is at work")
            if how == "killed":
                made.kill(victim)
                made.stopped.append(made[victim])
            elif how == "cancelled":
                made[0].cancel(request)
            gate.open()
            if how == "moved" and not request.over.is_set():
                reference = made[0].models[MODEL]
                plan = msgspec.structs.replace(made.plan((2, 1, 1)), epoch=old.epoch)
                await made[0].recovery.change(old, plan, reference, "layers were moved")
            await over(request)
            if how == "cancelled":
                assert plain[: len(said := arrived(request))] == said
            else:
                assert request.error is None
                assert arrived(request) == plain
            await made.free_of_sessions()

    asyncio.run(check())
