"""The shell as a node: a headless one that runs until it is stopped, and one for the length of a command.

Whoever asks a cluster is a member of it: there is no other way in. Such a member holds no layers.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from exo_lab.core.errors import NodeError
from exo_lab.front.verbs import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exo_lab.cluster import Cluster

STEP_S = 0.4  # nobody new for so long: everybody is there
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_node(cluster: Cluster, say: Callable[[str], None], hint: str) -> None:
    """Say how to join, then wait for SIGINT or SIGTERM and leave in order. Main thread only.

    Args:
        cluster: this process's.
        say: prints a line, at once.
        hint: how another machine joins.
    """
    try:
        with until_stopped() as wait:
            say(joined(cluster).text())
            say(hint)
            say("Ctrl+C ends it.")
            wait()
            say("leaving")
    finally:
        cluster.close()


def serve_metrics(cluster: Cluster, place: str, say: Callable[[str], None]) -> None:
    """Serve metrics of the cluster, until SIGINT or SIGTERM. Main thread only.

    Args:
        cluster: of a node that only looks.
        place: a port, or ADDRESS:PORT.
        say: prints a line, at once.
    """
    with until_stopped() as wait:
        say(f"Metrics for Prometheus: {cluster.export(prometheus=place).prometheus}")
        say("Ctrl+C ends it.")
        wait()


@contextmanager
def until_stopped() -> Iterator[Callable[[], None]]:
    """Inside of it SIGINT and SIGTERM raise nothing; they end the function that it gives."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in STOP_SIGNALS}

    def wait() -> None:
        # In steps: on Windows a wait without an end is not interrupted.
        while not stop.wait(1.0):
            pass

    try:
        yield wait
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def join_hint(cluster: Cluster) -> str:
    """How another machine joins this node."""
    status = cluster.status()
    if status.bind.startswith("127."):
        return "Nodes of this user on this machine find it by themselves; for other machines start it with --lan."
    address = next((node.address for node in status.nodes if node.is_self), "tcp://THIS_MACHINE:PORT")
    return f"On another machine with the same token (exo-lab token): exo-lab node --lan --peers {address}"


@contextmanager
def visiting(backend: Any, wait_s: float, *, wants_model: bool = False, **options: Any) -> Iterator[Cluster]:
    """A member of the cluster for the length of a command.

    Args:
        backend: `exo_lab.cluster`, or something with its `connect`.
        wait_s: how long to look for others, at most.
        wants_model: go on looking until a loaded model is known. A node that joins hears of it within a second.
        options: of `connect`.
    """
    cluster: Cluster = backend.connect(f"shell-{os.getpid()}", threads=1, sensors="off", visits=True, **options)
    try:
        deadline = time.monotonic() + wait_s
        _settle(cluster, deadline)
        if wants_model:
            _await_model(cluster, deadline)
        yield cluster
    finally:
        cluster.close()


def _settle(cluster: Cluster, deadline: float) -> None:
    """Wait for the first node, then until nobody new comes for a moment. Visitors are none, this one included."""
    count = 0
    while (left := deadline - time.monotonic()) > 0:
        try:
            count = len(cluster.wait_for(count + 1, left if count == 0 else min(left, STEP_S)))
        except NodeError:
            return  # nobody else; what is to be said of it is said by who needs them


def _await_model(cluster: Cluster, deadline: float) -> None:
    """Wait until a loaded model is known: a node that joins asks the others for their plans."""
    changed = threading.Event()
    end = cluster.on_change(lambda what: changed.set())
    try:
        while not cluster.models() and (left := deadline - time.monotonic()) > 0:
            changed.wait(min(left, 0.1))
            changed.clear()
    finally:
        end()
