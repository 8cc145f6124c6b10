"""The published comparison as a picture: memory use and completion time of each strategy. Pure: rows in, SVG out.

Bars are ours, computed; a line across a bar is what the source states. Both are said in numbers beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.front.palette import Mark
from exo_lab.front.svg import box, label, n, picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.planning.comparison import Figures, Row

WIDTH, LEFT, TOP = 760, 152, 44
ROW, BAR = 40, 22
PANEL, VALUE = 190, 104  # width of a panel's longest bar, and of the text behind it


def comparison_svg(rows: Sequence[Row], published: dict[str, Figures]) -> str:
    """Two panels side by side, a bar a strategy in each.

    Args:
        rows: in the order in which they are shown.
        published: what the source states, by strategy.
    """
    longest = max([row.completion_s for row in rows] + [stated.completion_s for stated in published.values()])
    second = LEFT + PANEL + VALUE + 14
    parts = [
        label(LEFT, 18, "memory use (predicted)", bold=True),
        label(second, 18, "completion time (predicted)", bold=True),
        label(LEFT, 34, "of what the devices may give", size=11, faint=True),
        label(second, 34, "of the whole workload", size=11, faint=True),
    ]
    for at, row in enumerate(rows):
        y, mark, stated = TOP + at * ROW, Mark(at), published.get(row.strategy)
        parts.append(label(LEFT - 10, y + BAR - 6, row.strategy, anchor="end"))
        parts.append(
            _bar(LEFT, y, mark, row.memory_use, stated and stated.memory_use, f"{row.memory_use:.0%}",
                 f"{stated.memory_use:.0%}" if stated else "")
        )  # fmt: skip
        parts.append(
            _bar(second, y, mark, row.completion_s / longest, stated and stated.completion_s / longest,
                 f"{row.completion_s:.1f} s", f"{stated.completion_s:g} s" if stated else "")
        )  # fmt: skip
    height = TOP + len(rows) * ROW + 20
    parts.append(_line(LEFT, height - 20, 12))
    parts.append(label(LEFT + 8, height - 10, "what the source states", size=11, faint=True))
    said = ", ".join(f"{row.strategy} {row.memory_use:.0%} and {row.completion_s:.1f} s" for row in rows)
    return picture(WIDTH, height, f"memory use and completion time, predicted: {said}", "".join(parts))


def _bar(x: float, y: float, mark: Mark, share: float, stated: float | None, text: str, said: str) -> str:
    parts = box(x, y, max(1.0, share * PANEL), BAR, mark)
    end = max(share, stated or 0.0) * PANEL
    if stated is not None:
        parts += _line(x + stated * PANEL, y - 4, BAR + 8)
    parts += label(x + end + 8, y + BAR - 6, text, bold=True)
    if said:
        parts += label(x + end + 22 + 6 * len(text), y + BAR - 6, f"({said})", size=11, faint=True)
    return parts


def _line(x: float, y: float, length: float) -> str:
    return f'<path d="M{n(x)} {n(y)}v{n(length)}" stroke="currentColor" stroke-width="2"/>'
