"""The per-layer strip: one cell a layer, coloured, hatched and numbered by the device that holds it. Pure.

The embedding stands before the first layer and the head after the last, since the devices at the ends hold them too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.front import svg
from exo_lab.front.html import esc
from exo_lab.front.units import show_bytes, show_count, show_layers

if TYPE_CHECKING:
    from exo_lab.core.model import ModelConfig
    from exo_lab.core.plan import Plan
    from exo_lab.front.roster import Entry, Roster

WIDTH = 760.0
END = 38.0  # width of the embedding's and the head's cell
GAP = 4.0  # between devices
TOP, HEIGHT = 3.0, 34.0
TEXT_COLUMNS = 96


def strip_svg(plan: Plan, roster: Roster, config: ModelConfig | None = None, *, detail: bool = True) -> str:
    """The strip as SVG.

    Args:
        plan: who holds what.
        roster: who is who; has an entry for each of the plan's devices.
        config: adds sizes to the tooltips.
        detail: with a tooltip for each layer; without, it is a tenth of the size, for frequent updates.
    """
    layer_w = (WIDTH - 2 * END - GAP * (len(plan.shards) + 1) - 2) / plan.n_layers
    x, parts = 1.0, ""
    for device, shard in zip(plan.devices, plan.shards, strict=True):
        entry, start_x = roster[device], x
        emulated = bool(entry.emulated)
        if shard.is_first:
            title = _title("embedding", entry, config.embedding_bytes if config else 0)
            parts += _end_cell(x, "emb", title, entry, emulated)
            x += END + GAP
        w = layer_w * len(shard)
        parts += svg.box(x, TOP, w, HEIGHT, entry.mark, emulated=emulated)
        if layer_w >= 3:
            lines = "".join(f"M{svg.n(x + k * layer_w)} {TOP:g}v{HEIGHT:g}" for k in range(1, len(shard)))
            parts += f'<path d="{lines}" stroke="{entry.mark.ink}" stroke-opacity="0.4"/>' if lines else ""
        if w >= 18:
            parts += svg.pill(x + w / 2, TOP + HEIGHT / 2, entry.mark)
        if detail:
            parts += "".join(
                _hover(x + k * layer_w, layer_w, _title(f"layer {layer}", entry, _layer_bytes(config, layer)))
                for k, layer in enumerate(range(shard.start, shard.end))
            )
        x += w + GAP
        if shard.is_last:
            title = _title("head", entry, config.head_bytes if config else 0)
            parts += _end_cell(x, "head", title, entry, emulated)
            x += END + GAP
        parts += _caption(start_x, x - GAP - start_x, entry, show_layers(shard.start, shard.end))
    deep = 49 if any(roster[device].emulated for device in plan.devices) else 36
    return svg.picture(WIDTH, TOP + HEIGHT + deep, strip_label(plan, roster), parts)


def strip_label(plan: Plan, roster: Roster) -> str:
    """The strip in a sentence, for those who do not see it."""
    shares = [
        f"{roster[device].name}{' (emulated)' if roster[device].emulated else ''} holds "
        + ("the embedding and " if shard.is_first else "")
        + f"layers {show_layers(shard.start, shard.end)}"
        + (" and the head" if shard.is_last else "")
        for device, shard in zip(plan.devices, plan.shards, strict=True)
    ]
    return f"{show_count(plan.n_layers, 'layer')}: {'; '.join(shares)}"


def strip_text(plan: Plan, roster: Roster) -> list[str]:
    """The strip in characters: [E|111|222|H], one symbol a layer, and a legend."""
    cells = "|".join(
        roster[device].mark.symbol * len(shard) for device, shard in zip(plan.devices, plan.shards, strict=True)
    )
    first, last = roster[plan.devices[0]].mark.symbol, roster[plan.devices[-1]].mark.symbol
    whole = f"emb[{first}] {cells} head[{last}]"
    lines = [whole[at : at + TEXT_COLUMNS] for at in range(0, len(whole), TEXT_COLUMNS)]
    for device, shard in zip(plan.devices, plan.shards, strict=True):
        entry = roster[device]
        held = f"layers {show_layers(shard.start, shard.end)}" if len(shard) > 1 else f"layer {shard.start}"
        ends = ("embedding, " if shard.is_first else "") + held + (", head" if shard.is_last else "")
        emulated = f" (emulated: {entry.emulated})" if entry.emulated else ""
        lines.append(f"  {entry.mark.symbol} = {entry.name}{emulated}: {ends}")
    return lines


def _end_cell(x: float, text: str, title: str, entry: Entry, emulated: bool) -> str:
    ink = entry.mark.ink
    middle = TOP + HEIGHT / 2
    return (
        f"<g><title>{esc(title)}</title>"
        + svg.box(x, TOP, END, HEIGHT, entry.mark, radius=9, emulated=emulated)
        + f'<rect x="{svg.n(x + 3)}" y="{svg.n(middle - 8)}" width="{svg.n(END - 6)}" height="16" rx="3" '
        + f'fill="{entry.mark.colour}"/>'
        + svg.label(x + END / 2, middle + 4, text, anchor="middle", size=11, fill=ink)
        + "</g>"
    )


def _hover(x: float, w: float, title: str) -> str:
    """An invisible cell that the mouse finds."""
    return (
        f'<rect x="{svg.n(x)}" y="{TOP:g}" width="{svg.n(w)}" height="{HEIGHT:g}" fill="#000" fill-opacity="0">'
        f"<title>{esc(title)}</title></rect>"
    )


def _title(what: str, entry: Entry, size_bytes: int) -> str:
    size = f", {show_bytes(size_bytes)}" if size_bytes else ""
    emulated = f" (emulated: {entry.emulated})" if entry.emulated else ""
    return f"{what} on {entry.label}{emulated}{size}"


def _layer_bytes(config: ModelConfig | None, layer: int) -> int:
    return config.layer_bytes[layer] if config is not None and layer < len(config.layer_bytes) else 0


def _caption(x: float, w: float, entry: Entry, layers: str) -> str:
    """Name, layers and "emulated" under a device's cells, as far as there is room."""
    middle, y = x + w / 2, TOP + HEIGHT
    full = f"layers {layers}"
    span = full if svg.text_width(full, 11) <= w else layers
    lines = [(svg.fit(entry.name, w), 12, False), (span, 11, True), ("emulated" if entry.emulated else "", 11, True)]
    return "".join(
        svg.label(middle, y + 15 + 14 * row, text, anchor="middle", size=size, faint=faint)
        for row, (text, size, faint) in enumerate(lines)
        if text and svg.text_width(text, size) <= w
    )
