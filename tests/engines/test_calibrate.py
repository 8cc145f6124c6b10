"""Calibration: what is measured of a shard adds up, whatever the engine, and leaves nothing behind."""

from __future__ import annotations

import numpy as np
import pytest

from exo_lab.core.shard import Shard
from exo_lab.engines import convert
from exo_lab.engines.calibrate import FAR, SESSION, calibrate
from exo_lab.engines.decoder import TorchEngine
from exo_lab.engines.numpy_engine import NumpyEngine
from tests.tiny import tiny_config, tiny_source

MAKERS = {"torch": lambda: TorchEngine(dtype="float32", threads=1), "numpy": NumpyEngine}


class TimedEngine:
    """Takes exactly as long as a formula says, by a clock of its own."""

    def __init__(self, shard, config):
        self.shard, self.config, self.now, self.length, self.dropped = shard, config, 0.0, 0, []

    def clock(self) -> float:
        return self.now

    def forward(self, session, x, position, want):
        n = x.shape[0]
        per_layer = 2e-3 + 1e-6 * position if n == 1 else 1e-4 * n
        self.now += len(self.shard) * per_layer
        self.length = position + n
        if want == "last" and self.shard.is_last:
            self.now += 7e-3
            return convert.from_numpy(np.zeros((1, self.config.vocab_size), np.float32))
        return None

    def import_kv(self, session, kv):
        assert kv.start == self.shard.start
        assert len(kv.layers) == len(self.shard)
        self.length = kv.layers[0].shape[0]

    def drop(self, session):
        self.dropped.append(session)


@pytest.mark.parametrize(("start", "end"), [(0, 2), (1, 3), (2, 4)])
def test_the_parts_of_a_known_time_are_found(start, end):
    config = tiny_config(context_length=2048)
    engine = TimedEngine(shard := Shard(model="tiny", start=start, end=end, n_layers=4), config)
    found = calibrate(engine, shard, config, clock=engine.clock)
    assert found.layer_s == pytest.approx(2e-3, rel=1e-6)
    assert found.attend_s == pytest.approx(1e-6, rel=1e-3)
    assert found.prefill_layer_s == pytest.approx(1e-4, rel=1e-6)
    assert found.head_s == (pytest.approx(7e-3, rel=1e-6) if end == 4 else None)
    assert engine.dropped == [SESSION]


def test_a_slow_engine_is_measured_only_as_often_as_it_must_be():
    config = tiny_config(context_length=2048)
    engine = TimedEngine(shard := Shard(model="tiny", start=0, end=4, n_layers=4), config)
    calls = []
    forward = engine.forward
    engine.forward = lambda session, x, position, want: calls.append(x.shape[0]) or forward(session, x, position, want)
    calibrate(engine, shard, config, clock=engine.clock, budget_s=1e-6)
    assert len([count for count in calls if count > 1]) == 2
    assert len(calls) <= 7


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("context", [64, 2 * FAR])
def test_real_engines_are_measured_and_left_empty(name, context):
    source = tiny_source(tiny_config(context_length=context))
    for start, end in ((0, 4), (0, 2), (2, 4)):
        engine = MAKERS[name]()
        shard = Shard(model="tiny", start=start, end=end, n_layers=4)
        engine.load(source, shard)
        found = calibrate(engine, shard, source.config)
        assert found.layer_s is not None
        assert found.layer_s > 0
        assert found.prefill_layer_s is not None
        assert found.prefill_layer_s > 0
        assert (found.head_s is not None) == shard.is_last
        assert engine.kv_bytes() == 0
        engine.close()
