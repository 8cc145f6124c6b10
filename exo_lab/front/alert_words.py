"""Alerts and forecasts as sentences. Pure. `labextension/src/alertWords.ts` says the same, held to it by a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.front.text import clean, clean_name
from exo_lab.front.units import show_bandwidth, show_seconds

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


def show_quantity(quantity: Quantity, value: float) -> str:
    """A reading with its unit: 0.91 of memory is "91 %"."""
    match quantity:
        case "compute" | "memory" | "load":
            return f"{100 * value:.0f} %"
        case "latency":
            return show_seconds(value)
        case "bandwidth":
            return show_bandwidth(value)
        case "temperature":
            return f"{value:.0f} °C"


def subject(one: Alert | Forecast, names: Mapping[str, str]) -> str:
    """Of what it is: "memory of node-b", "latency from node-b to node-c", "temperature (cpu) of node-b"."""
    node, word = names.get(one.node) or clean_name(one.node[:8]), WORDS[one.quantity]
    if one.quantity in ("latency", "bandwidth"):
        return f"{word} from {node} to {names.get(one.about) or clean_name(one.about[:8])}"
    return f"{word} ({clean(one.about, 20)}) of {node}" if one.about else f"{word} of {node}"


def alert_words(alert: Alert, names: Mapping[str, str], now_s: float) -> str:
    """Such as "memory of node-b is at 92 %, above 85 % for 40 s (alert 3fa2-1)"."""
    value, threshold = (show_quantity(alert.quantity, one) for one in (alert.value, alert.threshold))
    seen = ", acknowledged" if alert.state == "acknowledged" else ""
    lasted = show_while(now_s - alert.since_s)
    return f"{subject(alert, names)} is at {value}, above {threshold} for {lasted} (alert {clean(alert.id, 20)}{seen})"


def forecast_words(forecast: Forecast, names: Mapping[str, str]) -> str:
    """Such as "memory of node-b reaches 85 % in about 40 s (predicted, 90 % interval 31 s to 55 s)"."""
    share, soonest = f"{100 * forecast.confidence:.0f} %", show_while(forecast.soonest_s)
    until = f"{soonest} to {show_while(forecast.latest_s)}" if forecast.latest_s is not None else f"from {soonest} on"
    threshold, lead = show_quantity(forecast.quantity, forecast.threshold), show_while(forecast.lead_s)
    return f"{subject(forecast, names)} reaches {threshold} in about {lead} (predicted, {share} interval {until})"


def show_while(seconds: float) -> str:
    """Whole seconds, minutes, hours; none below 0: a clock of another machine may be a little off."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h"


def names_of(status: ClusterStatus) -> dict[str, str]:
    """Names of all nodes by id, made harmless."""
    return {node.device.id: clean_name(node.device.name) for node in status.nodes}


def warnings(status: ClusterStatus) -> list[str]:
    """What a person who looks at something else must hear of: alerts that nobody has acknowledged, and forecasts."""
    names = names_of(status)
    loud = [alert for alert in status.alerts if alert.state == "raised"]
    return [
        *(alert_words(alert, names, status.at_s) for alert in loud),
        *(forecast_words(forecast, names) for forecast in status.forecasts),
    ]
