"""The ring: devices in stage order and the hops between them, the last of which carries the token back. Pure.

A hop shows what was measured on its link, and nothing where nothing was.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from exo_lab.front import svg
from exo_lab.front.svg import leave
from exo_lab.front.units import show_count, show_layers, show_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.plan import Plan
    from exo_lab.core.topology import Link
    from exo_lab.front.roster import Roster

BOX_W, BOX_H = 128.0, 46.0
MARGIN = 14.0


def ring_svg(plan: Plan, roster: Roster, links: Sequence[Link] = ()) -> str:
    """The ring as SVG. `links`: where measured latencies come from."""
    count = len(plan.devices)
    rx = max(170.0, count * 40.0)
    ry = max(78.0, count * 17.0) if count > 2 else 34.0
    width = 2 * rx + BOX_W + 2 * MARGIN + 60
    cx = width / 2
    around = [_place(i, count, cx, 0.0, rx, ry) for i in range(count)] if count > 1 else [(cx, 0.0)]
    top = MARGIN + BOX_H / 2 - min(y for _, y in around)
    places = [(x, y + top) for x, y in around]
    height = max(y for _, y in places) + BOX_H / 2 + (MARGIN if count > 1 else 2 * MARGIN)
    parts = "".join(
        _hop(places[i], places[(i + 1) % count], _figure(plan, links, i), back=i == count - 1)
        for i in range(count)
        if count > 1
    )
    if count == 1:
        parts += svg.label(cx, height - 6, "one device: no hops", anchor="middle", size=11, faint=True)
    for stage, (x, y) in enumerate(places):
        parts += _stage(plan, roster, stage, x, y)
    return svg.picture(width, height, ring_label(plan, roster), parts)


def ring_label(plan: Plan, roster: Roster) -> str:
    """The ring in a sentence."""
    names = [roster[device].name for device in plan.devices]
    if len(names) == 1:
        return f"{names[0]} holds the whole model: no hops"
    return f"ring of {show_count(len(names), 'stage')}: {' to '.join(names)}, and the token back to {names[0]}"


def ring_text(plan: Plan, roster: Roster, links: Sequence[Link] = ()) -> str:
    """The ring in a line: 1 a ->0.2 ms-> 2 b => token back."""
    if len(plan.devices) == 1:
        return ring_label(plan, roster)
    out = ""
    for stage, device in enumerate(plan.devices):
        figure = _figure(plan, links, stage)
        arrow = f" -({figure})-> " if figure else " -> "
        out += roster[device].label + arrow
    return out + f"token back to {roster[plan.devices[0]].mark.number}"


def _place(i: int, count: int, cx: float, cy: float, rx: float, ry: float) -> tuple[float, float]:
    if count == 2:
        return (cx - rx + 2 * rx * i, cy)
    angle = -math.pi / 2 - math.pi / count + 2 * math.pi * i / count  # the first one to the upper left
    return cx + rx * math.cos(angle), cy + ry * math.sin(angle)


def _figure(plan: Plan, links: Sequence[Link], stage: int) -> str:
    a, b = sorted((plan.devices[stage], plan.devices[(stage + 1) % len(plan.devices)]))
    measured = [
        (edge.latency_s, edge.emulated) for edge in links if (edge.a, edge.b) == (a, b) and edge.latency_s is not None
    ]
    if not measured:
        return ""
    latency_s, emulated = min(measured)
    return f"{show_seconds(latency_s)}{' emulated' if emulated else ''}"


def _stage(plan: Plan, roster: Roster, stage: int, x: float, y: float) -> str:
    entry, shard = roster[plan.devices[stage]], plan.shards[stage]
    left = x - BOX_W / 2
    ends = ("E + " if shard.is_first else "") + show_layers(shard.start, shard.end) + (" + H" if shard.is_last else "")
    return (
        svg.card(x, y, BOX_W, BOX_H, entry.mark, emulated=bool(entry.emulated))
        + svg.label(left + 37, y - 4, svg.fit(entry.name, BOX_W - 40), bold=True)
        + svg.label(left + 37, y + 13, ends, size=11, faint=True)
    )


def _hop(a: tuple[float, float], b: tuple[float, float], figure: str, *, back: bool) -> str:
    """An arrow from the edge of one box to the edge of the next; dashed if it carries the token back."""
    shift = 11.0  # two stages: the ways there and back must not cover each other
    offset = (0.0, 0.0)
    if abs(a[1] - b[1]) < 1:
        offset = (0.0, -shift if a[0] < b[0] else shift)
    start, end = leave(a, b, BOX_W, BOX_H, offset), leave(b, a, BOX_W, BOX_H, offset)
    angle = math.atan2(end[1] - start[1], end[0] - start[0])
    tip = "".join(
        f"L{svg.n(end[0] - 8 * math.cos(angle + turn))} {svg.n(end[1] - 8 * math.sin(angle + turn))}"
        for turn in (0.45, -0.45)
    )
    dash = ' stroke-dasharray="5 4"' if back else ""
    line = (
        f'<path d="M{svg.n(start[0])} {svg.n(start[1])}L{svg.n(end[0])} {svg.n(end[1])}" fill="none" '
        f'stroke="currentColor" stroke-width="1.5" stroke-opacity="0.8"{dash}/>'
        f'<path d="M{svg.n(end[0])} {svg.n(end[1])}{tip}Z" fill="currentColor" fill-opacity="0.8"/>'
    )
    text = " ".join(filter(None, ("token" if back else "", figure)))
    if not text:
        return line
    mid = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    # Beside the line, on its outer side as the ring is walked clockwise.
    side = (math.sin(angle) * 9, -math.cos(angle) * 9)
    anchor = "middle" if abs(side[0]) < 3 else "start" if side[0] > 0 else "end"
    return line + svg.label(mid[0] + side[0], mid[1] + side[1] + 4, text, anchor=anchor, size=11)
