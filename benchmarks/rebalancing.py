"""A kernel becomes slow in the middle of an answer: tokens a second before, during, and after its layers have moved.

Three real kernels, each with emulated memory for two thirds of the real model, so that two hold it. Then one of the
two gets only a part of its processor time: it is stopped and continued many times a second, as a machine that does
something else would be. Once with the policy `auto`, once with `never`; the same tokens are demanded of both.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from benchmarks.measure import report
from exo_lab.cluster import Cluster
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_lab.generation import Generation

MODEL = "smollm2-135m"
PROMPT = "The river runs through the old town, past the mill and the bridge, and on to the sea. "
BEFORE, AFTER = 400, 200  # tokens that are timed
ROOM_BYTES = 120 << 20  # of a kernel; the model with its caches needs 140 MiB
TOKENS = 2000  # at most: a slow answer goes on until its layers have moved
RUNS_S, PERIOD_S = 0.001, 0.016  # of so many seconds it runs so long
WITHIN_S = 60.0  # for layers to move
NOT_MOVING_S = 20.0  # so long `never` is watched
SETTLE_TOKENS = 8  # after each change of scene


@contextlib.contextmanager
def throttled(pid: int) -> Iterator[None]:
    """A process that gets a part of its time only."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(RUNS_S):
            os.kill(pid, signal.SIGSTOP)
            over.wait(PERIOD_S - RUNS_S)
            os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        os.kill(pid, signal.SIGCONT)


class Run:
    """One answer, token by token."""

    def __init__(self, cluster: Cluster, generation: Generation) -> None:
        self.cluster, self.generation = cluster, generation

    def take(self, count: int = 0, *, within_s: float, moved_from: int | None = None) -> bool:
        """Follow it for so many tokens, or until the plan is another; False if the time is over before."""
        goal, end = len(self.generation.tokens) + count, time.monotonic() + within_s
        while time.monotonic() < end and not self.generation.done:
            self.generation.poll(0.01)
            if moved_from is not None and self.cluster.models()[0].plan.epoch > moved_from:
                return True
            if moved_from is None and len(self.generation.tokens) >= goal:
                return True
        return False

    def rate(self, start: int, end: int | None = None) -> float:
        """Tokens a second of some of the tokens."""
        times = [one.at_s for one in self.generation.tokens[start:end]]
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else float("nan")


def slow_down(cluster: Cluster, policy: str, expected: list[int]) -> dict[str, Any]:
    """Load, ask, slow a stage down in the middle, and follow what comes of it."""
    cluster.rebalance = policy
    plan = cluster.load(MODEL, strategy="optimal", context=TOKENS + 64).plan
    victim = max(zip(plan.shards, plan.devices, strict=True), key=lambda one: len(one[0]))[1]
    pid = cluster.node.members.peers[victim].card.pid
    run = Run(cluster, cluster.generate(PROMPT, raw=True, max_tokens=TOKENS, speculate=0))
    run.take(BEFORE, within_s=WITHIN_S)
    with throttled(pid):
        slow_from, began = len(run.generation.tokens), time.perf_counter()
        moved = run.take(within_s=WITHIN_S if policy == "auto" else NOT_MOVING_S, moved_from=plan.epoch)
        moved_s, slow_to = time.perf_counter() - began, len(run.generation.tokens)
        after = 0.0
        if moved:
            run.take(AFTER + SETTLE_TOKENS, within_s=WITHIN_S)
            after = run.rate(slow_to + SETTLE_TOKENS)
    found = cluster.models()[0].plan
    run.generation.cancel()
    names = {node.device.id: node.device.name for node in cluster.nodes()}
    tokens = [one.token for one in run.generation.tokens]
    return {
        "policy": policy,
        "before": run.rate(SETTLE_TOKENS, slow_from),
        "during": run.rate(slow_from + SETTLE_TOKENS, slow_to),
        "after": after if moved else None,
        "moved_after_s": moved_s if moved else None,
        "moves": found.epoch - plan.epoch,
        "slowed": names[victim],
        "layers_before": {names[device]: len(shard) for device, shard in zip(plan.devices, plan.shards, strict=True)},
        "layers_after": {names[device]: len(shard) for device, shard in zip(found.devices, found.shards, strict=True)},
        "same_tokens": tokens == expected[: len(tokens)],
        "tokens": len(tokens),
        "error": None if run.generation.error is None else str(run.generation.error),
        "notices": list(run.generation.notices),
    }


def measure() -> list[dict[str, Any]]:
    """Each policy once."""
    os.environ["EXO_LAB_PROBE"] = "off"  # measured stage times count, not what the machine did while it was set up
    with Cluster(NodeOptions(name="asker", threads=1, memory_bytes=1 << 20), new_token()) as cluster:
        cluster.up(3, names=["k0", "k1", "k2"], memory=[ROOM_BYTES] * 3, threads=1)
        cluster.load(MODEL, strategy="optimal", context=TOKENS + 64)
        reference = cluster.generate(PROMPT, raw=True, max_tokens=TOKENS, speculate=0)
        expected = [event.token for event in reference.result().tokens]
        return [slow_down(cluster, policy, expected) for policy in ("auto", "never")]


def main() -> int:
    """1 if a token was another, or layers did not move under `auto`, or moved under `never`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    found = measure()
    rows = [
        [
            one["policy"],
            f"{one['before']:.1f}",
            f"{one['during']:.1f}",
            "-" if one["after"] is None else f"{one['after']:.1f}",
            "-" if one["moved_after_s"] is None else f"{one['moved_after_s']:.1f} s",
            str(one["moves"]),
            "yes" if one["same_tokens"] else "NO",
        ]
        for one in found
    ]
    part = RUNS_S / PERIOD_S
    report(
        "rebalancing",
        f"{MODEL} on two of three kernels, one of them at {part:.0%} of its time from token {BEFORE} on; tokens/s",
        ["policy", "before", "slowed", "layers moved", "moved after", "moves", "same tokens"],
        rows,
        {"share_of_time": part, "runs": found},
    )
    good = all(one["same_tokens"] and one["error"] is None for one in found)
    return 0 if good and [one["moves"] > 0 for one in found] == [True, False] else 1


if __name__ == "__main__":
    sys.exit(main())
