"""Law 2: any cut of a model gives the same tokens; in one engine and dtype, the same logits bit for bit."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.errors import NodeError
from exo_lab.core.tensor import Tensor
from exo_lab.engines import native
from exo_lab.engines.base import PREFILL_CHUNK, EngineInfo
from exo_lab.engines.decoder import TorchEngine
from exo_lab.engines.numpy_engine import NumpyEngine
from tests.engines.ring import Ring
from tests.tiny import TinySource, tiny_config, tiny_source

N_LAYERS = 6
MAKERS = {
    "numpy": NumpyEngine,
    "torch float32": lambda: TorchEngine("float32", "cpu", threads=1),
    "torch bfloat16": lambda: TorchEngine("bfloat16", "cpu", threads=1),
    "torch quantised": lambda: TorchEngine("quantised", "cpu", threads=1),
    "torch quantised, PyTorch's operators": lambda: WithoutKernels("quantised", "cpu", threads=1),
    "torch bfloat16, PyTorch's operators": lambda: WithoutKernels("bfloat16", "cpu", threads=1),
}


class WithoutKernels(TorchEngine):
    """As on a machine where our own kernels cannot be made."""

    def load(self, *arguments: Any) -> EngineInfo:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, "state", lambda: native.Native(None, "this test does without"))
            return super().load(*arguments)


PROMPT = [int(x) for x in np.random.default_rng(1).integers(0, 256, 140)]


@cache
def source() -> TinySource:
    """Rows fill whole blocks of 64, so that everything stays quantised where that is asked for."""
    config = tiny_config(
        "mistral", n_layers=N_LAYERS, hidden_size=128, intermediate_size=192, head_dim=32, vocab_size=320,
        sliding_window=100,
    )  # fmt: skip
    return tiny_source(config, seed=9, kind="Q4_1")


def everything(engine: str, cuts: tuple[int, ...]) -> np.ndarray:
    """Logits of a prefill in two chunks and of decoding, which take different paths."""
    ring = Ring(source(), MAKERS[engine], cuts)
    prefilled = ring.logits(PROMPT)
    decoded = ring.logits(PROMPT[:5], position=len(PROMPT), chunk=1)
    few = ring.logits(PROMPT[:3], position=len(PROMPT) + 5)
    return np.concatenate((prefilled, decoded, few))


@cache
def uncut(engine: str) -> np.ndarray:
    return everything(engine, ())


@pytest.mark.parametrize("cut", range(1, N_LAYERS))
@pytest.mark.parametrize("engine", MAKERS)
def test_every_cut_in_two_gives_the_logits_of_the_uncut_model_bit_for_bit(engine, cut):
    np.testing.assert_array_equal(everything(engine, (cut,)), uncut(engine))


@pytest.mark.parametrize("engine", MAKERS)
@given(cuts=st.sampled_from([c for k in (2, 3) for c in combinations(range(1, N_LAYERS), k)]))
@settings(max_examples=8, deadline=None)
def test_cuts_in_three_and_four_give_the_logits_of_the_uncut_model_bit_for_bit(engine, cuts):
    np.testing.assert_array_equal(everything(engine, cuts), uncut(engine))


@pytest.mark.parametrize("engine", MAKERS)
def test_one_layer_a_stage_gives_the_logits_of_the_uncut_model_bit_for_bit(engine):
    np.testing.assert_array_equal(everything(engine, tuple(range(1, N_LAYERS))), uncut(engine))


def test_engines_of_different_kinds_in_one_ring_give_the_same_greedy_tokens():
    makers = iter((NumpyEngine, MAKERS["torch float32"], NumpyEngine))
    mixed = Ring(source(), lambda: next(makers)(), (2, 3))
    assert mixed.greedy(PROMPT, 16) == Ring(source(), NumpyEngine).greedy(PROMPT, 16)


def test_room_reserved_at_once_and_room_grown_by_blocks_give_the_same_bits():
    for engine in MAKERS:
        reserved, grown = Ring(source(), MAKERS[engine]), Ring(source(), MAKERS[engine])
        reserved.stages[0].reserve("s", 400)
        ids = PROMPT + PROMPT  # past the first block
        np.testing.assert_array_equal(reserved.logits(ids), grown.logits(ids), err_msg=engine)


@pytest.mark.parametrize("engine", ["torch bfloat16", "torch quantised", "torch quantised, PyTorch's operators"])
def test_lower_precision_stays_near_float32(engine):
    """bfloat16 keeps 8 bits: a few layers of it move logits of size 8 by some hundredths, not more."""
    wanted = uncut("torch float32")
    assert np.abs(uncut(engine) - wanted).mean() < 0.02 * np.abs(wanted).max()


@pytest.mark.parametrize("cuts", [(), (2,)], ids=str)
@pytest.mark.parametrize("engine", MAKERS)
def test_a_chunk_that_is_put_back_gives_the_logits_of_computing_it(engine, cuts):
    ring = Ring(source(), MAKERS[engine], cuts)
    computed = ring.logits(PROMPT)
    blocks = [stage.cut_kv("s", 0, PREFILL_CHUNK) for stage in ring.stages]
    for stage, block in zip(ring.stages, blocks, strict=True):
        stage.forward("t", Tensor("int32", (1,), bytes(4)) if stage.shard.is_first else no_hidden(), 0)  # overwritten
        stage.reserve("t", len(PROMPT))
        stage.put_kv("t", 0, block)
        with pytest.raises(NodeError, match="only 128 positions are cached"):
            stage.put_kv("t", PREFILL_CHUNK + 1, block)
        with pytest.raises(NodeError, match="positions"):
            stage.cut_kv("t", 0, PREFILL_CHUNK + 1)
    reused = ring.logits(PROMPT[PREFILL_CHUNK:], session="t", position=PREFILL_CHUNK)
    np.testing.assert_array_equal(reused, computed[PREFILL_CHUNK:])
    assert sum(block.nbytes for block in blocks) == PREFILL_CHUNK * sum(
        stage.info.kv_bytes_per_token for stage in ring.stages
    )


def no_hidden() -> Tensor:
    """The hidden states of one position."""
    return Tensor("float32", (1, source().config.hidden_size), bytes(4 * source().config.hidden_size))
