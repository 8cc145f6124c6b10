"""What the sensors cost: CPU time of a node that measures itself, of one core; below 1 % is the goal.

A node that is not started is driven by hand through an hour of its own clock, with its real sensors and a real file,
and some peers; the CPU time of this process is what counts, forecasts and writing included. So an hour takes seconds,
and nothing that the node does besides is in the figure.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from benchmarks.measure import median, report
from exo_lab.core.device import Device
from exo_lab.core.messages import NodeCard
from exo_lab.core.watching import Watching
from exo_lab.node import membership as m
from exo_lab.node.echoes import LinkFigures
from exo_lab.node.node import Node
from exo_lab.node.parts import NodeParts
from exo_lab.node.sensing import Sensing
from exo_lab.telemetry.detect import detect
from exo_lab.telemetry.nvidia_sensors import NvidiaSensors
from exo_lab.telemetry.recorder import FLUSH_S, Recorder
from exo_lab.telemetry.sensors import MachineSensors
from exo_lab.transport.keys import Identity
from exo_lab.transport.memory import MemoryNetwork

PEERS = (0, 3, 15)
HOUR_S = 3600.0
GOAL = 0.01  # of one core


def node_with(peers: int) -> Node:
    """A node that is never started, on this machine, and its peers, whose links were measured."""
    network, identity = MemoryNetwork(), Identity.create()
    node = Node(
        NodeParts(
            device=detect("measured", device_id=identity.device_id),
            identity=identity,
            control=network.control("measured"),
            data=network.data("measured"),
            discoveries=(),
            make_engine=_none,
            open_model=_none,
            refused=dict,
            close=lambda: None,
        )
    )
    for number in range(peers):
        card = NodeCard(
            device=Device(id=f"{number:012x}", name=f"peer-{number}"), control=f"memory://{number}", data=""
        )
        node.peers.members = m.step(node.members, m.Heard(card=card, found_by="here", now=time.monotonic()))
    return node


def _none(*_: object) -> NoReturn:
    raise AssertionError("nothing is computed here")


def cpu_share(peers: int, seconds: float, folder: Path) -> float:
    """CPU seconds a second, by the node's own clock, of measuring, watching, foreseeing and keeping."""
    now_s, ticks = 1e9, 0

    def clock() -> float:
        return now_s

    node = node_with(peers)
    # A latency that slowly grows, with noise: a flat one would never be looked at closely.
    node.peers.link_figures = lambda peer: LinkFigures(0.01 + 1e-5 * ticks + 1e-4 * (hash((peer, ticks)) % 10), 1e8)
    recorder = Recorder(folder, f"peers-{peers}", clock)
    sensing = Sensing(node, MachineSensors(gpus=NvidiaSensors()), recorder, Watching(), clock)
    sensing.look()  # opens everything
    recorder.flush()
    flushed_s, began = now_s, time.process_time()
    while now_s < 1e9 + seconds:
        now_s += max(sensing.look(), 0.05)
        ticks += 1
        if now_s - flushed_s >= FLUSH_S:  # what its thread would do
            recorder.flush()
            flushed_s = now_s
    used_s = time.process_time() - began
    recorder.close()
    return used_s / seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=HOUR_S, help="of the node's own clock")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {
            peers: median([cpu_share(peers, args.seconds, Path(folder) / f"{turn}") for turn in range(args.repeats)])
            for peers in PEERS
        }
    rows = [[str(peers), f"{share:.3%}", "yes" if share < GOAL else "no"] for peers, share in found.items()]
    report(
        "sensors",
        "Sensors, store and forecasts: CPU time",
        ["peers", "CPU of one core", f"below {GOAL:.0%}"],
        rows,
        {"cpu_share": {str(peers): share for peers, share in found.items()}, "clock_s": args.seconds},
    )
    return 0 if max(found.values()) < GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
