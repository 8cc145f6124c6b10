"""Shapes that the drawings share: a device's filled and hatched box, text, the outer element. Pure.

No ids, no styles in the document, no scripts: see `html`. Text is drawn in the reader's own colour except on a fill.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from exo_lab.front.html import INK, esc
from exo_lab.front.palette import hatch

if TYPE_CHECKING:
    from exo_lab.front.palette import Mark

SCHEMES = (
    "<style>:root{--jp-ui-font-color1:#1f1f1f}"
    "@media(prefers-color-scheme:dark){:root{--jp-ui-font-color1:#e6e6e6}}</style>"
)
FONT = "var(--jp-ui-font-family,system-ui,sans-serif)"
EDGE = 'stroke="currentColor" stroke-opacity="0.55"'


def picture(width: float, height: float, name: str, content: str) -> str:
    """The outer element; `name` is what a screen reader says instead of the drawing."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {n(width)} {n(height)}" width="{n(width)}" '
        f'height="{n(height)}" role="img" aria-label="{esc(name)}" font-family="{FONT}" font-size="12" '
        f'style="max-width:100%;height:auto;color:{INK};display:block;margin:2px 0">{content}</svg>'
    )


def as_file(svg: str) -> str:
    """A drawing that is a file of its own: it follows the reader's light or dark scheme by itself."""
    return svg.replace(">", f">{SCHEMES}", 1).replace(f"color:{INK};display:block", "color:var(--jp-ui-font-color1)")


def box(x: float, y: float, w: float, h: float, mark: Mark, *, radius: float = 0, emulated: bool = False) -> str:
    """A device's colour and hatching in a rectangle; a dashed edge says that it is emulated."""
    corner = f' rx="{n(radius)}"' if radius else ""
    place = f'x="{n(x)}" y="{n(y)}" width="{n(w)}" height="{n(h)}"{corner}'
    inset = radius * 0.3  # so that no line leaves a round corner
    lines = hatch(mark.hatching, x + inset, y + inset, w - 2 * inset, h - 2 * inset)
    pattern = ""
    if lines:
        pattern = (
            f'<path d="{lines}" fill="none" stroke="{mark.ink}" stroke-opacity="0.45" stroke-width="1.4" '
            'stroke-linecap="round"/>'
        )
    dash = ' stroke-dasharray="4 3" stroke-width="2"' if emulated else ""
    return f'<rect {place} fill="{mark.colour}"/>{pattern}<rect {place} fill="none" {EDGE}{dash}/>'


def label(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    size: float = 12,
    fill: str = "currentColor",
    bold: bool = False,
    faint: bool = False,
) -> str:
    """Text, escaped here. `y` is the base line."""
    weight = ' font-weight="700"' if bold else ""
    opacity = ' fill-opacity="0.75"' if faint else ""
    return (
        f'<text x="{n(x)}" y="{n(y)}" text-anchor="{anchor}" font-size="{n(size)}" fill="{fill}"{weight}{opacity}>'
        f"{esc(text)}</text>"
    )


def pill(cx: float, cy: float, mark: Mark) -> str:
    """A device's number on its plain colour, readable over any hatching."""
    w = 9 + 8 * len(mark.number)
    return (
        f'<rect x="{n(cx - w / 2)}" y="{n(cy - 9)}" width="{n(w)}" height="18" rx="4" fill="{mark.colour}"/>'
        + label(cx, cy + 4.5, mark.number, anchor="middle", size=13, fill=mark.ink, bold=True)
    )


def card(x: float, y: float, w: float, h: float, mark: Mark, *, emulated: bool) -> str:
    """A device's frame around (x, y), with its colour, hatching and number at the left; 37 are left free for those."""
    left, top = x - w / 2, y - h / 2
    return (
        f'<rect x="{n(left)}" y="{n(top)}" width="{w:g}" height="{h:g}" rx="6" '
        'fill="var(--jp-layout-color1,transparent)" stroke="currentColor" stroke-opacity="0.55"'
        + (' stroke-dasharray="4 3"/>' if emulated else "/>")
        + box(left, top, 30, h, mark, radius=6, emulated=emulated)
        + pill(left + 15, y, mark)
    )


def swatch(mark: Mark, *, emulated: bool = False) -> str:
    """A device's colour and hatching and, as text beside it, its number: where drawings are dropped, that stays."""
    shape = box(1, 1, 24, 14, mark, radius=2, emulated=emulated)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 26 16" width="26" height="16" aria-hidden="true" '
        f'style="vertical-align:-3px;margin-right:6px;color:{INK}">{shape}</svg>'
        f'<b style="margin-right:8px">{mark.number}</b>'
    )


def leave(
    a: tuple[float, float], b: tuple[float, float], w: float, h: float, offset: tuple[float, float] = (0.0, 0.0)
) -> tuple[float, float]:
    """Where the line from the middle of box a to that of box b leaves box a; both are `w` by `h`."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    half_w, half_h = w / 2 + 3, h / 2 + 3
    scale = min(half_w / abs(dx) if dx else math.inf, half_h / abs(dy) if dy else math.inf)
    return a[0] + dx * scale + offset[0], a[1] + dy * scale + offset[1]


def n(value: float) -> str:
    """A coordinate, one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def text_width(text: str, size: float = 12) -> float:
    """A cautious guess at how wide a text is drawn; there is nothing here to measure it with."""
    return 0.56 * size * len(text)


def fit(text: str, room: float, size: float = 12) -> str:
    """The text, cut so that it fits; empty where too little of it would be left to know it by."""
    characters = int(room / (0.56 * size))
    if len(text) <= characters:
        return text
    return text[: characters - 1] + "…" if characters >= 10 else ""
