"""Many requests at once: tokens a second of all together, against one alone, in rings of one and two kernels.

Real kernels of this machine, one thread each. Every round asks one request and then several at once.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks.measure import REPEATS, interleave, median, ratio, report
from benchmarks.ring import MODEL, WORDS, Rings
from exo_lab.cluster import Cluster
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token

TOKENS = 64
COUNTS = (1, 2, 4, 8)
GOAL = 1.8  # 4 requests against 1, ring of 2


def together(cluster: Cluster, count: int) -> float:
    """Tokens a second of `count` requests that begin at once, from the first token of any to the last of all."""
    began = time.perf_counter()
    running = [
        cluster.generate(f"{number}. {WORDS}", raw=True, max_tokens=TOKENS, prefix_cache=False, speculate=0)
        for number in range(count)
    ]
    done = [generation.result() for generation in running]
    # `at_s` counts from each request's own beginning, and all began within microseconds.
    first = min(generation.tokens[0].at_s for generation in done)
    last = max(generation.tokens[-1].at_s for generation in done)
    assert time.perf_counter() - began >= last
    return (sum(len(generation.tokens) for generation in done) - count) / (last - first)


def measure(repeats: int) -> dict[str, Any]:
    """All figures. See the module's text."""
    data: dict[str, Any] = {"tokens": TOKENS, "repeats": repeats, "rings": {}}
    with Cluster(NodeOptions(name="bench", threads=1), new_token()) as cluster:
        cluster.up(2, threads=1)
        rings = Rings(cluster)
        for nodes in (1, 2):
            rings.use(nodes)
            cases = {str(count): lambda count=count: together(cluster, count) for count in COUNTS}
            data["rings"][nodes] = interleave(cases, repeats)
    return data


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    data = measure(parser.parse_args().repeats)
    rows: list[list[str]] = []
    for nodes, rates in data["rings"].items():
        row = [f"{nodes} node{'s' * (nodes > 1)} x 1 thread", *(f"{median(rates[str(count)]):.0f}" for count in COUNTS)]
        rows.append([*row, *(f"{ratio(rates[str(count)], rates['1']):.2f}" for count in COUNTS[1:])])
    header = ["tokens/s of all", *(f"{count}" for count in COUNTS), *(f"{count} / 1" for count in COUNTS[1:])]
    title = f"{MODEL}, requests at once (medians of {data['repeats']}); goal: 4 / 1 in the ring of 2 at least {GOAL}"
    report("concurrent", title, header, rows, data)


if __name__ == "__main__":
    main()
