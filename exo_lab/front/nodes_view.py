"""The nodes of a cluster as a table. Pure: state in, HTML or text out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from exo_lab.front import html
from exo_lab.front.roster import Roster
from exo_lab.front.svg import swatch
from exo_lab.front.text import clean, clean_name, table
from exo_lab.front.units import show_bytes, show_count, show_layers, show_seconds
from exo_lab.front.view import View

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exo_lab.core.device import Device
    from exo_lab.core.status import Liveness, LoadedModel, NodeStatus

# In HTML chip and speed share a column, and so do latency and link and the last two: that fits a notebook's cell.
HEADER = (
    *("#", "node", "state", "layers held", "chip", "speed", "memory free", "latency", "link", "load", "engines"),
    *("address", "found by"),
)
HTML_HEADER = tuple(name for name in HEADER if name not in ("speed", "link", "found by"))
RIGHT = ("memory free", "latency", "load")
LIVENESS: dict[Liveness, tuple[str, str, str]] = {  # symbol, word, colour (never alone)
    "alive": ("●", "alive", "#009E73"),
    "suspect": ("◐", "suspect", "#E69F00"),
    "lost": ("○", "lost", "#D55E00"),
}


class NodesView(View):
    """A table of nodes.

    Args:
        nodes: in the order in which they are listed.
        models: loaded models, for the layers that each node holds.
    """

    def __init__(self, nodes: Sequence[NodeStatus], models: Sequence[LoadedModel] = ()) -> None:
        self.nodes, self.models = tuple(nodes), tuple(models)
        self.roster = roster_of(self.nodes, self.models)

    def html(self) -> str:
        """A table; a node's colour and hatching are those that it has in every drawing."""
        held = holdings(self.models)
        rows = [self._html_row(row, node) for row, node in ((_row(node, held), node) for node in self.nodes)]
        return html.block(html.grid(summary(self.nodes), HTML_HEADER, rows, RIGHT))

    def _html_row(self, row: _Row, node: NodeStatus) -> tuple[str, ...]:
        entry = self.roster[node.device.id]
        symbol, word, colour = LIVENESS[node.liveness]
        name = f"<b>{html.esc(entry.name)}</b>" + (" (this one)" if node.is_self else "")
        if entry.emulated:
            name += "<br>" + html.badge(f"emulated: {entry.emulated}")
        remark = f" {html.esc(row.remark)}" if row.remark else ""
        state = f'<span style="color:{colour}" aria-hidden="true">{symbol}</span> {word}{remark}'
        mark = swatch(entry.mark, emulated=bool(entry.emulated))
        cells = (html.esc(row.memory), html.stacked(row.latency, row.link), html.esc(row.load), html.esc(row.engines))
        chip, address = html.stacked(row.chip, row.speed), html.stacked(row.address, row.found)
        return (mark, name, state, html.esc(row.layers), chip, *cells, address)

    def text(self) -> str:
        """Aligned columns."""
        held = holdings(self.models)
        rows: list[tuple[str, ...]] = []
        for node in self.nodes:
            entry, row = self.roster[node.device.id], _row(node, held)
            symbol, word, _ = LIVENESS[node.liveness]
            name = entry.name + " (this one)" * node.is_self
            state = f"{symbol} {word} {row.remark}".rstrip()
            emulated = f"emulated: {entry.emulated}" if entry.emulated else ""
            cells = (row.layers, row.chip, row.speed, row.memory, row.latency, row.link, row.load, row.engines)
            rows.append((entry.mark.symbol, name, state, *cells, row.address, row.found, emulated))
        return "\n".join([summary(self.nodes), *table((*HEADER, ""), rows, RIGHT)])


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    """The cells that are the same in HTML and in text; empty where nothing is known."""

    layers: str
    chip: str
    speed: str
    memory: str
    latency: str
    link: str
    load: str
    engines: str
    address: str
    found: str
    remark: str


def _row(node: NodeStatus, held: dict[str, list[str]]) -> _Row:
    device = node.device
    free = node.memory_available_bytes if node.memory_available_bytes is not None else device.memory_available_bytes
    silent = node.liveness != "alive" and node.seen_s_ago is not None
    return _Row(
        layers="; ".join(held.get(device.id, ())),
        chip=clean(device.chip, 60),
        speed=show_speed(device),
        memory=f"{show_bytes(free)} of {show_bytes(device.memory_bytes)}" if device.memory_bytes else "",
        latency=show_seconds(node.latency_s) if node.latency_s is not None else "",
        link="" if node.link in (None, "unknown") else node.link,
        load=f"{node.load:.0%}" if node.load is not None else "",
        engines=clean(", ".join(device.engines), 60),
        address=clean(node.address, 80).removeprefix("tcp://"),
        found=clean(node.how_found, 60),
        remark=f"(silent for {show_seconds(node.seen_s_ago or 0.0)})" if silent else "(low power)" * node.low_power,
    )


def show_speed(device: Device) -> str:
    """Such as "fp32 0.22, fp16 1.01 TFLOPS, 55 GB/s (measured)"; empty if nothing is known.

    Of an emulated device with its slowdown. int8 is left out: no engine computes in it.
    """
    slow = max(device.slowdown, 1.0)
    figures = (("fp32", device.flops.fp32), ("fp16", device.flops.fp16))
    flops = ", ".join(f"{what} {tflops / slow:.3g}" for what, tflops in figures if tflops > 0)
    bandwidth = device.memory_bandwidth_bytes_per_s / slow / 1e9
    parts = [f"{flops} TFLOPS"] * bool(flops) + [f"{bandwidth:.3g} GB/s"] * (bandwidth > 0)
    origin = f" ({device.speed_origin})" if device.speed_origin else ""
    return ", ".join(parts) + origin if parts else ""


def roster_of(nodes: Iterable[NodeStatus], models: Iterable[LoadedModel] = ()) -> Roster:
    """Names and marks of the nodes, and of devices that only a plan still knows."""
    return Roster((node.device for node in nodes), (device for model in models for device in model.plan.devices))


def holdings(models: Sequence[LoadedModel]) -> dict[str, list[str]]:
    """What each device holds, by id: "emb, 0" or "9, head"; with the model's name if there are several."""
    held: dict[str, list[str]] = {}
    for model in models:
        for device, shard in zip(model.plan.devices, model.plan.shards, strict=True):
            text = show_shard(shard.start, shard.end, shard.n_layers)
            held.setdefault(device, []).append(f"{clean_name(model.plan.model)}: {text}" if len(models) > 1 else text)
    return held


def show_shard(start: int, end: int, n_layers: int) -> str:
    """Layers [start, end) with the ends of the model that come with them."""
    return ("emb, " if start == 0 else "") + show_layers(start, end) + (", head" if end == n_layers else "")


def summary(nodes: Sequence[NodeStatus]) -> str:
    """Such as "3 nodes: 2 alive, 1 lost; 1 emulated"."""
    counts = [(word, sum(node.liveness == word for node in nodes)) for word in LIVENESS]
    states = ", ".join(f"{count} {word}" for word, count in counts if count)
    emulated = sum(bool(node.device.emulated) for node in nodes)
    return f"{show_count(len(nodes), 'node')}: {states}" + (f"; {emulated} emulated" if emulated else "")
