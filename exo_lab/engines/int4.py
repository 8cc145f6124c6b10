"""A matrix of four-bit weights as PyTorch keeps it on a CPU: multiply with it, unpack it, look up its rows.

A weight is w = (q - 8) * scale + zero with q in 0..15, one bfloat16 (scale, zero) for 32 weights of a row. The product
of a few positions is `torch.ops.aten._weight_int4pack_mm_for_cpu`. For many positions plain products of unpacked
weights are faster, so we must know how the operator packs; that differs between instruction sets and is found by
asking it (`layout`). This file knows no file formats and no layers.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch

GROUP = 32  # weights that share a scale
_multiply = torch.ops.aten._weight_int4pack_mm_for_cpu.default
_pack = torch.ops.aten._convert_weight_to_int4pack_for_cpu.default


class Layout(NamedTuple):
    """How weights lie in memory: blocks of `rows`; in a block column after column, rows / 2 bytes each.

    A byte's low and high nibble belong to rows j and j + rows / 2 of its block (`halves`), else to 2j and 2j + 1.
    """

    rows: int
    halves: bool


# AVX-512, AVX2, and everything else, as of PyTorch 2.13 (aten/src/ATen/native/cpu/int4mm_kernel.cpp).
KNOWN_LAYOUTS = (Layout(64, True), Layout(32, True), Layout(32, False))


@functools.cache
def layout() -> Layout | None:
    """The layout that this processor's operator uses; None if it is none that we know."""
    rows, columns = 2 * KNOWN_LAYOUTS[0].rows, 2 * GROUP
    q = torch.randint(16, (rows, columns), generator=torch.Generator().manual_seed(1), dtype=torch.int32)
    packed = _pack(q, 1)
    for candidate in KNOWN_LAYOUTS:
        found = _quanta(packed, torch.arange(rows), candidate)
        if torch.equal(found.to(torch.int32), q):
            return candidate
    return None


def _quanta(packed: torch.Tensor, rows: torch.Tensor, lay: Layout) -> torch.Tensor:
    """Q of some rows: uint8 (n, columns)."""
    half = lay.rows // 2
    blocks = packed.view(-1, packed.shape[1] * 2, half)
    place = rows % lay.rows
    byte, high = (place % half, place >= half) if lay.halves else (place // 2, place % 2 == 1)
    found = blocks[rows // lay.rows, :, byte]  # (n, columns)
    return torch.where(high[:, None], found >> 4, found & 15)


class Int4Matrix:
    """(rows, columns) weights: `packed` uint8 (rows, columns / 2), `scales` bfloat16 (columns / 32, rows, 2).

    Made empty and filled by rows: `put` writes what is to stay, so that loading needs no second copy of a matrix.
    """

    def __init__(self, rows: int, columns: int) -> None:
        lay = layout()
        if lay is None:
            raise RuntimeError("the layout of packed four-bit weights is not known on this processor")
        self.rows, self.columns, self.layout = rows, columns, lay
        self.packed = torch.empty(rows, columns // 2, dtype=torch.uint8)
        self.scales = torch.empty(columns // GROUP, rows, 2, dtype=torch.bfloat16)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.packed.nbytes + self.scales.nbytes

    def put(self, start: int, q: torch.Tensor, scale: torch.Tensor, low: torch.Tensor) -> None:
        """Set rows [start, start + n): w = q * scale + low. `start` and n are multiples of the layout's rows.

        Args:
            start: first row.
            q: uint8 (n, columns) in 0..15.
            scale: float32 (n, columns / 32).
            low: likewise.
        """
        end = start + q.shape[0]
        self.packed[start:end] = _pack(q.to(torch.int32), 1)
        self.scales[:, start:end, 0] = scale.t()
        self.scales[:, start:end, 1] = (low + 8 * scale).t()

    def times(self, x: torch.Tensor) -> torch.Tensor:
        """bfloat16 (n, columns) -> bfloat16 (n, rows)."""
        return _multiply(x, self.packed, GROUP, self.scales)

    def lookup(self, rows: torch.Tensor) -> torch.Tensor:
        """Some rows, dequantised: int64 (n,) -> float32 (n, columns)."""
        fields = self.scales[:, rows].float().permute(1, 0, 2)[..., None]  # (n, groups, 2, 1)
        q = _quanta(self.packed, rows, self.layout).float().view(len(rows), -1, GROUP) - 8  # (n, groups, 32)
        return (q * fields[:, :, 0] + fields[:, :, 1]).flatten(1)

    def unpack(self, start: int, end: int, scratch: torch.Tensor) -> torch.Tensor:
        """Blocks [start, end) of `layout.rows` rows, dequantised and transposed: float32 (blocks, columns, rows).

        Written into `scratch`, float32 and flat, which must be large enough.
        """
        count, groups, rows = end - start, self.columns // GROUP, self.layout.rows
        flat = scratch[: count * self.columns * rows]
        packed = self.packed.view(-1, self.columns, rows // 2)[start:end]
        if self.layout.halves:
            nibbles = flat.view(count, self.columns, 2, rows // 2).unbind(2)
        else:
            nibbles = flat.view(count, self.columns, rows // 2, 2).unbind(3)
        nibbles[0].copy_(packed & 15)
        nibbles[1].copy_(packed >> 4)
        fields = self.scales[:, start * rows : end * rows]
        # Scales are copied out first: a stride of 2 would keep the large operation below from being vectorised.
        scale = fields[..., 0].float()  # (groups, blocks * rows)
        zero = fields[..., 1].float().sub_(scale, alpha=8)
        scale, zero = (part.view(groups, count, 1, rows).transpose(0, 1) for part in (scale, zero))
        weights = flat.view(count, groups, GROUP, rows)
        torch.addcmul(zero, weights, scale, out=weights)
        return flat.view(count, self.columns, rows)
