"""The script for GPUs, with a small shape on the CPU: it measures what it says, on weights that compute."""

from __future__ import annotations

import numpy as np

from benchmarks.gpu import SMALL, Stages, measure
from benchmarks.random_model import RandomSource


def test_every_contestant_is_measured_in_every_round():
    data = measure(SMALL, "cpu", repeats=2, prompt=8, answer=4)
    assert set(data["rates"]) == {"exo, 1 stage", "exo, 2 stages", "Transformers"}
    assert all(len(rates) == 2 and min(rates) > 0 for rates in data["rates"].values())
    assert data["bandwidth_bytes_per_s"] > 0
    config = RandomSource(SMALL).config
    assert data["bytes_per_token"] == sum(config.layer_bytes) + config.head_bytes


def test_two_stages_say_what_one_says():
    source = RandomSource(SMALL)
    one, two = Stages(source, 1, "cpu"), Stages(source, 2, "cpu")
    said = [[stages.step([3, 1, 4, 1, 5], 0), stages.step([9], 5)] for stages in (one, two)]
    assert said[0] == said[1]


def test_a_random_weight_is_the_same_however_it_is_read():
    weight = RandomSource(SMALL).weight("blk.1.ffn_up.weight")
    whole = weight.to_float32()
    assert np.array_equal(np.concatenate([weight.to_float32(0, 5), weight.to_float32(5)]), whole)
    widened = (weight.raw().view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    assert np.allclose(widened, whole, rtol=2**-7)
    assert np.isfinite(whole).all()
