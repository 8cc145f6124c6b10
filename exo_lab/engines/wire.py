"""Hidden states as they travel: float32, bfloat16 (to nearest even), or int8 with a float32 scale for each block.

Every row is rounded by itself, so neither chunks nor batches change a bit. Knows no plan and no socket. An int8 tensor
is (n, 4 * scales + hidden): the little-endian scales of a row, then its values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from exo_lab.core.errors import FrameError, NodeError
from exo_lab.core.tensor import Tensor
from exo_lab.core.wire import INT8_BLOCK, SCALE_BYTES, int8_scales
from exo_lab.engines import convert

if TYPE_CHECKING:
    from exo_lab.core.wire import Wire

LEVELS = 127  # of int8 on either side of zero; -128 is not used
MAX_SCALE = np.finfo(np.float32).max / np.float32(128)  # whatever int8 is multiplied with it, it stays finite


def pack(hidden: Tensor, wire: Wire) -> Tensor:
    """Hidden states (n, hidden), any float dtype, for the wire. Float32 sends them as the engine made them.

    Raises:
        NodeError: there are infinities or NaN in them, for which int8 has no place.
    """
    if wire == "float32" or hidden.dtype == wire:
        return hidden
    rows = convert.to_numpy(hidden)
    return convert.from_numpy(rows, "bfloat16") if wire == "bfloat16" else _to_int8(rows)


def unpack(tensor: Tensor, wire: Wire, hidden_size: int) -> Tensor:
    """What `pack` made, as an engine takes it; float32 and bfloat16 stay as they are.

    Raises:
        FrameError: a scale that is negative, infinite or NaN.
    """
    return _from_int8(tensor, hidden_size) if wire == "int8" else tensor


def packed_width(hidden_size: int, wire: Wire) -> int:
    """Elements of a row on the wire."""
    return hidden_size + SCALE_BYTES * int8_scales(hidden_size) if wire == "int8" else hidden_size


def rounded(hidden: Tensor, wire: Wire) -> Tensor:
    """What the other side of a wire would see."""
    return unpack(pack(hidden, wire), wire, hidden.shape[1])


def _to_int8(rows: np.ndarray) -> Tensor:
    """The error of a value is at most half a scale, a scale the largest value of its block by 127."""
    count, hidden = rows.shape
    starts = np.arange(0, hidden, INT8_BLOCK)
    largest = np.maximum.reduceat(np.abs(rows), starts, axis=1)  # (n, scales)
    scales = (largest / np.float32(LEVELS)).astype("<f4")
    if not (scales <= MAX_SCALE).all():  # nor is NaN
        raise NodeError(
            "hidden states have infinities or NaN in them, which int8 cannot carry. Load with wire='float32' to see "
            "where they come from."
        )
    # A scale so small that it is no normal number would lose bits of its own: such a block is as good as zero.
    scales[scales < np.finfo(np.float32).tiny] = 0
    spread = np.repeat(scales, INT8_BLOCK, axis=1)[:, :hidden]
    values = np.rint(np.divide(rows, spread, out=np.zeros_like(rows), where=spread > 0))
    packed = np.empty((count, SCALE_BYTES * len(starts) + hidden), dtype=np.uint8)
    packed[:, : SCALE_BYTES * len(starts)] = scales.view(np.uint8)
    packed[:, SCALE_BYTES * len(starts) :] = np.clip(values, -LEVELS, LEVELS).astype(np.int8).view(np.uint8)
    return Tensor("int8", packed.shape, packed.data.cast("B"))


def _from_int8(tensor: Tensor, hidden: int) -> Tensor:
    count, head = tensor.shape[0], SCALE_BYTES * int8_scales(hidden)
    packed = np.frombuffer(tensor.data, dtype=np.uint8).reshape(count, head + hidden)
    scales = packed[:, :head].copy().view("<f4")
    if not ((scales >= 0) & (scales <= MAX_SCALE)).all():
        raise FrameError("int8 hidden states came with a scale that is negative, much too large or no number")
    values = packed[:, head:].view(np.int8).astype(np.float32)
    return convert.from_numpy(values * np.repeat(scales, INT8_BLOCK, axis=1)[:, :hidden])
