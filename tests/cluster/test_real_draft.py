"""The real model drafts for itself in a ring of two: always right, greedy and sampled, and the same text."""

from __future__ import annotations

import pytest

from exo_lab.cluster import Cluster
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token

pytestmark = [pytest.mark.real_model, pytest.mark.slow, pytest.mark.timeout(200)]

PROMPT = "Tell a story about a lighthouse keeper and a storm."
TOKENS = 48


def test_the_real_model_is_always_right_about_itself(real_model):
    token, model = new_token(), str(real_model)
    with (
        Cluster(NodeOptions(name="left", threads=1), token) as left,
        Cluster(NodeOptions(name="right", threads=1), token) as right,
    ):
        left.wait_for(2)
        right.wait_for(2)
        left.load(model, devices=["left", "right"], context=256)

        def count(name: str) -> int:
            return sum(one.counters.get(name, 0) for one in left.counters().values())

        for params in ({}, {"temperature": 0.8, "seed": 3}):
            plain = left.generate(PROMPT, max_tokens=TOKENS, speculate=0, **params).result()
            guesses, right_ones = count("guesses"), count("guesses that were right")
            drafted = left.generate(PROMPT, max_tokens=TOKENS, draft=model, speculate=4, **params).result()
            assert [event.token for event in drafted.tokens] == [event.token for event in plain.tokens]
            assert [event.logprob for event in drafted.tokens] == [event.logprob for event in plain.tokens]
            made = count("guesses") - guesses
            assert made > 30
            assert count("guesses that were right") - right_ones >= made - 4  # the answer may end before the last ones
