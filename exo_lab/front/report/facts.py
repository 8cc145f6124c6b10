"""What a report is made of. Values only; a part that could not be had is empty, and `missing` says why."""

from __future__ import annotations

import msgspec

from exo_lab.core.device import Device
from exo_lab.core.events import Event
from exo_lab.core.probe import NetworkReport
from exo_lab.core.status import ClusterStatus, LoadedModel
from exo_lab.core.telemetry import Series
from exo_lab.core.watching import Rule
from exo_lab.front.picture import Picture
from exo_lab.front.widgets.history import Moment
from exo_lab.node.doctor import Finding
from exo_lab.planning.explain import Explanation


class PlanFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded plan, and why it is so; None: it could not be explained."""

    model: LoadedModel
    explanation: Explanation | None = None


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a node told of itself: what it measured and what happened there, by its id."""

    id: str
    series: tuple[Series, ...] = ()
    events: tuple[Event, ...] = ()


class ReportFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, at `at_s` (seconds since the epoch, UTC). `status` is None where this process is no node.

    `moments` are what this process's own charts remember, with tokens a second; `rules` say what is too much here.
    `here` describes this machine, `versions` are (what, version), `software` that of the nodes by name.
    """

    at_s: float
    here: Device
    versions: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...] = ()
    status: ClusterStatus | None = None
    picture: Picture | None = None
    plans: tuple[PlanFacts, ...] = ()
    nodes: tuple[NodeFacts, ...] = ()
    software: tuple[tuple[str, str], ...] = ()
    network: NetworkReport | None = None
    moments: tuple[Moment, ...] = ()
    rules: tuple[Rule, ...] = ()
    missing: tuple[str, ...] = ()
