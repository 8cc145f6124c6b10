"""KV caches: sessions apart from each other, rollback, growth, moving a cache to another engine."""

from __future__ import annotations

import numpy as np
import pytest

from exo_lab.core.errors import ConfigError, NodeError
from exo_lab.engines import convert
from exo_lab.engines.base import KvExport
from exo_lab.engines.decoder import TorchEngine
from exo_lab.engines.numpy_engine import NumpyEngine
from tests.engines.ring import Ring, shards
from tests.tiny import tiny_config, tiny_source

ENGINES = {
    "numpy": NumpyEngine,
    "torch float32": lambda: TorchEngine("float32", "cpu", threads=1),
    "torch bfloat16": lambda: TorchEngine("bfloat16", "cpu", threads=1),
}
EXACT = ("numpy", "torch float32")
PROMPT = [int(x) for x in np.random.default_rng(2).integers(0, 256, 30)]
SOURCE = tiny_source(tiny_config("qwen2"), seed=5)

each_engine = pytest.mark.parametrize("engine", ENGINES)


@each_engine
def test_sessions_do_not_disturb_each_other(engine):
    ring = Ring(SOURCE, ENGINES[engine])
    alone = ring.logits(PROMPT, session="alone")
    other = PROMPT[::-1]
    for position in range(len(PROMPT)):
        ring.step("a", PROMPT[position : position + 1], position)
        ring.step("b", other[position : position + 1], position)
    np.testing.assert_array_equal(ring.logits(PROMPT, session="a"), alone)
    np.testing.assert_array_equal(ring.logits(other, session="c"), ring.logits(other, session="b"))


@each_engine
@pytest.mark.parametrize("back_to", [0, 1, 17, 29])
def test_a_position_below_the_length_forgets_what_lies_behind_it(engine, back_to):
    ring = Ring(SOURCE, ENGINES[engine])
    for session in ("s", "fresh"):
        if back_to:
            ring.logits(PROMPT[:back_to], session=session)
    ring.logits([7] * 12, session="s", position=back_to)  # a draft that was wrong, say
    np.testing.assert_array_equal(ring.step("s", [9], back_to), ring.step("fresh", [9], back_to))
    assert ring.stages[0].export_kv("s").layers[0].shape[0] == back_to + 1


@each_engine
def test_a_step_that_would_leave_a_hole_is_refused_and_changes_nothing(engine):
    ring = Ring(SOURCE, ENGINES[engine])
    ring.logits(PROMPT)
    with pytest.raises(NodeError, match="a step was lost"):
        ring.step("s", [1], 31)
    with pytest.raises(NodeError, match="a step was lost"):
        ring.step("never seen", [1], 1)
    assert ring.stages[0].export_kv("s").layers[0].shape[0] == 30


@pytest.mark.parametrize("engine", EXACT)
@pytest.mark.parametrize("chunk", [1, 7, 16, 30])
def test_chunks_of_any_size_give_the_same_logits_within_rounding(engine, chunk):
    ring = Ring(SOURCE, ENGINES[engine])
    np.testing.assert_allclose(ring.logits(PROMPT, session="cut", chunk=chunk), ring.logits(PROMPT), rtol=0, atol=5e-4)


@each_engine
def test_a_dropped_session_frees_its_memory_and_starts_anew(engine):
    ring = Ring(SOURCE, ENGINES[engine])
    stage = ring.stages[0]
    first = ring.logits(PROMPT)
    assert stage.kv_bytes() > 0
    stage.drop("s")
    stage.drop("never seen")
    assert stage.kv_bytes() == 0
    np.testing.assert_array_equal(ring.logits(PROMPT), first)


@each_engine
def test_what_a_session_takes_is_what_the_engine_says_that_it_takes(engine):
    ring = Ring(SOURCE, ENGINES[engine])
    stage = ring.stages[0]
    ring.logits(PROMPT * 9)  # 270 tokens
    tokens = 270 if engine == "numpy" else 512  # torch grows by blocks of 256
    assert stage.kv_bytes() == tokens * stage.info.kv_bytes_per_token


@pytest.mark.parametrize("engine", list(ENGINES)[1:])
def test_growing_keeps_what_is_cached_and_reserved_room_is_not_grown_again(engine):
    ring = Ring(SOURCE, ENGINES[engine])
    stage = ring.stages[0]
    stage.reserve("s", 300)
    taken = stage.kv_bytes()
    assert taken == 512 * stage.info.kv_bytes_per_token
    ring.logits(PROMPT * 10)
    assert stage.kv_bytes() == taken
    before = stage.export_kv("s")
    stage.reserve("s", 2000)
    after = stage.export_kv("s")
    assert [bytes(layer.data) for layer in before.layers] == [bytes(layer.data) for layer in after.layers]


@pytest.mark.parametrize("giver", EXACT)
@pytest.mark.parametrize("taker", EXACT)
def test_a_cache_moves_between_engines_and_the_text_goes_on(giver, taker):
    whole = Ring(SOURCE, ENGINES[giver])
    whole.logits(PROMPT)
    moved = Ring(SOURCE, ENGINES[taker])
    moved.stages[0].import_kv("s", whole.stages[0].export_kv("s"))
    wanted, got = whole.logits([3, 4, 5], position=30, chunk=1), moved.logits([3, 4, 5], position=30, chunk=1)
    if giver == taker:
        np.testing.assert_array_equal(got, wanted)
    else:
        np.testing.assert_allclose(got, wanted, rtol=0, atol=5e-4)


@each_engine
def test_a_cache_that_comes_back_is_the_same_bit_for_bit(engine):
    ring = Ring(SOURCE, ENGINES[engine])
    ring.logits(PROMPT)
    stage = ring.stages[0]
    export = stage.export_kv("s")
    kept = [bytes(layer.data) for layer in export.layers]
    stage.import_kv("copy", export)
    ring.step("copy", [1], 30)
    ring.step("copy", [1], 0)  # writing to the copy must not change the export
    assert [bytes(layer.data) for layer in export.layers] == kept
    assert [bytes(layer.data) for layer in stage.export_kv("s").layers] == kept
    assert export.layers[0].shape == (30, 2, SOURCE.config.n_kv_heads, SOURCE.config.head_dim)


@each_engine
def test_moving_the_cut_moves_the_cache_of_those_layers_only(engine):
    """Two stages [0, 1) [1, 4) become [0, 3) [3, 4): each takes the layers that it needs out of both exports."""
    before, after = Ring(SOURCE, ENGINES[engine], (1,)), Ring(SOURCE, ENGINES[engine], (3,))
    before.logits(PROMPT)
    exports = [stage.export_kv("s") for stage in before.stages]
    together = KvExport(0, tuple(layer for export in exports for layer in export.layers))
    for stage in after.stages:
        stage.import_kv("s", together)
    np.testing.assert_array_equal(after.step("s", [5], 30), before.step("s", [5], 30))


@each_engine
def test_a_cache_with_layers_missing_or_of_another_model_is_refused(engine):
    stage = ENGINES[engine]()
    stage.load(SOURCE, shards(4, (1, 3))[1])  # layers 1 and 2
    layer = convert.from_numpy(np.zeros((3, 2, SOURCE.config.n_kv_heads, SOURCE.config.head_dim), np.float32))
    wrong = convert.from_numpy(np.zeros((3, 2, 1, 1), np.float32))
    longer = convert.from_numpy(np.zeros((4, *layer.shape[1:]), np.float32))
    for export in (
        KvExport(1, (layer,)),
        KvExport(2, (layer, layer)),  # a negative index must not find a layer from behind
        KvExport(7, (layer, layer)),
        KvExport(0, (layer, layer)),
        KvExport(1, ()),
        KvExport(1, (layer, longer)),
        KvExport(1, (wrong, wrong)),
    ):
        with pytest.raises(NodeError, match="Replay"):
            stage.import_kv("s", export)
    stage.import_kv("s", KvExport(0, (layer, layer, layer, layer)))


@each_engine
def test_the_cache_of_an_unknown_session_is_empty_and_asking_does_not_make_one(engine):
    ring = Ring(SOURCE, ENGINES[engine])
    export = ring.stages[0].export_kv("never seen")
    assert [layer.shape[0] for layer in export.layers] == [0] * 4
    with pytest.raises(NodeError, match="a step was lost"):
        ring.step("never seen", [1], 1)
    ring.stages[0].import_kv("never seen", export)
    np.testing.assert_array_equal(ring.step("never seen", [1], 0), ring.step("fresh", [1], 0))


@each_engine
def test_only_what_is_wanted_comes_out(engine):
    ring = Ring(SOURCE, ENGINES[engine])
    assert ring.step("s", PROMPT, 0, "none") is None
    every, last = ring.step("s", PROMPT, 0, "all"), ring.step("s", PROMPT, 0, "last")
    assert every is not None
    assert last is not None
    assert every.shape == (30, SOURCE.config.vocab_size)
    assert last.shape == (1, SOURCE.config.vocab_size)
    np.testing.assert_allclose(last[0], every[-1], rtol=0, atol=1e-4 if engine in EXACT else 0.1)


@each_engine
def test_an_engine_without_a_shard_says_so(engine):
    with pytest.raises(NodeError, match="load"):
        ENGINES[engine]().info  # noqa: B018


@each_engine
def test_closing_twice_is_fine_and_frees_the_caches(engine):
    ring = Ring(SOURCE, ENGINES[engine])
    ring.logits(PROMPT)
    ring.stages[0].close()
    ring.stages[0].close()
    assert ring.stages[0].kv_bytes() == 0


@each_engine
def test_loading_reports_bytes_that_rise_to_the_total(engine):
    reports: list[tuple[int, int]] = []
    engine_ = ENGINES[engine]()
    engine_.load(SOURCE, shards(4)[0], lambda done, total, _what: reports.append((done, total)))
    done = [d for d, _ in reports]
    assert done == sorted(done)
    assert len({total for _, total in reports}) == 1
    assert done[-1] == reports[-1][1]


def test_a_dtype_that_does_not_exist_is_named():
    with pytest.raises(ConfigError, match="float8"):
        TorchEngine("float8", "cpu")
