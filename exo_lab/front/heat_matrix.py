"""A matrix of figures between nodes, each cell as strong as its figure is high. Pure.

The figure stands in the cell, so that nothing depends on colour. Strengths go by orders of magnitude: a network has
links that differ by factors.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from exo_lab.front import svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.front.roster import Entry

COLOUR = "#0072B2"
CELL_W, CELL_H, LEFT, TOP = 116.0, 42.0, 150.0, 52.0
FAINTEST, STRONGEST = 0.08, 0.5  # so that text in the reader's own colour can be read on it


class Cell(NamedTuple):
    """Two lines, and the figure that the colour is of; None: no colour."""

    first: str
    second: str
    value: float | None

    @property
    def both(self) -> str:
        """On one line."""
        return " / ".join(filter(None, (self.first, self.second)))


def shares(cells: Sequence[Sequence[Cell]]) -> list[list[float | None]]:
    """How strong each cell is, in [0, 1]: 0 for the lowest figure, 1 for the highest, by their logarithms."""
    logs = [math.log(cell.value) for row in cells for cell in row if cell.value]
    low, high = min(logs, default=0.0), max(logs, default=0.0)
    span = high - low
    return [
        [None if not cell.value else (math.log(cell.value) - low) / span if span else 0.5 for cell in row]
        for row in cells
    ]


def heat_matrix_svg(title: str, nodes: Sequence[Entry], cells: Sequence[Sequence[Cell]]) -> str:
    """From the nodes of the rows to those of the columns."""
    width, height = LEFT + CELL_W * len(nodes) + 4, TOP + CELL_H * len(nodes) + 4
    parts = svg.label(4, 16, title, bold=True) + svg.label(LEFT - 12, TOP - 10, "from / to", anchor="end", faint=True)
    for k, entry in enumerate(nodes):
        middle = LEFT + CELL_W * (k + 0.5)
        parts += svg.label(middle, TOP - 10, svg.fit(entry.label, CELL_W - 4) or entry.mark.number, anchor="middle")
        y = TOP + CELL_H * (k + 0.5)
        parts += svg.label(LEFT - 12, y + 4, svg.fit(entry.label, LEFT - 16), anchor="end")
    for i, (row, strengths) in enumerate(zip(cells, shares(cells), strict=True)):
        for k, (cell, share) in enumerate(zip(row, strengths, strict=True)):
            parts += _cell(LEFT + CELL_W * k, TOP + CELL_H * i, cell, share)
    said = [
        f"{a.name} to {b.name} {cell.both}"
        for a, row in zip(nodes, cells, strict=True)
        for b, cell in zip(nodes, row, strict=True)
        if a is not b
    ]
    return svg.picture(width, height, f"{title}: {'; '.join(said)}", parts)


def _cell(x: float, y: float, cell: Cell, share: float | None) -> str:
    place = f'x="{svg.n(x + 1)}" y="{svg.n(y + 1)}" width="{svg.n(CELL_W - 2)}" height="{svg.n(CELL_H - 2)}" rx="3"'
    opacity = 0.0 if share is None else FAINTEST + (STRONGEST - FAINTEST) * share
    middle = x + CELL_W / 2
    faint = share is None
    one_line = not cell.second
    return (
        f'<rect {place} fill="{COLOUR}" fill-opacity="{opacity:.2f}" stroke="currentColor" stroke-opacity="0.2"/>'
        + svg.label(middle, y + (25 if one_line else 18), cell.first, anchor="middle", bold=not faint, faint=faint)
        + ("" if one_line else svg.label(middle, y + 33, cell.second, anchor="middle", size=10.5))
    )
