"""Consecutive layers in one call: no less exact than layer by layer, and the same bits for every cut."""

from __future__ import annotations

import numpy as np
import pytest

from exo_lab.core.errors import NodeError
from exo_lab.engines import convert, decode_step, native
from exo_lab.engines.base import Part
from exo_lab.engines.decoder import TorchEngine
from exo_lab.engines.native_stage import NativeStage
from tests.engines.ring import Ring
from tests.tiny import TinySource, tiny_config, tiny_source, with_sizes

CONFIGS = [
    tiny_config("llama"),
    tiny_config("mistral", sliding_window=24),
    tiny_config("qwen2"),
    tiny_config("qwen3", head_dim=48),
    tiny_config("llama", hidden_size=128, intermediate_size=192, head_dim=64, n_heads=6, n_kv_heads=2),
]


@pytest.fixture(autouse=True)
def kernels():
    found = native.state()
    if found.library is None:
        pytest.skip(found.why_not)


def quantised(source, cuts=(), threads=1) -> Ring:
    return Ring(source, lambda: TorchEngine("quantised", "cpu", threads), cuts)


def parts(ring: Ring) -> list[list[type]]:
    """How each stage runs its layers, known once something has been decoded."""
    return [[type(part) for part in stage._decode._parts] for stage in ring.stages]


def ids(count: int, seed: int = 6) -> list[int]:
    return [int(x) for x in np.random.default_rng(seed).integers(0, 256, count)]


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_one_call_is_no_less_exact_than_layer_by_layer(config, kind, monkeypatch):
    source = tiny_source(config, seed=8, kind=kind)
    asked = ids(60)
    exact = Ring(source, lambda: TorchEngine("float32", "cpu", 1)).logits(asked)
    ours = quantised(source)
    found = ours.logits(asked, chunk=1)
    assert parts(ours) == [[NativeStage]]
    monkeypatch.setattr(decode_step, "can_run", lambda layer: False)
    apart = quantised(source)
    theirs = apart.logits(asked, chunk=1)
    assert NativeStage not in parts(apart)[0]
    errors = [np.abs(logits - exact).mean() for logits in (found, theirs)]
    assert errors[0] < 1.25 * errors[1]


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0"])
def test_every_cut_and_any_number_of_threads_gives_the_same_bits(kind):
    source = tiny_source(tiny_config("qwen3", n_layers=5), seed=3, kind=kind)
    asked = ids(70)
    whole = quantised(source).logits(asked, chunk=1)
    for cuts, threads in (((1,), 1), ((2, 3), 1), ((1, 2, 3, 4), 1), ((), 2), ((2,), 2)):
        assert np.array_equal(quantised(source, cuts, threads).logits(asked, chunk=1), whole), (cuts, threads)


def test_a_layer_of_two_kinds_goes_by_itself_and_every_cut_still_gives_the_same_bits():
    config = tiny_config("llama", n_layers=5)
    four, eight = (tiny_source(config, seed=4, kind=kind) for kind in ("Q4_1", "Q8_0"))
    weights = {**four.weights, "blk.2.attn_q.weight": eight.weights["blk.2.attn_q.weight"]}
    source = TinySource(with_sizes(config, weights, "Q4_1"), weights)
    asked = ids(40)
    ring = quantised(source)
    whole = ring.logits(asked, chunk=1)
    assert [part is NativeStage for part in parts(ring)[0]] == [True, False, True]
    for cuts in ((1,), (2,), (3,), (1, 2, 3, 4)):
        assert np.array_equal(quantised(source, cuts).logits(asked, chunk=1), whole), cuts


def test_a_cache_that_grows_between_two_steps_is_found_where_it_is_now():
    source = tiny_source(tiny_config("llama"), seed=5, kind="Q4_1")
    asked = ids(200)
    grown, reserved = quantised(source), quantised(source)
    for stage in reserved.stages:
        stage.reserve("s", 400)
    assert np.array_equal(grown.logits(asked, chunk=1), reserved.logits(asked, chunk=1))


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0"])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_positions_together_get_the_bits_that_they_get_alone(config, kind):
    source = tiny_source(config, seed=9, kind=kind)
    asked = ids(97, seed=2)
    alone = quantised(source).logits(asked, chunk=1)
    together = quantised(source)
    most = together.stages[0].info.together
    assert most > 1
    for chunk, cuts in ((most, ()), (97, ()), (2, (1,)), (5, (2,)), (32, (2,)), (7, (1, 2, 3))):
        assert np.array_equal(quantised(source, cuts).logits(asked, chunk=chunk), alone), (chunk, cuts)


def test_a_head_and_a_layer_that_the_kernels_do_not_take_keep_the_bits_as_well():
    config = tiny_config("qwen2", n_layers=4)
    four, half = (tiny_source(config, seed=4, kind=kind) for kind in ("Q4_1", "F16"))
    other = ("output.weight", "blk.1.ffn_down.weight")
    weights = {**four.weights, **{name: half.weights[name] for name in other}}
    source = TinySource(with_sizes(config, weights, "Q4_1"), weights)
    asked = ids(40)
    alone = quantised(source).logits(asked, chunk=1)
    for chunk, cuts in ((16, ()), (3, (1,)), (5, (2, 3))):
        assert np.array_equal(quantised(source, cuts).logits(asked, chunk=chunk), alone), (chunk, cuts)


def test_a_layer_without_any_weights_that_are_kept_computes_alike_in_every_cut():
    config = tiny_config("llama", n_layers=4)
    four, six = (tiny_source(config, seed=4, kind=kind) for kind in ("Q4_1", "F16"))
    other = {name: weight for name, weight in six.weights.items() if name.startswith("blk.2.")}
    weights = {**four.weights, **other}
    source = TinySource(with_sizes(config, weights, "Q4_1"), weights)
    asked = ids(40)
    rings = [Ring(source, lambda: TorchEngine("auto", "cpu", 1), cuts) for cuts in ((), (2,), (2, 3), (1, 2, 3))]
    assert {stage.info.dtype for ring in rings for stage in ring.stages} == {"quantised"}
    for chunk in (1, 32):
        whole, *cut = (ring.logits(asked, chunk=chunk, session=str(chunk)) for ring in rings)
        assert all(np.array_equal(logits, whole) for logits in cut), chunk


def test_pieces_of_a_prompt_run_the_same_for_every_cut_where_some_layers_are_left_to_pytorch():
    config = tiny_config("qwen2", n_layers=4)
    four, half = (tiny_source(config, seed=4, kind=kind) for kind in ("Q4_1", "F16"))
    weights = {**four.weights, "blk.1.ffn_down.weight": half.weights["blk.1.ffn_down.weight"]}
    source = TinySource(with_sizes(config, weights, "Q4_1"), weights)
    asked = ids(80)
    ring = quantised(source)
    whole = ring.logits(asked, chunk=40)
    assert [part is NativeStage for part in parts(ring)[0]] == [True, False, True]
    for cuts in ((1,), (2,), (1, 2, 3)):
        assert np.array_equal(quantised(source, cuts).logits(asked, chunk=40), whole), cuts


def test_without_packed_weights_positions_run_one_by_one():
    ring = Ring(tiny_source(tiny_config("llama")), lambda: TorchEngine("bfloat16", "cpu", 1))
    assert ring.stages[0].info.together == 1


def test_guesses_that_were_wrong_leave_no_trace():
    source = tiny_source(tiny_config("llama"), seed=5, kind="Q4_1")
    asked, wrong = ids(30), ids(30, seed=11)
    plain = quantised(source).logits(asked, chunk=1)
    ring = quantised(source, (2,))
    for position in range(29):
        found = ring.step("s", [asked[position], *wrong[position : position + 5]], position, "all")
        assert found is not None
        assert np.array_equal(found[0], plain[position])


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0"])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_sessions_together_get_the_bits_that_they_get_alone(config, kind):
    source = tiny_source(config, seed=9, kind=kind)
    texts = {f"s{number}": ids(30 + 9 * number, seed=number) for number in range(4)}
    alone = {name: quantised(source).logits(text, chunk=1)[-1] for name, text in texts.items()}
    for cuts in ((), (1,), (2, 3)):
        ring = quantised(source, cuts)
        for name, text in texts.items():
            ring.logits(text[:-1], session=name, chunk=1)
        handed = {name: convert.tokens(text[-1:]) for name, text in texts.items()}
        for stage in ring.stages:
            out = stage.forward_batch([Part(name, x, len(texts[name]) - 1) for name, x in handed.items()])
            handed = dict(zip(texts, out, strict=True))
        for name, logits in handed.items():
            assert np.array_equal(convert.to_numpy(logits)[0], alone[name]), (name, cuts)


def test_a_batch_gives_each_part_what_it_wants():
    source = tiny_source(tiny_config("llama"), seed=1, kind="Q4_1")
    (engine,) = quantised(source).stages
    asked = ids(12)
    parts = [
        Part("a", convert.tokens(asked[:4]), 0, "all"),
        Part("b", convert.tokens(asked[4:5]), 0, "none"),
        Part("c", convert.tokens(asked[5:8]), 0, "last"),
    ]
    every, nothing, last = engine.forward_batch(parts)
    assert nothing is None
    assert np.array_equal(convert.to_numpy(every), quantised(source).logits(asked[:4], chunk=1))
    assert np.array_equal(convert.to_numpy(last), quantised(source).logits(asked[5:8], chunk=1)[-1:])


def test_too_many_positions_or_two_steps_of_one_session_are_refused():
    (engine,) = quantised(tiny_source(tiny_config("llama"), seed=1, kind="Q4_1")).stages
    most = engine.info.together
    for parts in ([Part("a", convert.tokens(ids(most + 1)), 0)], [Part("a", convert.tokens([1]), 0)] * 2):
        with pytest.raises(NodeError, match=f"at most {most} positions run together, and one step a session"):
            engine.forward_batch(parts)
    assert engine.kv_bytes() == 0
