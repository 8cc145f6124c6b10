"""Which colour, hatching and number a device has. The same on every node, since it follows from the names alone.

Colours are those of Okabe and Ito (2008), chosen to be told apart by people with any kind of colour vision, without
black. Colour never stands alone: every device also has a hatching and a number. Hatchings are drawn as plain paths,
not as SVG patterns, whose ids would clash between the outputs of one notebook.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

COLOURS: tuple[str, ...] = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#8C8C8C")
HATCHINGS: tuple[str, ...] = ("plain", "rising", "level", "dots", "falling", "upright", "cross")
SYMBOLS = "123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # one character a layer in the text strip


class Mark(msgspec.Struct, frozen=True):
    """How one device is shown everywhere. `index` counts from 0."""

    index: int

    @property
    def number(self) -> str:
        """Shown to people, from 1."""
        return str(self.index + 1)

    @property
    def symbol(self) -> str:
        """One character for text strips; "+" beyond 35 devices."""
        return SYMBOLS[self.index] if self.index < len(SYMBOLS) else "+"

    @property
    def colour(self) -> str:
        """Fill, "#rrggbb"."""
        return COLOURS[self.index % len(COLOURS)]

    @property
    def ink(self) -> str:
        """Black or white, whichever reads better on `colour`."""
        return "#000000" if _luminance(self.colour) > 0.18 else "#ffffff"

    @property
    def hatching(self) -> str:
        """One of `HATCHINGS`; with 8 colours and 7 hatchings the first 56 devices all differ."""
        return HATCHINGS[self.index % len(HATCHINGS)]


def assign(devices: Iterable[tuple[str, str]]) -> dict[str, Mark]:
    """A mark for each (id, name), by natural order of the names: node-2 comes before node-10."""
    ordered = sorted(set(devices), key=lambda device: (natural(device[1]), device[0]))
    return {device: Mark(index) for index, device in enumerate(dict.fromkeys(device for device, _ in ordered))}


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key that takes the digits in a name as numbers."""
    parts = re.findall(r"[0-9]{1,18}|[^0-9]+|[0-9]+", name)
    return tuple((0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part.casefold()) for part in parts)


def hatch(kind: str, x: float, y: float, w: float, h: float, step: float = 6.0) -> str:
    """SVG path data of a hatching inside the rectangle; empty for "plain"."""
    match kind:
        case "rising":
            return _slanted(x, y, w, h, step, rising=True)
        case "falling":
            return _slanted(x, y, w, h, step, rising=False)
        case "cross":
            return _slanted(x, y, w, h, step * 1.4, rising=True) + _slanted(x, y, w, h, step * 1.4, rising=False)
        case "level":
            return "".join(f"M{_n(x)} {_n(at)}h{_n(w)}" for at in _between(y, h, step))
        case "upright":
            return "".join(f"M{_n(at)} {_n(y)}v{_n(h)}" for at in _between(x, w, step))
        case "dots":
            # A line of no length with round ends is a dot.
            return "".join(f"M{_n(cx)} {_n(cy)}h0" for cy in _between(y, h, step) for cx in _between(x, w, step))
        case _:
            return ""


def _between(start: float, length: float, step: float) -> list[float]:
    count = max(1, int(length // step))
    return [start + length * (k + 0.5) / count for k in range(count)]


def _slanted(x: float, y: float, w: float, h: float, step: float, *, rising: bool) -> str:
    """Lines at 45 degrees, cut at the rectangle's edges. A rising line is where across + up = c."""
    path = ""
    count = max(1, int((w + h) // step))
    for k in range(count):
        c = (w + h) * (k + 0.5) / count
        x0, x1 = max(0.0, c - h), min(w, c)  # where it enters and leaves
        if rising:
            path += f"M{_n(x + x0)} {_n(y + c - x0)}L{_n(x + x1)} {_n(y + c - x1)}"
        else:
            path += f"M{_n(x + x0)} {_n(y + h - c + x0)}L{_n(x + x1)} {_n(y + h - c + x1)}"
    return path


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2, in [0, 1]."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
