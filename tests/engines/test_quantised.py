"""Four- and eight-bit weights: what is kept is what the file says, however the processor packs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from exo_lab.core.errors import ConfigError
from exo_lab.engines import int4, linear, native, native_matrix, quant
from exo_lab.engines.decoder import TorchEngine
from tests.engines.ring import Ring, shards
from tests.tiny import TinySource, TinyWeight, tiny_config, tiny_source

CPU = torch.device("cpu")
KINDS = ("Q4_0", "Q4_1", "Q4_K", "Q8_0")
CONFIG = tiny_config(
    "llama", hidden_size=256, intermediate_size=512, n_heads=4, n_kv_heads=2, head_dim=64, vocab_size=320, n_layers=2
)
SOURCES = {kind: tiny_source(CONFIG, seed=3, kind=kind) for kind in (*KINDS, "Q5_K", "Q6_K", "BF16", "F16", "F32")}
PROMPT = [int(x) for x in np.random.default_rng(4).integers(0, 256, 100)]


def kept(*weights: TinyWeight) -> linear.Linear:
    return linear.linear(list(weights), torch.bfloat16, CPU, keep_quantised=True)


@pytest.fixture
def without_kernels(monkeypatch):
    """As on a machine without a compiler, or with another processor."""
    monkeypatch.setattr(native, "state", lambda: native.Native(None, "this test does without"))


@pytest.fixture(params=["native", "torch"])
def each_way(request, monkeypatch):
    """Our own kernels where there are any, and PyTorch's operators."""
    if request.param == "torch":
        monkeypatch.setattr(native, "state", lambda: native.Native(None, "this test does without"))
    elif native.state().library is None:
        pytest.skip(native.state().why_not)
    return request.param


@pytest.fixture(params=int4.KNOWN_LAYOUTS, ids=str)
def each_layout(request, monkeypatch, without_kernels):
    """Every layout that PyTorch has, with a packing operator that packs so, in plain steps."""
    lay: int4.Layout = request.param

    def pack(q: torch.Tensor, _tiles: int) -> torch.Tensor:
        rows, columns = q.shape
        blocks = q.to(torch.uint8).view(-1, lay.rows, columns).transpose(1, 2)
        low, high = blocks.chunk(2, -1) if lay.halves else (blocks[..., 0::2], blocks[..., 1::2])
        return (low | high << 4).reshape(rows, columns // 2)

    monkeypatch.setattr(int4, "_pack", pack)
    monkeypatch.setattr(int4, "layout", lambda: lay)
    monkeypatch.setattr(quant, "layout", lambda: lay)
    return lay


@pytest.mark.parametrize("kind", KINDS)
def test_rows_looked_up_are_the_dequantised_rows_but_for_the_rounding_of_scales(kind, each_layout):
    weight = SOURCES[kind].weight("token_embd.weight")
    ids = torch.tensor([0, 1, 31, 32, 63, 64, 100, 319, 5, 5])
    wanted = torch.from_numpy(weight.to_float32())[ids]
    found = kept(weight).rows(ids)
    # A scale and a zero in bfloat16: relative 2^-9 each, of at most 16 steps.
    step = wanted.view(len(ids), -1, 32).abs().amax(-1, keepdim=True)
    assert ((found - wanted).view(len(ids), -1, 32).abs() <= step * 2**-7).all()


@pytest.mark.parametrize("kind", KINDS)
def test_our_kernels_hold_what_the_file_says_and_multiply_in_float32(kind):
    """float16 scales as they are (of Q4_K, products of two numbers, rounded to float16); sums rounded nowhere else."""
    if native.state().library is None:
        pytest.skip(native.state().why_not)
    weight = SOURCES[kind].weight("token_embd.weight")
    wanted = torch.from_numpy(weight.to_float32())
    tolerance = 2**-9 if kind == "Q4_K" else 1e-6
    matrix = kept(weight)
    found = matrix.rows(torch.arange(320))
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance * wanted.abs().max().item())
    for positions in (1, 2, 3, 4, 5, 6, 7, 8, 13, 32, 131):
        x = torch.randn(positions, 256, generator=torch.Generator().manual_seed(positions)).bfloat16()
        torch.testing.assert_close(matrix.product(x), x.float() @ found.T, rtol=1e-5, atol=1e-4)
    assert isinstance(matrix, native_matrix.NativeMatrix)


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0"])
def test_a_positions_products_do_not_depend_on_its_neighbours_nor_on_threads(kind):
    if native.state().library is None:
        pytest.skip(native.state().why_not)
    matrix = kept(SOURCES[kind].weight("blk.0.ffn_gate.weight"))
    x = torch.randn(64, 256, generator=torch.Generator().manual_seed(1)).bfloat16()
    together = matrix.product(x)
    for count in (*range(1, 14), 32):
        assert torch.equal(matrix.product(x[:count]), together[:count])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(matrix.product(x), together)
    finally:
        torch.set_num_threads(threads)


def test_kernels_read_nothing_beyond_a_matrix():
    if native.state().library is None:
        pytest.skip(native.state().why_not)
    matrix = kept(SOURCES["Q4_1"].weight("token_embd.weight"))
    with pytest.raises(ValueError, match="256 columns"):
        matrix.product(torch.zeros(1, 224, dtype=torch.bfloat16))
    for wrong in (-1, 320):
        with pytest.raises(IndexError, match="320"):
            matrix.rows(torch.tensor([0, wrong]))
    strided = torch.randn(256, 4, generator=torch.Generator().manual_seed(1)).bfloat16()
    assert torch.equal(matrix.product(strided.t()), matrix.product(strided.t().contiguous()))


@pytest.mark.parametrize("kind", KINDS)
def test_unpacked_blocks_are_the_looked_up_rows(kind, each_layout):
    matrix = quant.int4_matrices([SOURCES[kind].weight("blk.0.ffn_down.weight")])[0]  # (256, 512)
    rows = each_layout.rows
    scratch = torch.empty(2 * rows * 512)
    unpacked = matrix.unpack(1, 3, scratch).transpose(1, 2).reshape(2 * rows, 512)
    torch.testing.assert_close(unpacked, matrix.lookup(torch.arange(rows, 3 * rows)), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("positions", [1, 2, 3, 4, 7, 32, 33, 64, 65, 128])
@pytest.mark.parametrize("kind", KINDS)
def test_products_for_few_and_for_many_positions_are_those_of_the_dequantised_matrix(kind, positions, each_way):
    weights = [SOURCES[kind].weight(f"blk.0.attn_{part}.weight") for part in "qkv"]
    x = torch.randn(positions, 256, generator=torch.Generator().manual_seed(1)).bfloat16()
    wanted = x.float() @ torch.from_numpy(np.concatenate([w.to_float32() for w in weights])).T
    found = kept(*weights).product(x).float()
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < 0.02 * wanted.abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_many_positions_in_small_steps_are_many_positions_in_one_step(kind, monkeypatch, each_way):
    matrix = kept(SOURCES[kind].weight("blk.0.ffn_gate.weight"))
    x = torch.randn(128, 256, generator=torch.Generator().manual_seed(1)).bfloat16()
    wanted = matrix.product(x)
    monkeypatch.setattr(linear, "SCRATCH_FLOATS", 3 * 64 * 256)  # a step that does not divide the rows
    torch.testing.assert_close(matrix.product(x), wanted, rtol=0.01, atol=0.01)


def test_a_processor_without_bfloat16_products_uses_float32_ones(monkeypatch, without_kernels):
    matrix = kept(SOURCES["Q4_1"].weight("blk.0.ffn_gate.weight"))
    x = torch.randn(128, 256, generator=torch.Generator().manual_seed(1)).bfloat16()
    wanted = matrix.product(x)
    monkeypatch.setattr(linear, "fast_bfloat16", lambda: False)
    found = matrix.product(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted.float(), rtol=0.02, atol=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_a_quantised_model_stays_near_its_float32_self_and_small(kind, each_way):
    exact = Ring(SOURCES[kind], lambda: TorchEngine("float32", "cpu", 1)).logits(PROMPT)
    small = Ring(SOURCES[kind], lambda: TorchEngine("quantised", "cpu", 1))
    found = np.concatenate((small.logits(PROMPT[:90]), small.logits(PROMPT[90:], position=90, chunk=1)))
    assert np.abs(found - exact).mean() < 0.02 * np.abs(exact).max()
    info = small.stages[0].info
    assert (info.dtype, info.kernels) == ("quantised", each_way)
    assert info.weight_bytes < 1.25 * SOURCES[kind].config.total_bytes


@pytest.mark.parametrize("kind", ["Q5_K", "Q6_K", "F16", "BF16", "F32"])
def test_kinds_that_cannot_stay_quantised_are_computed_in_floats_and_the_engine_says_so(kind):
    ring = Ring(SOURCES[kind], lambda: TorchEngine("auto", "cpu", 1))
    exact = Ring(SOURCES[kind], lambda: TorchEngine("float32", "cpu", 1)).logits(PROMPT)
    assert ring.stages[0].info.dtype == ("float32" if kind == "F32" else "bfloat16")
    assert np.abs(ring.logits(PROMPT) - exact).mean() < 0.02 * np.abs(exact).max()


def test_files_that_mix_kinds_keep_what_can_stay_quantised(each_way):
    """As llama.cpp's Q4_K_M does: some matrices in six bits, others in four; here query, key and value differ too."""
    mixed = {name: SOURCES["Q4_K"].weight(name) for name in SOURCES["Q4_K"].weights}
    for name in mixed:
        if name.endswith(("ffn_down.weight", "attn_v.weight")):
            mixed[name] = SOURCES["Q6_K"].weight(name)
        if name.endswith("attn_k.weight"):
            mixed[name] = SOURCES["Q8_0"].weight(name)
    source = TinySource(SOURCES["Q4_K"].config, mixed)
    exact = Ring(source, lambda: TorchEngine("float32", "cpu", 1)).logits(PROMPT)
    ring = Ring(source, lambda: TorchEngine("auto", "cpu", 1))
    assert ring.stages[0].info.dtype == "quantised"
    found = np.concatenate((ring.logits(PROMPT[:90]), ring.logits(PROMPT[90:], position=90, chunk=1)))
    assert np.abs(found - exact).mean() < 0.02 * np.abs(exact).max()
    np.testing.assert_array_equal(
        Ring(source, lambda: TorchEngine("auto", "cpu", 1), (1,)).logits(PROMPT[:90]), found[:90]
    )


def test_rows_that_do_not_fill_a_packed_block_are_computed_in_floats():
    source = tiny_source(tiny_config("llama"), kind="Q4_1")  # 32 rows of keys, 288 of vocabulary
    exact = Ring(source, lambda: TorchEngine("float32", "cpu", 1)).logits(PROMPT)
    assert np.abs(Ring(source, lambda: TorchEngine("quantised", "cpu", 1)).logits(PROMPT) - exact).mean() < 0.1


def test_a_processor_with_an_unknown_layout_computes_in_bfloat16_and_refuses_quantised(monkeypatch, without_kernels):
    monkeypatch.setattr(quant, "layout", lambda: None)
    ring = Ring(SOURCES["Q4_1"], lambda: TorchEngine("auto", "cpu", 1))
    assert ring.stages[0].info.dtype == "bfloat16"
    exact = Ring(SOURCES["Q4_1"], lambda: TorchEngine("float32", "cpu", 1)).logits(PROMPT)
    assert np.abs(ring.logits(PROMPT) - exact).mean() < 0.02 * np.abs(exact).max()
    with pytest.raises(ConfigError, match="bfloat16"):
        TorchEngine("quantised", "cpu")


def test_a_layout_that_is_none_of_the_known_ones_is_not_mistaken_for_one(monkeypatch):
    monkeypatch.setattr(int4, "_pack", lambda q, _tiles: (q[:, 0::2] | q[:, 1::2] << 4).to(torch.uint8))
    int4.layout.cache_clear()
    try:
        assert int4.layout() is None
    finally:
        monkeypatch.undo()
        int4.layout.cache_clear()
    assert int4.layout() in int4.KNOWN_LAYOUTS


def test_loading_needs_little_more_than_what_stays(each_way):
    """Scratch is bounded by rows, not by the matrix: what an engine allocates at its peak is what it keeps, nearly."""
    source = tiny_source(tiny_config("llama", vocab_size=64 * 256, hidden_size=256, n_layers=1), kind="Q4_1")
    kind = native_matrix.NativeMatrix if each_way == "native" else int4.Int4Matrix
    largest, put = 0, kind.put

    def watched(self: Any, start: int, *blocks: torch.Tensor) -> None:
        nonlocal largest
        largest = max(largest, blocks[0].numel())
        put(self, start, *blocks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "put", watched)
        TorchEngine("quantised", "cpu", 1).load(source, shards(1)[0])
    assert largest == quant.CHUNK_WEIGHTS


PROBE = """
import sys
import numpy as np, torch
from exo_lab.engines import int4
from tests.engines import test_quantised as t
from exo_lab.engines.decoder import TorchEngine
assert torch.backends.cpu.get_cpu_capability() == sys.argv[1], torch.backends.cpu.get_cpu_capability()
for kind in ("Q4_1", "Q8_0"):
    exact = t.Ring(t.SOURCES[kind], lambda: TorchEngine("float32", "cpu", 1)).logits(t.PROMPT)
    ring = t.Ring(t.SOURCES[kind], lambda: TorchEngine("quantised", "cpu", 1))
    found = np.concatenate((ring.logits(t.PROMPT[:90]), ring.logits(t.PROMPT[90:], position=90, chunk=1)))
    assert np.abs(found - exact).mean() < 0.02 * np.abs(exact).max()
print(int4.layout())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("capability", "wanted"), [("AVX2", int4.Layout(32, True)), ("DEFAULT", int4.Layout(32, False))]
)
def test_other_instruction_sets_pack_otherwise_and_compute_the_same(capability, wanted):
    """PyTorch can be told to use less than the processor has: real operators, not stand-ins."""
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        pytest.skip("the other instruction sets are those of x86")
    done = subprocess.run(
        [sys.executable, "-c", PROBE, capability],
        env={**os.environ, "ATEN_CPU_CAPABILITY": capability.lower(), "OMP_NUM_THREADS": "1", native.SWITCH: "off"},
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(wanted)
