"""Views for cells: `from exo_lab.front.widgets import topology, placement, answer`."""

from __future__ import annotations

from exo_lab.front.widgets.live import LiveView, answer, placement, topology

__all__ = ["LiveView", "answer", "placement", "topology"]
