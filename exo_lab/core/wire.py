"""In what precision hidden states go from one stage to the next, and how many bytes that takes.

A rounding belongs to a place between two layers and to a plan, not to a link: where a plan that takes over running
generations is cut elsewhere, its stages round at the same places, so that the same tokens follow.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import msgspec

Wire = Literal["float32", "bfloat16", "int8"]
WIRES: tuple[Wire, ...] = get_args(Wire)
WIRE_CHOICES = ("auto", *WIRES)

# Columns of a row that share an int8 scale. One scale a row would be ruined by the few columns in which a model keeps
# values hundreds of times larger than all others; docs/performance.md has what each gives.
INT8_BLOCK = 64
SCALE_BYTES = 4


class Rounding(msgspec.Struct, frozen=True, array_like=True):
    """Hidden states that enter `layer` are rounded to `dtype`: on the wire if a stage begins there, else in memory."""

    layer: int
    dtype: Literal["bfloat16", "int8"]


def int8_scales(hidden_size: int) -> int:
    """How many scales a row of int8 has."""
    return math.ceil(hidden_size / INT8_BLOCK)


def row_bytes(hidden_size: int, wire: Wire) -> int:
    """Bytes of the hidden states of one position."""
    match wire:
        case "float32":
            return 4 * hidden_size
        case "bfloat16":
            return 2 * hidden_size
        case "int8":
            return hidden_size + SCALE_BYTES * int8_scales(hidden_size)
