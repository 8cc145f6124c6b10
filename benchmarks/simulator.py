"""How long the simulator takes, up to 1,000 devices: `python -m benchmarks.simulator`.

It also draws `docs/images/gantt.svg`. The times are of this machine; what is simulated is made up, and its figures are
predictions.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from benchmarks.measure import report
from benchmarks.planner import model
from exo_lab.core.device import Device, Flops
from exo_lab.core.topology import Sighting, link, topology
from exo_lab.front.gantt_svg import gantt_svg
from exo_lab.front.svg import as_file
from exo_lab.planning.choose import choose
from exo_lab.planning.comparison import SETTING
from exo_lab.planning.problem import Problem
from exo_lab.planning.simulation.run import simulate
from exo_lab.planning.simulation.scenario import Fail, Request, Scenario

if TYPE_CHECKING:
    from exo_lab.planning.simulation.result import Simulation

PLOT = Path(__file__).parents[1] / "docs" / "images" / "gantt.svg"
REQUESTS, PROMPT, ANSWER = 8, 512, 64
SIZES = (10, 100, 1000)
LIMIT_S = 60.0  # of the largest


def ring(devices: int) -> Scenario:
    """As many layers as devices, one each, all in one ring: the most steps that a plan can have."""
    ids = [f"node-{at:04d}" for at in range(devices)]
    described = [
        Device(id=id_, name=id_, memory_bytes=8 << 30, flops=Flops(fp16=7.0), memory_bandwidth_bytes_per_s=100e9)
        for id_ in ids
    ]
    problem = Problem(
        config=model(devices),
        topology=topology(
            [Sighting(device=device) for device in described],
            [link(ids[0], other, kind="ethernet") for other in ids[1:]],
        ),
        sessions=REQUESTS,
        context_tokens=PROMPT + ANSWER,
        prompt_tokens=PROMPT,
    )
    asked = tuple(Request(prompt_tokens=PROMPT, answer_tokens=ANSWER, at_s=0.1 * at) for at in range(REQUESTS))
    return Scenario(problem=problem, plan=choose(problem, "uniform"), requests=asked)


def failure() -> Simulation:
    """The cluster of the comparison, four bits, with a device that fails: what the picture shows."""
    problem = SETTING._replace(quantisation="Q4_0", prompt_tokens=512).problem()
    return simulate(
        Scenario(
            problem=msgspec.structs.replace(problem, sessions=4),
            strategy="ring-memory-weighted",
            requests=tuple(Request(prompt_tokens=512, answer_tokens=24, at_s=0.25 * at) for at in range(4)),
            changes=(Fail(at_s=1.1, device=problem.topology.devices[0].id),),
            notice_s=0.4,
            load_bytes_per_s=2e9,
        )
    )


def main() -> int:
    """1 if the largest takes longer than its limit."""
    rows: list[tuple[str, ...]] = []
    data: dict[str, dict[str, float]] = {}
    seconds = 0.0
    for devices in SIZES:
        scenario = ring(devices)
        started = time.perf_counter()
        made = simulate(scenario)
        seconds = time.perf_counter() - started
        steps = len(made.spans)
        data[str(devices)] = {"seconds": seconds, "steps": steps, "simulated_s": made.end_s}
        rows.append((str(devices), f"{steps:,}", f"{made.end_s:.1f} s", f"{seconds:.2f} s", f"{steps / seconds:,.0f}"))
    title = f"simulator: a ring of all devices, {REQUESTS} requests of {PROMPT} + {ANSWER} tokens"
    report("simulator", title, ("devices", "steps", "simulated", "takes", "steps/s"), rows, {"sizes": data})
    PLOT.write_text(as_file(gantt_svg(failure())) + "\n", encoding="utf-8")
    return int(seconds > LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
