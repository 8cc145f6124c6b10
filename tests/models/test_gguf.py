"""GGUF files: every stored form, every architecture, and nothing read that was not asked for."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exo_lab.core.errors import CorruptModel, UnsupportedModel
from exo_lab.core.model import SUPPORTED_ARCHITECTURES, ModelConfig, RopeScaling
from exo_lab.core.shard import Shard
from exo_lab.core.weights import BLOCKS, STORAGE_KINDS
from exo_lab.engines import tensors
from exo_lab.models.dequant import dequantise
from exo_lab.models.gguf import open_gguf
from exo_lab.models.gguf_header import read_header
from tests.tiny import LLAMA3, same_shape, shapes, tiny_config, tiny_source, to_half_split, write_gguf

PER_TEST = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def config_for(kind: str, architecture: str = "llama") -> ModelConfig:
    """A config whose sides are multiples of the kind's blocks."""
    wide = BLOCKS[kind][0] == 256
    return tiny_config(architecture, **({"hidden_size": 256, "intermediate_size": 256, "head_dim": 64} if wide else {}))


@pytest.mark.parametrize("architecture", SUPPORTED_ARCHITECTURES)
@pytest.mark.parametrize("kind", STORAGE_KINDS)
def test_what_was_written_is_what_is_read_whatever_the_architecture_and_the_stored_form(tmp_path, architecture, kind):
    written = write_gguf(tmp_path / "m.gguf", config_for(kind, architecture), kind=kind)
    source = open_gguf(tmp_path / "m.gguf", "m")
    assert same_shape(source.config, written.config)
    for name, weight in written.weights.items():
        assert source.weight(name).shape == weight.shape
        np.testing.assert_array_equal(source.weight(name).to_float32(), weight.to_float32(), err_msg=name)
        np.testing.assert_array_equal(source.weight(name).raw(), weight.raw(), err_msg=name)
    source.close()


@pytest.mark.parametrize("kind", STORAGE_KINDS)
def test_every_stored_form_becomes_the_floats_of_the_reference_implementation(kind):
    raw = tiny_source(config_for(kind), seed=3, kind=kind).weights["blk.0.ffn_gate.weight"].raw()
    # Any bits are a weight, infinite and undefined scales included.
    noise = np.random.default_rng(5).integers(0, 256, raw.shape, dtype=np.uint8)
    for given_raw in (raw, noise):
        with np.errstate(all="ignore"):
            expected = gguf.quants.dequantize(given_raw, gguf.GGMLQuantizationType[kind])
            found = dequantise(given_raw, kind)
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, expected)
    assert dequantise(raw[:0], kind).shape == (0, expected.shape[1])


@PER_TEST
@given(data=st.data(), architecture=st.sampled_from(("llama", "qwen2", "qwen3")), kind=st.sampled_from(("F32", "Q4_1")))
def test_any_range_of_rows_is_that_range_of_the_whole_tensor(tmp_path, data, architecture, kind):
    path = tmp_path / f"{architecture}-{kind}.gguf"
    if not path.exists():
        write_gguf(path, tiny_config(architecture), kind=kind)
    source = open_gguf(path, "m")
    name = data.draw(st.sampled_from(["token_embd.weight", *(f"blk.1.attn_{part}.weight" for part in "qkv")]))
    weight = source.weight(name)
    start = data.draw(st.integers(0, weight.shape[0]))
    end = data.draw(st.integers(start, weight.shape[0]))
    np.testing.assert_array_equal(weight.to_float32(start, end), weight.to_float32()[start:end])
    np.testing.assert_array_equal(weight.raw(start, end), weight.raw()[start:end])
    source.close()


@pytest.mark.parametrize("rows", [(-1, 4), (0, 10_000), (9, 3)])
def test_rows_that_a_tensor_does_not_have_are_refused_and_not_read_from_its_neighbour(tmp_path, rows):
    write_gguf(tmp_path / "m.gguf")
    source = open_gguf(tmp_path / "m.gguf", "m")
    with pytest.raises(IndexError, match=r"attn_q\.weight has rows"):
        source.weight("blk.0.attn_q.weight").raw(*rows)
    source.close()


def test_rows_of_half_split_heads_come_out_as_pairs():
    """By hand, for one head of four: file order a b c d means pairs (a, c) and (b, d)."""
    config = tiny_config("qwen2", n_heads=1, n_kv_heads=1, head_dim=4, hidden_size=32)
    weight = tiny_source(config).weights["blk.0.attn_q.bias"]
    a, b, c, d = to_half_split(weight, config).to_float32().tolist()
    assert weight.to_float32().tolist() == [a, c, b, d]


@pytest.mark.parametrize("start", range(4))
def test_loading_a_shard_reads_its_tensors_and_nothing_else(tmp_path, start):
    write_gguf(tmp_path / "m.gguf", tiny_config("qwen3", n_layers=6), kind="Q4_0")
    source = open_gguf(tmp_path / "m.gguf", "m")
    assert source.bytes_read == 0
    shard = Shard(model="m", start=start, end=start + 3, n_layers=6)
    for name in tensors.names(source.config, shard):
        source.weight(name).to_float32()
    assert source.bytes_read == source.config.shard_bytes(start, start + 3)
    source.close()


def test_engines_ask_for_exactly_the_tensors_that_a_model_must_have():
    for architecture in SUPPORTED_ARCHITECTURES:
        config = tiny_config(architecture)
        whole = Shard(model="m", start=0, end=config.n_layers, n_layers=config.n_layers)
        assert set(tensors.names(config, whole)) == set(shapes(config))


def test_a_closed_source_says_so_and_closing_twice_does_nothing(tmp_path):
    write_gguf(tmp_path / "m.gguf")
    source = open_gguf(tmp_path / "m.gguf", "m")
    weight = source.weight("output_norm.weight")
    weight.raw()
    source.close()
    source.close()
    with pytest.raises(CorruptModel, match="was closed"):
        weight.raw()


def test_a_file_that_shrinks_while_it_is_read_is_noticed(tmp_path):
    path = tmp_path / "m.gguf"
    write_gguf(path)
    source = open_gguf(path, "m")
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(CorruptModel, match="changed while it was read"):
        source.weight("output_norm.weight").raw()
    source.close()


def test_a_missing_tensor_is_named_when_the_file_is_opened(tmp_path):
    source = tiny_source(tiny_config(n_layers=2))
    for missing in ("blk.1.ffn_up.weight", "output_norm.weight", "token_embd.weight"):
        path = tmp_path / f"{missing}.gguf"
        rewrite(source, path, leave_out=missing)
        with pytest.raises(CorruptModel, match=f"{missing} is missing"):
            open_gguf(path, "m")


def test_a_tensor_that_no_engine_would_use_is_refused_and_not_left_out(tmp_path):
    rewrite(tiny_source(tiny_config(n_layers=2)), tmp_path / "m.gguf", add={"blk.1.attn_output.bias": (64,)})
    with pytest.raises(UnsupportedModel, match=r"blk\.1\.attn_output\.bias is not supported"):
        open_gguf(tmp_path / "m.gguf", "m")


def rewrite(source, path: Path, leave_out: str = "", add: dict | None = None):
    """A llama file with one tensor less, or some more."""
    config = source.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.n_layers)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(config.n_kv_heads)
    for name, weight in source.weights.items():
        if name != leave_out:
            writer.add_tensor(name, weight.to_float32())
    for name, shape in (add or {}).items():
        writer.add_tensor(name, np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    ("metadata", "error", "words"),
    [
        ({"block_count": 5}, CorruptModel, r"blk\.4\.attn_norm\.weight is missing"),
        ({"block_count": 2**31 - 1}, CorruptModel, "2147483647 layers"),
        ({"block_count": 3}, UnsupportedModel, r"blk\.3\..* is not supported"),
        ({"block_count": "four"}, CorruptModel, r"llama\.block_count is 'four'"),
        ({"block_count": True}, CorruptModel, "whole number above 0"),
        ({"embedding_length": 96}, CorruptModel, "has shape"),
        ({"attention.head_count": 0}, CorruptModel, r"llama\.attention\.head_count is 0"),
        ({"attention.head_count_kv": 3}, CorruptModel, "3 of keys, cannot be"),
        ({"attention.key_length": 15}, UnsupportedModel, "a part of each head"),
        ({"attention.value_length": 8}, UnsupportedModel, "values of another width"),
        ({"attention.layer_norm_rms_epsilon": math.nan}, CorruptModel, "a number above 0"),
        ({"rope.freq_base": math.inf}, CorruptModel, "a number above 0"),
        ({"rope.dimension_count": 8}, UnsupportedModel, "a part of each head"),
        ({"rope.scaling.type": "yarn", "rope.scaling.factor": 2.0}, UnsupportedModel, "'yarn' is not supported"),
        ({"expert_count": 8}, UnsupportedModel, "expert_count"),
    ],
)
def test_a_description_that_cannot_be_is_refused_with_its_field(tmp_path, metadata, error, words):
    write_gguf(tmp_path / "m.gguf", metadata=metadata)
    with pytest.raises(error, match=words):
        open_gguf(tmp_path / "m.gguf", "m")


def test_a_part_of_a_split_file_says_what_to_do(tmp_path):
    write_gguf(tmp_path / "m.gguf", metadata={"split.count": 3})
    with pytest.raises(UnsupportedModel, match=r"one of 3 parts .*llama-gguf-split --merge"):
        open_gguf(tmp_path / "m.gguf", "m")


def test_an_unsupported_architecture_is_refused_with_those_that_are(tmp_path):
    write_gguf(tmp_path / "m.gguf", metadata={"general.architecture": "mamba"})
    with pytest.raises(UnsupportedModel, match=r"'mamba' is not supported; supported are llama, mistral, qwen2, qwen3"):
        open_gguf(tmp_path / "m.gguf", "m")


@pytest.mark.parametrize(
    "scaling",
    [
        None,
        RopeScaling(kind="linear", factor=4.0),
        LLAMA3,
        RopeScaling(kind="llama3", factor=32.0),
    ],
)
def test_rotary_scaling_survives_the_file(tmp_path, scaling):
    config = tiny_config(rope_scaling=scaling, rope_theta=500_000.0)
    write_gguf(tmp_path / "m.gguf", config)
    source = open_gguf(tmp_path / "m.gguf", "m")
    assert source.config.rope_scaling == scaling
    assert source.config.rope_theta == 500_000.0
    assert not source.has("rope_freqs.weight")
    source.close()


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0, 9.0])
def test_a_table_of_frequencies_that_is_not_llama_3s_is_refused(tmp_path, monkeypatch, bad):
    config = tiny_config(rope_scaling=LLAMA3, rope_theta=500_000.0)
    table = np.array([1, 1, 1, bad, 8, 8, 8, 8], np.float32)
    monkeypatch.setattr("tests.tiny.llama3_divisors", lambda _: table)
    write_gguf(tmp_path / "m.gguf", config)
    with pytest.raises(UnsupportedModel, match="table of rotary frequencies"):
        open_gguf(tmp_path / "m.gguf", "m")


def test_a_sliding_window_survives_the_file(tmp_path):
    write_gguf(tmp_path / "m.gguf", tiny_config("mistral", sliding_window=8))
    source = open_gguf(tmp_path / "m.gguf", "m")
    assert source.config.sliding_window == 8
    source.close()


def test_the_digest_is_the_weights_whatever_the_file_is_called(tmp_path):
    digests = {}
    for name, arguments in {
        "one": {},
        "same": {},
        "other weights": {"seed": 1},
        "other stored form": {"kind": "Q4_0"},
        "other metadata": {"metadata": {"rope.freq_base": 20_000.0}},
    }.items():
        write_gguf(tmp_path / f"{name}.gguf", **arguments)
        source = open_gguf(tmp_path / f"{name}.gguf", name)
        digests[name] = source.config.digest
        source.close()
    assert digests.pop("same") == digests["one"]
    assert len(set(digests.values())) == len(digests)


def test_opening_weights_leaves_out_the_lists_of_the_tokenizer_and_changes_nothing_else(tmp_path):
    write_gguf(tmp_path / "m.gguf")
    whole, short = read_header(tmp_path / "m.gguf"), read_header(tmp_path / "m.gguf", lists=False)
    lists = {key for key, value in whole.metadata.items() if isinstance(value, list) and len(value) > 64}
    assert lists == {"tokenizer.ggml.tokens", "tokenizer.ggml.token_type"}
    assert short.tensors == whole.tensors
    assert short.digest == whole.digest
    assert short.metadata == {key: [] if key in lists else value for key, value in whole.metadata.items()}


@pytest.mark.real_model
def test_a_share_of_the_real_model_takes_the_memory_of_that_share(real_model):
    tracemalloc.start()  # NumPy reports to it too
    try:
        source = open_gguf(real_model, "smollm2-135m")
        shard = Shard(model="m", start=10, end=20, n_layers=30)
        held = [source.weight(name).raw() for name in tensors.names(source.config, shard)]
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    share = source.config.shard_bytes(10, 20)
    assert sum(raw.nbytes for raw in held) == share == source.bytes_read
    assert share <= now <= peak < share + (2 << 20)
    source.close()


@pytest.mark.real_model
def test_the_real_model_is_what_the_reference_reader_says_it_is(real_model):
    source = open_gguf(real_model, "smollm2-135m")
    reader = gguf.GGUFReader(real_model)
    assert source.config.n_layers == 30
    assert source.config.quantisation == "Q4_1"
    assert source.config.total_bytes == sum(int(tensor.n_bytes) for tensor in reader.tensors)
    for tensor in reader.tensors:
        if tensor.name.startswith(("blk.0.", "blk.29.", "output_norm")):
            weight = source.weight(tensor.name)
            assert weight.kind == tensor.tensor_type.name
            expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            np.testing.assert_array_equal(weight.to_float32(), expected)
    source.close()
