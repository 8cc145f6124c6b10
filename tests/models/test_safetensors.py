"""Safetensors: single files and folders with an index, and headers that lie."""

from __future__ import annotations

import contextlib
import json
import random
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exo_lab.core.errors import CorruptModel, ModelError, UnsupportedModel
from exo_lab.core.model import SUPPORTED_ARCHITECTURES
from exo_lab.core.shard import Shard
from exo_lab.engines import tensors
from exo_lab.models.safetensors_ import gguf_name, open_safetensors, weight_files
from exo_lab.models.safetensors_header import read_entries
from tests.tiny import hub_name, same_shape, shapes, tiny_config, write_safetensors

FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("files", [1, 3])
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("architecture", SUPPORTED_ARCHITECTURES)
def test_what_was_written_is_what_is_read_whatever_the_architecture_dtype_and_files(
    tmp_path, architecture, kind, files
):
    written = write_safetensors(tmp_path, tiny_config(architecture), kind=kind, files=files)
    source = open_safetensors(tmp_path, "m")
    assert same_shape(source.config, written.config)
    for name, weight in written.weights.items():
        np.testing.assert_array_equal(source.weight(name).to_float32(), weight.to_float32(), err_msg=name)
        np.testing.assert_array_equal(source.weight(name).raw(), weight.raw(), err_msg=name)
        assert source.weight(name).kind == kind
    source.close()


def test_the_library_of_the_format_reads_our_tests_files_the_same_way(tmp_path):
    """Otherwise the writer and the reader here could be wrong together."""
    written = write_safetensors(tmp_path, tiny_config("qwen3"))
    theirs = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    assert set(theirs) == {hub_name(name) for name in written.weights}
    np.testing.assert_array_equal(
        theirs["model.layers.0.mlp.up_proj.weight"], written.weight("blk.0.ffn_up.weight").to_float32()
    )


@pytest.mark.parametrize("architecture", SUPPORTED_ARCHITECTURES)
def test_every_hub_name_has_the_gguf_name_that_llama_cpp_gives_it(architecture):
    from gguf import MODEL_ARCH, get_tensor_name_map

    config = tiny_config(architecture)
    arch = MODEL_ARCH.LLAMA if architecture == "mistral" else MODEL_ARCH[architecture.upper()]
    names = get_tensor_name_map(arch, config.n_layers)
    for name in shapes(config):
        assert gguf_name(hub_name(name)) == name
        assert names.get_name(hub_name(name), (".weight", ".bias")) == name


def test_a_single_file_is_a_model_with_the_config_beside_it(tmp_path):
    write_safetensors(tmp_path)
    source = open_safetensors(tmp_path / "model.safetensors", "m")
    assert source.config.n_layers == 4
    source.close()


def test_loading_a_shard_reads_its_tensors_and_opens_its_files_only(tmp_path):
    write_safetensors(tmp_path, tiny_config("qwen2", n_layers=6), files=6)
    source = open_safetensors(tmp_path, "m")
    shard = Shard(model="m", start=2, end=3, n_layers=6)
    for path in sorted(tmp_path.glob("*-of-*.safetensors"))[3:]:
        path.unlink()  # the files of later layers are not touched
    for name in tensors.names(source.config, shard):
        source.weight(name).to_float32()
    assert source.bytes_read == source.config.shard_bytes(2, 3)
    with pytest.raises(CorruptModel, match="cannot be opened any more"):
        source.weight("output_norm.weight").raw()
    source.close()


def test_a_tied_matrix_that_is_written_twice_is_read_once(tmp_path):
    written = write_safetensors(tmp_path, tiny_config(tied_embeddings=False))
    change_config(tmp_path, tie_word_embeddings=True)
    source = open_safetensors(tmp_path, "m")
    assert source.config.tied_embeddings
    assert not source.has("output.weight")
    assert source.config.total_bytes == written.config.total_bytes - written.config.embedding_bytes
    source.close()


def test_a_model_without_a_head_of_its_own_is_tied_even_if_its_config_does_not_say_so(tmp_path):
    write_safetensors(tmp_path, tiny_config(tied_embeddings=True))
    change_config(tmp_path, tie_word_embeddings=False)
    source = open_safetensors(tmp_path, "m")
    assert source.config.tied_embeddings
    source.close()


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_same_weights_in_another_layout_beside_the_model_are_left_alone(tmp_path):
    """Mistral's repositories hold `consolidated.safetensors` too."""
    write_safetensors(tmp_path)
    (tmp_path / "consolidated.safetensors").write_bytes(b"of no interest")
    assert [path.name for path in weight_files(tmp_path)] == ["model.safetensors"]
    open_safetensors(tmp_path, "m").close()


def test_buffers_that_follow_from_the_config_are_ignored(tmp_path):
    write_safetensors(tmp_path, tiny_config(n_layers=1))
    path = tmp_path / "model.safetensors"
    content = safetensors.numpy.load_file(path)
    content["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(8, np.float32)
    safetensors.numpy.save_file(content, path)
    open_safetensors(tmp_path, "m").close()


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.o_proj.bias", "lm_head.bias", "base_model.lora_A.weight"])
def test_a_tensor_that_no_engine_would_use_is_refused_and_not_left_out(tmp_path, name):
    write_safetensors(tmp_path, tiny_config(n_layers=1))
    path = tmp_path / "model.safetensors"
    content = safetensors.numpy.load_file(path)
    safetensors.numpy.save_file({**content, name: np.ones(8, np.float32)}, path)
    with pytest.raises(UnsupportedModel, match=f"{name} is not supported"):
        open_safetensors(tmp_path, "m")


def test_a_missing_tensor_is_named_when_the_folder_is_opened(tmp_path):
    write_safetensors(tmp_path, tiny_config("qwen2", n_layers=2))
    path = tmp_path / "model.safetensors"
    content = safetensors.numpy.load_file(path)
    del content["model.layers.1.self_attn.k_proj.bias"]
    safetensors.numpy.save_file(content, path)
    with pytest.raises(CorruptModel, match=r"blk\.1\.attn_k\.bias is missing"):
        open_safetensors(tmp_path, "m")


def test_a_tensor_in_two_files_is_refused(tmp_path):
    write_safetensors(tmp_path, files=2)
    first, second = sorted(tmp_path.glob("*.safetensors"))
    second.write_bytes(first.read_bytes())
    with pytest.raises(CorruptModel, match=r"is in model-00001-of-00002\.safetensors too"):
        open_safetensors(tmp_path, "m")


def test_a_tensor_of_another_dtype_is_refused_with_those_that_are_read(tmp_path):
    write_safetensors(tmp_path, tiny_config(n_layers=1))
    path = tmp_path / "model.safetensors"
    content = safetensors.numpy.load_file(path)
    content["model.norm.weight"] = content["model.norm.weight"].astype(np.float64)
    safetensors.numpy.save_file(content, path)
    with pytest.raises(UnsupportedModel, match=r"model\.norm\.weight is F64; we read F32, F16, BF16"):
        open_safetensors(tmp_path, "m")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"weight_map": {}}, "has no weight_map"),
        ([], "does not hold a JSON object"),
        ({"weight_map": {"a": "../elsewhere.safetensors"}}, "not a safetensors file of that folder"),
        ({"weight_map": {"a": "..\\elsewhere.safetensors"}}, "not a safetensors file of that folder"),
        ({"weight_map": {"a": "model.bin"}}, "not a safetensors file of that folder"),
        ({"weight_map": {"a": "model-00009-of-00009.safetensors"}}, "lacks 1 of the 1 files"),
    ],
)
def test_an_index_that_leads_elsewhere_or_nowhere_is_refused(tmp_path, table, words):
    write_safetensors(tmp_path, files=2)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(table))
    with pytest.raises(CorruptModel, match=words):
        open_safetensors(tmp_path, "m")


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "\ud800", "3"])
def test_a_config_that_is_no_json_object_is_refused(tmp_path, content):
    write_safetensors(tmp_path)
    (tmp_path / "config.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(CorruptModel, match=r"config\.json"):
        open_safetensors(tmp_path, "m")


def test_the_digest_is_the_weights_and_how_they_are_used(tmp_path):
    digests: dict[str, str] = {}
    for name, seed, changes in (("one", 0, {}), ("same", 0, {}), ("weights", 1, {}), ("use", 0, {"rope_theta": 5e5})):
        write_safetensors(tmp_path / name, seed=seed)
        change_config(tmp_path / name, transformers_version=name, **changes)
        source = open_safetensors(tmp_path / name, name)
        digests[name] = source.config.digest
        source.close()
    assert digests.pop("same") == digests["one"]
    assert len(set(digests.values())) == len(digests)


def header(table: object, data: int = 64) -> bytes:
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data)


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


HUGE = 2**62
LIES = {
    "empty": b"",
    "short": b"\x01",
    "length": struct.pack("<Q", 2**63) + b"{}",
    "no json": header(b"{{{{"),
    "a list": header([]),
    "deep": header(b'{"a":' + b"[" * 50_000),
    "not utf-8": header(b'{"\xff\xfe": {}}'),
    "fields": header({"a": {"dtype": "F32"}}),
    "gap": header({"a": entry([4], 4, 20)}),
    "overlap": header({"a": entry([8], 0, 32), "b": entry([8], 16, 48)}),
    "past the end": header({"a": entry([32], 0, 128)}),
    "left over": header({"a": entry([8], 0, 32)}),
    "shape": header({"a": entry([7], 0, 64)}),
    "negative": header({"a": entry([-4, -4], 0, 64)}),
    "backwards": header({"a": entry([16], 0, -64)}),
    "overflow": header({"a": entry([HUGE, HUGE, HUGE], 0, 64)}),
    "dimensions": header({"a": entry([1] * 30, 0, 64)}),
    "name": header({"\x1b[2J": entry([16], 0, 64)}),
}


@pytest.mark.parametrize("case", LIES)
def test_a_header_that_lies_is_refused_with_the_file_in_the_sentence(tmp_path, case):
    path = tmp_path / "model.safetensors"
    path.write_bytes(LIES[case])
    with pytest.raises(CorruptModel, match=r"model\.safetensors"):
        read_entries(path)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    write_safetensors(folder, tiny_config("qwen3", n_layers=2))
    return folder


@FUZZ
@given(seed=st.integers(0, 2**32))
def test_whatever_bytes_of_a_header_are_changed_nothing_but_our_own_errors_comes_out(tmp_path, sound, seed):
    rng = random.Random(seed)
    content = bytearray((sound / "model.safetensors").read_bytes())
    end = 8 + struct.unpack_from("<Q", content)[0]
    for _ in range(rng.choice((1, 2, 8))):
        at = rng.randrange(end)
        # Digits for digits now and then: a header that is still JSON goes further.
        content[at] = rng.choice(b"0123456789") if content[at] in b"0123456789" else rng.randrange(256)
    (tmp_path / "model.safetensors").write_bytes(content)
    (tmp_path / "config.json").write_bytes((sound / "config.json").read_bytes())
    with contextlib.suppress(ModelError), contextlib.closing(open_safetensors(tmp_path, "m")) as source:
        for name in ("token_embd.weight", "blk.0.attn_k.weight", "blk.1.attn_q_norm.weight"):
            source.weight(name).to_float32()


@FUZZ
@given(data=st.data())
def test_a_file_that_was_cut_off_anywhere_is_refused(tmp_path, sound, data):
    content = (sound / "model.safetensors").read_bytes()
    path = tmp_path / "model.safetensors"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(CorruptModel):
        read_entries(path)
