"""Sampling: what is kept, how it is drawn, and that a seed and a position decide everything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.errors import ConfigError, GenerationError
from exo_lab.core.sampling import SamplingParams
from exo_lab.engines.sampling import penalise, probabilities, sample, uniform

FEW = settings(max_examples=60, deadline=None)
logits_of_any_shape = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=60).map(
    lambda values: np.array(values, np.float32)
)
temperatures = st.floats(0.05, 5)
seeds = st.integers(0, 2**63 - 1)
positions = st.integers(0, 2**40)


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores.astype(np.float64) - scores.max())
    return weights / weights.sum()


@given(logits_of_any_shape, seeds, positions)
@FEW
def test_greedy_is_the_argmax_whatever_the_seed_and_filters(logits, seed, position):
    params = SamplingParams(temperature=0, seed=seed, top_k=3, top_p=0.5, min_p=0.1)
    assert sample(logits, params, position).token == int(logits.argmax())


@given(logits_of_any_shape, temperatures, seeds, positions)
@FEW
def test_a_seed_and_a_position_decide_the_token_whatever_was_drawn_before(logits, temperature, seed, position):
    params = SamplingParams(temperature=temperature, seed=seed)
    first = sample(logits, params, position)
    np.random.default_rng(0).random()
    sample(logits, params, position + 1)
    assert sample(logits.copy(), params, position) == first


@given(logits_of_any_shape, temperatures, st.integers(1, 70))
@FEW
def test_top_k_keeps_the_k_likeliest(logits, temperature, k):
    ids, weights = probabilities(logits, SamplingParams(temperature=temperature, top_k=k))
    assert len(ids) == min(k, len(logits))
    assert len(set(ids.tolist())) == len(ids)
    left_out = np.delete(logits, ids)
    assert left_out.size == 0 or logits[ids].min() >= left_out.max()
    np.testing.assert_allclose(weights, softmax(logits[ids] / np.float64(temperature)), rtol=1e-9, atol=1e-300)


@given(logits_of_any_shape, temperatures, st.floats(0.01, 0.999))
@FEW
def test_top_p_keeps_the_smallest_set_of_likeliest_tokens_that_reaches_p(logits, temperature, p):
    every = np.sort(softmax(logits.astype(np.float64) / temperature))[::-1]
    ids, weights = probabilities(logits, SamplingParams(temperature=temperature, top_p=p))
    count = len(ids)
    assert every[:count].sum() >= p - 1e-9
    assert every[: count - 1].sum() < p + 1e-9
    assert weights.sum() == pytest.approx(1)


@given(logits_of_any_shape, temperatures, st.floats(0.001, 1))
@FEW
def test_min_p_keeps_what_is_at_least_so_likely_as_a_share_of_the_likeliest(logits, temperature, min_p):
    every = softmax(logits.astype(np.float64) / temperature)
    ids, _ = probabilities(logits, SamplingParams(temperature=temperature, min_p=min_p))
    ratio = every / every.max()
    # Rounding may decide for those on the very edge; for all others there is one answer.
    assert set(np.flatnonzero(ratio > min_p * (1 + 1e-9))) <= set(ids.tolist())
    assert set(ids.tolist()) <= set(np.flatnonzero(ratio >= min_p * (1 - 1e-9)))
    assert int(logits.argmax()) in ids


@given(logits_of_any_shape, temperatures, seeds, st.integers(0, 5), st.floats(0.1, 1), st.floats(0, 0.9))
@FEW
def test_what_is_drawn_is_one_of_those_that_were_kept(logits, temperature, seed, k, p, min_p):
    params = SamplingParams(temperature=temperature, seed=seed, top_k=k, top_p=p, min_p=min_p)
    ids, weights = probabilities(logits, params)
    assert sample(logits, params, 3).token in ids
    assert (np.diff(weights) <= 1e-12).all(), "most likely first"


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.3, 3.0, 12.0]),
    temperatures,
    st.integers(0, 500),
    st.sampled_from([1.0, 0.95, 0.3]),
    st.sampled_from([0.0, 1e-9, 0.02]),
)
@FEW
def test_a_draw_finds_what_sorting_the_whole_vocabulary_would_give(shape, spread, temperature, k, p, min_p):
    logits = (np.random.default_rng(shape).standard_normal(400) * spread).astype(np.float32)
    params = SamplingParams(temperature=temperature, seed=shape, top_k=k, top_p=p, min_p=min_p)
    for position in range(8):
        weights = softmax(logits.astype(np.float64) / temperature)
        order = np.argsort(-weights, kind="stable")[: k or None]
        weights = weights[order] / weights[order].sum()
        kept = (np.cumsum(weights) - weights < p) & (weights >= min_p * weights[0])
        order, weights = order[kept], weights[kept] / weights[kept].sum()
        wanted = order[np.searchsorted(np.cumsum(weights), uniform(shape, position), side="right")]
        assert sample(logits, params, position).token == wanted


def test_equal_scores_are_ordered_by_token_so_that_every_machine_draws_alike():
    ids, _ = probabilities(np.zeros(10, np.float32), SamplingParams(temperature=1, top_k=4))
    assert ids.tolist() == [0, 1, 2, 3]


@given(logits_of_any_shape, st.floats(1.01, 3), st.data())
@FEW
def test_the_penalty_makes_seen_tokens_less_likely_once_each_and_leaves_the_others(logits, penalty, data):
    history = data.draw(st.lists(st.integers(0, len(logits) - 1), max_size=20))
    kept = logits.copy()
    scores = penalise(logits, history, penalty)
    np.testing.assert_array_equal(logits, kept)
    unseen = [i for i in range(len(logits)) if i not in history]
    np.testing.assert_array_equal(scores[unseen], logits[unseen])
    for token in history:
        wanted = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
        assert scores[token] == pytest.approx(wanted, rel=1e-5)


def test_the_penalty_moves_greedy_away_from_repeating():
    logits = np.array([1.0, 0.9, 0.1], np.float32)
    params = SamplingParams(repetition_penalty=1.5)
    assert sample(logits, params, 0).token == 0
    assert sample(logits, params, 1, history=[0]).token == 1


def test_drawn_tokens_follow_the_distribution():
    """Pearson's chi-square over 4,000 positions of one seed; with 7 degrees of freedom 24.3 is the 0.1 % point."""
    logits = np.log(np.array([0.3, 0.2, 0.15, 0.12, 0.1, 0.06, 0.04, 0.03], np.float32))
    params = SamplingParams(temperature=1, seed=20260101)
    count = 4000
    seen = np.bincount([sample(logits, params, position).token for position in range(count)], minlength=8)
    expected = count * softmax(logits)
    assert ((seen - expected) ** 2 / expected).sum() < 24.3


def test_random_numbers_of_neighbouring_seeds_and_positions_are_unrelated_and_uniform():
    grid = np.array([[uniform(seed, position) for position in range(60)] for seed in range(60)])
    assert len(np.unique(grid)) == grid.size
    assert grid.min() >= 0
    assert grid.max() < 1
    # Ten bins, nine degrees of freedom: 27.9 is the 0.1 % point.
    counts = np.bincount((grid.ravel() * 10).astype(int), minlength=10)
    assert ((counts - 360) ** 2 / 360).sum() < 27.9
    for axis in (0, 1):
        a, b = np.delete(grid, -1, axis).ravel(), np.delete(grid, 0, axis).ravel()
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.06


def test_a_high_temperature_flattens_and_a_low_one_sharpens():
    logits = np.array([2.0, 1.0, 0.0], np.float32)
    likeliest = [probabilities(logits, SamplingParams(temperature=t))[1][0] for t in (0.1, 1, 10)]
    assert likeliest == sorted(likeliest, reverse=True)
    assert likeliest[2] == pytest.approx(1 / 3, abs=0.05)


@given(logits_of_any_shape, st.integers(0, 20))
@FEW
def test_log_probabilities_are_those_of_the_unfiltered_model_best_first(logits, count):
    chosen = sample(logits, SamplingParams(temperature=0.7, top_k=1, repetition_penalty=1.3, logprobs=count), 0, [0])
    wanted = np.log(softmax(logits))
    assert chosen.logprob == pytest.approx(wanted[chosen.token], abs=1e-4)
    assert len(chosen.alternatives) == min(count, len(logits))
    values = [value for _, value in chosen.alternatives]
    assert values == sorted(values, reverse=True)
    for token, value in chosen.alternatives:
        assert value == pytest.approx(wanted[token], abs=1e-4)


@pytest.mark.parametrize("bad", [[np.nan, 1], [np.inf, 1], [-np.inf, -np.inf]])
def test_logits_that_are_not_numbers_are_an_error_and_no_token(bad):
    with pytest.raises(GenerationError, match="not finite"):
        sample(np.array(bad, np.float32), SamplingParams(temperature=1), 0)


def test_single_logits_of_minus_infinity_are_tokens_that_cannot_come():
    logits = np.array([-np.inf, 0.0, -np.inf, 0.0], np.float32)
    drawn = {sample(logits, SamplingParams(temperature=2, seed=seed), 0).token for seed in range(40)}
    assert drawn == {1, 3}


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1}, {"top_k": -1}, {"top_p": 0}, {"top_p": 1.1}, {"min_p": -0.1}, {"min_p": 2},
        {"repetition_penalty": 0}, {"seed": -1}, {"seed": 2**63}, {"max_tokens": 0}, {"logprobs": 21},
    ],
)  # fmt: skip
def test_a_parameter_outside_its_range_is_named(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SamplingParams(**wrong)
