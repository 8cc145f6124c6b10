"""A tensor at rest: dtype, shape, bytes. What crosses between engines and over the wire.

It knows no array library, so a torch stage and a numpy stage can sit in one ring. Little-endian, C order.
"""

from __future__ import annotations

import math

from exo_lab.core.errors import FrameError

ITEM_BYTES: dict[str, int] = {"float32": 4, "float16": 2, "bfloat16": 2, "int32": 4, "int8": 1}


class Tensor:
    """dtype (a key of `ITEM_BYTES`), shape, and a contiguous buffer of exactly that many bytes."""

    __slots__ = ("data", "dtype", "shape")

    def __init__(self, dtype: str, shape: tuple[int, ...], data: bytes | bytearray | memoryview) -> None:
        """Check that dtype, shape and bytes agree; FrameError if not."""
        item = ITEM_BYTES.get(dtype)
        if item is None:
            raise FrameError(f"dtype {dtype!r} is not one of {', '.join(ITEM_BYTES)}")
        if any(side < 0 for side in shape):
            raise FrameError(f"shape {shape} has a negative side")
        view = memoryview(data)
        if view.nbytes != item * math.prod(shape):
            raise FrameError(f"{dtype} of shape {shape} needs {item * math.prod(shape)} bytes, got {view.nbytes}")
        self.dtype, self.shape, self.data = dtype, shape, view

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.data.nbytes

    def rows(self, start: int, end: int) -> Tensor:
        """Rows [start, end) of at least one, in the same memory."""
        size = self.nbytes // self.shape[0]
        return Tensor(self.dtype, (end - start, *self.shape[1:]), self.data.cast("B")[start * size : end * size])
