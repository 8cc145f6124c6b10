"""Stored rows to float32. Block formats are those of ggml-quants.c; the common ones here, others by the `gguf` library.

Ours are for speed (four to six times, no temporaries); they give the same bits as that library.
"""

from __future__ import annotations

import numpy as np

_BLOCK = 32


def dequantise(raw: np.ndarray, kind: str) -> np.ndarray:
    """uint8 (rows, bytes per row) -> float32 (rows, columns), C-contiguous. `kind` as in `core.weights`."""
    raw = np.ascontiguousarray(raw)
    match kind:
        case "F32":
            return raw.view(np.float32)
        case "F16":
            return raw.view(np.float16).astype(np.float32)
        case "BF16":
            return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        case "Q8_0":
            return _q8_0(raw)
        case "Q4_0":
            return _nibbles(raw, head_bytes=2)
        case "Q4_1":
            return _nibbles(raw, head_bytes=4)
        case _:
            return _by_library(raw, kind)


def _q8_0(raw: np.ndarray) -> np.ndarray:
    """W = d q: a float16 d, then 32 int8 q."""
    blocks = _blocks(raw, 2 + _BLOCK)
    out = blocks[..., 2:].view(np.int8).astype(np.float32)
    out *= _float16(blocks[..., :2])
    return out.reshape(len(raw), blocks.shape[1] * _BLOCK)


def _nibbles(raw: np.ndarray, head_bytes: int) -> np.ndarray:
    """Q4_0: w = d (q - 8), after a float16 d. Q4_1: w = d q + m, after float16 d and m. Low nibbles come first."""
    blocks = _blocks(raw, head_bytes + _BLOCK // 2)
    head, packed = _float16(blocks[..., :head_bytes]), blocks[..., head_bytes:]
    out = np.empty((*blocks.shape[:2], 2, _BLOCK // 2), np.float32)
    np.bitwise_and(packed, 15, out=out[..., 0, :], casting="unsafe")
    np.right_shift(packed, 4, out=out[..., 1, :], casting="unsafe")
    if head_bytes == 2:
        out -= 8
    out *= head[..., :1, None]
    if head_bytes == 4:
        out += head[..., 1:, None]
    return out.reshape(len(raw), blocks.shape[1] * _BLOCK)


def _blocks(raw: np.ndarray, size: int) -> np.ndarray:
    return raw.reshape(len(raw), raw.shape[1] // size, size)


def _float16(raw: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(raw).view(np.float16).astype(np.float32)


def _by_library(raw: np.ndarray, kind: str) -> np.ndarray:
    # Imported here: the library is not needed for common files.
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    number = GGMLQuantizationType[kind]
    if not len(raw):  # the library cannot do nothing
        block, size = GGML_QUANT_SIZES[number]
        return np.empty((0, raw.shape[1] // size * block), np.float32)
    return np.ascontiguousarray(dequantize(raw, number), dtype=np.float32)
