"""How our own kernels come to be: compiled once, never trusted blindly, never missed badly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from exo_lab.engines import native
from exo_lab.engines.decoder import TorchEngine
from exo_lab.engines.native_stage import scores_size
from tests.engines.ring import Ring
from tests.tiny import tiny_config, tiny_source

pytestmark = pytest.mark.skipif(native._missing_instructions() != "", reason="the kernels are not for this processor")


def fresh() -> native.Native:
    """As in a new process."""
    return native.state.__wrapped__()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EXO_LAB_CACHE", str(tmp_path))
    monkeypatch.delenv(native.SWITCH, raising=False)
    if not any(native.shutil.which(name) for name in ("cc", "gcc", "clang")):
        pytest.skip("there is no C compiler")
    return tmp_path / "native"


def test_the_library_is_compiled_once_and_kept(cache, monkeypatch):
    assert fresh().library is not None
    (kept,) = cache.iterdir()
    made = kept.stat().st_mtime_ns
    # A compiler that cannot compile: what is kept must do.
    monkeypatch.setattr(native.subprocess, "run", lambda *_a, **_k: pytest.fail("compiled again"))
    assert fresh().library is not None
    assert [path.name for path in cache.iterdir()] == [kept.name]
    assert kept.stat().st_mtime_ns == made


@pytest.mark.parametrize("word", ["off", "0", "no", "OFF"])
def test_it_can_be_switched_off(cache, monkeypatch, word):
    monkeypatch.setenv(native.SWITCH, word)
    assert fresh() == (None, f"{native.SWITCH} is off", False)
    assert not cache.exists()


def test_without_a_compiler_it_says_what_to_install(cache, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    found = fresh()
    assert found.library is None
    assert "install gcc" in found.why_not


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing_behind(cache, monkeypatch, tmp_path):
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho unknown flag >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    found = fresh()
    assert found.library is None
    assert "unknown flag" in found.why_not
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("openmp", ["none", "its own"])
def test_a_compiler_without_pytorchs_openmp_makes_kernels_of_one_thread(cache, monkeypatch, tmp_path, openmp):
    """As clang does: it may lack the library that -fopenmp asks for, or link another than PyTorch's."""
    if not native._shares_openmp():
        pytest.skip("this PyTorch has no OpenMP to share")
    own = tmp_path / "clang"
    body = 'case "$a" in -fopenmp) ' + ("echo no -lomp >&2; exit 1" if openmp == "none" else "continue") + ";; esac"
    own.write_text(
        f'#!/bin/sh\nn=$#\nfor a; do {body}\n set -- "$@" "$a"; done\nshift $n\nexec {native._compiler()} "$@"\n'
    )
    own.chmod(0o755)
    monkeypatch.setenv("CC", str(own))
    found = fresh()
    assert found.library is not None
    assert not found.threaded


def test_a_compiler_that_makes_rubbish_is_no_disaster(cache, monkeypatch, tmp_path):
    rubbish = tmp_path / "cc"
    rubbish.write_text('#!/bin/sh\nfor last; do :; done\necho rubbish > "$last"\n')
    rubbish.chmod(0o755)
    monkeypatch.setenv("CC", str(rubbish))
    assert "could not be compiled or loaded" in fresh().why_not


@pytest.mark.parametrize("what", ["folder", "library"])
def test_what_others_can_write_is_not_loaded(cache, what):
    assert fresh().library is not None
    (library,) = cache.iterdir()
    (cache if what == "folder" else library).chmod(0o777)
    found = fresh()
    assert found.library is None
    assert "written by others" in found.why_not


def test_a_folder_that_cannot_be_made_is_no_disaster(cache):
    cache.parent.joinpath("native").write_text("a file where the folder should be")
    assert fresh().library is None


def test_processors_without_the_instructions_do_not_try(cache, monkeypatch):
    monkeypatch.setattr(native, "NEEDED", ("avx512f", "avx1024_bf32"))
    assert fresh() == (None, "the processor lacks avx1024_bf32", False)


def test_several_processes_may_compile_at_once(cache):
    command = [
        sys.executable,
        "-c",
        "from exo_lab.engines import native; assert native.state().library, native.state()",
    ]
    running = [
        subprocess.Popen(command, cwd=Path(__file__).parents[2], env=dict(os.environ), stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert len(list(cache.iterdir())) == 1


def test_the_source_is_part_of_the_package():
    assert all(path.is_file() for path in native.SOURCES)


def kernels() -> native.ctypes.CDLL:
    found = native.state()
    if found.library is None:
        pytest.skip(found.why_not)
    return found.library


def attended(queries, cache, position, window, threads, share):
    """bfloat16 (n, heads * head_dim) of float32 (n, heads, head_dim), and whether it kept to its scratch."""
    n, heads, head_dim = queries.shape
    out = torch.empty(n, heads * head_dim, dtype=torch.bfloat16)
    needed = scores_size(position + n - 1, n, window, threads)
    room = torch.full((needed + 8,), 77.0)
    kernels().exo_attend(
        queries.data_ptr(), heads * head_dim, cache[0].data_ptr(), cache[1].data_ptr(), room.data_ptr(),
        out.data_ptr(), cache.shape[2] * head_dim, position, n, window, heads, share, head_dim, threads,
    )  # fmt: skip
    assert (room[-8:] == 77).all(), "wrote beyond its scratch"
    return out


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 300, 2000])
@pytest.mark.parametrize("head_dim", [16, 48, 64, 128, 256])
def test_attention_is_softmax_of_products_over_the_cache(head_dim, length, threads):
    random = torch.Generator().manual_seed(length)
    groups, share, capacity = 2, 3, length + 7
    queries = torch.randn(groups * share, head_dim, generator=random) * 3 / head_dim**0.5
    cache = torch.randn(2, groups, capacity, head_dim, generator=random).bfloat16()
    out = attended(queries[None], cache, length - 1, 0, threads, share).view(-1, head_dim)
    keys, values = cache[:, :, :length].float()
    scores = queries.view(groups, share, head_dim) @ keys.transpose(1, 2)
    wanted = (torch.softmax(scores, -1) @ values).view(-1, head_dim)
    torch.testing.assert_close(out.float(), wanted, rtol=2**-7, atol=1e-3)


@pytest.mark.parametrize("window", [0, 1, 2, 5, 40])
@pytest.mark.parametrize("share", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("head_dim", [48, 64, 128])
def test_attention_of_many_positions_is_that_of_each_alone(head_dim, share, window):
    random = torch.Generator().manual_seed(share)
    groups, n = 2, 21
    for position in (0, 1, 13, 100):
        queries = torch.randn(n, groups * share, head_dim, generator=random) * 3 / head_dim**0.5
        cache = torch.randn(2, groups, position + n, head_dim, generator=random).bfloat16()
        alone = [attended(queries[j : j + 1], cache, position + j, window, 1, share) for j in range(n)]
        for threads in (1, 2):
            assert torch.equal(attended(queries, cache, position, window, threads, share), torch.cat(alone))


def test_the_norm_and_the_gate_are_those_of_pytorch_for_small_large_and_extreme_values():
    library = kernels()
    random = torch.Generator().manual_seed(3)
    for size in (16, 48, 576, 4096):
        for scale in (1e-6, 1.0, 1e4):
            x, weight = torch.randn(size, generator=random) * scale, torch.randn(size, generator=random)
            out = torch.empty(size, dtype=torch.bfloat16)
            library.exo_norm(x.data_ptr(), weight.data_ptr(), out.data_ptr(), size, 1e-5)
            wanted = torch.nn.functional.rms_norm(x, (size,), weight, 1e-5)
            torch.testing.assert_close(out.float(), wanted, rtol=2**-7, atol=1e-6)
    gate = torch.cat((torch.linspace(-200, 200, 401), torch.randn(47, generator=random)))
    both = torch.cat((gate, torch.randn(448, generator=random)))
    out = torch.empty(448, dtype=torch.bfloat16)
    library.exo_gate(both.data_ptr(), out.data_ptr(), 448)
    torch.testing.assert_close(out.float(), torch.nn.functional.silu(gate) * both[448:], rtol=2**-7, atol=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        tiny_config("llama"),
        tiny_config("mistral", sliding_window=24),
        tiny_config("qwen2"),
        tiny_config("qwen3", head_dim=48),
        tiny_config("llama", hidden_size=128, intermediate_size=192, head_dim=64, n_heads=6, n_kv_heads=2),
    ],
    ids=lambda config: config.name,
)
def test_decoding_with_our_kernels_is_decoding_with_pytorch_within_bfloat16(config, monkeypatch):
    kernels()
    source = tiny_source(config, seed=8)
    ids = [int(x) for x in np.random.default_rng(6).integers(0, 256, 60)]
    exact = Ring(source, lambda: TorchEngine("float32", "cpu", 1)).logits(ids)
    ours = Ring(source, lambda: TorchEngine("bfloat16", "cpu", 1))
    assert ours.stages[0].info.kernels == "native"
    found = ours.logits(ids, chunk=1)
    monkeypatch.setattr(native, "state", lambda: native.Native(None, "this test does without"))
    theirs = Ring(source, lambda: TorchEngine("bfloat16", "cpu", 1))
    assert theirs.stages[0].info.kernels == "torch"
    errors = [np.abs(logits - exact).mean() for logits in (found, theirs.logits(ids, chunk=1))]
    assert errors[0] < 1.25 * errors[1], "no less exact than PyTorch's"


def test_heads_of_sizes_that_the_kernels_do_not_know_are_left_to_pytorch():
    source = tiny_source(tiny_config("llama", head_dim=8, n_heads=8), seed=1)
    ring = Ring(source, lambda: TorchEngine("bfloat16", "cpu", 1))
    assert ring.stages[0].info.kernels == "torch"
    exact = Ring(source, lambda: TorchEngine("float32", "cpu", 1)).logits([1, 2, 3])
    assert np.abs(ring.logits([1, 2, 3], chunk=1) - exact).mean() < 0.05 * np.abs(exact).max()
