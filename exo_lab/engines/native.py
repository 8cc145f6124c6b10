"""Our own kernels: compiled from `kernels/` on this machine, once, and kept in the user's cache.

They need Linux, an x86 processor with AVX-512 BF16 and a C compiler. Where one of these is missing, PyTorch's operators
do the work and `state().why_not` says what is missing; EXO_LAB_NATIVE=off has the same effect. Nothing is downloaded:
the source is part of this package. This file knows how to get the library, not what the kernels compute.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).with_name("kernels")
SOURCES = tuple(FOLDER / name for name in ("matrix.c", "attend.c", "step.c", "stage.c"))
HEADERS = (FOLDER / "packed.h", FOLDER / "vector.h")
SWITCH = "EXO_LAB_NATIVE"
FLAGS = (
    "-O3", "-shared", "-fPIC", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512bf16", "-mf16c", "-mfma",
)  # fmt: skip
NEEDED = ("avx512f", "avx512bw", "avx512vl", "avx512_bf16", "f16c", "fma")
OPENMP = "libgomp.so.1"
COMPILE_TIMEOUT_S = 60.0

_pointer, _integer, _int, _float = ctypes.c_void_p, ctypes.c_longlong, ctypes.c_int, ctypes.c_float
_TIMES = (_pointer, _pointer, _pointer, _pointer, _integer, _integer, _integer, _int)
_ATTEND = (_pointer, _integer, *(_pointer,) * 4, *(_integer,) * 7, _int)
_ROWS = (_pointer, _pointer, _pointer, _integer, _integer)
_SIGNATURES = {
    "exo_times4": _TIMES,
    "exo_times8": _TIMES,
    "exo_rows4": _ROWS,
    "exo_rows8": _ROWS,
    "exo_pack4": (_pointer, _pointer, _pointer, _pointer, _integer, _integer),
    "exo_pack8": (_pointer, _pointer, _pointer, _integer, _integer),
    "exo_attend": _ATTEND,
    "exo_norm": (_pointer, _pointer, _pointer, _integer, _float),
    "exo_gate": (_pointer, _pointer, _integer),
    "exo_stage": (_pointer, _integer, *(_pointer,) * 4, _integer, _integer, _pointer, _float, _int),
}


class Native(NamedTuple):
    """The library, or why there is none. `threaded`: it shares PyTorch's pool of threads, so it may use several."""

    library: ctypes.CDLL | None
    why_not: str = ""
    threaded: bool = False


@functools.cache
def state() -> Native:
    """Find or make the library. Never raises: without it things are slower, not wrong."""
    compiler, why_not = _compiler(), obstacle()
    if why_not:
        return Native(None, why_not)
    try:
        threaded = _with_threads(compiler) if _shares_openmp() else None
        return Native(_load(threaded or _compiled(compiler, FLAGS)), "", threaded is not None)
    except subprocess.CalledProcessError as exc:
        return Native(None, f"{compiler} cannot compile the kernels: {exc.stderr.strip()[-300:]}")
    except (OSError, subprocess.TimeoutExpired, AttributeError) as exc:
        return Native(None, f"the kernels could not be compiled or loaded: {exc}")


def is_for_this_machine() -> bool:
    """Could there be kernels on such a machine, whatever is installed on it?"""
    return not _missing_instructions()


def obstacle() -> str:
    """Why there are no kernels, as far as that is known without PyTorch and without compiling; empty if nothing is."""
    if os.environ.get(SWITCH, "").lower() in ("off", "0", "no", "false"):
        return f"{SWITCH} is off"
    without = "there is no C compiler; install gcc or clang, and decoding is faster"
    return _missing_instructions() or ("" if _compiler() else without)


def _compiler() -> str:
    names = (os.environ.get("CC"), "cc", "gcc", "clang")
    return next((found for name in names if name and (found := shutil.which(name))), "")


def _with_threads(compiler: str) -> Path | None:
    """The library with PyTorch's OpenMP in it; None where the compiler has none, or another one (clang has its own)."""
    try:
        made = _compiled(compiler, (*FLAGS, "-fopenmp"))
    except subprocess.CalledProcessError:
        return None
    return made if OPENMP.encode() in made.read_bytes() else None


def _missing_instructions() -> str:
    if sys.platform != "linux":
        return "the kernels are for Linux"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError as exc:
        return f"/proc/cpuinfo cannot be read: {exc}"
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    missing = [name for name in NEEDED if name not in flags]
    return f"the processor lacks {', '.join(missing)}" if missing else ""


def _shares_openmp() -> bool:
    """Would OpenMP of ours be PyTorch's? Two pools of threads would take each other's cores."""
    import torch

    if "OpenMP" not in torch.__config__.parallel_info():
        return False
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    return any(line.endswith(f"/{OPENMP}") for line in maps.splitlines())


def cache_folder() -> Path:
    """Where compiled kernels are kept."""
    if chosen := os.environ.get("EXO_LAB_CACHE"):
        return Path(chosen).expanduser() / "native"
    from platformdirs import user_cache_path

    return user_cache_path("exo_lab", appauthor=False) / "native"


def _compiled(compiler: str, flags: tuple[str, ...]) -> Path:
    """The library's path, compiled if it is not there. Processes that do so at once each replace a whole file."""
    folder = cache_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_if_others_can_write(folder)
    recipe = (compiler, *flags, *(path.read_text(encoding="utf-8") for path in (*SOURCES, *HEADERS)))
    key = hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:16]
    path = folder / f"native-{key}.so"
    if not path.exists():
        descriptor, name = tempfile.mkstemp(dir=folder, suffix=".tmp")
        os.close(descriptor)
        temporary = Path(name)
        try:
            command = [compiler, *flags, *map(str, SOURCES), "-o", str(temporary)]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S)
            temporary.chmod(0o700)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    _refuse_if_others_can_write(path)
    return path


def _refuse_if_others_can_write(path: Path) -> None:
    """OSError for what another user could have put there: it would run as ours."""
    found = path.stat()
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o022:
        raise PermissionError(f"{path} belongs to another user or can be written by others; it is not used")


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    for name, arguments in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, None
    return library


def library(threads: int) -> ctypes.CDLL | None:
    """The kernels, if they are to be had for so many threads."""
    found = state()
    return found.library if threads == 1 or found.threaded else None
