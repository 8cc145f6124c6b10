"""What is too much on a node, and what is predicted to become so, as a page. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.front import html
from exo_lab.front.alert_words import forecast_words, names_of, show_quantity, show_while, subject
from exo_lab.front.text import clean, table
from exo_lab.front.units import show_count
from exo_lab.front.view import View

if TYPE_CHECKING:
    from exo_lab.core.status import ClusterStatus

HEADER = ("id", "what", "now", "above", "for", "state")
RIGHT = ("now", "above", "for")
NOTHING = "No alert, and nothing is foreseen."


class AlertsView(View):
    """All alerts of a cluster, and what is predicted.

    Args:
        status: of the cluster.
    """

    def __init__(self, status: ClusterStatus) -> None:
        self.status, self.names = status, names_of(status)

    def title(self) -> str:
        """How many there are."""
        alerts, forecasts = len(self.status.alerts), len(self.status.forecasts)
        return f"{show_count(alerts, 'alert')}, {forecasts} predicted" if alerts or forecasts else NOTHING

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
                show_quantity(alert.quantity, alert.value),
                show_quantity(alert.quantity, alert.threshold),
                show_while(self.status.at_s - alert.since_s),
                alert.state,
            )
            for alert in self.status.alerts
        ]

    def _remarks(self) -> list[str]:
        """What is predicted, and which of the nodes are emulated."""
        told = {one.node for one in (*self.status.alerts, *self.status.forecasts)}
        emulated = [
            f"{self.names[node.device.id]} is emulated: {clean(node.device.emulated)}"
            for node in self.status.nodes
            if node.device.id in told and node.device.emulated
        ]
        loud = any(alert.state == "raised" for alert in self.status.alerts)
        hint = ["%exo alerts --ack ID says that an alert is known."] if loud else []
        return [*(forecast_words(one, self.names) for one in self.status.forecasts), *emulated, *hint]
