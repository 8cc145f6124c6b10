"""Which line of the charts is whose: number, name, colour and dash. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.front import html
from exo_lab.front.widgets.charts_svg import DASHES, dash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.front.palette import Mark
    from exo_lab.front.roster import Roster
    from exo_lab.front.widgets.history import Metric


def legend_html(roster: Roster, devices: Sequence[str], metrics: Sequence[Metric] = (), left_out: int = 0) -> str:
    """Every drawn device, "emulated" where it is so; how many are not drawn; what the figures are."""
    entries = sorted((roster[id_] for id_ in devices), key=lambda entry: entry.mark.index)
    notes = " \u00b7 ".join(f"{metric.title.lower()}: {metric.note}" for metric in metrics if metric.note)
    more = f"and {left_out} more are not drawn: %exo telemetry --csv FILE has them" if left_out else ""
    return (
        '<div style="color:var(--jp-ui-font-color1,currentColor);font-size:13px">'
        + " ".join(
            f'<span style="margin-right:18px;white-space:nowrap">{_sample(entry.mark)} {html.esc(entry.label)}'
            f"{' ' + html.badge('emulated') if entry.emulated else ''}</span>"
            for entry in entries
        )
        + more
        + f'<div style="{html.FAINT};margin-top:4px">{html.esc(notes)}</div></div>'
    )


def dashes(mark: Mark) -> list[int]:
    """A line's dash, as canvases have it; empty for a solid line."""
    return [int(part) for part in dash(mark).split()]


def _sample(mark: Mark) -> str:
    pattern = DASHES[mark.index % len(DASHES)]
    dashed = f' stroke-dasharray="{pattern}"' if pattern else ""
    return (
        '<svg width="34" height="10" aria-hidden="true" style="vertical-align:middle">'
        f'<path d="M1 5h32" stroke="{mark.colour}" stroke-width="3"{dashed}/></svg>'
    )
