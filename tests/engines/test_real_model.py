"""The laws on a real model: SmolLM2-135M-Instruct, Q4_1 and Q8_0 in one GGUF file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.weights import WeightSource
from exo_lab.engines.decoder import TorchEngine
from exo_lab.engines.numpy_engine import NumpyEngine
from exo_lab.models.open import open_model, open_tokenizer
from exo_lab.models.tokenizer import Tokenizer
from tests.engines.ring import Ring, shards

pytestmark = [pytest.mark.real_model, pytest.mark.slow, pytest.mark.timeout(400)]

TEXT = (Path(__file__).parents[1] / "data" / "alice.txt").read_text(encoding="utf-8")  # Lewis Carroll, 1865
DTYPES = ("float32", "bfloat16", "quantised")
QUESTIONS = (
    "What is the capital of France?",
    "Name three colours of the rainbow.",
    "Write one sentence about the sea.",
    "What is 7 times 8?",
    "Who wrote Romeo and Juliet?",
    "Explain gravity to a child.",
    "Give me a recipe for pancakes.",
    "Translate 'good morning' into Spanish.",
    "Why is the sky blue?",
    "Tell me a short story about a fox.",
)


@pytest.fixture(scope="module")
def source(real_model: Path):
    with contextlib.closing(open_model(str(real_model))) as opened:
        yield opened


@pytest.fixture(scope="module")
def tokenizer(real_model: Path) -> Tokenizer:
    return open_tokenizer(str(real_model))


@pytest.fixture(scope="module")
def text(tokenizer: Tokenizer) -> list[int]:
    return tokenizer.encode(TEXT)


@pytest.fixture(scope="module")
def rings(source: WeightSource) -> Callable[[str], Ring]:
    """The uncut model in a dtype, loaded once."""
    return cache(lambda dtype: Ring(source, lambda: TorchEngine(dtype, "cpu", 1)))


@pytest.fixture(scope="module")
def reference(real_model: Path) -> Any:
    """Transformers on the same file: it dequantises everything to float32."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(real_model.parent, gguf_file=real_model.name, dtype=torch.float32)


def prompts(tokenizer: Tokenizer) -> list[list[int]]:
    return [
        tokenizer.encode(tokenizer.chat([{"role": "user", "content": question}]), bos=False) for question in QUESTIONS
    ]


def sequence(ring: Ring, text: list[int], session: str) -> np.ndarray:
    """Logits of a prefill of more than 64 positions, of few, and of single ones: each path once."""
    return np.concatenate(
        (
            ring.logits(text[:70], session=session),
            ring.logits(text[70:80], session=session, position=70),
            ring.logits(text[80:83], session=session, position=80, chunk=1),
        )
    )


def halves(ring: Ring, cut: int) -> Ring:
    """The same weights as two stages, so that thirty cuts do not load the model thirty times."""
    whole = ring.stages[0]
    assert isinstance(whole, TorchEngine)
    cut_ring = Ring.__new__(Ring)
    cut_ring.config, cut_ring.stages = ring.config, []
    for shard in shards(ring.config.n_layers, (cut,)):
        stage = TorchEngine(whole.info.dtype, "cpu", 1)
        stage.__dict__.update(whole.__dict__)
        stage.shard, stage._sessions = shard, {}
        stage._layers = whole._layers[shard.start : shard.end]
        stage._embedding = whole._embedding if shard.is_first else None
        stage._head = whole._head if shard.is_last else None
        cut_ring.stages.append(stage)
    return cut_ring


@pytest.mark.filterwarnings("ignore")  # what Transformers warns of is not ours to mend
def test_logits_are_those_of_transformers_and_so_are_64_greedy_tokens_after_ten_prompts(rings, tokenizer, reference):
    """Greedy tokens are equal if, fed our text, Transformers' likeliest next token is ours at every step.

    One pass over prompt and answer checks that for 64 tokens at once; for one prompt its own generation is run too.
    """
    ring = rings("float32")
    for number, prompt in enumerate(prompts(tokenizer)):
        answer = ring.greedy(prompt, 64, "greedy")
        ids = [*prompt, *answer[:-1]]
        ours = ring.logits(ids, session="all")
        with torch.inference_mode():
            theirs = reference(torch.tensor([ids])).logits[0].numpy()
        assert np.abs(ours - theirs).max() < 1e-3
        assert theirs[len(prompt) - 1 :].argmax(-1).tolist() == answer
        if number == 0:
            whole = reference.generate(
                torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=64,
                do_sample=False, eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
            assert whole[0, len(prompt) :].tolist() == answer
            assert "Paris" in tokenizer.decode(answer)
        for stage in ring.stages:
            stage.drop("greedy")
            stage.drop("all")


def test_the_readable_engine_agrees_with_torch_on_the_real_model(source, rings, text):
    truth = Ring(source, NumpyEngine)
    assert np.abs(truth.logits(text[:40]) - rings("float32").logits(text[:40], session="numpy")).max() < 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_cut_in_two_gives_the_logits_of_the_uncut_model_bit_for_bit(dtype, rings, text):
    ring = rings(dtype)
    wanted = sequence(ring, text, "uncut")
    for cut in range(1, ring.config.n_layers):
        np.testing.assert_array_equal(sequence(halves(ring, cut), text, "s"), wanted, err_msg=f"cut at {cut}")


@pytest.mark.parametrize(("dtype", "examples"), [("float32", 4), ("bfloat16", 2), ("quantised", 4)])
def test_cuts_in_three_and_four_loaded_as_nodes_do_give_the_same_bits(dtype, examples, source, rings, text):
    wanted = sequence(rings(dtype), text, "uncut too")

    @given(st.sets(st.integers(1, source.config.n_layers - 1), min_size=2, max_size=3))
    @settings(max_examples=examples, deadline=None, derandomize=True)
    def check(cuts: set[int]) -> None:
        cut = Ring(source, lambda: TorchEngine(dtype, "cpu", 1), cuts)
        np.testing.assert_array_equal(sequence(cut, text, "s"), wanted)

    check()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-3), ("bfloat16", 0), ("quantised", 0)])
def test_the_number_of_threads_does_not_matter(dtype, tolerance, source, rings, text):
    """To the bit in bfloat16 and quantised, here. float32 products of few positions are split over threads."""
    wanted = sequence(rings(dtype), text, "one thread")
    two = Ring(source, lambda: TorchEngine(dtype, "cpu", 2))
    np.testing.assert_allclose(sequence(two, text, "s"), wanted, rtol=0, atol=tolerance)


def perplexity(logits: np.ndarray, ids: list[int]) -> float:
    shifted = logits[:-1].astype(np.float64)
    shifted -= shifted.max(-1, keepdims=True)
    chosen = shifted[np.arange(len(ids) - 1), ids[1:]]
    return float(np.exp((np.log(np.exp(shifted).sum(-1)) - chosen).mean()))


@pytest.mark.parametrize("dtype", ["bfloat16", "quantised"])
def test_perplexity_in_lower_precision_is_within_one_percent_of_float32(dtype, rings, text):
    """Both paths: a whole text in chunks, and the start of it token by token."""
    exact = rings("float32")
    whole = perplexity(exact.logits(text, session="p"), text)
    assert 15 < whole < 30  # it has read the book
    assert perplexity(rings(dtype).logits(text, session="p"), text) == pytest.approx(whole, rel=0.01)
    start = text[:200]
    singly = perplexity(rings(dtype).logits(start, session="q", chunk=1), start)
    assert singly == pytest.approx(perplexity(exact.logits(start, session="q"), start), rel=0.01)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 1.0), ("quantised", 1.0)])
def test_logits_in_lower_precision_stay_within_a_stated_tolerance(dtype, tolerance, rings, text):
    """Of logits up to 36: never more than 1.0 off, 0.15 on average; the likeliest token is nearly always the same."""
    exact = rings("float32").logits(text[:300], session="t")
    found = rings(dtype).logits(text[:300], session="t")
    error = np.abs(found - exact)
    assert error.max() < tolerance
    assert error.mean() < 0.15
    assert (found.argmax(-1) == exact.argmax(-1)).mean() > 0.95


def test_a_quantised_shard_keeps_hardly_more_than_its_bytes_in_the_file(source):
    for cuts in ((), (15,), (10, 20)):
        for stage in Ring(source, lambda: TorchEngine("quantised", "cpu", 1), cuts).stages:
            assert isinstance(stage, TorchEngine)
            assert stage.info.weight_bytes < 1.15 * source.config.shard_bytes(stage.shard.start, stage.shard.end)
