"""What is too much on a node, and what is predicted to become so: sentences, and all of them as a page. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.front import html
from exo_lab.front.nodes_view import roster_of
from exo_lab.front.text import clean, clean_name, table
from exo_lab.front.units import show_count, show_seconds
from exo_lab.front.view import View

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exo_lab.core.status import ClusterStatus
    from exo_lab.core.telemetry import Alert, Forecast, Quantity

WORDS: dict[Quantity, str] = {
    "compute": "compute use",
    "memory": "memory",
    "latency": "latency",
    "bandwidth": "bandwidth",
    "temperature": "temperature",
    "load": "load",
}
HEADER = ("id", "what", "now", "above", "for", "state")
RIGHT = ("now", "above", "for")
NOTHING = "No alert, and nothing is foreseen."


def show_value(quantity: Quantity, value: float) -> str:
    """A reading as people say it: 0.92 of memory is "92 %", 0.12 of latency "120 ms"."""
    match quantity:
        case "latency":
            return show_seconds(value)
        case "temperature":
            return f"{value:.0f} °C"
        case "bandwidth":
            return f"{value / 1e6:.3g} MB/s"
        case _:
            return f"{100 * value:.0f} %"


def subject(one: Alert | Forecast, names: Mapping[str, str]) -> str:
    """Of what it is: "memory of node-b", "latency from node-b to node-c", "temperature (cpu) of node-b"."""
    node, word = names.get(one.node, clean(one.node, 8)), WORDS[one.quantity]
    if one.quantity in ("latency", "bandwidth"):
        return f"{word} from {node} to {names.get(one.about, clean(one.about, 8))}"
    return f"{word} ({clean(one.about, 20)}) of {node}" if one.about else f"{word} of {node}"


def alert_sentence(alert: Alert, names: Mapping[str, str], now_s: float) -> str:
    """Such as "memory of node-b is at 92 %, above 85 % for 40 s (alert 3fa2-1)"."""
    value, threshold = (show_value(alert.quantity, one) for one in (alert.value, alert.threshold))
    seen = ", acknowledged" if alert.state == "acknowledged" else ""
    lasted = _whole_seconds(now_s - alert.since_s)
    return f"{subject(alert, names)} is at {value}, above {threshold} for {lasted} (alert {clean(alert.id, 20)}{seen})"


def forecast_sentence(forecast: Forecast, names: Mapping[str, str]) -> str:
    """Such as "memory of node-b reaches 85 % in about 40 s (predicted, 90 % interval 31 s to 55 s)"."""
    share, soonest = f"{100 * forecast.confidence:.0f} %", _whole_seconds(forecast.soonest_s)
    until = (
        f"{soonest} to {_whole_seconds(forecast.latest_s)}" if forecast.latest_s is not None else f"from {soonest} on"
    )
    threshold, lead = show_value(forecast.quantity, forecast.threshold), _whole_seconds(forecast.lead_s)
    return f"{subject(forecast, names)} reaches {threshold} in about {lead} (predicted, {share} interval {until})"


def names_of(status: ClusterStatus) -> dict[str, str]:
    """Names of all nodes by id, made harmless."""
    return {node.device.id: clean_name(node.device.name) for node in status.nodes}


def warnings(status: ClusterStatus) -> list[str]:
    """What a person who looks at something else must hear of: alerts that nobody has acknowledged, and forecasts."""
    names = names_of(status)
    loud = [alert for alert in status.alerts if alert.state == "raised"]
    return [
        *(alert_sentence(alert, names, status.at_s) for alert in loud),
        *(forecast_sentence(forecast, names) for forecast in status.forecasts),
    ]


class AlertsView(View):
    """All alerts of a cluster, and what is predicted.

    Args:
        status: of the cluster.
    """

    def __init__(self, status: ClusterStatus) -> None:
        self.status = status
        self.names = names_of(status)
        self.emulated = [
            f"{entry.name} is emulated: {entry.emulated}"
            for entry in (roster_of(status.nodes)[node] for node in self._nodes())
            if entry.emulated
        ]

    def title(self) -> str:
        """How many there are."""
        alerts, forecasts = len(self.status.alerts), len(self.status.forecasts)
        if not alerts and not forecasts:
            return NOTHING
        return f"{show_count(alerts, 'alert')}, {forecasts} predicted"

    def html(self) -> str:
        """A table of alerts, a line for each prediction."""
        rows = [tuple(map(html.esc, row)) for row in self._rows()]
        grid = html.grid("", HEADER, rows, RIGHT) if rows else ""
        return html.block(html.line(self.title(), bold=True), grid, html.bullets(self._remarks()))

    def text(self) -> str:
        """The same in lines."""
        rows = table(HEADER, self._rows(), RIGHT) if self.status.alerts else []
        return "\n".join([self.title(), *rows, *(f"- {line}" for line in self._remarks())])

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                clean(alert.id, 20),
                subject(alert, self.names),
                show_value(alert.quantity, alert.value),
                show_value(alert.quantity, alert.threshold),
                _whole_seconds(self.status.at_s - alert.since_s),
                alert.state,
            )
            for alert in self.status.alerts
        ]

    def _remarks(self) -> list[str]:
        return [*(forecast_sentence(one, self.names) for one in self.status.forecasts), *self.emulated]

    def _nodes(self) -> list[str]:
        known = {node.device.id for node in self.status.nodes}
        found = [one.node for one in (*self.status.alerts, *self.status.forecasts) if one.node in known]
        return list(dict.fromkeys(found))


def _whole_seconds(seconds: float) -> str:
    """Whole seconds, minutes, hours: a clock of another machine may be a little off, so none is below 0."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h"
