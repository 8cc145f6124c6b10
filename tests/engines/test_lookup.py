"""Guesses from what was said before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exo_lab.engines.lookup import LONGEST, SHORTEST, Lookup


def test_what_followed_the_same_ending_is_guessed():
    lookup = Lookup([5, 1, 2, 3, 7, 8, 9, 1, 2, 3])
    assert lookup.guess(3) == (7, 8, 9)
    assert lookup.guess(1) == (7,)
    lookup.add(7)
    assert lookup.guess(2) == (8, 9)


def test_the_longer_ending_and_then_the_latest_one_wins():
    assert Lookup([1, 2, 3, 40, 2, 3, 50, 1, 2, 3]).guess(1) == (40,)
    assert Lookup([2, 3, 40, 9, 2, 3, 50, 9, 8, 2, 3]).guess(1) == (50,)


def test_nothing_is_guessed_of_what_was_never_said():
    assert Lookup().guess(4) == ()
    assert Lookup([1, 2]).guess(4) == ()
    assert Lookup([1, 2, 3, 4]).guess(4) == ()


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 8))
def test_a_guess_is_what_stands_after_an_earlier_occurrence_of_the_ending(tokens, most):
    guess = Lookup(tokens).guess(most)
    assert len(guess) <= most
    endings = [
        (size, at)
        for size in range(SHORTEST, LONGEST + 1)
        for at in range(size, len(tokens))
        if tokens[at - size : at] == tokens[len(tokens) - size :]
    ]
    assert bool(guess) == bool(endings)
    if endings:
        assert guess == tuple(tokens[max(endings)[1] :][:most])
