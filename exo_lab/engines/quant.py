"""From GGUF's quantised blocks to matrices that stay quantised.

Q4_0 (w = d (q - 8)), Q4_1 (w = d q + m) and Q4_K (eight sub-blocks of Q4_1's form) are w = q * scale + low with q in
0..15; Q8_0 is w = q * scale with a signed byte. Our own kernels hold both forms; PyTorch's operator holds the first,
and the second as two of the first, of the high and the low nibble. Block formats are ggml's (ggml-common.h).
This file knows no layers and no models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from exo_lab.engines import native, native_matrix
from exo_lab.engines.int4 import GROUP, Int4Matrix, layout
from exo_lab.engines.native_matrix import NativeMatrix

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Iterator

    from exo_lab.core.weights import Weight

CHUNK_WEIGHTS = 1 << 17  # converted at a time: bounds the scratch, which is int32


class Blocks(NamedTuple):
    """Quantised rows, w = q * scale + low: q uint8 in 0..15, or int8 for eight bits; scale, low float32."""

    q: torch.Tensor  # (rows, columns)
    scale: torch.Tensor  # (rows, columns / 32)
    low: torch.Tensor  # (rows, columns / 32)


def _halves(raw: np.ndarray, first: int, last: int) -> torch.Tensor:
    """float16 fields at byte offsets [first, last) of blocks: float32 (rows, blocks, fields)."""
    return torch.from_numpy(np.ascontiguousarray(raw[..., first:last]).view(np.float16).astype(np.float32))


def _nibbles(packed: torch.Tensor) -> torch.Tensor:
    """uint8 (..., n) -> (..., 2 n): all low nibbles, then all high ones."""
    return torch.cat((packed & 15, packed >> 4), -1)


def _q4_0(raw: np.ndarray) -> Blocks:
    blocks = raw.reshape(raw.shape[0], -1, 18)  # float16 d, 16 bytes of nibbles
    scale = _halves(blocks, 0, 2)[..., 0]
    q = _nibbles(torch.from_numpy(np.ascontiguousarray(blocks[..., 2:])))
    return Blocks(q.flatten(1), scale, -8 * scale)


def _q4_1(raw: np.ndarray) -> Blocks:
    blocks = raw.reshape(raw.shape[0], -1, 20)  # float16 d, float16 m, 16 bytes of nibbles
    scale, low = _halves(blocks, 0, 4).unbind(-1)
    q = _nibbles(torch.from_numpy(np.ascontiguousarray(blocks[..., 4:])))
    return Blocks(q.flatten(1), scale, low)


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
    return Blocks(_nibbles(nibbles).view(rows, -1), scale.view(rows, -1), low.view(rows, -1))


def _q8_0(raw: np.ndarray) -> Blocks:
    blocks = raw.reshape(raw.shape[0], -1, 34)  # float16 d, 32 signed bytes
    scale = _halves(blocks, 0, 2)[..., 0]
    q = torch.from_numpy(np.ascontiguousarray(blocks[..., 2:]).view(np.int8))
    return Blocks(q.flatten(1), scale, torch.zeros_like(scale))


CONVERTERS = {"Q4_0": _q4_0, "Q4_1": _q4_1, "Q4_K": _q4_k, "Q8_0": _q8_0}


def nibbles(blocks: Blocks) -> tuple[Blocks, Blocks]:
    """Eight bits as the sum of twice four: 16 (q >> 4) and q & 15, each times the scale."""
    # Rounded to bfloat16 first: 16 d and 8 d are then exact, so both products use the same d.
    q, scale = blocks.q, blocks.scale.bfloat16().float()
    high = Blocks(((q >> 4) + 8).to(torch.uint8), 16 * scale, -128 * scale)
    return high, Blocks((q & 15).to(torch.uint8), scale, torch.zeros_like(scale))


def block_rows() -> int:
    """Rows that lie side by side in memory and so must be filled; 0 if nothing can stay quantised on this processor."""
    if native.library(torch.get_num_threads()) is not None:
        return native_matrix.ROWS
    lay = layout()
    return 0 if lay is None else lay.rows


def bits(weight: Weight) -> int:
    """Of a tensor that can stay quantised; 0 if it cannot: another kind, or rows that do not fill blocks."""
    block = block_rows()
    if not block or weight.kind not in CONVERTERS or len(weight.shape) != 2:
        return 0
    rows, columns = weight.shape
    if rows % block or columns % GROUP:
        return 0
    return 8 if weight.kind == "Q8_0" else 4


def chunks(weight: Weight, block: int = 1) -> Iterator[tuple[int, int]]:
    """Row ranges [start, end) that cover a matrix, each of about `CHUNK_WEIGHTS` weights and whole blocks of rows."""
    rows, columns = weight.shape
    step = max(CHUNK_WEIGHTS // columns // block, 1) * block
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def native_matrix_of(weights: list[Weight], kernels: ctypes.CDLL) -> NativeMatrix:
    """Tensors of as many bits, stacked by rows, for our own kernels."""
    rows = sum(weight.shape[0] for weight in weights)
    matrix = NativeMatrix(kernels, bits(weights[0]), rows, weights[0].shape[1])
    at = 0
    for weight in weights:
        for start, end in chunks(weight, native_matrix.ROWS):
            matrix.put(at, *CONVERTERS[weight.kind](weight.raw(start, end)))
            at += end - start
    return matrix


def int4_matrices(weights: list[Weight]) -> tuple[Int4Matrix, ...]:
    """Tensors of as many bits, stacked by rows, for PyTorch's operator: one matrix, or two whose products are added."""
    rows, eight = sum(weight.shape[0] for weight in weights), bits(weights[0]) == 8
    matrices = tuple(Int4Matrix(rows, weights[0].shape[1]) for _ in range(2 if eight else 1))
    at = 0
    for weight in weights:
        for start, end in chunks(weight, matrices[0].layout.rows):
            found = CONVERTERS[weight.kind](weight.raw(start, end))
            for matrix, blocks in zip(matrices, nibbles(found) if eight else (found,), strict=True):
                matrix.put(at, *blocks)
            at += end - start
    return matrices
