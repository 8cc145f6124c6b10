"""Alerts and forecasts as sentences. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.front.text import clean_name
from exo_lab.front.units import show_bandwidth, show_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exo_lab.core.telemetry import Alert, Forecast, Quantity


def show_quantity(quantity: Quantity, value: float) -> str:
    """A reading with its unit: 0.91 of memory is "91 %"."""
    match quantity:
        case "compute" | "memory" | "load":
            return f"{value:.0%}".replace("%", " %")
        case "latency":
            return show_seconds(value)
        case "bandwidth":
            return show_bandwidth(value)
        case "temperature":
            return f"{value:.0f} °C"


def alert_words(alert: Alert, names: Mapping[str, str], now_s: float) -> str:
    """Such as "kernel-1: memory is 91 %, above 85 % for 12 s (1a2b-1)"."""
    since = show_seconds(max(0.0, now_s - alert.since_s))
    state = ", acknowledged" if alert.state == "acknowledged" else ""
    value, threshold = (show_quantity(alert.quantity, one) for one in (alert.value, alert.threshold))
    where = _where(alert.node, alert.quantity, alert.about, names)
    return f"{where} is {value}, above {threshold} for {since} ({clean_name(alert.id)}{state})"


def forecast_words(forecast: Forecast, names: Mapping[str, str]) -> str:
    """Such as "kernel-1: memory is predicted to pass 85 % in 45 s (90 % sure: in 30 s to 70 s)"."""
    threshold = show_quantity(forecast.quantity, forecast.threshold)
    where = _where(forecast.node, forecast.quantity, forecast.about, names)
    latest = "later than can be foreseen" if forecast.latest_s is None else show_seconds(forecast.latest_s)
    sure = f"{forecast.confidence:.0%} sure: {show_seconds(forecast.soonest_s)} to {latest}".replace("%", " %", 1)
    return f"{where} is predicted to pass {threshold} in {show_seconds(forecast.lead_s)} ({sure})"


def _where(node: str, quantity: Quantity, about: str, names: Mapping[str, str]) -> str:
    if quantity in ("latency", "bandwidth"):
        about = f" to {names.get(about, clean_name(about))}"
    elif about:
        about = f" of {clean_name(about)}"
    return f"{names.get(node, clean_name(node[:8]))}: {quantity}{about}"
