"""How long a device takes for each layer, and for the head: the roofline, or what was measured. Pure.

It is told how many positions go through at once and at how many cached ones each looks back; it knows nothing of plans,
chunks or links. The roofline form is that of Williams, Waterman and Patterson (2009).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from exo_lab.core.pace import Measured
from exo_lab.planning.coefficients import Speed, speed_of
from exo_lab.planning.problem import PREFILL_CHUNK

if TYPE_CHECKING:
    from exo_lab.core.device import Device
    from exo_lab.planning.footprint import Footprint
    from exo_lab.planning.problem import Problem

Limit = Literal["measured", "compute", "memory bandwidth"]


class LayerTimes(msgspec.Struct, frozen=True):
    """Seconds of so many positions. `before[j]`: of layers [0, j), n_layers + 1 entries; `embedding`: on top, first."""

    before: list[float]
    embedding: float
    limit: Limit


class Rates(NamedTuple):
    """What the times of a device follow from: what a model is in its memory, its speed, what was measured of both."""

    held: Footprint
    speed: Speed
    measured: Measured


def rates_of(problem: Problem, device: Device) -> Rates:
    """The rates of a device for the model of a problem."""
    measured = problem.measured_of(device.id) or Measured()
    return Rates(problem.footprint(device), speed_of(device, measured), measured)


def layer_times(problem: Problem, rates: Rates, *, tokens: float, looks_at: float, prefill: bool) -> LayerTimes:
    """Times through each layer of a device.

    Args:
        problem: the model.
        rates: of the device; what was measured beats its speed.
        tokens: positions at once.
        looks_at: cached positions that each of them looks back at; a sliding window bounds it.
        prefill: of a prompt, for which other times were measured.
    """
    config, (held, speed, measured) = problem.config, rates
    known = measured.prefill_layer_s if prefill else measured.layer_s
    sizes = held.layers
    embedding = tokens * (measured.embedding_s or 0.0)
    looked_at = min(looks_at, config.sliding_window or looks_at)
    if known is not None:
        # A mean over the layers of the model: shared out by size where they differ.
        mean = sum(sizes) / len(sizes)
        if prefill and problem.chunk < PREFILL_CHUNK:
            # Measured with whole chunks. Whatever its size, a chunk reads the weights once, as a decoded position does.
            known += (measured.layer_s or 0.0) * (1 / tokens - 1 / PREFILL_CHUNK)
        if not prefill and measured.attend_s:
            known += measured.attend_s * looked_at
        by_size = {size: tokens * known * (size / mean if mean else 1.0) for size in set(sizes)}
        limit: Limit = "measured"
    else:
        attention = 4 * config.n_heads * config.head_dim * looked_at
        cached = held.cached * looked_at
        compute_s = tokens * (config.flops_per_token_per_layer + attention) / speed.flops.value
        by_size = {size: max(compute_s, (size + cached) / speed.bandwidth.value) for size in set(sizes)}
        limit = "compute" if compute_s >= max(by_size.values()) else "memory bandwidth"
    return LayerTimes([0.0, *itertools.accumulate(by_size[size] for size in sizes)], embedding, limit)


def head_s(problem: Problem, rates: Rates) -> float:
    """The head, for the one position that is sampled.

    A device that never held it reads its weights as quickly as those of the layers that it was measured with: what
    slows one down slows the other down.
    """
    held, speed, measured = rates
    if measured.head_s is not None:
        return measured.head_s
    if measured.layer_s is not None and sum(held.layers):
        return measured.layer_s * held.head * len(held.layers) / sum(held.layers)
    return max(problem.config.head_flops_per_token / speed.flops.value, held.head / speed.bandwidth.value)
