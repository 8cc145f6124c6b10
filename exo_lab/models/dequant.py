"""Stored rows to float32. The block formats are ggml's; the arithmetic is that of the `gguf` library."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable


def dequantise(raw: np.ndarray, kind: str) -> np.ndarray:
    """uint8 (rows, bytes per row) -> float32 (rows, columns), C-contiguous."""
    match kind:
        case "F32":
            return np.ascontiguousarray(raw).view(np.float32)
        case "F16":
            return np.ascontiguousarray(raw).view(np.float16).astype(np.float32)
        case "BF16":
            return (np.ascontiguousarray(raw).view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        case _:
            # Imported here: the library is not needed for float files.
            from gguf import GGMLQuantizationType
            from gguf.quants import dequantize

            to_float: Callable[..., np.ndarray] = dequantize
            return np.ascontiguousarray(to_float(raw, GGMLQuantizationType[kind]), dtype=np.float32)
