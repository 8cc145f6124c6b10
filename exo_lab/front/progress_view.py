"""How far something is, node by node. Pure; `Board` collects the reports of several threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from exo_lab.front import html
from exo_lab.front.text import clean, clean_name, table
from exo_lab.front.units import show_bytes
from exo_lab.front.view import View

if TYPE_CHECKING:
    from exo_lab.front.screen import Screen


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one node said last. `total_bytes` 0: not known."""

    node: str
    done_bytes: int
    total_bytes: int
    what: str

    @property
    def amount(self) -> str:
        """Such as "12.0 MiB of 43.0 MiB"."""
        done = show_bytes(self.done_bytes)
        return f"{done} of {show_bytes(self.total_bytes)}" if self.total_bytes else done if self.done_bytes else ""

    @property
    def share(self) -> float | None:
        """Within [0, 1]; None if the total is not known."""
        return min(1.0, max(0.0, self.done_bytes / self.total_bytes)) if self.total_bytes > 0 else None


class ProgressView(View):
    """A title and the last report of each node."""

    def __init__(self, title: str, reports: tuple[Report, ...] = (), ending: str = "") -> None:
        self.title, self.reports, self.ending = clean(title), reports, clean(ending)

    def html(self) -> str:
        """A bar a node; without styles the figures are still there."""
        rows: list[tuple[str, ...]] = []
        for report in self.reports:
            share = report.share
            value = "" if share is None else f' value="{share:.3f}"'
            bar = f'<progress max="1"{value} style="width:160px"></progress>'
            rows.append(
                (*map(html.esc, (clean_name(report.node), report.amount)), bar, html.esc(clean(report.what, 80)))
            )
        return html.block(
            html.line(self.title, bold=True),
            html.grid("", ("node", "loaded", "progress", "now"), rows, ("loaded",)) if rows else "",
            html.notice(self.ending) if self.ending else "",
        )

    def text(self) -> str:
        """A line a node."""
        rows = [(clean_name(report.node), report.amount, clean(report.what, 80)) for report in self.reports]
        lines = table(("node", "loaded", "now"), rows, ("loaded",)) if rows else []
        return "\n".join([self.title, *lines, *([f"! {self.ending}"] if self.ending else [])])

    def line(self) -> str:
        """All of it in one line, for a terminal."""
        shares = [
            f"{clean_name(report.node)} {report.share:.0%}" if report.share is not None else clean_name(report.node)
            for report in self.reports
        ]
        return ": ".join(filter(None, (self.title, ", ".join(shares))))[:100]


class Board:
    """Collects reports and offers the picture to a screen. Reports may come from any thread."""

    def __init__(self, screen: Screen, title: str) -> None:
        self._screen, self._title = screen, title
        self._reports: dict[str, Report] = {}
        self._lock = threading.Lock()
        screen.offer(self.view)

    def report(self, node: str, done_bytes: int, total_bytes: int, what: str) -> None:
        """A node is so far. The signature is that of `Cluster.load`'s `progress`."""
        with self._lock:
            self._reports[node] = Report(node=node, done_bytes=done_bytes, total_bytes=total_bytes, what=what)
        self._screen.offer(self.view)

    def say(self, what: str) -> None:
        """Something else is being done now."""
        with self._lock:
            self._title = what
        self._screen.offer(self.view)

    def view(self, ending: str = "") -> ProgressView:
        """The picture at this moment."""
        with self._lock:
            return ProgressView(self._title, tuple(self._reports.values()), ending)
