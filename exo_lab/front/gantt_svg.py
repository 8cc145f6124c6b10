"""A simulation as a Gantt chart: a row a device, a bar for whatever it does, in SVG. Pure.

Tall bars are prompts, low ones tokens, thin ones sending, dashed ones loading. Colour, hatching and number are the
request's. A bar of many pieces is as strong as it was busy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.front.gantt import SEVERAL, chart, ticks
from exo_lab.front.palette import Mark
from exo_lab.front.svg import EDGE, box, fit, label, n, picture
from exo_lab.front.text import clean, clean_name
from exo_lab.front.units import show_count, show_rate, show_seconds

if TYPE_CHECKING:
    from exo_lab.front.gantt import Bar, Chart
    from exo_lab.planning.simulation.result import Simulation

WIDTH, LEFT, RIGHT, TOP = 900, 150, 52, 66
ROW, BAR, LOW, THIN = 34, 22, 10, 3
HATCHED = 12  # a narrower bar has its colour only, and a wider one its number, too
MARK = 12  # between the numbers of events
LEGEND = 8  # requests that are listed
EVENTS = 6


def gantt_svg(made: Simulation, *, start_s: float | None = None, end_s: float | None = None) -> str:
    """The chart, or a part of it; see `gantt.chart` for arguments and errors."""
    room = WIDTH - LEFT - RIGHT
    shown = chart(made, start_s=start_s, end_s=end_s, steps=room)
    bottom = TOP + len(shown.rows) * ROW
    parts = [
        label(0, 16, f"predicted: {gantt_facts(made)}", bold=True),
        _legend(shown, 38),
        label(WIDTH, TOP - 8, "busy", anchor="end", size=11, faint=True),
        *(_tick(shown, at, bottom) for at in ticks(shown.start_s, shown.end_s)),
    ]
    for at, row in enumerate(shown.rows):
        y = TOP + at * ROW
        parts.append(f'<path d="M{LEFT} {n(y + ROW)}h{room}" stroke="currentColor" stroke-opacity="0.18"/>')
        parts.append(label(LEFT - 10, y + 21, fit(clean_name(row.name), LEFT - 12), anchor="end"))
        parts.append(label(WIDTH, y + 21, f"{row.utilisation:.0%}", anchor="end", faint=True))
    parts += [_drawn(shown, bar) for bar in sorted(shown.bars, key=lambda bar: bar.kind == "link")]
    parts.append(label(LEFT + room / 2, bottom + 32, "seconds (predicted)", anchor="middle", size=11, faint=True))
    height = bottom + 40
    if shown.hidden:
        parts.append(label(0, height + 8, f"and {show_count(shown.hidden, 'device')} more", size=11, faint=True))
        height += 14
    taken = -MARK
    for number, event in enumerate(shown.events[:EVENTS], 1):
        taken = max(_x(shown, event.at_s), taken + MARK)
        parts.append(_moment(_x(shown, event.at_s), taken, number, bottom))
        text = f"{number}: {event.at_s:.3g} s, {clean(event.text, 130)}"
        parts.append(label(0, height + 10, text, size=11))
        height += 16
    if len(shown.events) > EVENTS:
        parts.append(label(0, height + 10, f"and {show_count(len(shown.events) - EVENTS, 'event')} more", size=11))
        height += 16
    return picture(WIDTH, height, f"Gantt chart, predicted: {gantt_facts(made)}", "".join(parts))


def gantt_facts(made: Simulation) -> str:
    """The simulation in a line."""
    parts = [
        f"{show_count(len(made.sessions), 'request')} in {show_seconds(made.end_s)}",
        f"{show_rate(made.tokens_per_s)} in all",
    ]
    if made.mean_ttft_s is not None:
        parts.append(f"first token after {show_seconds(made.mean_ttft_s)} on average")
    failed = sum(bool(session.failed) for session in made.sessions)
    return ", ".join(parts + ([f"{failed} failed"] if failed else []))


def _x(shown: Chart, at_s: float) -> float:
    return LEFT + (at_s - shown.start_s) / (shown.end_s - shown.start_s) * (WIDTH - LEFT - RIGHT)


def _drawn(shown: Chart, bar: Bar) -> str:
    x, end, y = _x(shown, bar.start_s), _x(shown, bar.end_s), TOP + bar.row * ROW
    width = max(end - x, 0.8)
    if bar.kind == "load":
        return (
            f'<rect x="{n(x)}" y="{n(y + 4)}" width="{n(width)}" height="{BAR}" fill="currentColor" '
            f'fill-opacity="0.12" stroke="currentColor" stroke-dasharray="3 2"/>'
        )
    height = BAR if bar.kind == "prefill" else LOW if bar.kind == "decode" else THIN
    top = y + 4 + (BAR - height) / 2 if bar.kind != "link" else y + ROW - THIN - 3
    colour = "currentColor" if bar.session == SEVERAL else Mark(bar.session).colour
    if bar.kind != "link" and bar.session >= 0 and width >= HATCHED and bar.share > 0.9:
        mark = Mark(bar.session)
        number = ""
        if bar.kind == "prefill" and width >= HATCHED + 8 * len(mark.number):
            middle, half = x + width / 2, 3 + 4 * len(mark.number)
            number = (
                f'<rect x="{n(middle - half)}" y="{n(top + 3)}" width="{n(2 * half)}" height="{BAR - 6}" rx="3" '
                f'fill="{mark.colour}"/>'
            )
            number += label(middle, top + 15, mark.number, anchor="middle", fill=mark.ink, bold=True)
        return box(x, top, width, height, mark) + number
    strength = max(0.15, bar.share) * (0.6 if bar.session == SEVERAL else 1.0)
    opacity = f' fill-opacity="{strength:.2f}"' if strength < 0.98 else ""
    edge = f" {EDGE}" if bar.kind != "link" and bar.session != SEVERAL and width >= 4 else ""
    return f'<rect x="{n(x)}" y="{n(top)}" width="{n(width)}" height="{n(height)}" fill="{colour}"{opacity}{edge}/>'


def _tick(shown: Chart, at_s: float, bottom: float) -> str:
    x = _x(shown, at_s)
    return f'<path d="M{n(x)} {TOP}V{n(bottom)}" stroke="currentColor" stroke-opacity="0.18"/>' + label(
        x, bottom + 15, f"{at_s:.6g}", anchor="middle", size=11, faint=True
    )


def _moment(x: float, number_x: float, number: int, bottom: float) -> str:
    return (
        f'<path d="M{n(x)} {TOP - 4}V{n(bottom)}" stroke="#D55E00" stroke-width="1.5" stroke-dasharray="5 3"/>'
        + label(number_x + 2, TOP - 8, str(number), size=11, fill="#D55E00", bold=True)
    )


def _legend(shown: Chart, y: float) -> str:
    kinds = ("prompt", "token", "sending", "loading")
    parts = "".join(_sample(kind, LEFT + at * 78, y) for at, kind in enumerate(kinds))
    if any(bar.session == SEVERAL for bar in shown.bars):
        parts += label(0, y, "grey: several requests", size=11, faint=True)
    x = LEFT + len(kinds) * 78 + 16
    parts += label(x, y, "request", size=11, faint=True)
    x += 48
    for session in shown.sessions[:LEGEND]:
        mark = Mark(session)
        parts += box(x, y - 10, 14, 12, mark, radius=2) + label(x + 18, y, mark.number, size=11)
        x += 26 + 7 * len(mark.number)
    more = len(shown.sessions) - LEGEND
    return parts + (label(x, y, f"and {more} more", size=11, faint=True) if more > 0 else "")


def _sample(kind: str, x: float, y: float) -> str:
    height = {"prompt": 12, "token": 6, "sending": 3, "loading": 12}[kind]
    top = y - 10 + (12 - height) / 2
    dashed = 'fill-opacity="0.12" stroke="currentColor" stroke-dasharray="3 2"'
    look = dashed if kind == "loading" else 'fill-opacity="0.6"'
    return f'<rect x="{n(x)}" y="{n(top)}" width="18" height="{height}" fill="currentColor" {look}/>' + label(
        x + 23, y, kind, size=11, faint=True
    )
