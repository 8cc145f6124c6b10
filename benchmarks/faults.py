"""Faults at random tokens, many of them: what came of every generation. `--count 1000` is the full measure.

First on in-process twins of the network (every kind of fault, a tiny model, shortened deadlines), then on real kernels
with the real model (SIGKILL and SIGSTOP). The storms are those of `tests/faults`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import sys
import time
from collections import Counter
from typing import Any

import zmq

from benchmarks.measure import report
from tests.faults.kernel_storm import KINDS as KERNEL_KINDS
from tests.faults.kernel_storm import KernelStorm
from tests.faults.leftovers import held, left
from tests.faults.storm import KINDS, Outcome, storm, tally

A_CLUSTER = 100  # faults on one cluster, then a fresh one
FIGURES = ("faults", "generations", "same", "errors", "wrong", "hung", "recovered")


def on_twins(count: int, seed: int) -> list[Outcome]:
    """`count` faults; says how far it is."""
    found: list[Outcome] = []
    while len(found) < count:
        found += asyncio.run(storm(min(A_CLUSTER, count - len(found)), seed + len(found), KINDS))
        print(f"{len(found)} of {count} faults on twins", file=sys.stderr)
    return found


def on_kernels(count: int, seed: int) -> list[dict[str, Any]]:
    """`count` signals."""
    if not count:
        return []
    with KernelStorm(seed) as weather:
        return [weather.strike(KERNEL_KINDS[number % len(KERNEL_KINDS)]) for number in range(count)]


def kernel_tally(found: list[dict[str, Any]]) -> dict[str, Counter[str]]:
    """Figures by kind of fault."""
    counted: dict[str, Counter[str]] = {}
    for one in found:
        counted.setdefault(f"{one['kind']} (kernel)", Counter()).update(
            faults=1,
            generations=1,
            same=int(one["same"]),
            errors=int(one["error"] is not None),
            wrong=int(one["wrong"]),
            hung=int(one["hung"]),
            recovered=int(one["recovered"]),
        )
    return counted


def main() -> int:
    """1 if a token was wrong, a generation hung, or something was left behind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="faults on twins")
    parser.add_argument("--kernels", type=int, default=12, help="signals to real kernels")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.getLogger("exo_lab").setLevel(logging.ERROR)  # every refused frame is reported otherwise
    zmq.Context.instance().socket(zmq.PAIR).close()  # jupyter_client's context lives as long as the process
    before = held()
    started = time.perf_counter()
    twins = on_twins(args.count, args.seed)
    twins_s = time.perf_counter() - started
    kernels = on_kernels(args.kernels, args.seed)
    more = left(before)
    figures = {**tally(twins), **kernel_tally(kernels)}
    total: Counter[str] = sum(figures.values(), Counter())
    rows = [[kind, *(str(counts[name]) for name in FIGURES)] for kind, counts in [*figures.items(), ("all", total)]]
    report(
        "faults",
        f"{total['faults']} faults, seed {args.seed}; left behind: {dict(more) or 'nothing'}",
        ["fault", *FIGURES],
        rows,
        {
            "seed": args.seed,
            "by_kind": {kind: dict(counts) for kind, counts in figures.items()},
            "total": dict(total),
            "left_behind": dict(more),
            "twins_s": twins_s,
            "twins_median_s": statistics.median(one.seconds for one in twins) if twins else None,
            "errors": sorted({error for one in twins for error in one.errors}),
            "kernels": kernels,
        },
    )
    return 1 if total["wrong"] or total["hung"] or more else 0


if __name__ == "__main__":
    sys.exit(main())
