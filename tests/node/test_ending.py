"""How generations end before their time: cancelled, refused, late, or because somebody went away (laws 3 and 5).

Always the same demands: the requester is told why, nothing hangs, every stage frees what it held, and the next
generation says what it should.
"""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.errors import (
    Cancelled,
    DoesNotFit,
    ExoError,
    FrameError,
    GenerationTimeout,
    NodeError,
    NodeLost,
    StaleEpoch,
)  # fmt: skip
from exo_lab.core.messages import Cancel, SessionSpec, Step, Token
from exo_lab.core.sampling import SamplingParams
from exo_lab.core.tensor import Tensor
from exo_lab.engines import convert
from exo_lab.node import planner
from exo_lab.node.orders import RequesterLost
from exo_lab.transport import frames
from tests.node.clusters import FAST, arrived, cluster, over, tokens_of, until

HALF = (2, 1, 1)


@settings(max_examples=10, deadline=None)
@given(after=st.integers(0, 9), requester=st.integers(0, 3), stage=st.integers(0, 2))
def test_cancelled_at_any_token_a_request_is_freed_on_every_stage_and_its_text_so_far_is_right(after, requester, stage):
    async def check():
        async with cluster(4) as made:
            await made.load(HALF)
            gate = made.gates[f"n{stage}"]
            gate.close_before(after)
            request = made.ask(requester, max_tokens=40)
            await until(gate.reached.is_set, "the request is at work")
            made[requester].cancel(request)
            assert isinstance(request.error, Cancelled)
            gate.open()
            await made.free_of_sessions()
            tokens = arrived(request)
            assert tokens == made.expected()[: len(tokens)]
            assert await made.answer(requester) == made.expected()

    asyncio.run(check())


def test_cancelling_twice_or_after_the_end_changes_nothing():
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            request = await over(made.ask())
            made[0].cancel(request)
            made[0].cancel(request)
            assert request.error is None
            assert await tokens_of(request) == made.expected()
            await made.free_of_sessions()

    asyncio.run(check())


def test_a_cancel_that_overtakes_the_prompt_is_remembered():
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            gate = made.gates["n0"]
            gate.close_before(0)
            request = made.ask(0)
            await until(gate.reached.is_set, "the prompt is at stage 0")
            made.network.inject(made[1].card.data, frames.encode(Cancel(request=request.id)))
            await until(lambda: made[1].stages.shelf.is_ended(request.id), "stage 1 heard of it")
            gate.open()
            await until(lambda: made.count("late: request has ended") == 1, "stage 1 drops the step")
            made[0].cancel(request)
            await made.free_of_sessions()

    asyncio.run(check())


def test_what_a_vanished_requester_asked_for_is_freed_everywhere():
    async def check():
        async with cluster(4) as made:
            await made.load(HALF)
            gate = made.gates["n2"]
            gate.close_before(2)
            made.ask(3, max_tokens=400)
            await until(gate.reached.is_set, "the request is at work")
            made.cut_off(3)
            gate.open()
            made.stopped.append(made[3])
            await made.free_of_sessions()
            assert await made.answer(0) == made.expected()

    asyncio.run(check())


def test_a_requester_that_leaves_on_purpose_frees_its_requests_and_fails_them_at_home():
    async def check():
        async with cluster(4) as made:
            await made.load(HALF)
            gate = made.gates["n2"]
            gate.close_before(2)
            request = made.ask(3, max_tokens=400)
            await until(gate.reached.is_set, "the request is at work")
            stopping = asyncio.create_task(made[3].stop())
            await over(request)
            gate.open()
            await stopping
            assert isinstance(request.error, NodeLost)
            await made.free_of_sessions()
            late = made.ask(3, plan=made[0].plans["tiny"])
            assert late.over.is_set()
            assert isinstance(late.error, NodeLost)

    asyncio.run(check())


def test_a_node_that_comes_back_into_reach_is_a_member_again():
    async def check():
        async with cluster(2) as made:
            made.cut_off(1)
            await until(lambda: not made[0].members.alive(), "it is lost")
            made.network.restore(made[1].card.control)
            await made.all_met()

    asyncio.run(check())


def test_no_token_within_the_deadline_is_a_timeout_that_says_so():
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            gate = made.gates["n1"]
            gate.close_before(2)
            request = made.ask(0, timeout_s=0.15)
            await over(request)
            with pytest.raises(GenerationTimeout, match=r"no token for 0\.15 s; every node of the plan answers pings"):
                await tokens_of(request)
            gate.open()
            await made.free_of_sessions()
            assert await made.answer() == made.expected()

    asyncio.run(check())


def test_a_model_unloaded_under_a_running_request_tells_its_requester_wherever_it_is():
    async def check():
        async with cluster(3) as made:
            for requester in (0, 2):
                await made.load((2, 2))
                gate = made.gates["n1"]
                gate.close_before(2)
                request = made.ask(requester)
                await until(gate.reached.is_set, "the request is at work")
                unloading = asyncio.create_task(planner.unload(made[0], "tiny"))
                await until(lambda: "tiny" not in made[1].plans, "stage 1 heard of it")
                gate.open()
                await unloading
                with pytest.raises(StaleEpoch, match="tiny was unloaded from node"):
                    await tokens_of(request)
                await made.free_of_sessions()

    asyncio.run(check())


def test_a_requester_that_only_one_stage_lost_sight_of_goes_on_and_does_not_wait_for_its_deadline():
    async def check():
        async with cluster(3) as made:
            await made.load((2, 2), (1, 2))
            gate = made.gates["n2"]
            gate.close_before(2)
            request = made.ask(0)
            await until(gate.reached.is_set, "the request is at work")
            made[2].ring.post(RequesterLost(made[0].id, made[0].card.data))
            gate.open()
            assert await tokens_of(request) == made.expected()
            assert "lost sight of the node that asked" in request.notices[0]
            await made.free_of_sessions()

    asyncio.run(check())


def test_a_stage_that_only_seems_lost_is_told_to_stop_all_the_same():
    async def check():
        async with cluster(3) as made:
            await made.load((2, 2), (1, 2))
            gate = made.gates["n2"]
            gate.close_before(2)
            request = made.ask(0, max_tokens=30)
            await until(gate.reached.is_set, "the request is at work")
            # Its pings are answered no more, its data port is as well as ever.
            made[2].parts.control._handler = None
            assert await tokens_of(request) == made.expected(max_tokens=30)
            assert made[2].id not in request.plan.devices
            gate.open()
            await made.free_of_sessions()

    asyncio.run(check())


def test_an_engine_that_breaks_fails_its_request_and_nothing_else():
    async def check():
        async with cluster(3) as made:
            await made.load((2, 1, 1))
            for broken, name in ((RuntimeError("out of memory"), "n1"), (TypeError("a bug"), "n2"), (OSError(5), "n0")):
                made.engines[name][0].failing = broken
                with pytest.raises(ExoError, match=rf"the engine failed: {type(broken).__name__}.*reported by node"):
                    await made.answer()
                await made.free_of_sessions()
                assert await made.answer() == made.expected()
            assert made.count("failed: ExoError") == 3

    asyncio.run(check())


def breaking(error):
    """Something that raises, once."""
    left = [error]

    def broken(*arguments):
        if left:
            raise left.pop()

    return broken


@pytest.mark.parametrize(
    ("part", "said", "options"),
    [
        ("reserve", DoesNotFit, {}),
        ("put_kv", ExoError, {"prompt": tuple(n % 200 for n in range(200))}),
    ],
)
def test_memory_that_runs_out_before_a_step_is_computed_ends_a_request_and_not_the_node(part, said, options):
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            assert await made.answer(**options) == made.expected(**options)
            real, engine = getattr(made.engines["n0"][0], part), made.engines["n0"][0]
            broken = breaking(RuntimeError("CUDA out of memory"))
            setattr(engine, part, lambda *arguments: broken(*arguments) or real(*arguments))
            with pytest.raises(said, match="CUDA out of memory"):
                await made.answer(**options)
            await made.free_of_sessions()
            assert await made.answer(**options) == made.expected(**options)

    asyncio.run(check())


def test_a_mistake_of_ours_while_tidying_up_does_not_end_the_data_thread():
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            broken, real = breaking(KeyError("ours")), made[0].stages.shelf.tend
            made[0].stages.shelf.tend = lambda *seconds: broken() or real(*seconds)
            await until(lambda: made.count("broken") == 1, "it is counted")
            assert await made.answer() == made.expected()

    asyncio.run(check())


def test_a_mistake_of_ours_with_one_step_costs_that_step_and_not_the_node():
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            broken, real = breaking(KeyError("ours")), made[0].stages.run
            made[0].stages.run = lambda *steps: broken() or real(*steps)
            request = made.ask()
            await until(lambda: made.count("broken") == 1, "it is counted")
            made[0].cancel(request)
            assert await made.answer() == made.expected()
            await made.free_of_sessions()

    asyncio.run(check())


# -- steps that are wrong ----------------------------------------------------------------------------------


class Forger:
    """A member that builds frames by hand, and listens for what is answered."""

    def __init__(self, made, plan):
        self.made, self.plan = made, plan
        self.port = made.network.data("forger")

    def spec(self, **changes):
        fields = {
            "requester": "forger",
            "reply_to": self.port.address,
            "sampling": SamplingParams(),
            "eos": (),
            "prompt_tokens": 3,
            "total_tokens": 8,
            **changes,
        }
        return SessionSpec(**fields)

    def step(self, stage=0, **changes):
        fields = {
            "request": "forged",
            "model": self.plan.model,
            "epoch": self.plan.epoch,
            "proposer": self.plan.proposer,
            "stage": stage,
            "position": 0,
            "spec": self.spec(),
            **changes,
        }
        return Step(**fields)

    def send(self, stage, step, tensor):
        node = next(node for node in self.made.nodes if node.id == self.plan.devices[stage])
        self.port.send(node.card.data, step, tensor)

    async def answer(self):
        return await asyncio.to_thread(self.port.recv, 10.0)


def hidden(rows=3, columns=64, dtype="float32"):
    return Tensor(dtype, (rows, columns), bytes(rows * columns * (4 if dtype == "float32" else 2)))


WRONG = {
    "no tensor": (0, {}, None, FrameError, "without a tensor"),
    "floats for tokens": (0, {}, hidden(), FrameError, "takes int32"),
    "too many tokens": (0, {}, convert.tokens([5] * 129), FrameError, "takes int32"),
    "no tokens": (0, {}, convert.tokens([]), FrameError, "takes int32"),
    "a matrix of tokens": (0, {}, Tensor("int32", (1, 2), bytes(8)), FrameError, "takes int32"),
    "a scalar": (0, {}, Tensor("int32", (), bytes(4)), FrameError, "takes int32"),
    "a token beyond the vocabulary": (0, {}, convert.tokens([5, 100_000]), FrameError, "outside the vocabulary"),
    "a negative token": (0, {}, convert.tokens([5, -1]), FrameError, "outside the vocabulary"),
    "a position beyond the context": (0, {"position": 511}, convert.tokens([5, 6]), FrameError, "outside the context"),
    "a negative position": (0, {"position": -1}, convert.tokens([5, 6]), FrameError, "outside the context"),
    "a hole": (0, {"position": 2}, convert.tokens([5]), NodeError, "a step was lost"),
    "tokens for hidden states": (1, {}, convert.tokens([5]), FrameError, "takes float"),
    "another hidden size": (1, {}, hidden(3, 63), FrameError, "takes float"),
    "too many rows": (1, {}, hidden(129), FrameError, "takes float"),
    "another stage": (1, {"stage": 0}, convert.tokens([5]), FrameError, "is stage 1 of this plan"),
    "a stage that is none": (0, {"stage": -7}, convert.tokens([5]), FrameError, "is stage 0 of this plan"),
    "an older epoch": (0, {"epoch": 0}, convert.tokens([5]), StaleEpoch, "does not hold tiny epoch 0"),
    "an epoch to come": (0, {"epoch": 2**62}, convert.tokens([5]), StaleEpoch, "does not hold"),
    "another proposer": (0, {"proposer": "nobody"}, convert.tokens([5]), StaleEpoch, "does not hold"),
    "another model": (0, {"model": "giant"}, convert.tokens([5]), StaleEpoch, "does not hold giant"),
    "a name for floats": (0, {"prefix": bytes(16)}, hidden(), FrameError, "takes int32"),
    "a name for a matrix": (0, {"prefix": bytes(16)}, Tensor("int32", (1, 2), bytes(8)), FrameError, "takes int32"),
    "a name for a scalar": (0, {"prefix": bytes(16)}, Tensor("int32", (), bytes(4)), FrameError, "takes int32"),
    "a name for nothing": (0, {"prefix": bytes(16)}, None, FrameError, "does not hold what its name says"),
    "a short name": (0, {"prefix": b"x"}, convert.tokens([5]), FrameError, "a name of 1 bytes"),
    "another's name": (0, {"prefix": bytes(16)}, convert.tokens([5]), FrameError, "does not hold what its name says"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_step_is_refused_counted_and_told_and_the_node_goes_on(wrong):
    stage, changes, tensor, error, text = WRONG[wrong]

    async def check():
        async with cluster(2) as made:
            forger = Forger(made, await made.load((2, 2)))
            forger.send(stage, forger.step(**{"stage": stage, **changes}), tensor)
            failed, _ = await forger.answer()
            assert (failed.request, failed.error, failed.node) == ("forged", error.__name__, made[stage].id)
            assert text in failed.message
            assert made.count(f"failed: {error.__name__}") == 1
            await made.free_of_sessions()
            assert await made.answer() == made.expected()

    asyncio.run(check())


IMPOSSIBLE = {
    "no prompt": {"prompt_tokens": 0},
    "a negative prompt": {"prompt_tokens": -5},
    "no answer": {"prompt_tokens": 8},
    "more than the context": {"total_tokens": 513},
    "a size that no machine has": {"total_tokens": 2**60},
    "a prompt outside the vocabulary": {"history": (5, 999_999)},
    "a negative prompt token": {"history": (5, -1)},
}


@pytest.mark.parametrize("wrong", IMPOSSIBLE)
def test_an_impossible_request_is_refused_before_anything_is_set_aside(wrong):
    async def check():
        async with cluster(2) as made:
            forger = Forger(made, await made.load((2, 2)))
            forger.send(0, forger.step(spec=forger.spec(**IMPOSSIBLE[wrong])), convert.tokens([5]))
            failed, _ = await forger.answer()
            assert failed.error in ("FrameError", "PromptTooLong")
            assert made[0].stages.kv_bytes == 0
            await made.free_of_sessions()

    asyncio.run(check())


def test_a_step_of_a_request_that_nobody_began_is_counted_and_dropped():
    async def check():
        async with cluster(2) as made:
            forger = Forger(made, await made.load((2, 2)))
            forger.send(1, forger.step(1, spec=None, position=5), hidden(1))
            await until(lambda: made.count("unknown request") == 1, "it is counted")
            assert await made.answer() == made.expected()

    asyncio.run(check())


def test_a_step_that_comes_twice_is_computed_once():
    async def check():
        async with cluster(2) as made:
            forger = Forger(made, await made.load((2, 2)))
            gate = made.gates["n1"]
            gate.close_before(1)
            request = made.ask(0)
            await until(gate.reached.is_set, "the request is at work")
            again = forger.step(0, request=request.id, position=0)
            forger.send(0, again, convert.tokens([9, 9, 9]))
            await until(lambda: made.count("repeated step") == 1, "it is counted")
            gate.open()
            assert await tokens_of(request) == made.expected()

    asyncio.run(check())


def test_a_step_of_another_plan_cannot_disturb_a_running_request():
    async def check():
        async with cluster(2) as made:
            forger = Forger(made, await made.load((2, 2)))
            gate = made.gates["n1"]
            gate.close_before(1)
            request = made.ask(0)
            await until(gate.reached.is_set, "the request is at work")
            forger.send(0, forger.step(0, request=request.id, epoch=99, position=50), convert.tokens([9]))
            await until(lambda: made.count("stale epoch") == 1, "it is counted")
            gate.open()
            assert await tokens_of(request) == made.expected()

    asyncio.run(check())


def test_tokens_that_are_late_repeated_or_forged_do_not_reach_the_answer():
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            gate = made.gates["n1"]
            gate.close_before(3)
            request = made.ask(0)
            await until(lambda: gate.reached.is_set() and request.next_position == 6, "three tokens have come")
            for position, token in ((5, 1), (9, 1), (6, -1), (6, 2**40)):
                forged = Token(request=request.id, position=position, token=token, logprob=0.0)
                made.network.inject(made[0].card.data, frames.encode(forged))
            unknown = Token(request="nobody", position=6, token=1, logprob=0.0)
            made.network.inject(made[0].card.data, frames.encode(unknown))
            await until(lambda: made.count("late token") == 5, "they are counted")
            gate.open()
            assert await tokens_of(request) == made.expected()

    asyncio.run(check())


def test_a_request_on_a_plan_that_is_no_longer_held_goes_on_with_the_one_that_is():
    async def check():
        async with cluster(2) as made:
            plan = await made.load((2, 2))
            new = await made.load((1, 3))
            await until(lambda: made.engines["n0"][0].closed and made.engines["n1"][0].closed, "the first is freed")
            unknown = msgspec.structs.replace(plan, devices=(plan.devices[0], "f" * 12))
            nobody = msgspec.structs.replace(plan, devices=("e" * 12, "f" * 12))
            for stale in (plan, unknown, nobody):
                request = made.ask(plan=stale)
                assert await tokens_of(request) == made.expected()
                assert request.plan == new
            await planner.unload(made[0], "tiny")
            with pytest.raises(StaleEpoch):
                await made.answer(plan=new)

    asyncio.run(check())


def test_a_session_that_nothing_comes_for_is_freed():
    async def check():
        timing = msgspec.structs.replace(FAST, idle_session_s=0.2)
        async with cluster(2, timing=timing) as made:
            forger = Forger(made, await made.load((2, 2)))
            forger.send(1, forger.step(1, final=False), hidden())
            await until(lambda: made[1].stages.session_count == 1, "it has begun")
            await made.free_of_sessions()
            failed, _ = await forger.answer()
            assert (failed.error, failed.request) == ("NodeLost", "forged")
            assert "nothing came" in failed.message

    asyncio.run(check())
