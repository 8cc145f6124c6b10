"""Decode and prefill of the torch engine by dtype and threads, against Transformers and llama.cpp in the same run.

One process a contestant, one round after the other, so that what disturbs the machine disturbs all of them. llama.cpp
takes part where llama-cpp-python can be imported, here or by the interpreter that EXO_LAB_LLAMA_PYTHON names; its RPC
too if it was built with it (CMAKE_ARGS=-DGGML_RPC=ON).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import REPEATS, interleave, median, ratio, report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MODEL = "smollm2-135m"
DECODE = (64, 48)  # after so many tokens, so many tokens
LONG_DECODE = (1024, 24)
PREFILLS = (256, 1024)
DTYPES = ("quantised", "bfloat16", "float32")
# What is slow is not asked for everything: the others would wait for it, and the machine change meanwhile.
SLOW = ("exo bfloat16", "exo float32", "Transformers")
BRIEF = ("decode", "prefill 256")
# Goals of the engine alone, where there are any: (ours, theirs, what, at least).
GOALS = (
    # Stages take turns in decoding: an engine of one thread is the most that a ring of such stages can reach.
    ("exo quantised x 1", "llama.cpp RPC, 2 servers x 1", "decode", 1.5),
    ("exo quantised x 1", "llama.cpp RPC, 2 servers x 1", "prefill 256", 3.0),
    ("exo quantised x 2", "llama.cpp x 2", "decode", 1.3),
    ("exo quantised x 2", "Transformers bf16 x 2", "decode", 5.0),
)


class Process:
    """A contestant's process, asked one thing at a time."""

    def __init__(self, command: Sequence[str], threads: int) -> None:
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1"}
        root = Path(__file__).parents[1]
        pipe, none = subprocess.PIPE, subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=none, text=True, cwd=root, env=env)
        self._answer()

    def _answer(self) -> str:
        if self._process.stdout is None:
            raise AssertionError("standard output is a pipe")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}")
        return line

    def ask(self, request: str) -> float:
        """Seconds that it took."""
        if self._process.stdin is None:
            raise AssertionError("standard input is a pipe")
        self._process.stdin.write(request + "\n")
        self._process.stdin.flush()
        return float(self._answer())

    def close(self) -> None:
        """End it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(10)


def llama_python() -> str | None:
    """An interpreter that has llama-cpp-python."""
    if importlib.util.find_spec("llama_cpp") is not None:
        return sys.executable
    return os.environ.get("EXO_LAB_LLAMA_PYTHON")


def has_rpc(python: str) -> bool:
    """Was its llama-cpp-python built with GGML_RPC?"""
    where = "import llama_cpp, pathlib; print(pathlib.Path(llama_cpp.__file__).parent / 'lib')"
    done = subprocess.run([python, "-c", where], capture_output=True, text=True, check=False)
    return done.returncode == 0 and any(Path(done.stdout.strip()).glob("libggml-rpc.*"))


def contestants(path: str, threads: tuple[int, ...]) -> dict[str, tuple[list[str], int]]:
    """Name -> (command, threads)."""
    found: dict[str, tuple[list[str], int]] = {}
    for count in threads:
        for dtype in DTYPES if count == 1 else DTYPES[:1]:
            command = [sys.executable, "-m", "benchmarks.contestants.exo", path, str(count), dtype]
            found[f"exo {dtype} x {count}"] = command, count
        if importlib.util.find_spec("transformers") is not None:
            command = [sys.executable, "-m", "benchmarks.contestants.transformers_", path, str(count)]
            found[f"Transformers bf16 x {count}"] = command, count
        if (python := llama_python()) is not None:
            found[f"llama.cpp x {count}"] = [python, "-m", "benchmarks.contestants.llama", path, str(count)], count
            if count == 1 and has_rpc(python):
                command = [python, "-m", "benchmarks.contestants.llama_rpc", path, "1"]
                found["llama.cpp RPC, 2 servers x 1"] = command, 1
    return found


def bandwidth_bytes_per_s(threads: int) -> float:
    """What a plain sum over 256 MiB reaches: the memory's limit for reading weights once."""
    import torch

    torch.set_num_threads(threads)
    data = torch.ones(64 << 20)

    def once() -> float:
        started = time.perf_counter()
        data.sum()
        return time.perf_counter() - started

    return data.nbytes / min(once() for _ in range(12))


def measure(repeats: int, threads: tuple[int, ...] = (1, 2)) -> dict[str, Any]:
    """All figures: {what: {contestant: tokens per second, round by round}}."""
    from exo_lab.models.locate import locate
    from exo_lab.models.open import open_model

    path = str(locate(MODEL))
    source = open_model(path)
    weight_bytes = source.config.total_bytes
    source.close()
    requests = {
        "decode": (f"decode {DECODE[0]} {DECODE[1]}", DECODE[1]),
        "long decode": (f"decode {LONG_DECODE[0]} {LONG_DECODE[1]}", LONG_DECODE[1]),
        **{f"prefill {size}": (f"prefill {size}", size) for size in PREFILLS},
    }
    data: dict[str, Any] = {"repeats": repeats, "decode_tokens": DECODE, "weight_bytes": weight_bytes, "rates": {}}
    data["bandwidth_bytes_per_s"] = {count: bandwidth_bytes_per_s(count) for count in threads}
    running = {name: Process(command, count) for name, (command, count) in contestants(path, threads).items()}
    try:
        for what, (request, count) in requests.items():
            takes_part = [name for name in running if what in BRIEF or not name.startswith(SLOW)]
            seconds = interleave({name: _case(running[name], request) for name in takes_part}, repeats)
            data["rates"][what] = {name: [count / s for s in values] for name, values in seconds.items()}
    finally:
        for process in running.values():
            process.close()
    data["goals"] = [
        {"ours": ours, "theirs": theirs, "what": what, "goal": goal, "ratio": ratio(rates[ours], rates[theirs])}
        for ours, theirs, what, goal in GOALS
        if ours in (rates := data["rates"][what]) and theirs in rates
    ]
    return data


def _case(process: Process, request: str) -> Callable[[], float]:
    return lambda: process.ask(request)


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    data = measure(parser.parse_args().repeats)
    rates = data["rates"]
    rows: list[list[str]] = []
    for name in rates["decode"]:
        threads = int(name.rpartition(" ")[2])
        row = [name]
        for what, found in rates.items():
            row.append(f"{median(found[name]):.{0 if 'prefill' in what else 1}f}" if name in found else "")
        for what in ("decode", "prefill 256"):
            rival = f"llama.cpp x {threads}"
            row.append(f"{ratio(rates[what][name], rates[what][rival]):.2f}" if rival in rates[what] else "")
        rows.append(row)
    for threads, bandwidth in data["bandwidth_bytes_per_s"].items():
        limit = f"memory's limit x {threads}: {bandwidth / 1e9:.0f} GB/s"
        rows.append([limit, f"{bandwidth / data['weight_bytes']:.0f}"])
    header = ["tokens/s", *rates, "decode/llama.cpp", "prefill/llama.cpp"]
    rows = [[*row, *[""] * (len(header) - len(row))] for row in rows]
    title = f"{MODEL}, Q4_1, one process each (medians of {data['repeats']})"
    report("engine", title, header, rows, data)
    for goal in data["goals"]:
        met = "met" if goal["ratio"] >= goal["goal"] else "missed"
        print(f"{goal['what']}, {goal['ours']} / {goal['theirs']}: {goal['ratio']:.2f} (goal {goal['goal']}, {met})")


if __name__ == "__main__":
    main()
