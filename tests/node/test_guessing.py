"""Guesses as they pay: many where they are right and cheap, none where not, and little is lost by finding out."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.node.guessing import MARGIN, MOST, Acceptance, Costs, Guesser, best

STEP_S = 0.01


class World:
    """A ring in which one more position costs `slope` of a step, and a text; its clock is what was spent."""

    def __init__(self, slope: float, noise: float = 0.0, seed: int = 0, *, together: bool = True) -> None:
        self.slope, self.noise, self.random = slope, noise, random.Random(seed)
        self.costs = Costs(together=together)
        self.steps, self.spent_s, self.guessed = 0, 0.0, 0

    def answer(self, prompt: list[int], text: list[int], fixed: int | None = None, *, alone: bool = True) -> float:
        """Tokens a second of an answer that says `text`, over those without guesses."""
        guesser = Guesser(prompt, fixed, self.costs)
        at, began_s = 0, self.spent_s
        guesser.drew(text[0])
        while at + 1 < len(text):
            guess = guesser.guess(len(text) - at - 2, alone=alone) if at + 2 < len(text) else ()
            trip_s = STEP_S * (1 + self.slope * len(guess)) * (1 + self.noise * self.random.random())
            self.spent_s, self.steps, self.guessed = self.spent_s + trip_s, self.steps + 1, self.guessed + len(guess)
            self.costs.took(len(guess), trip_s, 0.8 * trip_s)
            for number in range(len(guess) + 1):
                at += 1
                guesser.drew(text[at])
                if number == len(guess) or guess[number] != text[at]:
                    break
        mean_s = STEP_S * (1 + self.noise / 2)
        return mean_s * (len(text) - 1) / (self.spent_s - began_s)


def repeating(length: int, period: int = 24) -> list[int]:
    return [1000 + number % period for number in range(length)]


def chatter(length: int, words: int, seed: int) -> list[int]:
    """Few words in any order: the look-up finds endings all the time, and what it guesses is mostly wrong."""
    source = random.Random(seed)
    return [source.randrange(words) for _ in range(length)]


@given(st.floats(0.05, 1.0), st.integers(4, 40), st.integers(0, 1000), st.booleans())
@settings(max_examples=60, deadline=None)
def test_where_guesses_are_wrong_they_cost_next_to_nothing(slope, words, seed, together):
    world = World(slope, together=together)
    ratios = [world.answer([], chatter(400, words, seed + number)) for number in range(4)]
    assert sum(ratios) / len(ratios) > 0.98


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_where_text_repeats_and_positions_are_cheap_most_trips_are_saved(noise):
    world = World(0.15, noise)
    assert world.answer(repeating(30), repeating(300)) > 2.5
    assert world.answer(repeating(30), repeating(300)) > 2.5


def test_where_a_position_costs_a_whole_step_none_are_made():
    world = World(1.0, together=False)
    assert world.answer(repeating(30), repeating(400)) > 0.98
    assert world.guessed <= 4


def test_a_ring_that_was_thought_to_be_dear_and_is_cheap_is_found_out():
    """Slow links: computing each position by itself adds little to a trip."""
    world = World(0.05, together=False)  # the figures of the stages say 0.8
    assert world.answer(repeating(30), repeating(600)) > 2


def test_text_that_stops_repeating_ends_the_guesses():
    world = World(0.3)
    world.answer(repeating(30), repeating(200))
    before, steps = world.guessed, world.steps
    ratio = world.answer([], repeating(100) + chatter(1000, 20, 7))
    assert ratio > 1
    assert world.guessed - before < 0.25 * (world.steps - steps)


def test_none_are_made_while_others_share_the_ring():
    world = World(0.1)
    world.answer(repeating(30), repeating(300), alone=False)
    assert world.guessed == 0
    assert Guesser(repeating(60), 3, world.costs).guess(5, alone=False) != ()  # unless somebody said how many


@given(st.lists(st.booleans(), max_size=60))
def test_a_chance_is_believed_slowly_and_none_is_above_one(seen):
    acceptance = Acceptance()
    for right in seen:
        acceptance.saw(1, right)
    assert 0 <= acceptance.chances[0] < 1
    assert len(acceptance.chances) == MOST


@given(st.lists(st.floats(0, 1), min_size=MOST, max_size=MOST), st.floats(0, 2), st.integers(0, MOST))
def test_the_best_number_of_guesses_is_that_of_most_tokens_a_second(chances, slope, most):
    costs = Costs(together=True)
    for _ in range(8):
        costs.took(0, 1.0, 0.9)
    for guesses in range(1, MOST + 1):
        costs.took(guesses, 1 + slope * guesses, 1.0)
    rates = [(1 + sum(chances[:guesses])) / costs.ratio(guesses) for guesses in range(most + 1)]
    found = best(chances, costs, most)
    assert rates[found] == max(rates) if max(rates) > MARGIN else found == 0


def test_more_guesses_than_were_measured_are_tried_little_by_little():
    costs, reached = Costs(together=True), []
    for _ in range(8):
        costs.took(0, 1.0, 0.9)
    for _ in range(3):
        reached.append(best((1.0,) * MOST, costs, MOST))
        costs.took(reached[-1], 1.1, 1.0)
    assert reached == [1, 3, MOST]
