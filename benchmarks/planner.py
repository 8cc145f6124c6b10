"""How long planning takes, and how near the best its plans are: `python -m benchmarks.planner`.

Clusters are made up, deterministically by seed: devices like those that people own, in rooms joined by the links that
people have. Times are of this machine; values and gaps are those of the cost model, not of any hardware.
"""

from __future__ import annotations

import random
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.measure import median, repeat, report
from exo_lab.core.device import Device, Flops
from exo_lab.core.model import ModelConfig
from exo_lab.core.topology import Sighting, link, topology
from exo_lab.planning.choose import choose
from exo_lab.planning.problem import OBJECTIVES, Objective, Problem
from exo_lab.planning.strategies.optimal import solve
from exo_lab.planning.whatif import MoveBoundary, what_if

if TYPE_CHECKING:
    from collections.abc import Callable

# (memory GiB, TFLOPS fp16, memory bandwidth GB/s): nominal figures, rounded; only their spread matters here.
KINDS = (
    (8, 3.6, 100),
    (16, 7, 120),
    (36, 28, 400),
    (64, 28, 400),
    (24, 165, 1008),
    (12, 58, 504),
    (8, 0.4, 17),
    (6, 4.3, 51),
)
ROOMS = ("ethernet", "wifi", "thunderbolt")
SEEDS = 10
LIMITS_MS = {"16 x 80": 50.0, "100 x 128": 500.0}  # of the median
WHAT_IF_MS = 5.0


def model(layers: int) -> ModelConfig:
    """80 layers are the size of Llama 70B in four bits; others in proportion. Every eighth layer is larger."""
    usual, larger = 470_000_000, 560_000_000
    return ModelConfig(
        name=f"{layers} layers",
        architecture="llama",
        n_layers=layers,
        hidden_size=8192,
        intermediate_size=28672,
        n_heads=64,
        n_kv_heads=8,
        head_dim=128,
        vocab_size=128256,
        context_length=131072,
        layer_bytes=tuple(larger if i % 8 == 0 else usual for i in range(layers)),
        embedding_bytes=590_000_000,
        head_bytes=860_000_000,
    )


def cluster(seed: int, devices: int, layers: int, objective: Objective, *, spare: float = 1.6) -> Problem:
    """Devices in rooms, between rooms a slower network; memory is scaled up to `spare` times what is needed."""
    rng = random.Random(f"{seed} {devices} {layers}")
    config = model(layers)
    kinds = [rng.choice(KINDS) for _ in range(devices)]
    rooms = [(rng.randrange(max(1, devices // 5)), rng.choice(ROOMS)) for _ in range(devices)]
    blank = Problem(config=config, topology=topology(), objective=objective, context_tokens=4096)
    needed = blank.shard_memory_bytes(Device(id="", name=""), 0, layers)
    scale = spare * needed / sum(gib * 2**30 for gib, _, _ in kinds)
    sightings = [
        Sighting(
            device=Device(
                id=f"node-{i:03d}",
                name=f"node-{i:03d}",
                memory_bytes=int(gib * 2**30 * max(1.0, scale)),
                flops=Flops(fp16=tflops),
                memory_bandwidth_bytes_per_s=bandwidth * 1e9,
            )
        )
        for i, (gib, tflops, bandwidth) in enumerate(kinds)
    ]
    links = [
        link(
            f"node-{a:03d}",
            f"node-{b:03d}",
            kind=rooms[a][1] if rooms[a][0] == rooms[b][0] else "ethernet",
            latency_s=rng.uniform(0.1e-3, 4e-3) * (1 if rooms[a][0] == rooms[b][0] else 3),
        )
        for a in range(devices)
        for b in range(a + 1, devices)
    ]
    fields = {name: getattr(blank, name) for name in blank.__struct_fields__}
    return Problem(**{**fields, "topology": topology(sightings, links)})


def milliseconds(work: Callable[[], object]) -> float:
    """How long a call takes, by the wall clock: median of several, after one that imports and warms."""

    def once() -> float:
        started = time.perf_counter()
        work()
        return (time.perf_counter() - started) * 1e3

    return median(repeat(once))


def plans(devices: int, layers: int, objective: Objective) -> dict[str, float]:
    """Times and gaps over several clusters."""
    times: list[float] = []
    gaps: list[float] = []
    stages: list[int] = []
    for seed in range(SEEDS):
        problem = cluster(seed, devices, layers, objective)
        found = solve(problem)
        gaps.append(found.gap)
        stages.append(len(found.cut.places))
        times.append(milliseconds(lambda problem=problem: solve(problem)))
    return {
        "median_ms": median(times),
        "slowest_ms": max(times),
        "clusters": SEEDS,
        "proven_best": sum(gap == 0 for gap in gaps),
        "median_gap": median(gaps),
        "largest_gap": max(gaps),
        "median_stages": median(stages),
    }


def changes(devices: int, layers: int) -> float:
    """Milliseconds of one what-if."""
    problem = cluster(1, devices, layers, "decode")
    plan = choose(problem, "ring-memory-weighted")
    return milliseconds(lambda: what_if(problem, plan, MoveBoundary(boundary=len(plan.devices) // 2, layers=1)))


def main() -> int:
    """1 if a limit of the project is not kept."""
    rows: list[tuple[str, ...]] = []
    data: dict[str, dict[str, float]] = {}
    late: list[str] = []
    for devices, layers in ((8, 32), (12, 80), (16, 80), (100, 128)):
        name = f"{devices} x {layers}"
        for objective in OBJECTIVES:
            made = data[f"{name} {objective}"] = plans(devices, layers, objective)
            if made["median_ms"] > LIMITS_MS.get(name, float("inf")):
                late.append(f"{name} {objective}")
            rows.append((
                f"{name}, {objective}", f"{made['median_ms']:.1f} ms", f"{made['slowest_ms']:.1f} ms",
                f"{made['proven_best']:.0f} of {SEEDS}", f"{made['median_gap']:.1%}", f"{made['largest_gap']:.1%}",
                f"{made['median_stages']:.0f}",
            ))  # fmt: skip
    what_if_ms = changes(16, 80)
    if what_if_ms > WHAT_IF_MS:
        late.append("what-if")
    rows.append(("what-if, 16 x 80", f"{what_if_ms:.2f} ms", *[""] * 5))
    header = ("devices x layers, objective", "median", "slowest", "proven best", "median gap", "largest gap", "stages")
    report("planner", f"planning, {SEEDS} made-up clusters each", header, rows, {
        "limits_ms": {**LIMITS_MS, "what-if": WHAT_IF_MS}, "late": late, "what_if_ms": what_if_ms, "plans": data,
    })  # fmt: skip
    if late:
        print(f"over the limit: {', '.join(late)}", file=sys.stderr)
    return int(bool(late))


if __name__ == "__main__":
    sys.exit(main())
