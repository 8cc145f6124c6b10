"""Layers move while generations run on them: the same tokens, before, during and after."""

from __future__ import annotations

import asyncio
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.errors import BadPlan, ModelNotFound
from exo_lab.core.messages import ModelRef
from exo_lab.core.plan import plan_from_counts
from exo_lab.node.moves import layers_of, migrates, migration_s, moved
from exo_lab.node.orders import Migrate
from tests.node.clusters import MODEL, cluster, tokens_of, until

PROMPT = tuple(range(5, 25))
SHORT = {"max_tokens": 24}


def reference(made):
    return ModelRef(name=MODEL, digest=made.source.config.digest)


@settings(max_examples=16, deadline=None)
@given(
    after=st.integers(0, 12),
    stopper=st.sampled_from((1, 2)),
    layers=st.sampled_from(((1, 2), (2, 3), (0, 2), (2, 4))),
    params=st.sampled_from(
        ({}, {"temperature": 0.8, "seed": 3}, {"repetition_penalty": 1.3}, {"speculate": 4}, {"speculate": None})
    ),
    along=st.booleans(),
)
def test_layers_that_move_at_any_token_change_no_token(after, stopper, layers, params, along):
    async def check():
        async with cluster(4) as made:
            old = await made.load((2, 2), (1, 2))
            made[0].recovery.shapes[made.source.config.digest] = made.source.config
            gate = made.gates[f"n{stopper}"]
            gate.close_before(after)
            mine, others = made.ask(0, PROMPT, **SHORT, **params), made.ask(3, PROMPT, **SHORT, **params)
            await until(gate.reached.is_set, "they are at work")
            target = {(1, 2): 2, (2, 3): 1, (0, 2): 3, (2, 4): 0}[layers]
            plan = moved(old, *layers, made[target].id)
            with mock.patch("exo_lab.node.recovery.migrates", return_value=along):
                new = await made[0].recovery.change(old, plan, reference(made), "layers were moved")
            gate.open()
            assert await tokens_of(mine) == made.expected(PROMPT, **SHORT, **params)
            assert await tokens_of(others) == made.expected(PROMPT, **SHORT, **params)
            assert mine.plan == new
            assert others.plan == old
            assert "layers were moved" in mine.notices[0]
            # Nothing was drawn yet, or the caches went along: or else it was replayed.
            assert ("cache went along" in mine.notices[0]) == (along and "at token 1)" not in mine.notices[0])
            await made.free_of_sessions()
            assert await made.answer(0) == made.expected()

    asyncio.run(check())


@pytest.mark.parametrize("lost", ["an old stage", "a new stage"])
def test_a_stage_that_is_lost_while_caches_move_is_survived(lost):
    async def check():
        async with cluster(4) as made:
            old = await made.load((2, 2), (1, 2))
            made[0].recovery.shapes[made.source.config.digest] = made.source.config
            gate = made.gates["n2"]
            gate.close_before(6)
            request = made.ask(0, PROMPT, **SHORT)
            await until(gate.reached.is_set, "it is at work")
            plan = moved(old, 0, 2, made[3].id)
            with mock.patch("exo_lab.node.recovery.migrates", return_value=True):
                await made[0].recovery.change(old, plan, reference(made), "layers were moved")
            victim = 1 if lost == "an old stage" else 3
            made.kill(victim)
            made.stopped.append(made[victim])
            gate.open()
            assert await tokens_of(request) == made.expected(PROMPT, **SHORT)
            await made.free_of_sessions()

    asyncio.run(check())


def test_caches_that_never_arrive_are_computed_again(monkeypatch):
    async def check():
        async with cluster(3) as made:
            old = await made.load((2, 2), (1, 2))
            made[0].recovery.shapes[made.source.config.digest] = made.source.config
            monkeypatch.setattr("exo_lab.node.recovery.migrates", mock.Mock(return_value=True))
            monkeypatch.setattr("exo_lab.node.recovery.MIGRATE_WITHIN_S", 0.2)
            made[1].ring.handovers.handle = lambda message, tensor: []
            gate = made.gates["n2"]
            gate.close_before(6)
            request = made.ask(0, PROMPT, **SHORT)
            await until(gate.reached.is_set, "it is at work")
            await made[0].recovery.change(old, moved(old, 1, 2, made[2].id), reference(made), "layers were moved")
            gate.open()
            assert await tokens_of(request) == made.expected(PROMPT, **SHORT)
            assert "did not arrive" in request.notices[-1]
            await made.free_of_sessions()

    asyncio.run(check())


def test_who_keeps_its_layers_loads_nothing_and_frees_nothing():
    async def check():
        async with cluster(3) as made:
            old = await made.load((1, 1, 2))
            await made[0].recovery.change(old, moved(old, 1, 2, made[0].id), reference(made), "x")
            assert [len(made.engines[f"n{n}"]) for n in range(3)] == [2, 1, 1]
            assert await made.answer() == made.expected()
            await until(lambda: made.engines["n1"][0].closed, "who holds nothing any more has freed it")
            assert not made.engines["n2"][0].closed
            assert await made.answer(2) == made.expected()

    asyncio.run(check())


def test_a_move_that_fails_changes_nothing():
    async def check():
        async with cluster(3) as made:
            old = await made.load((2, 2), (1, 2))

            def missing(name):
                raise ModelNotFound("no such file")

            made[0].loader._open_model = missing
            gate = made.gates["n2"]
            gate.close_before(4)
            request = made.ask(0, PROMPT, **SHORT)
            await until(gate.reached.is_set, "it is at work")
            with pytest.raises(ModelNotFound):
                await made[0].recovery.change(old, moved(old, 0, 1, made[0].id), reference(made), "x")
            gate.open()
            assert await tokens_of(request) == made.expected(PROMPT, **SHORT)
            assert request.notices == ()
            assert made[0].plans[MODEL] == old

    asyncio.run(check())


@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    target=st.integers(0, 5),
    cut=st.tuples(st.integers(0, 19), st.integers(1, 20)),
)
def test_a_moved_plan_gives_the_layers_to_the_node_and_leaves_the_others_theirs(counts, target, cut):
    devices = tuple("abcdef"[: len(counts)])
    plan = plan_from_counts("m", devices, tuple(counts))
    owner = [device for device, shard in zip(plan.devices, plan.shards, strict=True) for _ in range(len(shard))]
    start, end = cut
    try:
        after = moved(plan, start, end, "abcdef"[target])
    except BadPlan:
        return
    now = [device for device, shard in zip(after.devices, after.shards, strict=True) for _ in range(len(shard))]
    assert now[start:end] == ["abcdef"[target]] * (end - start)
    assert now[:start] + now[end:] == owner[:start] + owner[end:]


def test_what_cannot_be_moved_is_said():
    plan = plan_from_counts("m", ("a", "b", "c"), (2, 2, 2))
    for start, end, device, says in (
        (0, 7, "a", "has layers 0 to 5"),
        (3, 3, "a", "are none of them"),
        (0, 2, "a", "already"),
        (4, 5, "a", "would hold layers 0-1 and 4-4"),
        (2, 3, "c", "would hold layers"),
        (3, 4, "d", None),
        (0, 1, "d", None),
    ):
        if says is None:
            assert "d" in moved(plan, start, end, device).devices
        else:
            with pytest.raises(BadPlan, match=says):
                moved(plan, start, end, device)


def test_layers_are_written_as_people_do():
    assert layers_of("10-14") == (10, 15)
    assert layers_of("10:15") == (10, 15)
    assert layers_of("10") == (10, 11)
    for text in ("", "x", "3-", "-", "1-2-3"):
        with pytest.raises(BadPlan, match="write 10-14"):
            layers_of(text)


def test_caches_move_where_that_is_quicker_and_are_replayed_where_not():
    old = plan_from_counts("m", ("a", "b"), (2, 2))
    new = moved(old, 1, 2, "b")
    mb = 1 << 20
    assert migrates(1.0, migration_s(mb, old, new, 1e9, 0.001))
    assert not migrates(0.01, migration_s(mb, old, new, 1e8, 0.001))
    assert not migrates(1.0, migration_s(mb, old, new, 1e5, 0.001))
    assert not migrates(1.0, migration_s(mb, old, new, 1e9, 1.0))
    assert migrates(1.0, migration_s(mb, old, new, None, None))
    assert migrates(0.1, migration_s(1 << 40, old, old, 1e9, 0.001))  # nothing moves


def test_caches_that_were_to_take_long_are_waited_for_as_long_as_that(monkeypatch):
    async def check():
        async with cluster(3) as made:
            old = await made.load((2, 2), (1, 2))
            made[0].recovery.shapes[made.source.config.digest] = made.source.config
            monkeypatch.setattr("exo_lab.node.recovery.migrates", lambda replay_s, moving_s: True)
            monkeypatch.setattr("exo_lab.node.recovery.migration_s", lambda *figures: 100.0)
            monkeypatch.setattr("exo_lab.node.recovery.MIGRATE_WITHIN_S", 0.01)
            held, handle = [], made[2].ring.handovers.handle
            made[2].ring.handovers.handle = lambda *frame: held.append(frame) or []
            gate = made.gates["n2"]
            gate.close_before(6)
            request = made.ask(0, PROMPT, **SHORT)
            await until(gate.reached.is_set, "it is at work")
            await made[0].recovery.change(old, moved(old, 1, 2, made[2].id), reference(made), "layers were moved")
            gate.open()
            await until(lambda: len(held) > 1, "its caches come")
            await asyncio.sleep(0.1)  # ten times the least that is waited
            assert made[0].ring.own.is_adopting(request)
            made[2].ring.handovers.handle = handle
            for frame in held:
                made[2].ring.post(frame)
            assert await tokens_of(request) == made.expected(PROMPT, **SHORT)
            assert "its cache went along" in request.notices[-1]

    asyncio.run(check())


def test_a_cancel_just_before_the_caches_are_called_for_frees_the_attempt_before():
    async def check():
        async with cluster(3) as made:
            old = await made.load((2, 2), (1, 2))
            made[0].recovery.shapes[made.source.config.digest] = made.source.config
            gate = made.gates["n2"]
            gate.close_before(6)
            request = made.ask(0, PROMPT, max_tokens=400)
            await until(gate.reached.is_set, "it is at work")
            post = made[0].ring.post

            def late(order):
                if isinstance(order, Migrate):
                    made[0].cancel(request)
                post(order)

            made[0].ring.post = late
            with mock.patch("exo_lab.node.recovery.migrates", return_value=True):
                await made[0].recovery.change(old, moved(old, 1, 2, made[2].id), reference(made), "layers were moved")
            assert request.over.is_set()
            gate.open()
            await made.free_of_sessions()
            assert made.count("tokens") < 100

    asyncio.run(check())
