"""Four-bit blocks of 32 weights in PyTorch's CPU format, and the way there from GGUF's blocks.

A weight is w = (q - 8) * scale + zero with q in 0..15, one bfloat16 (scale, zero) for 32 weights of a row.
GGUF's Q4_0 (w = d (q - 8)), Q4_1 (w = d q + m) and Q4_K (eight sub-blocks of Q4_1's form) map onto it exactly but
for the rounding of scale and zero to bfloat16; Q8_0 is two such products, of the high and the low nibble.
The product itself is `torch.ops.aten._weight_int4pack_mm_for_cpu`. This file knows no layers and no models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from exo_lab.core.weights import Weight

GROUP = 32  # weights that share a scale
FOUR_BIT_KINDS = ("Q4_0", "Q4_1", "Q4_K")
PACK_ROWS = 64  # rows of one packed block on AVX-512; what unpack() below relies on, checked by `can_unpack`
CHUNK_ROWS = 512  # rows converted at a time: bounds the int32 scratch of the packing operator


class Blocks(NamedTuple):
    """Quantised rows, not packed: q int32 (rows, columns) in 0..15; scale, zero float32 (rows, columns / 32)."""

    q: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor


def _halves(raw: np.ndarray, first: int, last: int) -> torch.Tensor:
    """float16 fields at byte offsets [first, last) of blocks: float32 (rows, blocks, fields)."""
    return torch.from_numpy(np.ascontiguousarray(raw[..., first:last]).view(np.float16).astype(np.float32))


def _nibbles(packed: torch.Tensor) -> torch.Tensor:
    """uint8 (..., n) -> int32 (..., 2 n): all low nibbles, then all high ones."""
    return torch.cat((packed & 15, packed >> 4), -1).to(torch.int32)


def _q4_0(raw: np.ndarray) -> Blocks:
    blocks = raw.reshape(raw.shape[0], -1, 18)  # float16 d, 16 bytes of nibbles
    scale = _halves(blocks, 0, 2)[..., 0]
    q = _nibbles(torch.from_numpy(np.ascontiguousarray(blocks[..., 2:])))
    return Blocks(q.flatten(1), scale, torch.zeros_like(scale))


def _q4_1(raw: np.ndarray) -> Blocks:
    blocks = raw.reshape(raw.shape[0], -1, 20)  # float16 d, float16 m, 16 bytes of nibbles
    fields = _halves(blocks, 0, 4)
    scale, low = fields[..., 0], fields[..., 1]
    q = _nibbles(torch.from_numpy(np.ascontiguousarray(blocks[..., 4:])))
    return Blocks(q.flatten(1), scale, low + 8 * scale)


def _q4_k(raw: np.ndarray) -> Blocks:
    rows = raw.shape[0]
    blocks = raw.reshape(rows, -1, 144)  # float16 d, dmin; 12 bytes of 6-bit scales and minima; 128 of nibbles
    fields = _halves(blocks, 0, 4)[..., None]  # (rows, blocks, 2, 1)
    packed = torch.from_numpy(np.ascontiguousarray(blocks[..., 4:16])).to(torch.int32)
    a, b, c = packed[..., 0:4], packed[..., 4:8], packed[..., 8:12]
    scales = torch.cat((a & 63, (c & 15) | ((a >> 6) << 4)), -1)  # (rows, blocks, 8)
    minima = torch.cat((b & 63, (c >> 4) | ((b >> 6) << 4)), -1)
    scale, low = fields[..., 0, :] * scales, -fields[..., 1, :] * minima
    nibbles = torch.from_numpy(np.ascontiguousarray(blocks[..., 16:])).view(rows, -1, 4, 32)
    return Blocks(_nibbles(nibbles).view(rows, -1), scale.view(rows, -1), (low + 8 * scale).view(rows, -1))


def _q8_0(raw: np.ndarray) -> tuple[Blocks, Blocks]:
    blocks = raw.reshape(raw.shape[0], -1, 34)  # float16 d, 32 signed bytes
    # Rounded to bfloat16 first: 16 d and 8 d are then exact, so both products use the same d.
    scale = _halves(blocks, 0, 2)[..., 0].bfloat16().float()
    q = torch.from_numpy(np.ascontiguousarray(blocks[..., 2:]).view(np.int8)).to(torch.int32).flatten(1)
    high = Blocks((q >> 4) + 8, 16 * scale, torch.zeros_like(scale))
    return high, Blocks(q & 15, scale, 8 * scale)


class Int4Matrix:
    """One (rows, columns) matrix of four-bit weights: `packed` uint8 and `scales` bfloat16 (columns/32, rows, 2)."""

    def __init__(self, packed: torch.Tensor, scales: torch.Tensor) -> None:
        self.packed, self.scales = packed, scales
        self.rows, self.columns = packed.shape[0], packed.shape[1] * 2

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.packed.nbytes + self.scales.nbytes

    def times(self, x: torch.Tensor) -> torch.Tensor:
        """bfloat16 (n, columns) -> bfloat16 (n, rows)."""
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x, self.packed, GROUP, self.scales)

    def quanta(self, rows: torch.Tensor) -> torch.Tensor:
        """q of some rows: uint8 (n, columns). `rows`: int64 (n,)."""
        blocks = self.packed.view(-1, self.columns, PACK_ROWS // 2)
        place = rows % PACK_ROWS
        half = PACK_ROWS // 2
        found = blocks[rows // PACK_ROWS, :, place % half]  # (n, columns)
        return torch.where((place < half)[:, None], found & 15, found >> 4)

    def unpack(self, start: int, end: int, out: torch.Tensor) -> torch.Tensor:
        """Dequantise packed blocks [start, end): float32 (blocks, columns, 64), written into `out` (flat scratch)."""
        count, groups, half = end - start, self.columns // GROUP, PACK_ROWS // 2
        out = out[: count * self.columns * PACK_ROWS].view(count, groups, GROUP, 2, half)
        packed = self.packed.view(-1, groups, GROUP, half)[start:end]
        out[..., 0, :] = packed & 15
        out[..., 1, :] = packed >> 4
        fields = self.scales[:, start * PACK_ROWS : end * PACK_ROWS].float()
        fields = fields.view(groups, count, PACK_ROWS, 2).transpose(0, 1)[:, :, None]  # (blocks, groups, 1, 64, 2)
        flat = out.view(count, groups, GROUP, PACK_ROWS)
        scale = fields[..., 0]
        torch.addcmul(fields[..., 1] - 8 * scale, flat, scale, out=flat)
        return flat.view(count, self.columns, PACK_ROWS)


def can_unpack() -> bool:
    """Is the packed layout the one that `unpack` and `quanta` know? It differs between instruction sets."""
    q = torch.arange(PACK_ROWS * GROUP, dtype=torch.int32).view(PACK_ROWS, GROUP) * 7 % 16
    matrix = Int4Matrix(torch.ops.aten._convert_weight_to_int4pack_for_cpu(q, 1), torch.empty(0))
    return torch.equal(matrix.quanta(torch.arange(PACK_ROWS)).to(torch.int32), q)


class _Builder:
    def __init__(self) -> None:
        self.packed: list[torch.Tensor] = []
        self.scales: list[torch.Tensor] = []

    def add(self, blocks: Blocks) -> None:
        self.packed.append(torch.ops.aten._convert_weight_to_int4pack_for_cpu(blocks.q.contiguous(), 1))
        self.scales.append(torch.stack((blocks.scale, blocks.zero), -1).bfloat16().transpose(0, 1))

    def matrix(self) -> Int4Matrix:
        return Int4Matrix(torch.cat(self.packed), torch.cat(self.scales, 1).contiguous())


def can_hold(weight: Weight) -> bool:
    """Can this tensor stay quantised? Needs a known kind and rows that fill whole packed blocks."""
    rows, columns = weight.shape[0], weight.shape[-1]
    known = weight.kind in (*FOUR_BIT_KINDS, "Q8_0")
    return known and len(weight.shape) == 2 and rows % PACK_ROWS == 0 and columns % GROUP == 0


def int4_matrices(weights: list[Weight]) -> tuple[Int4Matrix, ...]:
    """Tensors stacked by rows: one matrix for four-bit kinds, (high, low) for Q8_0. All of one class, `can_hold`."""
    high, low = _Builder(), _Builder()
    convert = {"Q4_0": _q4_0, "Q4_1": _q4_1, "Q4_K": _q4_k}
    for weight in weights:
        for start in range(0, weight.shape[0], CHUNK_ROWS):
            raw = weight.raw(start, min(start + CHUNK_ROWS, weight.shape[0]))
            if weight.kind == "Q8_0":
                for builder, blocks in zip((high, low), _q8_0(raw), strict=True):
                    builder.add(blocks)
            else:
                high.add(convert[weight.kind](raw))
    return (high.matrix(), low.matrix()) if low.packed else (high.matrix(),)
