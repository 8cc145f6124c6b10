"""Views for cells: `from exo_lab.front.widgets import topology, placement, answer, telemetry, heatmap`."""

from __future__ import annotations

from exo_lab.front.widgets.heat_view import HeatView
from exo_lab.front.widgets.live import LiveView, answer, placement, topology
from exo_lab.front.widgets.live_heat import LiveHeat, heatmap
from exo_lab.front.widgets.live_telemetry import Telemetry, telemetry

__all__ = ["HeatView", "LiveHeat", "LiveView", "Telemetry", "answer", "heatmap", "placement", "telemetry", "topology"]
