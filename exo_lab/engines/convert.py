"""`Tensor` <-> NumPy, with dtype conversion and alignment (S23). The only place that knows bfloat16's bits."""

from __future__ import annotations

import numpy as np

from exo_lab.core.errors import FrameError
from exo_lab.core.tensor import Tensor

_NUMPY = {"float32": np.float32, "float16": np.float16, "int32": np.int32}


def to_numpy(tensor: Tensor) -> np.ndarray:
    """The tensor as float32 or int32 in memory of our own (aligned, writable), whatever buffer it came in."""
    if tensor.dtype == "bfloat16":
        bits = np.frombuffer(tensor.data, dtype=np.uint16).astype(np.uint32)
        return (bits << 16).view(np.float32).reshape(tensor.shape)
    array = np.frombuffer(tensor.data, dtype=_NUMPY[tensor.dtype]).reshape(tensor.shape)
    return array.astype(np.float32) if tensor.dtype == "float16" else array.copy()


def float_view(tensor: Tensor) -> np.ndarray:
    """The tensor as float32: the same memory if it is that already, else a copy. Not to be written to, nor kept."""
    if tensor.dtype != "float32":
        return to_numpy(tensor)
    return np.frombuffer(tensor.data, dtype=np.float32).reshape(tensor.shape)


def from_numpy(array: np.ndarray, dtype: str = "float32") -> Tensor:
    """A float or integer array as a tensor of `dtype`; bfloat16 rounds to nearest even."""
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        # NaN would round to infinity; keep it a NaN.
        rounded[np.isnan(array)] = 0x7FC0
        return Tensor("bfloat16", array.shape, rounded.data.cast("B") if rounded.size else b"")
    if dtype not in _NUMPY:
        raise FrameError(f"dtype {dtype!r} cannot be sent")
    data = np.ascontiguousarray(array, dtype=_NUMPY[dtype])
    return Tensor(dtype, array.shape, data.data.cast("B") if data.size else b"")


def tokens(ids: list[int] | tuple[int, ...]) -> Tensor:
    """Token ids as an int32 tensor (n,)."""
    return from_numpy(np.asarray(ids, dtype=np.int32), "int32")
