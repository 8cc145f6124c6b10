"""How our own kernels come to be: compiled once, never trusted blindly, never missed badly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from exo_lab.engines import native

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
    assert native.SOURCE.is_file()
