"""A plan is loaded everywhere or nowhere, and every node comes to know it."""

from __future__ import annotations

import asyncio
import threading

import msgspec
import pytest

from exo_lab.core.errors import BadPlan, CorruptModel, DoesNotFit, ExoError, ModelNotFound, StaleEpoch
from exo_lab.core.messages import Activate, GetPlans, LoadShard, ModelRef, Plans, Unload
from exo_lab.core.shard import Shard
from exo_lab.engines.numpy_engine import NumpyEngine
from exo_lab.node import planner
from tests.node.clusters import DEADLINE_S, MODEL, cluster, until
from tests.tiny import tiny_source


def test_a_loaded_plan_is_known_to_every_node_with_every_shard_where_it_belongs():
    seen: list[tuple[str, int, int, str]] = []

    async def check():
        async with cluster(3) as made:
            plan = await made.load((3, 1), progress=lambda *report: seen.append(report))
            await until(lambda: all(node.plans == {MODEL: plan} for node in made.nodes), "all know it")
            assert plan.proposer == made[0].id
            for name, layers in (("n0", (0, 3)), ("n1", (3, 4))):
                (engine,) = made.engines[name]
                assert (engine.shard.start, engine.shard.end) == layers
            assert made.engines["n2"] == []
            config = made.source.config
            await until(lambda: made[1].stages.weight_bytes == config.shard_bytes(3, 4), "the figures say so")
            ready = {report[0]: report for report in seen if report[3] == "ready (float32)"}
            assert set(ready) == {"n0", "n1"}
            assert ready["n0"][1] == ready["n0"][2] == config.shard_bytes(0, 3)

    asyncio.run(check())


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_if_one_stage_cannot_load_the_others_are_freed_and_the_error_names_the_node(failing):
    async def check():
        async with cluster(3) as made:
            before = await made.load((4,), (1,))
            source = made.source

            def broken(name):
                raise CorruptModel(f"{name} is damaged")

            made[failing].loader._open_model = broken
            with pytest.raises(CorruptModel, match=rf"tiny is damaged \[reported by node n{failing}\]"):
                await made.load((2, 1, 1))
            made[failing].loader._open_model = lambda name: source
            (in_use,) = made.engines["n1"][:1]
            await until(
                lambda: [e for engines in made.engines.values() for e in engines if not e.closed] == [in_use],
                "what the others loaded is freed",
            )
            assert all(node.plans == {MODEL: before} for node in made.nodes)
            assert all(not node.book._loaded for node in made.nodes)
            assert await made.answer() == made.expected()
            await made.load((2, 1, 1))
            assert await made.answer() == made.expected()

    asyncio.run(check())


def test_an_engine_that_cannot_load_is_closed_and_the_reason_travels():
    async def check():
        async with cluster(2) as made:
            for broken, error in ((MemoryError("no room"), DoesNotFit), (OSError("disk gone"), ExoError)):

                def load(source, shard, progress, broken=broken):
                    raise broken

                engines = made.engines["n1"]
                make = made[1].loader._make_engine

                def make_engine(name, dtype, make=make, load=load):
                    engine = make(name, dtype)
                    engine.load = load
                    return engine

                made[1].loader._make_engine = make_engine
                with pytest.raises(error, match=r"(no room|disk gone).*reported by node n1"):
                    await made.load((2, 2))
                made[1].loader._make_engine = make
                assert engines[-1].closed
                # The other stage's read is cancelled while it may still be at it.
                await until(lambda: all(engine.closed for engine in made.engines["n0"]), "the other shard is freed")

    asyncio.run(check())


def test_other_weights_under_the_same_name_are_refused():
    async def check():
        async with cluster(1) as made:
            other = tiny_source(seed=5)
            await made.add(open_model=lambda name: other)
            await made.all_met()
            with pytest.raises(ModelNotFound, match=r"has another tiny .digest .*Put the same file on both machines"):
                await made.load((2, 2))
            assert made[0].plans == {}

    asyncio.run(check())


def test_a_plan_for_another_number_of_layers_is_refused():
    async def check():
        async with cluster(1) as made:
            with pytest.raises(ModelNotFound, match="has 4 layers on node"):
                await made.load((5,))

    asyncio.run(check())


def test_a_shard_larger_than_an_emulated_device_does_not_fit():
    async def check():
        async with cluster(1) as made:
            await made.add(memory_bytes=1000, emulated="memory")
            await made.all_met()
            with pytest.raises(DoesNotFit, match=r"has 0\.0 MiB, its layers of tiny need .*Give it fewer layers"):
                await made.load((2, 2))

    asyncio.run(check())


@pytest.mark.parametrize(("free_bytes", "fits"), [(-1, False), (0, True)])
def test_a_shard_that_a_real_device_has_no_memory_for_is_refused_before_it_is_read(free_bytes, fits):
    async def check():
        source = tiny_source(kind="BF16")
        widened = NumpyEngine().load(source, Shard(model=MODEL, start=2, end=4, n_layers=4)).weight_bytes
        assert widened > 1.5 * source.config.shard_bytes(2, 4)
        async with cluster(1, source=source) as made:
            await made.add(free_memory=lambda: widened + free_bytes)
            await made.all_met()
            if fits:
                await made.load((2, 2))
                return
            with pytest.raises(DoesNotFit, match=r"MiB free, .* MiB in memory\. .*, or unload what it holds"):
                await made.load((2, 2))
            assert made.engines["n1"] == []

    asyncio.run(check())


def test_a_node_of_the_plan_that_is_not_there_is_named():
    async def check():
        async with cluster(1) as made:
            plan = msgspec.structs.replace(made.plan((4,)), devices=("f" * 12,))
            with pytest.raises(BadPlan, match=f"node {'f' * 12} of the plan is not in the cluster"):
                await planner.load(made[0], plan, model=None)

    asyncio.run(check())


def test_a_stage_that_vanishes_while_it_loads_is_an_error_in_time_and_frees_the_others():
    async def check():
        async with cluster(2) as made:
            hold = threading.Event()
            original = made[1].loader._open_model

            def slow(name):
                assert hold.wait(DEADLINE_S)
                return original(name)

            made[1].loader._open_model = slow
            loading = asyncio.create_task(made.load((2, 2), timeout_s=1.0))
            await until(lambda: bool(made[0].book._loaded), "stage 0 has loaded")
            made.cut_off(1)
            with pytest.raises(ExoError, match=r"did not answer LoadShard within 1 s|not in the cluster"):
                await loading
            hold.set()
            assert made.engines["n0"][0].closed
            assert not made[0].book._loaded

    asyncio.run(check())


def test_loading_can_be_cancelled_and_nothing_stays_in_memory():
    async def check():
        async with cluster(2) as made:
            hold = threading.Event()
            original = made[1].loader._open_model

            def slow(name):
                assert hold.wait(DEADLINE_S)
                return original(name)

            made[1].loader._open_model = slow
            loading = asyncio.create_task(made.load((2, 2)))
            await until(lambda: bool(made[0].book._loaded), "stage 0 has loaded")
            loading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await loading
            hold.set()
            await until(lambda: all(e.closed for engines in made.engines.values() for e in engines), "all is freed")
            assert not made[0].book._loaded
            made[1].loader._open_model = original
            await made.load((2, 2))
            assert await made.answer() == made.expected()

    asyncio.run(check())


def test_a_late_joiner_learns_of_the_plan_and_may_ask():
    async def check():
        async with cluster(2) as made:
            plan = await made.load((2, 2))
            await made.add("late")
            await until(lambda: made[2].plans == {MODEL: plan}, "it learns of the plan")
            await made.all_met()
            assert await made.answer(2) == made.expected()

    asyncio.run(check())


def test_unloading_frees_the_weights_on_every_node_and_does_not_come_back():
    async def check():
        async with cluster(3) as made:
            await made.load((2, 2))
            await planner.unload(made[2], MODEL)
            assert all(not node.plans and not node.models for node in made.nodes)
            engines = [engine for engines in made.engines.values() for engine in engines]
            await until(lambda: all(engine.closed for engine in engines), "the weights are freed")
            await until(lambda: all(node.stages.weight_bytes == 0 for node in made.nodes), "the figures say so")
            plan = await made.load((2, 2), by=1)
            assert plan.epoch == 2

    asyncio.run(check())


def test_a_node_that_missed_the_unloading_does_not_bring_the_plan_back_to_those_that_heard():
    async def check():
        async with cluster(3) as made:
            plan = await made.load((4,), (0,))
            await until(lambda: made[2].plans == {MODEL: plan}, "all know it")
            ask = made[1].parts.control.request
            for node in made.nodes[:2]:
                await ask(node.card.control, Unload(model=MODEL), timeout_s=10)
            told = made[0].members.peers[made[2].id].heard_at
            await until(lambda: made[0].members.peers[made[2].id].heard_at > told + 0.1, "it pongs its old plan again")
            assert made[0].members.peers[made[2].id].plans  # which it still believes in
            assert made[0].plans == made[1].plans == {}

    asyncio.run(check())


def test_of_two_plans_at_once_every_node_keeps_the_same_one_and_frees_the_other():
    async def check():
        async with cluster(3) as made:
            first, second = await asyncio.gather(made.load((2, 2), (0, 1), by=0), made.load((1, 3), (0, 1), by=1))
            winner = max(first, second, key=lambda plan: plan.rank)
            await until(lambda: all(node.plans == {MODEL: winner} for node in made.nodes), "all agree")
            await until(lambda: sum(not e.closed for e in made.engines["n0"]) == 1, "one shard is held")
            assert await made.answer(2) == made.expected()

    asyncio.run(check())


def test_a_plan_cannot_be_used_before_it_is_loaded():
    async def check():
        async with cluster(2) as made:
            plan = await made.load((2, 2))
            model = made[0].models[MODEL]
            newer = msgspec.structs.replace(plan, epoch=9)
            with pytest.raises(StaleEpoch, match="whose shard it has not loaded"):
                await made[0].parts.control.request(
                    made[1].card.control, Activate(plan=newer, model=model), timeout_s=9
                )
            order = LoadShard(plan=newer, stage=0, model=model)
            with pytest.raises(StaleEpoch, match="stage 0 of this plan is not node"):
                await made[0].parts.control.request(made[1].card.control, order, timeout_s=9)
            reply = await made[0].parts.control.request(made[1].card.control, GetPlans(), timeout_s=9)
            assert isinstance(reply, Plans)
            assert (reply.plans, reply.models) == ((plan,), (model,))

    asyncio.run(check())


def test_devices_are_chosen_by_name_or_id_and_mistakes_are_named():
    async def check():
        async with cluster(2) as made:
            devices = made[0].topology.devices
            by_name = {device.name: device for device in devices}
            assert planner.select(devices, None) == devices
            assert planner.select(devices, ["n1", by_name["n0"].id]) == (by_name["n1"], by_name["n0"])
            for wrong, says in ((["n9"], "no node named 'n9'.*has n0, n1"), (["n0", "n0"], "listed twice")):
                with pytest.raises(ExoError, match=says):
                    planner.select(devices, wrong)

    asyncio.run(check())


def test_a_shard_that_its_proposer_gave_up_does_not_stand_in_the_way_of_the_next_try():
    async def check():
        async with cluster(2) as made:
            reference = ModelRef(name=MODEL, digest=made.source.config.digest)
            plan = msgspec.structs.replace(made.plan((2, 2)), epoch=planner.next_epoch(made[0]), proposer=made[0].id)
            order = LoadShard(plan=plan, stage=1, model=reference)
            for _ in range(2):
                await made[0].parts.control.request(made[1].card.control, order, timeout_s=10)
            # It never heard that this was given up.
            assert (await made.load((2, 2))).epoch > plan.epoch
            assert [engine.closed for engine in made.engines["n1"]] == [True, True, False]
            assert await made.answer() == made.expected()

    asyncio.run(check())
