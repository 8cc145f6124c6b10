"""Decode and prefill of one node and of rings of two and three kernels, and what a hop costs beyond computing.

Real kernels, real sockets (CURVE over loopback), the real model, one thread a node. llama.cpp
and Transformers on one node are measured in `engine.py`; llama.cpp's RPC is measured here, beside the ring of two.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import statistics
import struct
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import zmq

from benchmarks.engine import Process, llama_python
from benchmarks.measure import REPEATS, interleave, median, ratio, repeat, report
from exo_lab.cluster import Cluster
from exo_lab.models.locate import locate
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import ClusterKeys, new_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.generation import Generation

MODEL = "smollm2-135m"
DECODE_TOKENS = 64
PREFILLS = (256, 1024)
HOP_BYTES = 576 * 4  # one float32 hidden state
PING_PONGS = 300
WORK = np.ones(2_000_000)  # 16 MB
WORDS = "The river runs through the old town, past the mill and the bridge, and on to the sea. "


def prompt_of(cluster: Cluster, tokens: int) -> str:
    """Plain text of exactly so many tokens."""
    from exo_lab.models.open import open_tokenizer

    tokenizer = open_tokenizer(MODEL)
    ids = tokenizer.encode(WORDS * (tokens // 8))[:tokens]
    return tokenizer.decode(ids)


def decode_rate(cluster: Cluster) -> Generation:
    """One generation of `DECODE_TOKENS` tokens without guesses: a step a token, as others are measured."""
    return cluster.generate(WORDS, raw=True, max_tokens=DECODE_TOKENS, prefix_cache=False, speculate=0).result()


def _work() -> float:
    """Reads more memory than the caches hold, for about as long as a stage computes; the seconds it took."""
    began = time.perf_counter()
    WORK.sum()
    return time.perf_counter() - began


def _echo(address: str, keys: ClusterKeys | None, count: int, works: bool) -> None:
    context = zmq.Context()
    socket = context.socket(zmq.PAIR)
    if keys is not None:
        keys.apply_client(socket)
    socket.connect(address)
    for _ in range(count):
        asked = socket.recv()
        took_s = _work() if works else 0.0
        socket.send(struct.pack("<d", took_s) + asked[8:])
    socket.close()
    context.term()


def ping_pong_s(keys: ClusterKeys | None, *, works: bool = False) -> float:
    """Median seconds of a bare ZeroMQ round trip of one hidden state between two processes; CURVE if keys are given.

    With `works` both sides compute between receiving and sending, as stages do; that time is taken off. What is left is
    more than without: threads have gone to sleep and caches are full of something else.
    """
    context = zmq.Context()
    socket = context.socket(zmq.PAIR)
    if keys is not None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.server_public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.server_secret)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    spawn = multiprocessing.get_context("spawn")
    other = spawn.Process(target=_echo, args=(f"tcp://127.0.0.1:{port}", keys, PING_PONGS + 20, works), daemon=True)
    other.start()
    payload, times = bytes(HOP_BYTES), []
    for i in range(PING_PONGS + 20):
        started = time.perf_counter()
        socket.send(payload)
        (theirs_s,) = struct.unpack_from("<d", socket.recv())
        ours_s = _work() if works else 0.0
        if i >= 20:
            times.append(time.perf_counter() - started - theirs_s - ours_s)
    other.join(10)
    socket.close()
    context.term()
    return statistics.median(times)


class Rings:
    """A cluster with kernels, and one plan at a time."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.loaded = cluster, 0

    def use(self, nodes: int) -> None:
        """Cut the model over the first `nodes` kernels, evenly."""
        if self.loaded != nodes:
            self.cluster.load(MODEL, strategy="uniform", devices=[f"kernel-{i + 1}" for i in range(nodes)])
            self.loaded = nodes

    def decode(self, nodes: int) -> dict[str, float]:
        """Tokens a second of one generation, and what a hop cost in it beyond computing."""
        self.use(nodes)
        generation = decode_rate(self.cluster)
        steps = generation.tokens[1:]
        took_s = steps[-1].at_s - generation.tokens[0].at_s
        beyond = [
            event.at_s - before.at_s - sum(timing.compute_s for timing in event.timings)
            for before, event in itertools.pairwise(generation.tokens)
        ]
        # The median token: on a shared machine a few of them wait for somebody else's work.
        return {"rate": len(steps) / took_s, "beyond_s": statistics.median(beyond) / nodes}

    def prefill_s(self, nodes: int, prompt: str) -> float:
        """Seconds to the first token."""
        self.use(nodes)
        generation = self.cluster.generate(prompt, raw=True, max_tokens=1, prefix_cache=False, speculate=0).result()
        return generation.tokens[0].at_s


def measure(repeats: int, nodes: tuple[int, ...] = (1, 2, 3)) -> dict[str, Any]:
    """All figures. See the module's text."""
    with Cluster(NodeOptions(name="bench", threads=1), new_token()) as cluster:
        cluster.up(max(nodes), threads=1)
        rings = Rings(cluster)
        prompts = {size: prompt_of(cluster, size) for size in PREFILLS}
        data: dict[str, Any] = {"decode_tokens": DECODE_TOKENS, "repeats": repeats, "rings": {}}
        for count in nodes:  # a plan stays loaded for its own rounds: loading costs more than it would even out
            runs = [rings.decode(count) for _ in range(repeats + 1)][1:]
            prefill = {size: repeat(_prefill(rings, count, text), repeats) for size, text in prompts.items()}
            data["rings"][count] = {
                "decode_tokens_per_s": [run["rate"] for run in runs],
                "hop_beyond_computing_s": [run["beyond_s"] for run in runs],
                "prefill_tokens_per_s": {size: [size / s for s in values] for size, values in prefill.items()},
            }
        data["rpc"] = _beside_rpc(rings, prompts, repeats)
    keys = ClusterKeys.from_token(new_token())
    cases = {
        "plain": lambda: ping_pong_s(None),
        "curve": lambda: ping_pong_s(keys),
        "curve, computing": lambda: ping_pong_s(keys, works=True),
    }
    pings = interleave(cases, repeats, 0)
    data["half_ping_pong_s"] = {name: [value / 2 for value in values] for name, values in pings.items()}
    return data


def _beside_rpc(rings: Rings, prompts: dict[int, str], repeats: int) -> dict[str, Any] | None:
    """A ring of two beside llama.cpp over two RPC servers of one thread, round by round; None without llama.cpp."""
    python = llama_python()
    if python is None:
        return None
    command = [python, "-m", "benchmarks.contestants.llama_rpc", str(locate(MODEL)), "1"]
    theirs = Process(command, 1)
    context = len(WORDS.split())
    try:
        cases: dict[str, Callable[[], float]] = {
            "exo decode": lambda: rings.decode(2)["rate"],
            "llama.cpp RPC decode": lambda: DECODE_TOKENS / theirs.ask(f"decode {context} {DECODE_TOKENS}"),
        }
        for size, text in prompts.items():
            cases[f"exo prefill {size}"] = lambda size=size, text=text: size / rings.prefill_s(2, text)
            cases[f"llama.cpp RPC prefill {size}"] = lambda size=size: size / theirs.ask(f"prefill {size}")
        return interleave(cases, repeats)
    finally:
        theirs.close()


def _prefill(rings: Rings, nodes: int, prompt: str) -> Callable[[], float]:
    return lambda: rings.prefill_s(nodes, prompt)


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    data = measure(parser.parse_args().repeats)
    rows: list[list[str]] = []
    one = data["rings"][1]
    bare, busy = (median(data["half_ping_pong_s"][kind]) for kind in ("curve", "curve, computing"))
    for nodes, ring in data["rings"].items():
        decode = ring["decode_tokens_per_s"]
        row = [f"{nodes} node{'s' * (nodes > 1)} x 1 thread", f"{median(decode):.1f}"]
        row.append(f"{ratio(decode, one['decode_tokens_per_s']):.2f}")
        row += [f"{median(ring['prefill_tokens_per_s'][size]):.0f}" for size in PREFILLS]
        beyond = nodes * median(ring["hop_beyond_computing_s"])
        hop = (beyond - median(one["hop_beyond_computing_s"])) / nodes
        row.append(f"{beyond * 1e6:.0f}")
        row += [f"{hop * 1e6:.0f}", f"{hop / bare:.2f}", f"{hop / busy:.2f}"] if nodes > 1 else ["", "", ""]
        rows.append(row)
    header = ["ring", "decode tok/s", "vs 1 node", *(f"prefill {size} tok/s" for size in PREFILLS)]
    header += ["beyond computing, us a token", "of it a hop", "/ half a CURVE ping-pong", "/ one that computes"]
    report(
        "ring",
        f"{MODEL}, Q4_1, kernels over loopback TCP with CURVE (medians of {data['repeats']})",
        header,
        rows,
        data,
    )
    if data["rpc"] is not None:
        _report_rpc(data)


def _report_rpc(data: dict[str, Any]) -> None:
    rates = data["rpc"]
    rows: list[list[str]] = []
    for what, goal in (("decode", 1.5), *((f"prefill {size}", 5.0) for size in PREFILLS)):
        ours, theirs = rates[f"exo {what}"], rates[f"llama.cpp RPC {what}"]
        rows.append([what, f"{median(ours):.0f}", f"{median(theirs):.0f}", f"{ratio(ours, theirs):.2f}", f"{goal:g}"])
    header = ["ring of 2 x 1 thread, tok/s", "exo_lab", "llama.cpp RPC", "ratio", "goal"]
    report("ring", f"{MODEL}, beside llama.cpp's RPC with two servers of one thread, loopback TCP", header, rows, data)


if __name__ == "__main__":
    main()
