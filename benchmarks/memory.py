"""Peak memory of a node that holds k of n layers, against the bytes of those layers in the file.

A fresh process for every k: what the process takes before loading is subtracted, what loading, a prefill of 256 tokens
and some decoding take at their peak is counted, KV cache and scratch included.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import REPEATS, median, report

if TYPE_CHECKING:
    from exo_lab.core.weights import WeightSource

MODEL = "smollm2-135m"
SHARES = ((0, 30), (0, 20), (0, 15), (15, 30), (0, 10), (10, 20), (20, 30))
GOAL = 1.3
PROMPT, CHUNK = 256, 128


def _memory(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def probe(start: int, end: int, dtype: str) -> dict[str, int]:
    """What this process takes for layers [start, end). Run once in a process."""
    from exo_lab.models.open import open_model

    source = open_model(MODEL)
    config = source.config
    # Libraries take memory of their own when they are first used (code that is made at run time, pools): one layer is
    # run and given back before anything is counted.
    run(source, 4, 5, dtype)
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = _memory("VmRSS")
    _forget_peak()
    loaded, weight_bytes, kv_bytes = run(source, start, end, dtype)
    source.close()
    return {
        "load_bytes": loaded - before,
        "peak_bytes": _memory("VmHWM") - before,
        "weight_bytes": weight_bytes,
        "kv_bytes": kv_bytes,
        "file_bytes": config.shard_bytes(start, end),
        "model_bytes": config.total_bytes,
        "n_layers": config.n_layers,
    }


def run(source: WeightSource, start: int, end: int, dtype: str) -> tuple[int, int, int]:
    """Load, prefill, decode. Peak memory of the process after loading; weight and KV cache bytes of the engine."""
    import numpy as np

    from exo_lab.core.shard import Shard
    from exo_lab.engines import convert
    from exo_lab.engines.decoder import TorchEngine

    config = source.config
    engine = TorchEngine(dtype, "cpu", 1)
    engine.load(source, Shard(model=MODEL, start=start, end=end, n_layers=config.n_layers))
    loaded = _memory("VmHWM")
    for position in (*range(0, PROMPT, CHUNK), *range(PROMPT, PROMPT + 8)):
        count = CHUNK if position < PROMPT else 1
        hidden = np.ones((count, config.hidden_size), np.float32)
        x = convert.tokens(list(range(count))) if start == 0 else convert.from_numpy(hidden)
        engine.forward("s", x, position, "last")
    found = loaded, engine.info.weight_bytes, engine.kv_bytes()
    engine.close()
    return found


def fresh(start: int, end: int, dtype: str) -> dict[str, int]:
    """`probe` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", "--probe", str(start), str(end), dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    return json.loads(done.stdout)


def measure(repeats: int, dtypes: tuple[str, ...] = ("quantised", "bfloat16")) -> dict[str, Any]:
    """All figures, a list of probes for each dtype and share."""
    cases = [(dtype, start, end) for dtype in dtypes for start, end in SHARES]
    return {
        "repeats": repeats,
        "goal": GOAL,
        "cases": [
            {"dtype": d, "start": a, "end": b, "probes": [fresh(a, b, d) for _ in range(repeats)]} for d, a, b in cases
        ],
    }


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--probe", nargs=3, metavar=("START", "END", "DTYPE"))
    arguments = parser.parse_args()
    if arguments.probe:
        start, end, dtype = arguments.probe
        print(json.dumps(probe(int(start), int(end), dtype)))
        return
    data = measure(arguments.repeats)
    rows: list[list[str]] = []
    for case in data["cases"]:
        first = case["probes"][0]
        load, peak = (median([p[key] for p in case["probes"]]) for key in ("load_bytes", "peak_bytes"))
        size = first["file_bytes"]
        share = (case["end"] - case["start"]) / first["n_layers"]
        row = [f"{case['dtype']} [{case['start']}, {case['end']})", f"{share:.2f}", f"{size / 2**20:.1f}"]
        row += [f"{load / 2**20:.1f}", f"{peak / 2**20:.1f}", f"{first['kv_bytes'] / 2**20:.1f}"]
        row += [f"{peak / size:.2f}", f"{peak / first['model_bytes']:.2f}"]
        rows.append(row)
    header = ["MiB", "k/n", "in the file", "peak, loading", "peak, all", "of it KV", "peak/file", "peak/whole model"]
    title = f"{MODEL}, Q4_1: memory beyond an empty process (medians of {data['repeats']}); goal {GOAL} for quantised"
    report("memory", title, header, rows, data)


if __name__ == "__main__":
    main()
