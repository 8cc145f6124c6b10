"""What a user holds: this process as a node of a cluster, and everything that can be done with it.

`connect()` makes this process a node. Every method may be called from any thread but the node's own, waits with a
deadline, and can be interrupted. Knows nothing of notebooks: `front/` does.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from exo_lab import __version__
from exo_lab.cluster.answering import Answers
from exo_lab.cluster.exporting import OFF
from exo_lab.cluster.looking import counters, node_statuses, wait_for
from exo_lab.cluster.measurements import Measurements
from exo_lab.cluster.rebalance import Rebalancer, policy_of
from exo_lab.core.errors import ConfigError, NodeError
from exo_lab.core.scrub import REMOVED
from exo_lab.core.status import ClusterStatus, NodeStatus
from exo_lab.node.build import build, make_timing
from exo_lab.node.journal import private_words
from exo_lab.node.node import Node
from exo_lab.node.reuse import REUSED
from exo_lab.node.thread import ControlThread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exo_lab.cluster.network import TestProgress
    from exo_lab.core.messages import Stats
    from exo_lab.core.probe import NetworkReport
    from exo_lab.core.topology import Topology
    from exo_lab.launch.kernels import Kernels
    from exo_lab.launch.trouble import How
    from exo_lab.node.doctor import Finding
    from exo_lab.node.parts import Listener, NodeOptions, NodeParts

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 15.0
DOCTOR_TIMEOUT_S = 30.0
COLLECT_TIMEOUT_S = 15.0
COUNTERS_S = 1.0


class Cluster(Answers, Measurements):
    """A cluster, seen from the node that this process is. Made by `connect()`; `close()` leaves it.

    Args:
        options: what the user chose for this node.
        token: the cluster's secret.
        parts: a node's implementations; made from the options if None.
    """

    def __init__(self, options: NodeOptions, token: str, parts: NodeParts | None = None) -> None:
        super().__init__()
        self.options = options
        self._token = token
        self._kernels: Kernels | None = None
        self._closed = False
        self.network_report: NetworkReport | None = None  # of the latest test that this process asked for
        policy, timing = policy_of(options.rebalance), make_timing(options.power)
        made = parts or build(options, token)
        self._thread = ControlThread(f"exo-control-{made.device.name}")
        self.node = Node(made, software=f"exo_lab {__version__}", timing=timing)
        self._rebalancer = Rebalancer(self.node, policy)
        try:
            self._thread.run(self.node.start(), START_TIMEOUT_S)
        except BaseException:
            self.close()
            raise

    @property
    def id(self) -> str:
        """This node's id."""
        return self.node.id

    @property
    def name(self) -> str:
        """This node's name."""
        return self.node.device.name

    @property
    def closed(self) -> bool:
        """Has this node left the cluster?"""
        return self._closed

    # -- looking -----------------------------------------------------------------------------------------

    def nodes(self) -> tuple[NodeStatus, ...]:
        """Every node that this one knows, itself first, the others by name. Lost ones stay visible for a while."""
        return node_statuses(self.node)

    def status(self) -> ClusterStatus:
        """Everything at this moment."""
        return ClusterStatus(
            name=self.name,
            node_id=self.id,
            at_s=time.time(),
            bind=self.options.bind,
            nodes=self.nodes(),
            models=self.models(),
            sessions=self.node.stages.session_count,
            kept_bytes=self.node.stages.shelf.figures.kept_bytes,
            reused_tokens=self.node.stages.counters[REUSED],
            refused=self.node.parts.refused(),
            problems=tuple(self.node.problems.values()),
            alerts=self.alerts(),
            forecasts=self.forecasts(),
        )

    def topology(self) -> Topology:
        """Every device and link that anybody within four hops knows of, asked now. Takes a few seconds at most."""
        return self._thread.run(self.node.collect(), COLLECT_TIMEOUT_S)

    def counters(self) -> dict[str, Stats]:
        """What every living node is busy with, by id, asked now; who does not answer within a second is left out."""
        return self._thread.run(counters(self.node, COUNTERS_S), COLLECT_TIMEOUT_S)

    def software(self) -> tuple[tuple[str, str, str], ...]:
        """(id, name, what it runs) of this node and every other one that is known."""
        cards = [self.node.card, *(peer.card for peer in self.node.members.peers.values())]
        return tuple((card.device.id, card.device.name, card.software) for card in cards)

    def private_words(self) -> dict[str, str]:
        """What must not be in a text that is given away, and what is put in its place: see `core.scrub`."""
        return {**private_words(), self._token: REMOVED}

    def doctor(self) -> tuple[Finding, ...]:
        """Why nodes find each other or do not, step by step. Takes a few seconds at most and changes nothing."""
        from exo_lab.node.doctor import doctor

        return self._thread.run(doctor(self.node, self.options.bind), DOCTOR_TIMEOUT_S)

    def network_test(
        self,
        target: str = "all",
        *,
        while_busy: bool = False,
        progress: TestProgress = lambda *_: None,
    ) -> NetworkReport:
        """Have nodes test their links, one after the other: a second or so for each way between two nodes that stay.

        Args:
            target: "all" for every pair, or a node's name or id for the ways from and to it.
            while_busy: also on nodes that are computing answers; that slows them down, and the figures are of then.
            progress: called with (node name, links done, of how many, what), in the control thread.

        Raises:
            ConfigError: there are no two nodes, or none of that name.
        """
        from exo_lab.cluster import network

        self.network_report = network.test(self, self._thread, target, while_busy=while_busy, progress=progress)
        return self.network_report

    def on_change(self, listener: Listener) -> Callable[[], None]:
        """Call `listener(what)` on every change, in the control thread; it must not block. `what` is as in `Listener`.

        Returns:
            A function that ends it.
        """
        self.node.listeners.add(listener)
        return lambda: self.node.listeners.discard(listener)

    def wait_for(self, count: int, timeout_s: float = 30.0) -> tuple[NodeStatus, ...]:
        """Wait until `count` nodes are alive, this one included; who only visits does not count.

        Raises:
            NodeError: fewer after `timeout_s`; says who is there and what was wrong with the others.
        """
        return wait_for(self, count, timeout_s)

    # -- kernels of this machine, and beyond -------------------------------------------------------------

    def up(self, count: int = 3, **options: Any) -> tuple[NodeStatus, ...]:
        """Start `count` kernels as nodes. See `launch.kernels.Kernels.start` for the options.

        Raises:
            ConfigError: an option is wrong.
            NodeError: not all of them came up; those that did are ended again.
        """
        from exo_lab.launch.kernels import Kernels

        kernels = self._kernels = self._kernels or Kernels(self._token)
        ids = kernels.start(self, count, **options)
        return tuple(node for node in self.nodes() if node.device.id in ids)

    def down(self, names: Sequence[str] | None = None) -> int:
        """End kernels that `up` started; all of them if no names are given. Returns how many."""
        return 0 if self._kernels is None else self._kernels.stop(names)

    def fail(self, name: str, how: How = "kill") -> None:
        """Rehearse a loss: kill or freeze a kernel that `up` started on this machine, or thaw a frozen one.

        Raises:
            ConfigError: it was not started here, is not on this machine or is gone already.
        """
        from exo_lab.launch.trouble import trouble

        if self._kernels is None:
            raise ConfigError(f"{name!r} was not started here; only kernels that %exo up started can be made to fail")
        trouble(self._kernels, name, how)

    # -- the end -----------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the kernels that were started here, leave the cluster, free everything. Idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            self._end_callers()
            self.export(prometheus=OFF, otlp=OFF)
            if self._kernels is not None:
                self._kernels.close()
        finally:
            self._leave()

    def _leave(self) -> None:
        try:
            with contextlib.suppress(NodeError):
                self._thread.run(self.node.stop(), STOP_TIMEOUT_S)
        finally:
            self._thread.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._closed:
            return f"<Cluster {self.name}: closed>"
        return f"<Cluster {self.name}: {len(self.nodes())} nodes, models {[one.plan.model for one in self.models()]}>"
