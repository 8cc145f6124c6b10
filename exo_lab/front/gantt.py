"""What a Gantt chart of a simulation shows: rows, bars and marks, before anybody draws them. Pure.

Bars that would be too small to see are put together; such a bar knows how much of it was really busy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from exo_lab.core.errors import ConfigError
from exo_lab.planning.simulation.result import Kind

if TYPE_CHECKING:
    from exo_lab.planning.simulation.result import Event, Simulation, Span

ROWS = 16  # devices that are drawn
SEVERAL = -2  # in a bar's `session`: more than one request


class Row(NamedTuple):
    """One device: `utilisation` is over the whole simulation, whatever part of it is drawn."""

    device: str
    name: str
    utilisation: float


class Bar(msgspec.Struct, frozen=True):
    """Something that a device did. `busy_s`: how long in that stretch; `spans`: how many pieces it is made of."""

    row: int
    kind: Kind
    start_s: float
    end_s: float
    session: int
    busy_s: float
    spans: int = 1

    @property
    def share(self) -> float:
        """How much of the bar was busy, in (0, 1]."""
        length = self.end_s - self.start_s
        return min(1.0, self.busy_s / length) if length > 0 else 1.0


class Chart(NamedTuple):
    """`hidden`: devices that are not drawn. `sessions`: those that have a bar."""

    rows: tuple[Row, ...]
    bars: tuple[Bar, ...]
    events: tuple[Event, ...]
    start_s: float
    end_s: float
    hidden: int
    sessions: tuple[int, ...]


def chart(
    made: Simulation, *, start_s: float | None = None, end_s: float | None = None, steps: int = 600, rows: int = ROWS
) -> Chart:
    """The part of a simulation between two times.

    Args:
        made: what was simulated, with its spans.
        start_s: from there on; the beginning if None.
        end_s: until there; the end if None.
        steps: how many pieces of time can be told apart.
        rows: how many devices at most, in the order in which plans used them.

    Raises:
        ConfigError: no spans were kept, or there is nothing between the times.
    """
    if not made.spans:
        raise ConfigError("this simulation kept no spans, so there is nothing to draw; simulate with keep_spans=True")
    first = min(span.start_s for span in made.spans) if start_s is None else start_s
    last = made.end_s if end_s is None else end_s
    if not first < last:
        end = f"the simulation ends at {made.end_s:g} s"
        raise ConfigError(f"there is no time between {first:g} s and {last:g} s; {end}")
    used = list(dict.fromkeys(device for _, plan in made.plans for device in plan.devices))
    known = {device.device: device for device in made.devices}
    drawn = [Row(one, known[one].name, known[one].utilisation) for one in used[:rows] if one in known]
    place = {row.device: at for at, row in enumerate(drawn)}
    lanes: dict[tuple[int, str], list[Bar]] = {}
    for span in made.spans:
        if span.device in place and span.end_s > first and span.start_s < last:
            bar = _bar(place[span.device], span, first, last)
            _add(lanes.setdefault((bar.row, _lane(bar.kind)), []), bar, (last - first) / steps)
    bars = tuple(bar for lane in lanes.values() for bar in lane)
    events = tuple(event for event in made.events if first <= event.at_s <= last)
    sessions = tuple(sorted({bar.session for bar in bars if bar.session >= 0}))
    return Chart(tuple(drawn), bars, events, first, last, len(known) - len(drawn), sessions)


def ticks(start_s: float, end_s: float, most: int = 9) -> list[float]:
    """Round times between two, at most so many: 1, 2 or 5 times a power of ten apart."""
    step = 1e-9
    while (end_s - start_s) / step >= most:
        step *= 2.5 if f"{step:e}"[0] == "2" else 2
    first = -int(-start_s // step)
    return [at * step for at in range(first, int(end_s // step) + 1)]


def _lane(kind: Kind) -> str:
    """Computing, sending and loading go on beside each other."""
    return "compute" if kind in ("prefill", "decode") else kind


def _bar(row: int, span: Span, first: float, last: float) -> Bar:
    start, end = max(span.start_s, first), min(span.end_s, last)
    return Bar(row, span.kind, start, end, span.session, end - start)


def _add(lane: list[Bar], bar: Bar, step_s: float) -> None:
    """Put a bar behind the others of its lane, or together with the last one if they could not be told apart."""
    if lane:
        last = lane[-1]
        alike = (last.kind, last.session) == (bar.kind, bar.session)
        if (alike and bar.start_s - last.end_s < step_s) or bar.end_s - last.start_s < step_s:
            lane[-1] = Bar(
                bar.row,
                last.kind if last.kind == bar.kind else "decode",
                last.start_s,
                max(last.end_s, bar.end_s),
                last.session if last.session == bar.session else SEVERAL,
                last.busy_s + bar.busy_s,
                last.spans + bar.spans,
            )
            return
    lane.append(bar)
