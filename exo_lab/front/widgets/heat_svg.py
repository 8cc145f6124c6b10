"""Time of each layer and token as a picture: stages as bands of layers, tokens from left to right. Pure.

Kinds of time differ in their row and in their colour; how much it was is how strong the colour is. A stage is measured
as a whole, so its layers share one figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exo_lab.front import svg
from exo_lab.front.html import esc
from exo_lab.front.text import clean
from exo_lab.front.units import show_count, show_layers, show_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.plan import Plan
    from exo_lab.front.roster import Roster
    from exo_lab.front.widgets.heat import Heat, Split

COMPUTE, QUEUE, WIRE = "#0072B2", "#E69F00", "#009E73"
TOKENS = 160  # the latest so many
WIDTH, LEFT, TOP = 760.0, 150.0, 20.0
QUEUE_H, WIRE_H, GAP = 9.0, 16.0, 5.0
FAINTEST = 0.06


class Scale(NamedTuple):
    """Seconds at which each kind's colour is strongest: nearly all cells are below it."""

    layer_s: float
    queue_s: float
    wire_s: float


def heat_svg(heat: Heat, plan: Plan, roster: Roster) -> str:
    """The picture; an empty string if there is no token but the first.

    Args:
        heat: from `heat.heat`.
        plan: how many layers each stage has.
        roster: has an entry for each of the heat's devices.
    """
    splits = heat.splits[-TOKENS:]
    if not splits:
        return ""
    held = {device: len(shard) for device, shard in zip(plan.devices, plan.shards, strict=True)}
    counts = [held.get(device, 1) for device in heat.devices]
    scale = scale_of(splits, counts)
    cell_w = min(16.0, (WIDTH - LEFT - 4) / len(splits))
    layer_h = max(2.0, min(8.0, 190.0 / sum(counts)))
    y, parts = TOP, ""
    for k, (device, count) in enumerate(zip(heat.devices, counts, strict=True)):
        h = max(28.0, layer_h * count)
        entry = roster[device]
        stage = plan.stage_of(device)
        what = "an earlier plan" if stage is None else f"layers {_layers(plan, stage)}"
        what += ", emulated" if entry.emulated else ""
        parts += svg.label(4, y + 11, svg.fit(entry.label, LEFT - 12), bold=True)
        parts += svg.label(4, y + 24, what, size=11, faint=True)
        layer_s = [split.compute_s[k] / count for split in splits]
        parts += _row(layer_s, scale.layer_s, y, h, cell_w, COMPUTE)
        lines = "".join(
            f"M{svg.n(LEFT)} {svg.n(y + h * i / count)}h{svg.n(cell_w * len(splits))}" for i in range(1, count)
        )
        parts += f'<path d="{lines}" stroke="currentColor" stroke-opacity="0.12"/>' if lines and layer_h >= 4 else ""
        y += h + 1
        parts += _row([split.queue_s[k] for split in splits], scale.queue_s, y, QUEUE_H, cell_w, QUEUE)
        y += QUEUE_H + GAP
    parts += svg.label(4, y + 12, "between the stages", bold=True)
    parts += _row([split.wire_s for split in splits], scale.wire_s, y, WIRE_H, cell_w, WIRE)
    y += WIRE_H
    parts += "".join(
        svg.label(LEFT + cell_w * (i + 0.5), y + 13, str(split.index), anchor="middle", size=10, faint=True)
        for i, split in enumerate(splits)
        if split.index % 10 == 0
    )
    parts += svg.label(LEFT - 8, y + 13, "token", anchor="end", size=10, faint=True)
    parts += "".join(_hover(split, i, cell_w, y - TOP, heat, roster) for i, split in enumerate(splits))
    parts += _legend(y + 24, scale)
    return svg.picture(WIDTH, y + 46, heat_label(heat, roster), parts)


def heat_label(heat: Heat, roster: Roster) -> str:
    """The means in a sentence."""
    compute, queue, wire_s = heat.means()
    stages = [
        f"{roster[device].name} computes {show_seconds(c)} and holds it {show_seconds(q)} longer"
        for device, c, q in zip(heat.devices, compute, queue, strict=True)
    ]
    tokens = show_count(len(heat.splits), "token")
    return f"mean time a token over {tokens}: {'; '.join(stages)}; between the stages {show_seconds(wire_s)}"


def scale_of(splits: Sequence[Split], counts: Sequence[int]) -> Scale:
    """The 95th percentile of each kind, so that a few slow tokens do not make all others pale."""
    return Scale(
        _high([spent / count for split in splits for spent, count in zip(split.compute_s, counts, strict=True)]),
        _high([spent for split in splits for spent in split.queue_s]),
        _high([split.wire_s for split in splits]),
    )


def _high(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))] or max(ordered) or 1e-9


def _row(values: Sequence[float], top: float, y: float, h: float, cell_w: float, colour: str) -> str:
    """One cell a token; neighbours of one strength are one rectangle."""
    parts, start = "", 0
    strengths = [round(FAINTEST + (1 - FAINTEST) * min(1.0, value / top), 2) for value in values]
    for i in range(1, len(strengths) + 1):
        if i == len(strengths) or strengths[i] != strengths[start]:
            x, w = LEFT + cell_w * start, cell_w * (i - start)
            parts += (
                f'<rect x="{svg.n(x)}" y="{svg.n(y)}" width="{w:.2f}" height="{svg.n(h)}" '
                f'fill-opacity="{strengths[start]:g}"/>'
            )
            start = i
    return f'<g fill="{colour}">{parts}</g>'


def _hover(split: Split, i: int, cell_w: float, h: float, heat: Heat, roster: Roster) -> str:
    """An invisible column that the mouse finds."""
    lines = [f"token {split.index} {clean(split.text, 40)!r}: {show_seconds(split.total_s)}"]
    lines += [
        f"{roster[device].label}: computing {show_seconds(c)}, beyond it {show_seconds(q)}"
        for device, c, q in zip(heat.devices, split.compute_s, split.queue_s, strict=True)
        if c or q
    ]
    lines.append(f"between the stages: {show_seconds(split.wire_s)}")
    return (
        f'<rect x="{svg.n(LEFT + cell_w * i)}" y="{svg.n(TOP)}" width="{cell_w:.2f}" height="{svg.n(h)}" '
        f'fill="#000" fill-opacity="0"><title>{esc(chr(10).join(lines))}</title></rect>'
    )


def _legend(y: float, scale: Scale) -> str:
    parts = ""
    for k, (colour, what, top) in enumerate(
        (
            (COMPUTE, "computing a layer", scale.layer_s),
            (QUEUE, "node beyond it", scale.queue_s),
            (WIRE, "between stages", scale.wire_s),
        )
    ):
        x = 4.0 + k * (WIDTH - 8) / 3
        parts += "".join(
            f'<rect x="{svg.n(x + 8 * i)}" y="{svg.n(y)}" width="8" height="12" fill="{colour}" '
            f'fill-opacity="{FAINTEST + (1 - FAINTEST) * i / 4:.2f}"/>'
            for i in range(5)
        )
        parts += svg.label(x + 46, y + 10, f"{what}: 0 to {show_seconds(top)}", size=11)
    return parts


def _layers(plan: Plan, stage: int) -> str:
    shard = plan.shards[stage]
    return show_layers(shard.start, shard.end)
