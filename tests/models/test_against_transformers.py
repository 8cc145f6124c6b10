"""The whole way: a GGUF file read by us and by Transformers gives the same logits. Rows, names and config at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exo_lab.core.model import SUPPORTED_ARCHITECTURES
from exo_lab.core.shard import Shard
from exo_lab.core.tensor import Tensor
from exo_lab.engines.numpy_engine import NumpyEngine
from exo_lab.models.open import open_model
from tests.tiny import LLAMA3, tiny_config, write_gguf, write_safetensors

TOKENS = np.array([5, 9, 77, 140, 3, 3, 280, 12, 61, 7, 200, 33], np.int32)
# Transformers' GGUF reader knows no Mistral of that name, no scaling and no window; safetensors are compared with it
# in tests/engines/test_agreement.py.
VARIANTS = {
    "llama": tiny_config("llama"),
    "qwen2": tiny_config("qwen2"),
    "qwen3": tiny_config("qwen3", head_dim=128),  # it takes Qwen3's 128 for given
    "llama with a head of its own": tiny_config("llama", tied_embeddings=False, n_kv_heads=1),
    "qwen3, tied": tiny_config("qwen3", tied_embeddings=True, head_dim=128),
}


def ours(path: Path) -> np.ndarray:
    """Logits of every position: float32 (tokens, vocabulary)."""
    source = open_model(str(path))
    engine = NumpyEngine()
    engine.load(source, Shard(model="m", start=0, end=source.config.n_layers, n_layers=source.config.n_layers))
    source.close()
    logits = engine.forward("s", Tensor("int32", TOKENS.shape, TOKENS.tobytes()), 0, "all")
    assert logits is not None
    return np.frombuffer(logits.data, np.float32).reshape(logits.shape)


def theirs(path: Path) -> np.ndarray:
    """The same by Transformers, in float32, from its own reading of the GGUF file."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
    state = load_gguf_checkpoint(path, return_tensors=True, model_to_load=model)["tensors"]
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert set(missing) <= {"lm_head.weight"}
    assert not unexpected
    model.tie_weights()
    with torch.inference_mode():
        return model.eval()(torch.from_numpy(TOKENS.astype(np.int64))[None]).logits[0].numpy()


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    assert expected.std() > 0.5  # a model with opinions
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_a_gguf_file_computes_what_it_computes_in_transformers(tmp_path, variant, kind):
    path = tmp_path / "m.gguf"
    write_gguf(path, VARIANTS[variant], kind=kind)
    assert_same(ours(path), theirs(path))


@pytest.mark.parametrize("architecture", SUPPORTED_ARCHITECTURES)
def test_both_formats_of_one_model_compute_the_same_bits(tmp_path, architecture):
    config = tiny_config(architecture, rope_scaling=LLAMA3, rope_theta=500_000.0)
    write_safetensors(tmp_path / "hub", config)
    write_gguf(tmp_path / "m.gguf", config)
    np.testing.assert_array_equal(ours(tmp_path / "hub"), ours(tmp_path / "m.gguf"))
