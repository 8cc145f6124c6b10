"""A report as one page: no script, no address of anything outside, light and dark as the reader's system is. Pure."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from exo_lab.front import html
from exo_lab.front.alerts_view import AlertsView
from exo_lab.front.doctor_view import DoctorView
from exo_lab.front.network_view import NetworkView
from exo_lab.front.nodes_view import NodesView, roster_of
from exo_lab.front.plan_view import PlanView
from exo_lab.front.report.series_svg import series_svg
from exo_lab.front.text import clean, clean_name
from exo_lab.front.topology_view import TopologyView
from exo_lab.front.units import show_bytes, show_count
from exo_lab.front.widgets.history import METRICS, History, with_rules
from exo_lab.front.widgets.telemetry_view import TelemetryView

if TYPE_CHECKING:
    from exo_lab.front.report.facts import ReportFacts

NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'  # needed by files of their own, not inside a page
POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # nothing is fetched, even if a text could ask for it
STYLE = """
:root { color-scheme: light dark; --jp-ui-font-color1: #1b1b1b; --jp-border-color2: #c8c8c8; --paper: #ffffff;
  --jp-layout-color1: transparent; --jp-ui-font-family: system-ui, sans-serif }
@media (prefers-color-scheme: dark) {
  :root { --jp-ui-font-color1: #e8e8e8; --jp-border-color2: #4a4a4a; --paper: #16181c } }
@media print {
  :root { color-scheme: light; --jp-ui-font-color1: #000000; --jp-border-color2: #bbbbbb; --paper: #ffffff }
  nav { display: none } h2 { break-after: avoid } svg, tr { break-inside: avoid } }
body { background: var(--paper); color: var(--jp-ui-font-color1); font: 14px/1.5 var(--jp-ui-font-family);
  max-width: 980px; margin: 0 auto; padding: 24px }
h1 { font-size: 24px; margin: 0 } h2 { font-size: 18px; margin: 32px 0 8px; padding-top: 12px;
  border-top: 1px solid var(--jp-border-color2) }
nav { margin: 12px 0 } nav a { margin-right: 14px; color: inherit } p { margin: 4px 0 }
"""
EVENTS = 200  # shown at most
NO_CLUSTER = "This process is no node of a cluster, so only this machine is told of."


def page(facts: ReportFacts) -> str:
    """The page.

    Args:
        facts: what was gathered; nothing private is in it any more.
    """
    sections = [(title, body) for title, body in _sections(facts) if body]
    links = "".join(f'<a href="#{_anchor(title)}">{html.esc(title)}</a>' for title, _ in sections)
    bodies = "".join(
        f'<section id="{_anchor(title)}"><h2>{html.esc(title)}</h2>{body}</section>' for title, body in sections
    )
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(facts.at_s))
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>exo_lab report, {when}</title><style>{STYLE}</style></head><body>"
        f"<header><h1>exo_lab report</h1><p>{when}</p>{html.bullets(summary(facts))}</header>"
        f"<nav>{links}</nav><main>{bodies}</main></body></html>\n"
    )
    return text.replace(NAMESPACE, "")


def summary(facts: ReportFacts) -> list[str]:
    """What to know first."""
    wrong = sum(one.verdict == "fail" for one in facts.findings)
    look = sum(one.verdict == "warn" for one in facts.findings)
    said = [] if facts.status is not None else [NO_CLUSTER]
    if facts.status is not None:
        states = [node.liveness for node in facts.status.nodes]
        away = len(states) - states.count("alive")
        models = ", ".join(clean_name(model.plan.model) for model in facts.status.models) or "none"
        alerts = show_count(len(facts.status.alerts), "alert")
        said += [
            f"{show_count(len(states), 'node')}, {f'{away} of them not alive' if away else 'all alive'}",
            f"models loaded: {models}",
            f"{alerts}, {show_count(len(facts.status.forecasts), 'early warning')}",
        ]
    return [*said, f"doctor: {show_count(wrong, 'step')} wrong, {look} worth a look"]


def _sections(facts: ReportFacts) -> list[tuple[str, str]]:
    return [
        ("Problems", _problems(facts)),
        ("Nodes and links", _nodes(facts)),
        ("Plans", _plans(facts)),
        ("Alerts and early warnings", "" if facts.status is None else AlertsView(facts.status).html()),
        ("Telemetry", _telemetry(facts)),
        ("Network test", _network(facts)),
        ("Doctor", DoctorView(facts.findings).html() if facts.findings else ""),
        ("Events", _events(facts)),
        ("This machine", _here(facts)),
        ("Versions", _versions(facts)),
    ]


def _problems(facts: ReportFacts) -> str:
    status = facts.status
    roster = roster_of(() if status is None else status.nodes)
    said = [] if status is None else [clean(problem) for problem in status.problems]
    said += [f"not in this report: {clean(what)}" for what in facts.missing]
    return "".join(html.notice(roster.named(text)) for text in said)


def _nodes(facts: ReportFacts) -> str:
    if facts.picture is None or facts.status is None:
        return ""
    if not facts.picture.members:
        return html.block(html.line("No other node was in reach."))
    view = TopologyView(facts.picture)
    nodes = NodesView(facts.status.nodes, facts.status.models)
    return html.block(html.line(view.title(), bold=True), view.svg()) + nodes.html() + html.block(view.links_html())


def _plans(facts: ReportFacts) -> str:
    if facts.status is None or facts.picture is None:
        return ""
    views = [
        PlanView(
            one.model.config,
            one.model.plan,
            facts.picture.devices,
            facts.picture.links,
            loaded=True,
            explanation=one.explanation,
            in_full=True,
        )
        for one in facts.plans
    ]
    return "".join(view.html() for view in views) or html.block(html.line("No model is loaded."))


def _telemetry(facts: ReportFacts) -> str:
    if facts.status is None:
        return ""
    roster = roster_of(facts.status.nodes, facts.status.models)
    drawn = series_svg(facts.nodes, roster, facts.at_s, facts.rules)
    watched = _watched(facts)
    if not drawn:
        return watched or html.block(html.line("Nothing was measured in this time."))
    legend = ", ".join(roster[node.id].label for node in facts.nodes if node.series)
    return (
        html.block(drawn, html.line(f"Lines end in the numbers of their nodes: {legend}. Measured.", faint=True))
        + watched
    )


def _watched(facts: ReportFacts) -> str:
    """What this process's own charts remember; empty without such."""
    if not facts.moments or facts.status is None:
        return ""
    history = History(kept_s=float("inf"))
    names = {node.device.id: node.device.name for node in facts.status.nodes}
    for moment in facts.moments:
        history.add(moment, names)
    devices = [node.device for node in facts.status.nodes]
    return TelemetryView(history, devices, with_rules(METRICS, facts.rules)).html()


def _network(facts: ReportFacts) -> str:
    if facts.status is None:
        return ""
    if facts.network is None:
        return html.block(html.line("The network was not tested; diagnose --network tests it first.", faint=True))
    return NetworkView(facts.network, [node.device for node in facts.status.nodes]).html()


def _events(facts: ReportFacts) -> str:
    names = {} if facts.status is None else {node.device.id: node.device.name for node in facts.status.nodes}
    told = sorted(
        ((event, names.get(node.id, node.id[:8])) for node in facts.nodes for event in node.events),
        key=lambda one: -one[0].at_s,
    )
    rows = [
        tuple(map(html.esc, (_clock(event.at_s), clean_name(name), event.kind, clean(event.text, 300))))
        for event, name in told[:EVENTS]
    ]
    if not rows:
        return ""
    more = f"{len(told) - EVENTS} older ones are left out." if len(told) > EVENTS else "All that is remembered."
    wrapped = [(*row[:-1], f'<span style="white-space:normal">{row[-1]}</span>') for row in rows]
    return html.block(
        html.grid("The latest first; times in UTC", ("at", "node", "what", "text"), wrapped),
        html.line(more, faint=True),
    )


def _here(facts: ReportFacts) -> str:
    here = facts.here
    rows = [
        ("machine", here.model),
        ("chip", here.chip),
        ("cores", str(here.cores)),
        ("memory", f"{show_bytes(here.memory_available_bytes)} of {show_bytes(here.memory_bytes)} free"),
        ("GPUs", ", ".join(gpu.name for gpu in here.gpus) or "none"),
        ("engines", ", ".join(here.engines)),
    ]
    return html.block(html.grid("", ("what", "is"), [tuple(map(_esc, row)) for row in rows]))


def _versions(facts: ReportFacts) -> str:
    rows = [*facts.versions, *((f"node {clean_name(name)}", version) for name, version in facts.software)]
    return html.block(html.grid("", ("what", "version"), [tuple(map(_esc, row)) for row in rows]))


def _esc(text: str) -> str:
    return html.esc(clean(text, 200))


def _clock(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at_s))


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
