"""From GGUF's quantised blocks to four-bit matrices.

Q4_0 (w = d (q - 8)), Q4_1 (w = d q + m) and Q4_K (eight sub-blocks of Q4_1's form) map onto w = (q - 8) * scale + zero
exactly but for the rounding of scale and zero to bfloat16; Q8_0 is two such matrices, of the high and the low nibble.
Block formats are ggml's (ggml-common.h). This file knows no layers and no models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from exo_lab.engines.int4 import GROUP, Int4Matrix, layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exo_lab.core.weights import Weight

CHUNK_WEIGHTS = 1 << 17  # converted at a time: bounds the scratch, which is int32


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


def _q4_0(raw: np.ndarray) -> tuple[Blocks, ...]:
    blocks = raw.reshape(raw.shape[0], -1, 18)  # float16 d, 16 bytes of nibbles
    scale = _halves(blocks, 0, 2)[..., 0]
    q = _nibbles(torch.from_numpy(np.ascontiguousarray(blocks[..., 2:])))
    return (Blocks(q.flatten(1), scale, torch.zeros_like(scale)),)


def _q4_1(raw: np.ndarray) -> tuple[Blocks, ...]:
    blocks = raw.reshape(raw.shape[0], -1, 20)  # float16 d, float16 m, 16 bytes of nibbles
    scale, low = _halves(blocks, 0, 4).unbind(-1)
    q = _nibbles(torch.from_numpy(np.ascontiguousarray(blocks[..., 4:])))
    return (Blocks(q.flatten(1), scale, low + 8 * scale),)


def _q4_k(raw: np.ndarray) -> tuple[Blocks, ...]:
    rows = raw.shape[0]
    blocks = raw.reshape(rows, -1, 144)  # float16 d, dmin; 12 bytes of 6-bit scales and minima; 128 of nibbles
    fields = _halves(blocks, 0, 4)[..., None]  # (rows, blocks, 2, 1)
    packed = torch.from_numpy(np.ascontiguousarray(blocks[..., 4:16])).to(torch.int32)
    a, b, c = packed[..., 0:4], packed[..., 4:8], packed[..., 8:12]
    scales = torch.cat((a & 63, (c & 15) | ((a >> 6) << 4)), -1)  # (rows, blocks, 8)
    minima = torch.cat((b & 63, (c >> 4) | ((b >> 6) << 4)), -1)
    scale, low = fields[..., 0, :] * scales, -fields[..., 1, :] * minima
    nibbles = torch.from_numpy(np.ascontiguousarray(blocks[..., 16:])).view(rows, -1, 4, 32)
    return (Blocks(_nibbles(nibbles).view(rows, -1), scale.view(rows, -1), (low + 8 * scale).view(rows, -1)),)


def _q8_0(raw: np.ndarray) -> tuple[Blocks, ...]:
    blocks = raw.reshape(raw.shape[0], -1, 34)  # float16 d, 32 signed bytes
    # Rounded to bfloat16 first: 16 d and 8 d are then exact, so both products use the same d.
    scale = _halves(blocks, 0, 2)[..., 0].bfloat16().float()
    q = torch.from_numpy(np.ascontiguousarray(blocks[..., 2:]).view(np.int8)).to(torch.int32).flatten(1)
    high = Blocks((q >> 4) + 8, 16 * scale, torch.zeros_like(scale))
    return high, Blocks(q & 15, scale, 8 * scale)


CONVERTERS = {"Q4_0": _q4_0, "Q4_1": _q4_1, "Q4_K": _q4_k, "Q8_0": _q8_0}


def parts(weight: Weight) -> int:
    """Into how many four-bit matrices a tensor goes; 0 if it cannot stay quantised.

    It needs a known kind, rows that fill whole packed blocks, and a processor whose packed layout is known.
    """
    lay = layout()
    if lay is None or weight.kind not in CONVERTERS or len(weight.shape) != 2:
        return 0
    rows, columns = weight.shape
    if rows % lay.rows or columns % GROUP:
        return 0
    return 2 if weight.kind == "Q8_0" else 1


def chunks(weight: Weight, block: int = 1) -> Iterator[tuple[int, int]]:
    """Row ranges [start, end) that cover a matrix, each of about `CHUNK_WEIGHTS` weights and whole blocks of rows."""
    rows, columns = weight.shape
    step = max(CHUNK_WEIGHTS // columns // block, 1) * block
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def int4_matrices(weights: list[Weight]) -> tuple[Int4Matrix, ...]:
    """Tensors stacked by rows, as one matrix, or as two whose products are added. `parts` is the same for all."""
    rows = sum(weight.shape[0] for weight in weights)
    matrices = tuple(Int4Matrix(rows, weights[0].shape[1]) for _ in range(parts(weights[0])))
    at = 0
    for weight in weights:
        for start, end in chunks(weight, matrices[0].layout.rows):
            for matrix, blocks in zip(matrices, CONVERTERS[weight.kind](weight.raw(start, end)), strict=True):
                matrix.put(at, *blocks)
            at += end - start
    return matrices
