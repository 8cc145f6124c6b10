"""Devices on a circle and every link between them, with what was measured of it. Pure.

A link that nobody measured is dotted. Of many devices only the links are drawn; the figures are in the tables.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from exo_lab.front import svg
from exo_lab.front.nodes_view import show_shard
from exo_lab.front.units import show_bandwidth, show_bytes, show_count, show_seconds

if TYPE_CHECKING:
    from exo_lab.core.topology import Link
    from exo_lab.front.picture import Member, Picture
    from exo_lab.front.roster import Roster

BOX_W, BOX_H, MARGIN = 164.0, 60.0, 14.0
BESIDE = 12.0  # between a line and its figures
UNMEASURED = "not measured"
LABELLED = 4  # with more devices than that, figures on the links would cover each other


def topology_svg(picture: Picture, roster: Roster) -> str:
    """The drawing; an empty string without devices."""
    count = len(picture.members)
    if not count:
        return ""
    rx, ry = max(260.0, count * 50.0), max(120.0, count * 34.0)
    around = [_place(i, count, rx, ry) for i in range(count)]
    left, top = min(x for x, _ in around), min(y for _, y in around)
    places = {
        member.device.id: (x - left + BOX_W / 2 + MARGIN, y - top + BOX_H / 2 + MARGIN)
        for member, (x, y) in zip(picture.members, around, strict=True)
    }
    width = max(x for x, _ in places.values()) + BOX_W / 2 + MARGIN
    height = max(y for _, y in places.values()) + BOX_H / 2 + MARGIN
    lines = "".join(_line(edge, places) for edge in picture.links)
    figures = "".join(_figures(edge, places) for edge in picture.links) if count <= LABELLED else ""
    boxes = "".join(_member(member, roster, *places[member.device.id]) for member in picture.members)
    return svg.picture(width, height, topology_label(picture, roster), lines + figures + boxes)


def topology_label(picture: Picture, roster: Roster) -> str:
    """The drawing in a sentence."""
    names = ", ".join(roster[member.device.id].name for member in picture.members)
    return f"{show_count(len(picture.members), 'node')} ({names}) and {show_count(len(picture.links), 'link')}"


def _place(i: int, count: int, rx: float, ry: float) -> tuple[float, float]:
    if count == 1:
        return 0.0, 0.0
    if count == 2:
        return (2 * i - 1) * rx * 0.8, 0.0
    angle = -math.pi / 2 + 2 * math.pi * i / count
    return rx * math.cos(angle), ry * math.sin(angle)


def _line(edge: Link, places: dict[str, tuple[float, float]]) -> str:
    a, b = places[edge.a], places[edge.b]
    (x1, y1), (x2, y2) = svg.leave(a, b, BOX_W, BOX_H), svg.leave(b, a, BOX_W, BOX_H)
    dotted = ' stroke-dasharray="2 4"' if edge.latency_s is None else ""
    return (
        f'<path d="M{svg.n(x1)} {svg.n(y1)}L{svg.n(x2)} {svg.n(y2)}" fill="none" stroke="currentColor" '
        f'stroke-width="1.5" stroke-opacity="0.6"{dotted}/>'
    )


def _figures(edge: Link, places: dict[str, tuple[float, float]]) -> str:
    """Latency and, under it, bandwidth or kind: beside the line, away from the middle, where other lines cross it."""
    (x1, y1), (x2, y2) = places[edge.a], places[edge.b]
    middle = (sum(x for x, _ in places.values()) / len(places), sum(y for _, y in places.values()) / len(places))
    # Of more than three, a line through the middle of everything is crossed there.
    off = math.dist(((x1 + x2) / 2, (y1 + y2) / 2), middle)
    at = 0.5 if len(places) <= 3 or off > BOX_H / 2 else 0.3
    x, y = x1 + (x2 - x1) * at, y1 + (y2 - y1) * at
    level = abs(y1 - y2) < BOX_H / 2
    right = x >= middle[0]
    first = UNMEASURED if edge.latency_s is None else show_seconds(edge.latency_s)
    second = edge.kind if edge.bandwidth_bytes_per_s is None else show_bandwidth(edge.bandwidth_bytes_per_s)
    second += ", emulated" if edge.emulated else ""
    anchor = "middle" if level else "start" if right else "end"
    x += 0 if level else BESIDE if right else -BESIDE
    y += 15 if y >= middle[1] else -19
    return svg.label(x, y, first, anchor=anchor, size=11, bold=edge.latency_s is not None) + svg.label(
        x, y + 13, second, anchor=anchor, size=10, faint=True
    )


def _member(member: Member, roster: Roster, x: float, y: float) -> str:
    device, entry = member.device, roster[member.device.id]
    left = x - BOX_W / 2
    held = "; ".join(show_shard(one.start, one.end, one.n_layers) for one in member.holds)
    holds = f"layers {held}" if held else "no layers"
    state = "" if member.state == "alive" else f"{member.state}, "
    memory = show_bytes(device.memory_bytes) if device.memory_bytes else ""
    what = "emulated" if device.emulated else ""
    return (
        svg.card(x, y, BOX_W, BOX_H, entry.mark, emulated=bool(device.emulated))
        + svg.label(left + 37, y - 12, svg.fit(entry.name, BOX_W - 40), bold=True)
        + svg.label(left + 37, y + 4, svg.fit(state + holds, BOX_W - 40, 11), size=11, faint=True)
        + svg.label(left + 37, y + 20, ", ".join(filter(None, (memory, what))), size=11, faint=True)
    )
