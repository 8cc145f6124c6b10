"""`monitor` as a terminal shows it: a page in colours that is drawn again and again, or a plain line a look. Pure."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from exo_lab.front.alert_words import alert_words, forecast_words
from exo_lab.front.nodes_view import LIVENESS
from exo_lab.front.palette import assign
from exo_lab.front.text import clean, clean_name
from exo_lab.front.units import show_bandwidth, show_count, show_rate, show_seconds
from exo_lab.front.view import View

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exo_lab.front.frame import Frame, LinkFrame, NodeFrame

BARS = "▁▂▃▄▅▆▇█"
SPARKS, CELL_SPARKS = 24, 5  # looks that a small line remembers: in the title, in a table
LINKS = 12  # shown at most; all of them are in `topology show`
NOBODY = "no node is in reach yet; exo-lab node starts one, exo-lab doctor looks for reasons"


class MonitorView(View):
    """The latest looks at a cluster.

    Args:
        frames: oldest first, one at least.
        recording: what is being recorded, in words.
    """

    def __init__(self, frames: Sequence[Frame], recording: str = "") -> None:
        self.frames, self.now, self.recording = tuple(frames[-SPARKS:]), frames[-1], recording
        names = [(node.id, node.name) for node in self.now.nodes]
        self.marks = assign(names)
        self.names = {id_: clean_name(name) for id_, name in names}

    def text(self) -> str:
        """One line: for pipes and files, where nothing can be drawn again."""
        now = self.now
        nodes = [_node_line(node) for node in now.nodes] or [NOBODY]
        alerts = [alert_words(one, self.names, now.at_s) for one in now.alerts]
        alerts += [forecast_words(one, self.names) for one in now.forecasts]
        rate = "" if now.tokens_per_s is None else show_rate(now.tokens_per_s)
        return "  ".join(filter(None, (_clock(now.at_s), rate, "; ".join(nodes), *(f"! {one}" for one in alerts))))

    def renderable(self) -> Any:
        """Title, nodes, links, alerts."""
        from rich.console import Group
        from rich.text import Text

        now = self.now
        parts: list[Any] = [self._title(), "", self._nodes() if now.nodes else Text(NOBODY), ""]
        if now.links:
            parts += [self._links(), ""]
        emulated = [f"{self.names[node.id]} is emulated: {clean(node.emulated)}" for node in now.nodes if node.emulated]
        parts += [Text(line, style="dim") for line in emulated]
        parts += [Text(f"! {alert_words(one, self.names, now.at_s)}", style="bold red") for one in now.alerts]
        parts += [Text(f"~ {forecast_words(one, self.names)}", style="yellow") for one in now.forecasts]
        parts += [Text(f"! {clean(problem)}", style="yellow") for problem in now.problems]
        if not now.alerts and not now.forecasts:
            parts.append(Text("no alerts", style="dim"))
        parts.append(Text(" · ".join(filter(None, ("Ctrl+C ends it", self.recording))), style="dim"))
        return Group(*parts)

    # -- pieces ------------------------------------------------------------------------------------------

    def _title(self) -> Any:
        from rich.text import Text

        now = self.now
        alive = sum(node.state == "alive" for node in now.nodes)
        title = Text(f"{show_count(len(now.nodes), 'node')}, {alive} alive", style="bold")
        if now.tokens_per_s is not None:
            rates = [one.tokens_per_s for one in self.frames]
            title.append(f"   {show_rate(now.tokens_per_s)} ", style="bold cyan")
            title.append(sparkline(rates), style="cyan")
        return title.append(f"   {_clock(now.at_s)}", style="dim")

    def _nodes(self) -> Any:
        columns = [column for column in self._columns() if any(str(cell) for cell in column[2])]
        made = _table()
        for head, right, _ in columns:
            narrow = right or head != "layers"
            made.add_column(head, justify="right" if right else "left", no_wrap=narrow, min_width=None if narrow else 6)
        for row in zip(*(cells for _, _, cells in columns), strict=True):
            made.add_row(*row)
        return made

    def _columns(self) -> list[tuple[str, bool, list[Any]]]:
        """Heading, flush right, a cell a node; those that are empty for everybody are not shown."""
        from rich.text import Text

        def state(node: NodeFrame) -> Any:
            symbol, word, _ = LIVENESS[node.state]
            return Text(f"{symbol} {word}", style="" if node.state == "alive" else "bold red")

        def mark(node: NodeFrame) -> Any:
            shown = self.marks[node.id]
            return Text(f" {shown.number} ", style=f"{shown.ink} on {shown.colour}")

        columns: list[tuple[str, bool, Callable[[NodeFrame], Any]]] = [
            ("#", False, mark),
            ("node", False, lambda node: self.names[node.id]),
            ("state", False, state),
            ("layers", False, lambda node: clean(node.layers, 30) or "none"),
            ("load", True, lambda node: self._share(node, lambda one: one.load)),
            ("memory", True, lambda node: self._share(node, lambda one: one.memory)),
            ("compute", True, lambda node: _percent(node.compute)),
            ("temp", True, lambda node: "" if node.temperature_c is None else f"{node.temperature_c:.0f} °C"),
            ("req", True, lambda node: "" if node.requests is None else str(node.requests)),
        ]
        return [(head, right, [make(node) for node in self.now.nodes]) for head, right, make in columns]

    def _share(self, node: NodeFrame, figure: Callable[[NodeFrame], float | None]) -> str:
        past = [figure(seen) if (seen := _of(one, node.id)) is not None else None for one in self.frames[-CELL_SPARKS:]]
        now = figure(node)
        return "" if now is None else f"{sparkline(past, top=1.0)} {_percent(now):>5}"

    def _links(self) -> Any:
        made = _table()
        for head in ("link", "kind"):
            made.add_column(head, no_wrap=True)
        for head in ("latency", "bandwidth"):
            made.add_column(head, justify="right", no_wrap=True)
        rows = sorted((*sorted((self.marks[link.a].index, self.marks[link.b].index)), link) for link in self.now.links)
        names = {self.marks[id_].index: name for id_, name in self.names.items()}
        for a, b, link in rows[:LINKS]:
            made.add_row(f"{names[a]} to {names[b]}", link.kind, *_figures(link))
        if len(self.now.links) > LINKS:
            made.caption = f"{len(self.now.links) - LINKS} more: exo-lab topology show"
        return made


def sparkline(values: Sequence[float | None], top: float | None = None) -> str:
    """A character a value, up to `top` (the highest of them if None); a space where there is none."""
    highest = top or max((value for value in values if value is not None), default=0.0)
    last = len(BARS) - 1
    return "".join(
        " " if value is None else BARS[min(last, max(0, round(last * value / highest)))] if highest > 0 else BARS[0]
        for value in values
    )


def _table() -> Any:
    from rich.table import Table

    return Table(box=None, padding=(0, 2, 0, 0), header_style="bold underline")


def _of(one: Frame, node: str) -> NodeFrame | None:
    return next((seen for seen in one.nodes if seen.id == node), None)


def _node_line(node: NodeFrame) -> str:
    figures = [
        "" if node.load is None else f"load {_percent(node.load)}",
        "" if node.memory is None else f"memory {_percent(node.memory)}",
        "" if node.temperature_c is None else f"{node.temperature_c:.0f} °C",
        "" if node.requests is None else show_count(node.requests, "request"),
    ]
    state = "" if node.state == "alive" else f" ({node.state})"
    return f"{clean_name(node.name)}{state}: {', '.join(filter(None, figures)) or 'no figures'}"


def _figures(link: LinkFrame) -> tuple[str, str]:
    latency = "not measured" if link.latency_s is None else show_seconds(link.latency_s)
    return latency, "" if link.bandwidth_bytes_per_s is None else show_bandwidth(link.bandwidth_bytes_per_s)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _clock(at_s: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at_s))
