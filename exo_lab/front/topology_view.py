"""`topology show`: a cluster as a tree, as tables, as a drawing, as JSON. Pure.

A figure of a link is shown where somebody measured it; where nobody did, that is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from exo_lab.front import html
from exo_lab.front.nodes_view import LIVENESS, show_shard
from exo_lab.front.roster import Roster
from exo_lab.front.svg import swatch
from exo_lab.front.text import clean, clean_name, table
from exo_lab.front.topology_svg import UNMEASURED, topology_svg
from exo_lab.front.units import show_bandwidth, show_bytes, show_count, show_seconds
from exo_lab.front.view import View

if TYPE_CHECKING:
    from exo_lab.core.device import Device
    from exo_lab.core.topology import Link
    from exo_lab.front.picture import Held, Member, Picture

NODES = ("#", "node", "state", "layers held", "chip", "memory free", "load", "emulated")
LINKS = ("from", "to", "kind", "latency", "bandwidth", "figures", "way", "emulated")
RIGHT = ("memory free", "load", "latency", "bandwidth")
ALONE = "No node is in reach. Start one with exo-lab node, or %exo up in a notebook; exo-lab doctor looks for reasons."


class TopologyView(View):
    """Nodes, what they hold, and the links between them.

    Args:
        picture: what is known.
        tables: as text, show two tables and not a tree.
    """

    def __init__(self, picture: Picture, *, tables: bool = False) -> None:
        self.picture, self.tables = picture, tables
        self.roster = Roster(picture.devices)

    def title(self) -> str:
        """Such as "3 nodes, 3 links (2 measured); smollm2-135m over 3 nodes"."""
        links = self.picture.links
        measured = sum(edge.latency_s is not None for edge in links)
        count = f"{show_count(len(self.picture.members), 'node')}, {show_count(len(links), 'link')}"
        stages: dict[str, int] = {}
        for member in self.picture.members:
            for held in member.holds:
                stages[held.model] = stages.get(held.model, 0) + 1
        models = [f"{clean_name(model)} over {show_count(count, 'node')}" for model, count in stages.items()]
        return "; ".join([f"{count} ({measured} measured)", *models])

    def html(self) -> str:
        """A drawing and two tables."""
        if not self.picture.members:
            return html.block(html.line(ALONE))
        nodes = html.grid("Nodes", NODES, self._node_rows(in_html=True), RIGHT)
        return html.block(html.line(self.title(), bold=True), self.svg(), nodes, self.links_html())

    def text(self) -> str:
        """A tree, or two tables."""
        if not self.picture.members:
            return ALONE
        if not self.tables:
            return "\n".join([self.title(), *self._tree()])
        nodes = table(NODES, self._node_rows(in_html=False), RIGHT)
        links = self._link_rows()
        return "\n".join([self.title(), *nodes, *(["", *table(LINKS, links, RIGHT)] if links else [])])

    def links_html(self) -> str:
        """The table of links alone."""
        return html.grid("Links", LINKS, [tuple(map(html.esc, row)) for row in self._link_rows()], RIGHT)

    def svg(self) -> str:
        """The drawing alone."""
        return topology_svg(self.picture, self.roster)

    def json(self) -> str:
        """Everything, for programs: `Picture` as JSON, sizes in bytes, times in seconds."""
        return msgspec.json.format(msgspec.json.encode(self.picture), indent=2).decode()

    # -- pieces ------------------------------------------------------------------------------------------

    def _tree(self) -> list[str]:
        lines: list[str] = []
        members = self.picture.members
        for i, member in enumerate(members):
            last = i == len(members) - 1
            lines.append(f"{'└─' if last else '├─'} {self._node_line(member)}")
            links = sorted(self.picture.links_of(member.device.id), key=lambda one: self.roster[one[0]].mark.index)
            for k, (other, edge) in enumerate(links):
                stem, branch = "   " if last else "│  ", "└─" if k == len(links) - 1 else "├─"
                lines.append(f"{stem}  {branch} {self.roster[other].label}: {link_words(edge)}")
        return lines

    def _node_line(self, member: Member) -> str:
        device = member.device
        parts = [
            f"{self.roster[device.id].label}",
            _state(member.state, short=True),
            clean(device.chip, 40),
            _memory(member),
            f"holds {_holds(member.holds)}" if member.holds else "holds no layers",
            f"emulated: {clean(device.emulated)}" if device.emulated else "",
        ]
        return ", ".join(filter(None, parts))

    def _node_rows(self, *, in_html: bool) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        for member in self.picture.members:
            device, entry = member.device, self.roster[member.device.id]
            cells = (
                _state(member.state),
                _holds(member.holds) or "none",
                clean(device.chip, 60),
                _memory(member),
                "" if member.load is None else f"{member.load:.0%}",
            )
            if in_html:
                mark = swatch(entry.mark, emulated=bool(entry.emulated))
                emulated = html.badge(entry.emulated) if entry.emulated else ""
                rows.append((mark, f"<b>{html.esc(entry.name)}</b>", *map(html.esc, cells), emulated))
            else:
                rows.append((entry.mark.symbol, entry.name, *cells, entry.emulated))
        return rows

    def _link_rows(self) -> list[tuple[str, ...]]:
        def ends(edge: Link) -> list[int]:
            return sorted(self.roster[end].mark.index for end in (edge.a, edge.b))

        labels = {entry.mark.index: entry.label for entry in (self.roster[one.id] for one in self.picture.devices)}
        return [
            (
                *(labels[end] for end in ends(edge)),
                edge.kind,
                "" if edge.latency_s is None else show_seconds(edge.latency_s),
                "" if edge.bandwidth_bytes_per_s is None else show_bandwidth(edge.bandwidth_bytes_per_s),
                UNMEASURED if edge.latency_s is None else "measured",
                clean(edge.description, 60),
                clean(edge.emulated, 60),
            )
            for edge in sorted(self.picture.links, key=lambda edge: (ends(edge), edge.kind))
        ]


def link_words(edge: Link) -> str:
    """Such as "ethernet, 0.18 ms, 1.2 GB/s (measured), mDNS on eth0"."""
    figures = [
        "" if edge.latency_s is None else show_seconds(edge.latency_s),
        "" if edge.bandwidth_bytes_per_s is None else show_bandwidth(edge.bandwidth_bytes_per_s),
    ]
    measured = ", ".join(filter(None, figures))
    emulated = f", emulated: {clean(edge.emulated, 60)}" if edge.emulated else ""
    way = f", {clean(edge.description, 60)}" if edge.description else ""
    return f"{edge.kind}, {f'{measured} (measured)' if measured else UNMEASURED}{way}{emulated}"


def _state(state: str, *, short: bool = False) -> str:
    if state not in LIVENESS:
        return state
    symbol, word, _ = next(look for liveness, look in LIVENESS.items() if liveness == state)
    return "" if short and state == "alive" else f"{symbol} {word}"


def _memory(member: Member) -> str:
    device: Device = member.device
    if not device.memory_bytes:
        return ""
    free = device.memory_available_bytes if member.memory_available_bytes is None else member.memory_available_bytes
    return f"{show_bytes(free)} of {show_bytes(device.memory_bytes)} free"


def _holds(holds: tuple[Held, ...]) -> str:
    def layers(held: Held) -> str:
        text = show_shard(held.start, held.end, held.n_layers)
        return f"{clean_name(held.model)}: {text}" if len(holds) > 1 else text

    return "; ".join(map(layers, holds))
