"""Nodes come and go: what is said or done about it, by policy; and nothing flaps."""

from __future__ import annotations

import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.cluster import Cluster
from exo_lab.cluster.planning import Wish, wish_behind
from exo_lab.cluster.rebalance import GAIN, POLICIES, acts, decide, policy_of
from exo_lab.core.errors import ConfigError
from exo_lab.core.plan import plan_from_counts
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token
from tests.waiting import eventually

WITHIN_S = 30.0
PROMPT = "the cat sat"


def told(cluster: Cluster) -> str:
    return " ".join(text for text in cluster.status().problems if "predicted" in text)


def options(name: str, rebalance: str, slow: float = 1.0) -> NodeOptions:
    return NodeOptions(name=name, engine="numpy", rebalance=rebalance, slowdown=slow)


@pytest.mark.parametrize("policy", POLICIES)
def test_when_a_faster_node_joins_the_policy_decides(model, policy):
    token = new_token()
    with Cluster(options("slow", policy, 30.0), token) as asker:
        before = asker.load(model, strategy="performance-first").plan
        assert before.devices == (asker.id,)
        answer = asker.generate(PROMPT, raw=True, max_tokens=60)
        with Cluster(options("fast", "never"), token) as other:
            asker.wait_for(2, WITHIN_S)
            if policy == "auto":
                assert eventually(lambda: other.id in asker.models()[0].plan.devices)
                assert eventually(lambda: told(asker) == "")
            elif policy == "ask":
                assert eventually(lambda: "fast" in told(asker))
                assert "%exo load" in told(asker)
                assert asker.models()[0].plan == before
                asker.load(model, strategy="performance-first")
                assert eventually(lambda: told(asker) == "")
            else:
                threading.Event().wait(2.0)  # twice the time to settle
                assert told(asker) == ""
                assert asker.models()[0].plan == before
            whole = asker.generate(PROMPT, raw=True, max_tokens=60).result(WITHIN_S).text
            assert answer.result(WITHIN_S).text == whole


def test_a_wish_is_what_was_said_and_what_the_plan_has_become_since():
    plan = msgspec.structs.replace(plan_from_counts("m", ("a",), (4,)), context_tokens=9000, dtype="float32")
    assert wish_behind(plan, None).context == 9000
    said = Wish(strategy="optimal", objective="prefill", prompt=64, context=100, dtype="bfloat16")
    known = wish_behind(plan, said)
    assert (known.objective, known.prompt, known.strategy) == ("prefill", 64, "optimal")
    assert (known.context, known.dtype) == (9000, "float32")


def test_when_a_node_of_the_plan_leaves_auto_loads_another(model):
    token = new_token()
    with Cluster(options("stays", "auto"), token) as asker:
        with Cluster(options("leaves", "never"), token) as other:
            asker.wait_for(2, WITHIN_S)
            asker.load(model, strategy="uniform")
            assert other.id in asker.models()[0].plan.devices
        assert eventually(lambda: asker.models()[0].plan.devices == (asker.id,))
        assert asker.generate(PROMPT, raw=True, max_tokens=5).result(WITHIN_S).notices == ()


def test_a_policy_is_set_by_name_and_a_wrong_one_is_refused(model):
    with Cluster(options("one", "ask"), new_token()) as cluster:
        assert cluster.rebalance == "ask"
        cluster.rebalance = "never"
        assert cluster.rebalance == "never"
        with pytest.raises(ConfigError, match="no rebalance policy 'sometimes'; there are auto, ask, never"):
            cluster.rebalance = "sometimes"
    with pytest.raises(ConfigError):
        Cluster(options("two", "x"), new_token())


# -- decisions ---------------------------------------------------------------------------------------------

rates = st.floats(0.1, 1e6)


@given(st.sampled_from(POLICIES), rates, rates, st.booleans(), st.booleans())
def test_what_is_decided_is_worth_it_and_nothing_flaps(policy, before, after, same, paused):
    verdict = decide(policy_of(policy), before, after, same=same, paused=paused)
    if same or policy == "never" or after < GAIN * before:
        assert verdict == "nothing"
    if verdict == "change":
        assert policy == "auto"
        assert not paused
        # The way back would have to be worth it, too: it never is.
        assert decide("auto", after, before, same=False, paused=False) == "nothing"


@given(rates, st.booleans())
def test_a_broken_plan_is_mended_at_once(after, paused):
    assert decide("auto", None, after, same=False, paused=paused) == "change"
    assert decide("ask", None, after, same=False, paused=paused) == "tell"
    assert decide("never", None, after, same=False, paused=paused) == "nothing"


@given(st.sets(st.sampled_from("abcdef"), min_size=1), st.sampled_from("abcdef"))
def test_exactly_one_node_acts_for_a_plan(alive, proposer):
    plan = plan_from_counts("m", ("a",), (1,))
    plan = type(plan)(**{**{f: getattr(plan, f) for f in plan.__struct_fields__}, "proposer": proposer})
    assert sum(acts(plan, node, alive) for node in alive) == 1
