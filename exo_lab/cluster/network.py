"""A test of the cluster's links: every node is asked to test its own, one after the other, so none disturbs another.

What was found is put into the planner's numbers, to say what it means for the loaded models.
"""

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from exo_lab.cluster.planning import problem_of_loaded
from exo_lab.core.errors import ConfigError, ExoError
from exo_lab.core.messages import Progress
from exo_lab.core.probe import SIZES, Effect, NetworkReport, Probed, ProbeLinks
from exo_lab.core.status import residents
from exo_lab.core.topology import link, topology
from exo_lab.node import planner
from exo_lab.node.link_prober import LINK_S
from exo_lab.planning.cost import predict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from exo_lab.cluster.cluster import Cluster
    from exo_lab.core.device import Device
    from exo_lab.core.probe import LinkProbe
    from exo_lab.core.status import LoadedModel
    from exo_lab.core.topology import Link, Topology
    from exo_lab.node.node import Node
    from exo_lab.node.thread import ControlThread

    TestProgress = Callable[[str, int, int, str], object]  # (node name, links done, of how many, what)

SILENCE_S = LINK_S + 5.0  # between two reports of a node that tests


class Question(NamedTuple):
    """What one node is asked to test."""

    device: Device
    peers: tuple[str, ...]


def questions(devices: Sequence[Device], target: str) -> list[Question]:
    """Who tests which ways: every pair, or those from and to one node.

    Raises:
        ConfigError: there are no two nodes, or none of that name.
    """
    if len(devices) < 2:
        raise ConfigError("a test needs two nodes, and there are not so many. `%exo nodes` shows who is there.")
    ids = [device.id for device in devices]
    if target == "all":
        return [Question(device, tuple(id_ for id_ in ids if id_ != device.id)) for device in devices]
    (chosen,) = planner.select(devices, [target])
    others = tuple(id_ for id_ in ids if id_ != chosen.id)
    return [Question(chosen, others), *(Question(one, (chosen.id,)) for one in devices if one.id != chosen.id)]


def test(
    cluster: Cluster,
    thread: ControlThread,
    target: str,
    *,
    while_busy: bool,
    progress: TestProgress,
) -> NetworkReport:
    """See `Cluster.network_test`."""
    devices = [node.device for node in residents(cluster.nodes()) if node.liveness != "lost"]
    asked = questions(devices, target)
    known = cluster.topology()
    work = run(cluster.node, asked, while_busy=while_busy, progress=progress)
    report = thread.run(work, SILENCE_S * sum(1 + len(question.peers) for question in asked))
    found = effects(cluster.node, cluster.models(), known, report)
    return msgspec.structs.replace(report, effects=found)


async def run(
    node: Node,
    asked: Sequence[Question],
    *,
    sizes: tuple[int, ...] = SIZES,
    while_busy: bool = False,
    progress: TestProgress = lambda *_: None,
) -> NetworkReport:
    """Ask each, one after the other. Who refuses or is lost is in the report, with the reason."""
    probes: list[LinkProbe] = []
    refused: list[tuple[str, str]] = []
    names = {question.device.id: question.device.name for question in asked}
    for device, peers in asked:
        order = ProbeLinks(peers=peers, sizes=sizes, while_busy=while_busy)
        try:
            address = node.control_address(device.id)
            stream = node.parts.control.stream(address, order, timeout_s=SILENCE_S)
            async with contextlib.aclosing(stream) as replies:
                async for reply in replies:
                    match reply:
                        case Progress(done=done):
                            other = names.get(peers[done % len(peers)], "a node")
                            progress(device.name, done, len(peers), f"testing the way to {other}")
                        case Probed(links=links):
                            probes += _believed(links, device.id, peers)
                            progress(device.name, len(peers), len(peers), "tested")
                        case _:
                            pass
        except ExoError as exc:
            refused.append((device.id, str(exc)))
    return NetworkReport(at_s=time.time(), nodes=names, probes=tuple(probes), refused=tuple(refused))


def with_figures(known: Topology, report: NetworkReport) -> Topology:
    """The topology with the links as they were tested: the mean of both latencies, the lower of both bandwidths."""
    pairs = {(edge.a, edge.b) for edge in known.links}
    new = [link(one.a, one.b) for one in report.probes if tuple(sorted((one.a, one.b))) not in pairs]
    return topology(known.sightings, [_fresh(edge, report) for edge in (*known.links, *new)])


def effects(node: Node, models: Iterable[LoadedModel], known: Topology, report: NetworkReport) -> tuple[Effect, ...]:
    """Predicted tokens a second of each loaded plan, before and after, where all of its nodes are there."""
    found: list[Effect] = []
    for model in models:
        plan = model.plan
        before, after = (problem_of_loaded(node, model, one) for one in (known, with_figures(known, report)))
        if all(known.device(device) is not None for device in plan.devices):
            figures = (predict(before, plan).tokens_per_s, predict(after, plan).tokens_per_s)
            found.append(Effect(model=plan.model, before_per_s=figures[0], after_per_s=figures[1]))
    return tuple(found)


def _believed(links: Sequence[LinkProbe], node: str, peers: Sequence[str]) -> list[LinkProbe]:
    """What a node may say: of its own links, to those that it was asked about, and nothing that cannot be."""
    return [one for one in links if one.a == node and one.b in peers and _possible(one)]


def _possible(one: LinkProbe) -> bool:
    figures = [one.p50_s, one.p99_s, one.bandwidth_bytes_per_s, *(transfer.seconds for transfer in one.transfers)]
    return all(figure is None or (math.isfinite(figure) and figure > 0) for figure in figures)


def _fresh(edge: Link, report: NetworkReport) -> Link:
    both = [one for one in (report.probe(edge.a, edge.b), report.probe(edge.b, edge.a)) if one is not None]
    latencies = [one.p50_s for one in both if one.p50_s is not None]
    bandwidths = [one.bandwidth_bytes_per_s for one in both if one.bandwidth_bytes_per_s is not None]
    if not latencies:
        return edge
    return msgspec.structs.replace(
        edge,
        latency_s=sum(latencies) / len(latencies),
        bandwidth_bytes_per_s=min(bandwidths) if bandwidths else edge.bandwidth_bytes_per_s,
        measured_at=report.at_s,
    )
