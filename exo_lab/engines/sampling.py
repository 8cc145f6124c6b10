"""From logits to a token. Pure: the same logits, parameters, history and position give the same token anywhere.

Randomness is counter-based (Philox-4x64, Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"),
keyed by (seed, position): a replay of a request draws the same numbers whatever happened in between.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from exo_lab.core.errors import GenerationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.sampling import SamplingParams


# How far below the likeliest token's score to look, a step further each time that it was not enough.
CUTS = (5.0, 12.0, 30.0, math.inf)


class Sampled(NamedTuple):
    """A token, its natural log probability under the unfiltered model, and the likeliest alternatives."""

    token: int
    logprob: float
    alternatives: tuple[tuple[int, float], ...]


def uniform(seed: int, position: int) -> float:
    """A float64 in [0, 1) that depends on nothing but (seed, position)."""
    raw = np.random.Philox(key=seed, counter=[position, 0, 0, 0]).random_raw()
    return (int(raw) >> 11) * 2.0**-53


def sample(logits: np.ndarray, params: SamplingParams, position: int, history: Sequence[int] = ()) -> Sampled:
    """Choose a token: `draw`, then `told`. Arguments and errors are those of `draw`."""
    return told(logits, draw(logits, params, position, history), params)


def draw(logits: np.ndarray, params: SamplingParams, position: int, history: Sequence[int] = ()) -> int:
    """The token.

    Args:
        logits: float32 (vocab,). Not changed.
        params: see `SamplingParams`; filters run in the order penalty, temperature, top-k, top-p, min-p.
        position: of the token that is being chosen; the random number belongs to it.
        history: tokens so far (prompt and answer), for the repetition penalty.

    Raises:
        GenerationError: the logits hold NaN or no finite value.
    """
    best = int(logits.argmax())  # of a NaN, if there is one
    if not math.isfinite(logits[best]):
        raise GenerationError("the model produced logits that are not finite; the weights or the dtype are broken")
    scores = penalise(logits, history, params.repetition_penalty)
    if params.temperature == 0:
        return best if scores is logits else int(scores.argmax())
    return _draw(scores, params, uniform(params.seed, position))


def told(logits: np.ndarray, token: int, params: SamplingParams) -> Sampled:
    """A token that was drawn from logits (vocab,), with its probability and the likeliest alternatives."""
    top = logits.max()
    shifted = logits - top
    log_total = float(top) + math.log(np.exp(shifted, out=shifted).sum())
    alternatives = tuple((int(i), float(logits[i]) - log_total) for i in _top(logits, params.logprobs))
    return Sampled(token, float(logits[token]) - log_total, alternatives)


def penalise(logits: np.ndarray, history: Sequence[int], penalty: float) -> np.ndarray:
    """Repetition penalty of Keskar et al. 2019 (CTRL): seen tokens are divided (positive) or multiplied by it."""
    if penalty == 1 or not history:
        return logits
    seen = np.unique(np.asarray(history, dtype=np.int64))
    scores = logits.copy()
    values = scores[seen]
    scores[seen] = np.where(values > 0, values / penalty, values * penalty)
    return scores


def probabilities(scores: np.ndarray, params: SamplingParams) -> tuple[np.ndarray, np.ndarray]:
    """The filtered distribution: (token ids int64 (k,), probabilities float64 (k,)), most likely first.

    Ties are ordered by token id, so every machine sorts alike.
    """
    ids, weights, _ = _kept(scores, params, 1.0)
    return ids, weights / weights.sum()


def _draw(scores: np.ndarray, params: SamplingParams, number: float) -> int:
    ids, weights, total = _kept(scores, params, number)
    index = int(np.searchsorted(np.cumsum(weights), number * total, side="right"))
    return int(ids[min(index, ids.size - 1)])


def _kept(scores: np.ndarray, params: SamplingParams, number: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Tokens that the filters leave, most likely first: ids, weights, and what the weights of all of these add up to.

    Without a filter, only as many as a draw of `number` reaches: to sort a whole vocabulary takes longer than a small
    model's forward pass.
    """
    scaled = scores.astype(np.float64) / params.temperature
    top = scaled.max()
    everything = np.exp(scaled - top)
    total = float(everything.sum())
    count = min(params.top_k or scaled.size, scaled.size)
    for cut in CUTS:
        ids = np.flatnonzero(scaled >= top - cut)
        ids = ids[np.argsort(-scaled[ids], kind="stable")]
        weights = everything[ids]
        if ids.size == scaled.size or _enough(params, count, weights, total, cut, number):
            break
    if count < scaled.size:
        ids, weights = ids[:count], weights[:count]
        total = float(weights.sum())
    if params.top_p < 1:
        # Keep the smallest set that reaches top_p: a token stays while what comes before it has less.
        keep = np.cumsum(weights) - weights < params.top_p * total
        ids, weights = ids[keep], weights[keep]
    if params.min_p > 0:
        keep = weights >= params.min_p * weights[0]
        ids, weights = ids[keep], weights[keep]
    return ids, weights, float(weights.sum()) if params.top_p < 1 or params.min_p > 0 else total


def _enough(params: SamplingParams, count: int, weights: np.ndarray, total: float, cut: float, number: float) -> bool:
    """Do the tokens within `cut` of the likeliest hold all that the filters leave, or that a draw can reach?"""
    if params.top_k:
        return weights.size >= count
    if params.top_p < 1:
        return float(weights.sum()) >= params.top_p * total
    if params.min_p > 0:
        return cut > -math.log(params.min_p)
    return float(np.cumsum(weights)[-1]) > number * total


def _top(logits: np.ndarray, count: int) -> np.ndarray:
    if not count:
        return np.empty(0, dtype=np.int64)
    best = np.argpartition(-logits, count)[:count] if count < logits.size else np.arange(logits.size)
    return best[np.lexsort((best, -logits[best]))]
