"""A kernel is killed in the middle of an answer: how long until the next token, and is the text the same?

Three real kernels hold the real model, this process asks. Of each stage in turn the kernel gets SIGKILL, or SIGSTOP
(then it is only silent). What counts is the requester's clock: from the signal to the first token after it.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.measure import report
from exo_lab.cluster import Cluster
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token

if TYPE_CHECKING:
    from exo_lab.generation import Generation

MODEL = "smollm2-135m"
PROMPT = "The river runs through the old town, past the mill and the bridge, and on to the sea. "
TOKENS, KILL_AT = 96, 32
GOAL_S = 2.0
DEADLINE_S = 60.0
SIGNALS = {"killed": signal.SIGKILL, "frozen": signal.SIGSTOP}


def ask(cluster: Cluster) -> Generation:
    """The same question every time; greedy."""
    return cluster.generate(PROMPT, raw=True, max_tokens=TOKENS)


def one(cluster: Cluster, names: list[str], victim: int, how: str, expected: list[int]) -> dict[str, Any]:
    """Load, ask, take a stage away, measure."""
    cluster.load(MODEL, devices=names, strategy="uniform")
    generation = ask(cluster)
    while len(generation.tokens) < KILL_AT:
        generation.poll()
    lost = generation.stats.plan.devices[victim]
    pid = cluster.node.members.peers[lost].card.pid
    started = time.perf_counter()
    os.kill(pid, SIGNALS[how])
    noticed = after = None
    before = len(generation.tokens)
    while not generation.done and time.perf_counter() - started < DEADLINE_S:
        generation.poll(0.002)
        now_s, peer = time.perf_counter() - started, cluster.node.members.peers.get(lost)
        if noticed is None and (peer is None or peer.liveness == "lost"):
            noticed, before = now_s, len(generation.tokens)  # what was on its way still came
        if after is None and noticed is not None and len(generation.tokens) > before:
            after = now_s
    if how == "frozen":
        psutil.Process(pid).kill()
    return {
        "how": how,
        "stage": victim,
        "noticed_s": noticed,
        "next_token_s": after,
        "same_text": [event.token for event in generation.tokens] == expected and generation.error is None,
        "notices": list(generation.notices),
        "error": None if generation.error is None else str(generation.error),
    }


def run(times: int, hows: list[str]) -> list[dict[str, Any]]:
    """Every stage in turn, `times` times."""
    found: list[dict[str, Any]] = []
    with Cluster(NodeOptions(name="asker", threads=1), new_token()) as cluster:
        names = [f"k{n}" for n in range(3)]
        cluster.up(3, names=names, threads=1)
        cluster.load(MODEL, devices=names, strategy="uniform")
        expected = [event.token for event in ask(cluster).result(DEADLINE_S).tokens]
        count = 3
        for round_ in range(times):
            for how in hows:
                victim = (round_ + hows.index(how)) % 3
                found.append(one(cluster, names, victim, how, expected))
                gone = [node.device.name for node in cluster.nodes() if node.liveness == "lost"]
                names = [name for name in names if name not in gone]
                fresh = [f"k{count + n}" for n in range(3 - len(names))]
                count += len(fresh)
                if fresh:
                    cluster.up(len(fresh), names=fresh, threads=1)
                names += fresh
    return found


def main() -> int:
    """1 if a text was not the same."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--how", choices=[*SIGNALS, "both"], default="both")
    args = parser.parse_args()
    hows = list(SIGNALS) if args.how == "both" else [args.how]
    found = run(args.times, hows)
    rows: list[list[str]] = []
    summary: dict[str, Any] = {}
    for how in hows:
        ones = [one for one in found if one["how"] == how]
        good = [one for one in ones if one["next_token_s"] is not None and one["noticed_s"] is not None]
        nexts, seen = [one["next_token_s"] for one in good], [one["noticed_s"] for one in good]
        same = sum(one["same_text"] for one in ones)
        if good:
            rows.append(
                [
                    how,
                    f"{statistics.median(seen):.2f} s",
                    f"{max(seen):.2f} s",
                    f"{statistics.median(nexts):.2f} s",
                    f"{max(nexts):.2f} s",
                    f"{same} of {len(ones)}",
                ]
            )
            summary[how] = {"median_next_token_s": statistics.median(nexts), "worst_next_token_s": max(nexts)}
    header = ["one of three kernels", "noticed, median", "worst", "next token, median", "worst", "same text"]
    title = f"Recovery of {MODEL}, goal {GOAL_S:g} s for a killed kernel"
    report("recovery", title, header, rows, {"goal_s": GOAL_S, "summary": summary, "runs": found})
    return 0 if all(one["same_text"] for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
