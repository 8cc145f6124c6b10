"""How long until a change is visible on every node: one joins, is killed, leaves; a model is loaded, layers move.

Real processes with real sockets on this machine; each says what it sees whenever that changes, by the clock that they
share. Counted is the last of them. A join counts from the call that makes the process a node until all see it, and it
sees all of them and the loaded plan; a loss from the signal, a goodbye from the order; a load or a move from the first
node that shows the new plan, since how long loading takes is another matter.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import statistics
import sys
import threading
import time
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.measure import report
from exo_lab.cluster import Cluster
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

MODEL = "smollm2-135m"
WATCHERS = 3  # besides this process and the one that comes and goes
GOAL_S = 2.0
WITHIN_S = 60.0
CHANGES = ("join", "model loaded", "layers moved", "killed", "left")


class View(NamedTuple):
    """What one node sees from a moment on. `plans`: rank by model."""

    node: str
    at_s: float
    alive: frozenset[str]
    plans: dict[str, tuple[int, str]]


class Watched:
    """A node in this process that says what it sees."""

    def __init__(self, name: str, token: str, views: Connection) -> None:
        views.send(time.monotonic())  # it begins to connect
        self.cluster = Cluster(NodeOptions(name=name, threads=1), token)
        self._name, self._views, self._lock = name, views, threading.Lock()
        self.cluster.on_change(self._look)
        self._look("")

    def _look(self, what: str) -> None:
        del what
        node = self.cluster.node
        alive = frozenset(peer.card.device.name for peer in node.members.alive())
        with self._lock:
            plans = {name: plan.rank for name, plan in node.plans.items()}
            self._views.send(View(self._name, time.monotonic(), alive, plans))


def watch(name: str, token: str, views: Connection, orders: Connection) -> None:
    """A process of its own, until it is told to leave or its parent is gone."""
    os.environ["EXO_LAB_PROBE"] = "off"  # measuring itself would be one more change
    made = Watched(name, token, views)
    try:
        orders.recv()
    except EOFError:
        pass
    finally:
        made.cluster.close()


class Lab:
    """The processes, and everything that they said."""

    def __init__(self) -> None:
        self.token = new_token()
        self._context = multiprocessing.get_context("spawn")
        # Each has a pipe of its own: who is killed while it writes to a shared one would silence all others.
        self._views: list[Connection] = []
        self._began_s = 0.0
        self._processes: dict[str, tuple[BaseProcess, Connection]] = {}
        self.latest: dict[str, View] = {}
        self.cluster = Watched("asker", self.token, self._new_views()).cluster

    def _new_views(self) -> Connection:
        ours, theirs = self._context.Pipe(duplex=False)
        self._views.append(ours)
        return theirs

    def start(self, name: str) -> float:
        """Start a node; when it began to connect, once everybody has met."""
        ours, theirs = self._context.Pipe()
        views = self._new_views()
        process = self._context.Process(target=watch, args=(name, self.token, views, theirs), daemon=True)
        process.start()
        views.close()
        self._processes[name] = (process, ours)
        others = {"asker", *self._processes} - {name}
        self.until(lambda seen: name in seen and seen[name].alive == others, f"{name} sees everybody")
        return self._began_s

    def kill(self, name: str) -> float:
        """SIGKILL; when."""
        process, orders = self._processes.pop(name)
        now = time.monotonic()
        os.kill(process.pid or 0, signal.SIGKILL)
        self._end(name, process, orders)
        return now

    def dismiss(self, name: str) -> float:
        """Have it say goodbye; when."""
        process, orders = self._processes.pop(name)
        now = time.monotonic()
        orders.send("leave")
        self._end(name, process, orders)
        return now

    def _end(self, name: str, process: BaseProcess, orders: Connection) -> None:
        process.join(WITHIN_S)
        orders.close()
        self.until(lambda seen: all(name not in view.alive for one, view in seen.items() if one != name), "it is gone")
        del self.latest[name]

    def until(self, condition: Callable[[dict[str, View]], bool], what: str) -> None:
        """Follow what is said until it is so. TimeoutError if it is not in time."""
        end = time.monotonic() + WITHIN_S
        while not condition(self.latest):
            ready = wait(self._views, max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError(f"not within {WITHIN_S:g} s: {what}; seen: {self.latest}")
            for views in (one for one in self._views[:] if one in ready):
                self._hear(views)

    def _hear(self, views: Connection) -> None:
        try:
            said = views.recv()
        except (EOFError, OSError):  # its process has ended
            self._views.remove(views)
            return
        if not isinstance(said, View):
            self._began_s = said
            return
        before = self.latest.get(said.node)
        if before is None or (before.alive, before.plans) != (said.alive, said.plans):
            self.latest[said.node] = said  # since when it has seen just this

    def everywhere(self, model: str) -> tuple[float, float]:
        """Wait until all see one plan of a model; when the first of them did, and the last."""
        rank = self.cluster.node.plans[model].rank
        self.until(lambda seen: all(view.plans.get(model) == rank for view in seen.values()), "everybody has the plan")
        times = [view.at_s for view in self.latest.values()]
        return min(times), max(times)

    def close(self) -> None:
        """End everything."""
        for name in tuple(self._processes):
            self.dismiss(name)
        self.cluster.close()


def changes(lab: Lab, names: list[str], number: int) -> dict[str, float]:
    """Each change once; seconds until the last node saw it."""
    found: dict[str, float] = {}
    plan = lab.cluster.load(MODEL, devices=names[:2], strategy="uniform").plan
    first, last = lab.everywhere(plan.model)
    found["model loaded"] = last - first
    lab.cluster.move((plan.shards[0].end - 1, plan.shards[0].end), names[1])
    first, last = lab.everywhere(plan.model)
    found["layers moved"] = last - first
    for how, end in (("killed", lab.kill), ("left", lab.dismiss)):
        name = f"{how}{number}"
        began_s = lab.start(name)
        lab.until(lambda seen, name=name: all(name in view.alive for one, view in seen.items() if one != name), "all")
        _, last = lab.everywhere(plan.model)
        found["join"] = max(found.get("join", 0.0), last - began_s)
        began_s = end(name)
        found[how] = max(view.at_s for view in lab.latest.values()) - began_s
    return found


def main() -> int:
    """1 if a change took longer than the goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    os.environ["EXO_LAB_PROBE"] = "off"
    lab, names = Lab(), [f"w{number}" for number in range(WATCHERS)]
    try:
        for name in names:
            lab.start(name)
        rounds = [changes(lab, names, number) for number in range(times)]
    finally:
        lab.close()
    worst = {change: max(one[change] for one in rounds) for change in CHANGES}
    rows = [
        [change, f"{statistics.median(one[change] for one in rounds):.2f} s", f"{worst[change]:.2f} s"]
        for change in CHANGES
    ]
    data: dict[str, Any] = {"goal_s": GOAL_S, "nodes": WATCHERS + 2, "rounds": rounds, "worst_s": worst}
    title = f"Until the last of {WATCHERS + 2} nodes sees a change, {times} times each; goal {GOAL_S:g} s"
    report("visibility", title, ["change", "median", "worst"], rows, data)
    return 0 if max(worst.values()) <= GOAL_S else 1


if __name__ == "__main__":
    sys.exit(main())
