"""Engines agree: torch in float32 with the readable NumPy engine, and both with Transformers."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
import torch

from exo_lab.core.model import RopeScaling
from exo_lab.engines.decoder import TorchEngine
from exo_lab.engines.numpy_engine import NumpyEngine
from exo_lab.engines.prefill_step import PrefillStep
from exo_lab.models.safetensors_ import open_safetensors
from tests.engines.ring import Ring
from tests.tiny import LLAMA3, tiny_config, tiny_source, write_safetensors

VARIANTS = {
    "llama": tiny_config("llama"),
    "llama, own head": tiny_config("llama", tied_embeddings=False),
    "llama, rope of Llama 3": tiny_config("llama", rope_scaling=LLAMA3, rope_theta=500_000.0),
    # The scaling must bite within the positions of the test: a short original context.
    "llama, rope of Llama 3, blended": tiny_config(
        "llama", rope_scaling=RopeScaling(kind="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                          original_context=64)
    ),
    "llama, linear rope scaling": tiny_config("llama", rope_scaling=RopeScaling(kind="linear", factor=2.0)),
    "llama, one kv head": tiny_config("llama", n_kv_heads=1),
    "llama, as many kv heads as heads": tiny_config("llama", n_kv_heads=4),
    "llama, wide heads": tiny_config("llama", head_dim=32),
    "mistral, sliding window": tiny_config("mistral", sliding_window=24),
    "qwen2": tiny_config("qwen2"),
    "qwen2, tied": tiny_config("qwen2", tied_embeddings=True),
    "qwen3": tiny_config("qwen3", head_dim=32),
}  # fmt: skip
PROMPT = [int(x) for x in np.random.default_rng(5).integers(0, 256, 150)]  # more than one chunk


def float32_torch() -> TorchEngine:
    return TorchEngine("float32", "cpu", threads=1)


@pytest.mark.parametrize("name", VARIANTS)
def test_torch_and_numpy_give_the_same_logits_in_prefill_and_in_decoding(name):
    source = tiny_source(VARIANTS[name], seed=1)
    truth, tested = Ring(source, NumpyEngine), Ring(source, float32_torch)
    wanted = truth.logits(PROMPT)
    np.testing.assert_allclose(tested.logits(PROMPT), wanted, rtol=0, atol=5e-4)
    # Token by token, so that the path of one position is checked at every length too.
    one_by_one = tested.logits(PROMPT[:60], session="single", chunk=1)
    np.testing.assert_allclose(one_by_one, wanted[:60], rtol=0, atol=5e-4)
    assert tested.greedy(PROMPT, 20, "greedy") == truth.greedy(PROMPT, 20, "greedy")


@pytest.mark.filterwarnings("ignore")  # what Transformers warns of is not ours to mend
@pytest.mark.parametrize("name", VARIANTS)
def test_both_engines_agree_with_transformers_on_the_same_files(name, tmp_path):
    from transformers import AutoModelForCausalLM

    write_safetensors(tmp_path, VARIANTS[name], seed=2)
    reference: Any = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager")
    with torch.inference_mode():
        wanted = reference(torch.tensor([PROMPT])).logits[0].numpy()
    assert np.ptp(wanted) > 1, "a model without opinions would make any comparison pass"
    generated = reference.generate(
        torch.tensor([PROMPT[:40]]),
        attention_mask=torch.ones(1, 40),  # else it takes token 0 for padding
        max_new_tokens=24,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    with contextlib.closing(open_safetensors(tmp_path, "m")) as source:
        for make in (NumpyEngine, float32_torch):
            ring = Ring(source, make)
            np.testing.assert_allclose(ring.logits(PROMPT), wanted, rtol=0, atol=1e-3)
            assert ring.greedy(PROMPT[:40], 24, "greedy") == generated[0, 40:].tolist()


@pytest.mark.parametrize("name", ["llama", "mistral, sliding window", "qwen3"])
def test_the_fused_attention_of_gpus_agrees_with_plain_products(name):
    """No GPU is needed to run its operator; that way the code for GPUs is not left untested."""
    source = tiny_source(VARIANTS[name], seed=3)
    plain, fused = Ring(source, float32_torch), Ring(source, float32_torch)
    engine = fused.stages[0]
    assert isinstance(engine, TorchEngine)
    engine._prefill, engine._decode = PrefillStep(source.config, torch.float32, fused=True), None
    np.testing.assert_allclose(fused.logits(PROMPT), plain.logits(PROMPT), rtol=0, atol=5e-4)
    np.testing.assert_allclose(
        fused.logits(PROMPT[:40], session="b", chunk=1), plain.logits(PROMPT[:40], session="b"), rtol=0, atol=5e-4
    )


def test_attention_computed_in_parts_is_attention_computed_at_once(monkeypatch):
    """Long prompts are cut by groups of heads, to bound memory."""
    source = tiny_source(VARIANTS["llama"], seed=4)
    whole = Ring(source, float32_torch).logits(PROMPT)
    monkeypatch.setattr("exo_lab.engines.prefill_step.SCORES", 1)
    np.testing.assert_array_equal(Ring(source, float32_torch).logits(PROMPT), whole)
