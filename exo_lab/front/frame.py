"""One look at a cluster, as `monitor` shows and records it. Pure: it has no clock and asks nobody.

A figure that was not measured is None. Times are seconds, sizes bytes, shares in [0, 1].
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import msgspec

from exo_lab.core.status import Liveness, residents
from exo_lab.core.telemetry import Alert, Forecast
from exo_lab.front.nodes_view import holdings
from exo_lab.front.text import harmless

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from exo_lab.core.messages import Stats
    from exo_lab.core.status import ClusterStatus
    from exo_lab.core.topology import Link

TOKENS = "tokens"  # the counter of a node: tokens that its stages chose


class NodeFrame(msgspec.Struct, frozen=True, kw_only=True):
    """One node. `layers` as people say it; `requests`: those in progress there; `tokens`: chosen there so far."""

    id: str
    name: str
    state: Liveness
    layers: str = ""
    load: float | None = None
    memory: float | None = None
    compute: float | None = None
    temperature_c: float | None = None
    requests: int | None = None
    tokens: int | None = None
    emulated: str = ""


class LinkFrame(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A link between two nodes, by their ids."""

    a: str
    b: str
    kind: str
    latency_s: float | None = None
    bandwidth_bytes_per_s: float | None = None


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `at_s`: since the epoch (UTC); `tokens_per_s`: of all answers, since the look before."""

    at_s: float
    tokens_per_s: float | None
    nodes: tuple[NodeFrame, ...]
    links: tuple[LinkFrame, ...] = ()
    alerts: tuple[Alert, ...] = ()
    forecasts: tuple[Forecast, ...] = ()
    problems: tuple[str, ...] = ()


def frame(
    at_s: float,
    status: ClusterStatus,
    counters: Mapping[str, Stats],
    links: Iterable[Link] = (),
    *,
    before: Frame | None = None,
) -> Frame:
    """What one look saw, without commands of a shell.

    Args:
        at_s: when.
        status: the cluster's.
        counters: of the nodes that answered, by id.
        links: those that anybody knows of.
        before: the look before, for the rate of tokens.
    """
    held = holdings(status.models)
    nodes = tuple(
        NodeFrame(
            id=node.device.id,
            name=node.device.name,
            state=node.liveness,
            layers="; ".join(held.get(node.device.id, ())),
            load=node.load,
            memory=_used(node.memory_available_bytes, node.device.memory_bytes),
            compute=node.compute,
            temperature_c=node.temperature_c,
            requests=counted.sessions if (counted := counters.get(node.device.id)) is not None else None,
            tokens=counted.counters.get(TOKENS, 0) if counted is not None else None,
            emulated=node.device.emulated,
        )
        for node in residents(status.nodes)
    )
    there = {node.id for node in nodes}
    return Frame(
        at_s=at_s,
        tokens_per_s=_rate(before, at_s, nodes),
        nodes=nodes,
        links=tuple(
            LinkFrame(
                a=edge.a,
                b=edge.b,
                kind=edge.kind,
                latency_s=edge.latency_s,
                bandwidth_bytes_per_s=edge.bandwidth_bytes_per_s,
            )
            for edge in links
            if edge.a in there and edge.b in there
        ),
        alerts=tuple(one for one in status.alerts if one.node in there),
        forecasts=tuple(one for one in status.forecasts if one.node in there),
        problems=status.problems,
    )


COLUMNS = (
    *("at_s", "tokens_per_s", "id", "name", "state", "load", "memory", "compute", "temperature_c"),
    *("requests", "tokens", "alerts"),
)


def csv_rows(one: Frame | None) -> str:
    """A line a node; what was not measured is empty. The header, for None."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if one is None:
        writer.writerow(COLUMNS)
        return out.getvalue()
    for node in one.nodes:
        alerts = " ".join(alert.quantity for alert in one.alerts if alert.node == node.id)
        figures = (node.load, node.memory, node.compute, node.temperature_c)
        writer.writerow(
            [
                f"{one.at_s:.3f}",
                *_cells([one.tokens_per_s]),
                node.id,
                harmless(node.name),
                node.state,
                *_cells(figures),
                *("" if count is None else count for count in (node.requests, node.tokens)),
                alerts,
            ]
        )
    return out.getvalue()


def _cells(figures: Sequence[float | None]) -> list[str]:
    return ["" if figure is None else f"{figure:.6g}" for figure in figures]


def _used(free: int | None, whole: int) -> float | None:
    return None if free is None or not whole else min(1.0, max(0.0, 1 - free / whole))


def _rate(before: Frame | None, at_s: float, nodes: Sequence[NodeFrame]) -> float | None:
    """Tokens a second of the nodes that counted both times; None if there are none."""
    if before is None or at_s <= before.at_s:
        return None
    then = {node.id: node.tokens for node in before.nodes}
    pairs = [(node.tokens, then.get(node.id)) for node in nodes]
    gained = [now - was for now, was in pairs if now is not None and was is not None and now >= was]
    return sum(gained) / (at_s - before.at_s) if gained else None
