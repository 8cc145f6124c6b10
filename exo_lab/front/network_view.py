"""`network test`: every way between two nodes as matrices, bandwidth by size, what it means for the models. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from exo_lab.front import html
from exo_lab.front.heat_matrix import Cell, heat_matrix_svg, shares
from exo_lab.front.roster import Roster
from exo_lab.front.text import clean, clean_name, table
from exo_lab.front.units import show_bandwidth, show_bytes, show_count, show_rate, show_seconds
from exo_lab.front.view import View

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exo_lab.core.device import Device
    from exo_lab.core.probe import Effect, LinkProbe, NetworkReport

CORNER = "from / to"
ITSELF, UNTESTED = "-", "not tested"
LATENCY = "Latency one way, p50 and p99"
SIZES = "Bandwidth by size of the frame, latency included"


class NetworkView(View):
    """A network report.

    Args:
        report: what was found.
        devices: those that are known, for names and marks.
    """

    def __init__(self, report: NetworkReport, devices: Iterable[Device] = ()) -> None:
        self.report = report
        named = {device.id: device for device in devices if device.id in report.nodes}
        self.roster = Roster(named.values(), report.nodes)

    def title(self) -> str:
        """Such as "6 ways between 3 nodes, 151 MiB sent, measured"."""
        probes = self.report.probes
        sent = show_bytes(sum(one.sent_bytes for one in probes))
        between = show_count(len(self.report.nodes), "node")
        return f"{show_count(len(probes), 'way')} between {between}, {sent} sent, measured between data threads"

    def effects(self) -> list[str]:
        """What it means for the loaded models; predicted."""
        return [_effect(one) for one in self.report.effects]

    def remarks(self) -> list[str]:
        """What is lost, left out or refused."""
        said = [f"{self._way(one)}: {clean(one.remark, 200)}" for one in self.report.probes if one.remark]
        refused = [
            f"{self.roster[node].name} did not test: {clean(self.roster.named(why), 300)}"
            for node, why in self.report.refused
        ]
        return said + refused

    def emulated(self) -> list[str]:
        """Nodes that are slower than their machine, or whose links are."""
        entries = [self.roster[id_] for id_ in self._ids()]
        return [f"{entry.name} is emulated: {entry.emulated}" for entry in entries if entry.emulated]

    def html(self) -> str:
        """Two heat matrices, a table of sizes, predictions."""
        return html.block(
            html.line(self.title(), bold=True),
            heat_matrix_svg(LATENCY, self._entries(), self._latencies()),
            heat_matrix_svg(self._bandwidth_title(), self._entries(), self._bandwidths()),
            html.grid(SIZES, *self._sizes()),
            html.bullets([*self.effects(), *self.emulated()]),
            *(html.notice(remark) for remark in self.remarks()),
        )

    def text(self) -> str:
        """The same as tables."""
        header, rows, right = self._sizes()
        return "\n".join(
            [
                self.title(),
                *self._matrix(LATENCY, self._latencies()),
                *self._matrix(self._bandwidth_title(), self._bandwidths()),
                *(["", SIZES, *table(header, rows, right)] if rows else []),
                *(["", *said] if (said := [*self.effects(), *self.emulated()]) else []),
                *(f"! {remark}" for remark in self.remarks()),
            ]
        )

    def renderable(self) -> Any:
        """The matrices in colours."""
        from rich.console import Group
        from rich.text import Text

        header, rows, right = self._sizes()
        sizes = [SIZES, *table(header, rows, right)] if rows else []
        lines = ["", *sizes, "", *self.effects(), *self.emulated(), *(f"! {remark}" for remark in self.remarks())]
        return Group(
            Text(self.title(), style="bold"),
            self._rich(LATENCY, self._latencies()),
            self._rich(self._bandwidth_title(), self._bandwidths()),
            Text("\n".join(lines)),
        )

    def json(self) -> str:
        """The report for programs: sizes in bytes, times in seconds, one way."""
        return msgspec.json.format(msgspec.json.encode(self.report), indent=2).decode()

    # -- pieces ------------------------------------------------------------------------------------------

    def _ids(self) -> list[str]:
        return sorted(self.report.nodes, key=lambda id_: self.roster[id_].mark.index)

    def _entries(self) -> list[Any]:
        return [self.roster[id_] for id_ in self._ids()]

    def _latencies(self) -> list[list[Cell]]:
        def cell(one: LinkProbe) -> Cell:
            if one.p50_s is None or one.p99_s is None:
                return Cell("no echo", _loss(one), None)
            second = ", ".join(filter(None, (show_seconds(one.p99_s), _loss(one))))
            return Cell(show_seconds(one.p50_s), second, one.p50_s)

        return self._cells(cell)

    def _bandwidths(self) -> list[list[Cell]]:
        def cell(one: LinkProbe) -> Cell:
            if one.bandwidth_bytes_per_s is None:
                return Cell(UNTESTED, "", None)
            size = max(transfer.size_bytes for transfer in one.transfers)
            smaller = f"frames of {show_bytes(size)}" if size < self._largest_bytes() else ""
            return Cell(show_bandwidth(one.bandwidth_bytes_per_s), smaller, one.bandwidth_bytes_per_s)

        return self._cells(cell)

    def _largest_bytes(self) -> int:
        return max((one.size_bytes for probe in self.report.probes for one in probe.transfers), default=0)

    def _bandwidth_title(self) -> str:
        return f"Bandwidth of frames of {show_bytes(self._largest_bytes())}, without the latency"

    def _cells(self, make: Any) -> list[list[Cell]]:
        ids = self._ids()
        return [
            [
                Cell(ITSELF, "", None)
                if a == b
                else Cell(UNTESTED, "", None)
                if (one := self.report.probe(a, b)) is None
                else make(one)
                for b in ids
            ]
            for a in ids
        ]

    def _matrix(self, caption: str, cells: list[list[Cell]]) -> list[str]:
        labels = [self.roster[id_].label for id_ in self._ids()]
        rows = [(name, *(cell.both for cell in row)) for name, row in zip(labels, cells, strict=True)]
        return ["", caption, *table((CORNER, *labels), rows, labels)]

    def _rich(self, caption: str, cells: list[list[Cell]]) -> Any:
        from rich.table import Table
        from rich.text import Text

        made = Table(title=caption, title_justify="left", title_style="bold")
        labels = [self.roster[id_].label for id_ in self._ids()]
        made.add_column(CORNER)
        for name in labels:
            made.add_column(name, justify="right")
        for name, row, heat in zip(labels, cells, shares(cells), strict=True):
            shown = [
                (f"{cell.first}\n{cell.second}".strip(), _style(share)) for cell, share in zip(row, heat, strict=True)
            ]
            made.add_row(name, *(Text(text, style=style) for text, style in shown))
        return made

    def _sizes(self) -> tuple[tuple[str, ...], list[tuple[str, ...]], tuple[str, ...]]:
        sizes = sorted({one.size_bytes for probe in self.report.probes for one in probe.transfers})
        heads = tuple(show_bytes(size) for size in sizes)
        rows: list[tuple[str, ...]] = []
        for one in self.report.probes:
            found = {transfer.size_bytes: transfer.bytes_per_s for transfer in one.transfers}
            rates = [found.get(size) for size in sizes]
            loss = "" if one.loss is None else f"{one.lost} of {one.sent}"
            rows.append((self._way(one), *("" if rate is None else show_bandwidth(rate) for rate in rates), loss))
        return ("way", *heads, "lost"), rows, (*heads, "lost")

    def _way(self, one: LinkProbe) -> str:
        return f"{self.roster[one.a].name} to {self.roster[one.b].name}"


def _effect(one: Effect) -> str:
    name, before, after = clean_name(one.model), show_rate(one.before_per_s), show_rate(one.after_per_s)
    return f"{name}: predicted {after} with what was measured, {before} before"


def _loss(one: LinkProbe) -> str:
    return f"{one.loss:.0%} lost" if one.loss else ""


def _style(share: float | None) -> str:
    """Pale to strong blue behind white; nothing behind what has no figure."""
    return (
        ""
        if share is None
        else f"white on rgb({20 + round(10 * share)},{40 + round(60 * share)},{80 + round(120 * share)})"
    )
