"""A simulation to look at: the Gantt chart, and its devices and requests as tables. Pure; everything is predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.front import html
from exo_lab.front.gantt_svg import gantt_facts, gantt_svg
from exo_lab.front.text import clean, clean_name, table
from exo_lab.front.units import show_bytes, show_count, show_rate, show_seconds
from exo_lab.front.view import View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bokeh.plotting import figure

    from exo_lab.planning.simulation.result import Simulation

DEVICES = ("device", "layers", "busy", "computes", "waits", "sends", "memory", "filled at most", "may be filled")
REQUESTS = ("request", "asked at", "first token after", "tokens", "tokens/s", "replays", "what went wrong")
SHOWN = 16


class GanttView(View):
    """See the module.

    Args:
        made: the simulation; without spans there is no chart.
        start_s: draw from there on; None: from the beginning.
        end_s: draw until there; None: to the end.
        remarks: what must be known of it, such as that a device is emulated.
    """

    def __init__(
        self,
        made: Simulation,
        *,
        start_s: float | None = None,
        end_s: float | None = None,
        remarks: Sequence[str] = (),
    ) -> None:
        self.made, self.start_s, self.end_s = made, start_s, end_s
        self.remarks = tuple(map(clean, remarks))

    def figure(self) -> figure:
        """The chart as a Bokeh figure, to zoom in; ConfigError as `gantt.chart`."""
        from exo_lab.front.gantt_bokeh import gantt_figure

        return gantt_figure(self.made, start_s=self.start_s, end_s=self.end_s)

    def title(self) -> str:
        """The result in a line."""
        return f"simulated (predicted, nothing ran): {gantt_facts(self.made)}"

    def html(self) -> str:
        """Chart and tables."""
        drawing = gantt_svg(self.made, start_s=self.start_s, end_s=self.end_s) if self.made.spans else ""
        return html.block(
            drawing or html.line(self.title(), bold=True),
            html.grid("devices (predicted)", DEVICES, _escaped(self._devices()), DEVICES[1:]),
            html.grid("requests (predicted)", REQUESTS, _escaped(self._requests()), REQUESTS[1:-1]),
            *map(html.line, self._more()),
            *map(html.notice, self.remarks),
        )

    def text(self) -> str:
        """Tables and events."""
        events = [f"{event.at_s:.3g} s: {clean(event.text)}" for event in self.made.events]
        return "\n".join(
            [
                self.title(),
                *table(DEVICES, self._devices(), DEVICES[1:]),
                *table(REQUESTS, self._requests(), REQUESTS[1:-1]),
                *self._more(),
                *events,
                *(f"! {remark}" for remark in self.remarks),
            ]
        )

    def _more(self) -> list[str]:
        counts = ((len(self.made.devices), "device"), (len(self.made.sessions), "request"))
        return [f"and {show_count(count - SHOWN, noun)} more" for count, noun in counts if count > SHOWN]

    def _devices(self) -> list[tuple[str, ...]]:
        return [
            (
                clean_name(one.name),
                str(one.layers),
                f"{one.utilisation:.0%}",
                show_seconds(one.busy_s),
                show_seconds(one.bubble_s),
                show_seconds(one.sending_s),
                show_bytes(one.memory_bytes),
                show_bytes(one.filled_bytes),
                show_bytes(one.room_bytes),
            )
            for one in self.made.devices[:SHOWN]
        ]

    def _requests(self) -> list[tuple[str, ...]]:
        return [
            (
                str(one.session + 1),
                f"{one.asked_s:.3g} s",
                "" if one.ttft_s is None else show_seconds(one.ttft_s),
                str(len(one.token_s)),
                "" if one.tokens_per_s is None else show_rate(one.tokens_per_s),
                str(one.replays) if one.replays else "",
                clean(one.failed),
            )
            for one in self.made.sessions[:SHOWN]
        ]


def _escaped(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [tuple(map(html.esc, row)) for row in rows]
