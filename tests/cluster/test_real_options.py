"""The real model in a ring of two: what is guessed, drafted and reused changes no token and no bit of a probability."""

from __future__ import annotations

import pytest

from exo_lab.cluster import Cluster
from exo_lab.generation import Generation
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token

pytestmark = [pytest.mark.real_model, pytest.mark.slow, pytest.mark.timeout(200)]

PROMPT = "Tell a story about a lighthouse keeper and a storm."
TOKENS = 48
PARAMS = ({}, {"temperature": 0.8, "seed": 3})


@pytest.fixture(scope="module")
def ring(real_model):
    """The cluster of the first of two nodes."""
    token = new_token()
    with (
        Cluster(NodeOptions(name="left", threads=1), token) as left,
        Cluster(NodeOptions(name="right", threads=1), token) as right,
    ):
        left.wait_for(2)
        right.wait_for(2)
        left.load(str(real_model), devices=["left", "right"], context=1024)
        yield left


def said(generation: Generation) -> list[tuple[int, float]]:
    return [(event.token, event.logprob) for event in generation.result().tokens]


def count(ring: Cluster, name: str) -> int:
    return sum(one.counters.get(name, 0) for one in ring.counters().values())


@pytest.mark.parametrize("params", PARAMS, ids=["greedy", "sampled"])
def test_it_is_always_right_about_itself(ring, real_model, params):
    plain = said(ring.generate(PROMPT, max_tokens=TOKENS, speculate=0, **params))
    guesses, right = count(ring, "guesses"), count(ring, "guesses that were right")
    draft = str(real_model)
    assert said(ring.generate(PROMPT, max_tokens=TOKENS, draft=draft, speculate=4, **params)) == plain
    made = count(ring, "guesses") - guesses
    assert made > 30
    assert count(ring, "guesses that were right") - right >= made - 4  # the answer may end before the last ones


@pytest.mark.parametrize("params", PARAMS, ids=["greedy", "sampled"])
def test_guesses_as_they_pay_change_nothing(ring, params):
    prompt = "Repeat this list word for word, twice: apple, pear, plum, cherry, grape, melon, lemon, fig."
    plain = said(ring.generate(prompt, max_tokens=TOKENS, speculate=0, **params))
    assert said(ring.generate(prompt, max_tokens=TOKENS, **params)) == plain


@pytest.mark.parametrize("params", PARAMS, ids=["greedy", "sampled"])
def test_a_conversation_is_the_same_with_its_beginning_reused(ring, params):
    text = " ".join(f"On day {day} the keeper saw {day * 7 % 11} ships." for day in range(1, 25))
    talk = [{"role": "user", "content": f"{params} {text} What is this about?"}]
    for _ in range(3):
        plain = ring.generate(talk, max_tokens=24, prefix_cache=False, **params)
        cached = ring.generate(talk, max_tokens=24, **params)
        assert said(cached) == said(plain)
        talk += [{"role": "assistant", "content": cached.text}, {"role": "user", "content": "And then?"}]
    assert plain.stats.prompt_tokens_reused == 0
    assert cached.stats.prompt_tokens_reused >= 256
