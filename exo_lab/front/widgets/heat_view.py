"""The heatmap of an answer: layer by token, split into computing, node and wire. Works wherever SVG is shown. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.front import html
from exo_lab.front.files import write_file
from exo_lab.front.roster import Roster
from exo_lab.front.svg import swatch
from exo_lab.front.text import clean_name, table
from exo_lab.front.units import show_count, show_seconds
from exo_lab.front.view import View
from exo_lab.front.widgets.heat import heat
from exo_lab.front.widgets.heat_svg import TOKENS, heat_svg

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from exo_lab.core.device import Device
    from exo_lab.core.status import GenerationStats, TokenEvent

HEADER = ("#", "node", "computing", "beyond it", "of a token")
NOTHING = "It needs an answer of two tokens at least: the first one's time is the prompt's."


class HeatView(View):
    """Where the time of an answer's tokens went.

    Args:
        tokens: of the answer, in order.
        stats: its figures, for the plan.
        devices: those that are known, for names.
        last: only the latest so many tokens; all if None.
    """

    def __init__(
        self,
        tokens: Sequence[TokenEvent],
        stats: GenerationStats,
        devices: Iterable[Device] = (),
        last: int | None = None,
    ) -> None:
        self.stats = stats
        self.heat = heat(tokens, stats.plan.devices)
        if last is not None:
            self.heat = type(self.heat)(devices=self.heat.devices, splits=self.heat.splits[-last:])
        self.roster = Roster(devices, self.heat.devices)

    def title(self) -> str:
        """Which answer, and how much of it."""
        count = len(self.heat.splits)
        shown = f", the latest {TOKENS} drawn" if count > TOKENS else ""
        over = show_count(len(self.stats.plan.devices), "stage")
        return f"{clean_name(self.stats.model)} over {over}: time of {show_count(count, 'token')} (measured{shown})"

    def remarks(self) -> list[str]:
        """What the figures are."""
        return [
            "A token's time is the interval between two arrivals here; the first one's is the prompt's and left out.",
            "A stage is measured as a whole: its layers share one figure. Beyond it: unpacking, choosing, sending.",
            "Between the stages: what no stage spent, so the wire and waiting to be taken from it.",
            "Colours are strongest at the figure of their legend, the 95th percentile, and above it.",
        ]

    def html(self) -> str:
        """Picture, table of means, what it is."""
        if not self.heat.splits:
            return html.block(html.line(f"{self.title()}. {NOTHING}"))
        rows = self._rows(in_html=True)
        return html.block(
            html.line(self.title(), bold=True),
            heat_svg(self.heat, self.stats.plan, self.roster),
            html.grid("Mean of a token", HEADER, rows, HEADER[2:]),
            html.bullets(self.remarks()),
        )

    def text(self) -> str:
        """The means."""
        if not self.heat.splits:
            return f"{self.title()}. {NOTHING}"
        return "\n".join([self.title(), *table(HEADER, self._rows(in_html=False), HEADER[2:])])

    def csv(self, path: str | Path | None = None) -> str:
        """One line a token, in seconds; also written to `path` if one is given."""
        text = self.heat.csv([self.roster[device].name for device in self.heat.devices])
        if path is not None:
            write_file(str(path), text)
        return text

    def _rows(self, *, in_html: bool) -> list[tuple[str, ...]]:
        compute, queue, wire_s = self.heat.means()
        whole = sum(compute) + sum(queue) + wire_s
        rows: list[tuple[str, ...]] = []
        for device, c, q in zip(self.heat.devices, compute, queue, strict=True):
            entry = self.roster[device]
            name = entry.name
            if in_html:
                mark, name = swatch(entry.mark, emulated=bool(entry.emulated)), html.esc(name)
                name += " " + html.badge(f"emulated: {entry.emulated}") if entry.emulated else ""
            else:
                mark = entry.mark.symbol
                name += f" (emulated: {entry.emulated})" if entry.emulated else ""
            rows.append((mark, name, show_seconds(c), show_seconds(q), _share(c + q, whole)))
        rows.append(("", "between the stages", "", show_seconds(wire_s), _share(wire_s, whole)))
        return rows


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole > 0 else ""
