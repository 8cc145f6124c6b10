"""Asks a cluster for everything that a report tells. What cannot be had is left out, with the reason; nothing hangs.

Names of users, home folders and the cluster's secret are taken out here, before anything is drawn.
"""

from __future__ import annotations

import os
import platform
import time
from importlib import metadata
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from exo_lab import __version__
from exo_lab.core.errors import ExoError
from exo_lab.core.scrub import REMOVED, scrubbed
from exo_lab.core.status import residents
from exo_lab.core.telemetry import thinned
from exo_lab.front.picture import picture
from exo_lab.front.report.facts import NodeFacts, PlanFacts, ReportFacts
from exo_lab.node.journal import private_words
from exo_lab.telemetry.detect import detect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exo_lab.cluster import Cluster
    from exo_lab.core.status import LoadedModel, NodeStatus
    from exo_lab.core.topology import Topology
    from exo_lab.front.widgets.history import Moment
    from exo_lab.node.doctor import Finding
    from exo_lab.planning.explain import Explanation

T = TypeVar("T")

POINTS = 300  # of one series; more cannot be told apart in a picture
PACKAGES = (
    *("torch", "numpy", "msgspec", "pyzmq", "cryptography", "psutil", "ipykernel", "jupyterlab", "jupyter_server"),
    *("bokeh", "ipywidgets", "ipyparallel", "zeroconf"),
)


def gather(
    cluster: Cluster | None,
    checkup: Callable[[], tuple[Finding, ...]],
    *,
    last_s: float,
    moments: tuple[Moment, ...] = (),
    test: Callable[[], object] | None = None,
) -> ReportFacts:
    """Everything that there is to tell.

    Args:
        cluster: this process's; None: it is no node, and only this machine is told of.
        checkup: the doctor.
        last_s: how far back what was measured goes.
        moments: what this process's own charts remember.
        test: called first, to test the network.
    """
    missing: list[str] = []
    if test is not None:
        _have("the network test", test, None, missing)
    about = {} if cluster is None else _Asking(cluster, last_s, missing).fields()
    facts = ReportFacts(
        at_s=time.time(),
        here=detect(device_id=""),
        versions=tuple(versions()),
        findings=_have("the doctor's findings", checkup, (), missing),
        **about,
        moments=moments,
        missing=tuple(missing),
    )
    return scrubbed(facts, _secrets(cluster))


def _secrets(cluster: Cluster | None) -> dict[str, str]:
    """What must not be in a report, and what is put in its place."""
    from exo_lab.transport.keys import TOKEN_VARIABLE

    token = os.environ.get(TOKEN_VARIABLE, "")
    return {**private_words(), token: REMOVED, **({} if cluster is None else cluster.private_words())}


def versions() -> Iterator[tuple[str, str]]:
    """Of exo_lab, Python, the system and what exo_lab stands on."""
    yield "exo_lab", __version__
    yield "Python", f"{platform.python_implementation()} {platform.python_version()}"
    yield "system", f"{platform.system()} {platform.release()} ({platform.machine()})"
    for package in PACKAGES:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            yield package, "not installed"


def _have(what: str, ask: Callable[[], T], otherwise: T, missing: list[str]) -> T:
    """What comes of asking; without an answer the reason is noted."""
    try:
        return ask()
    except ExoError as exc:
        missing.append(f"{what}: {exc}")
        return otherwise


class _Asking:
    """Asks a cluster one thing after the other; what could not be had is noted in `missing`."""

    def __init__(self, cluster: Cluster, last_s: float, missing: list[str]) -> None:
        self._cluster, self._last_s, self._missing = cluster, last_s, missing

    def fields(self) -> dict[str, Any]:
        """The fields of `ReportFacts` that are about the cluster."""
        cluster = self._cluster
        status = cluster.status()
        nodes = residents(status.nodes)
        passing = {node.device.id for node in status.nodes} - {node.device.id for node in nodes}
        known = self._have("links of other nodes", cluster.topology, cluster.node.topology).residents
        return {
            "status": msgspec.structs.replace(status, nodes=nodes),
            "picture": picture(nodes, known, status.models),
            "plans": tuple(self._plan(model, known) for model in status.models),
            "nodes": tuple(self._node(node) for node in nodes if node.liveness != "lost"),
            "software": tuple((name, version) for id_, name, version in cluster.software() if id_ not in passing),
            "network": cluster.network_report,
            "rules": cluster.watching.rules,
        }

    def _have(self, what: str, ask: Callable[[], T], otherwise: T) -> T:
        return _have(what, ask, otherwise, self._missing)

    def _plan(self, model: LoadedModel, known: Topology) -> PlanFacts:
        from exo_lab.cluster.planning import problem_of_loaded
        from exo_lab.planning.explain import explain

        def ask() -> Explanation | None:
            return explain(problem_of_loaded(self._cluster.node, model, known), model.plan)

        return PlanFacts(model=model, explanation=self._have(f"why {model.plan.model} is cut so", ask, None))

    def _node(self, node: NodeStatus) -> NodeFacts:
        id_, name = node.device.id, node.device.name
        series = self._have(f"measurements of {name}", lambda: self._cluster.history(id_, self._last_s), ())
        events = self._have(f"events of {name}", lambda: self._cluster.events(id_), ())
        return NodeFacts(id=id_, series=tuple(thinned(one, POINTS) for one in series), events=events)
