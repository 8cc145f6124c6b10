"""One tensor in a file: where it lies, how it is stored, and its rows as `ModelConfig` promises them.

Knows the sizes of storage kinds and how rows are reordered; not how a file is opened or what the tensor is for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exo_lab.core.weights import BLOCKS
from exo_lab.models.dequant import dequantise
from exo_lab.models.layout import read_permuted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np


class TensorInfo(NamedTuple):
    """Where a tensor lies. `shape` is logical: rows first. `offset` counts from the start of the file."""

    name: str
    kind: str
    shape: tuple[int, ...]
    file: Path
    offset: int
    nbytes: int


def row_bytes(kind: str, columns: int) -> int:
    """Bytes of one row of `columns` weights."""
    block, block_bytes = BLOCKS[kind]
    return columns // block * block_bytes


class StoredWeight:
    """See `core.weights.Weight`.

    Args:
        info: of the tensor.
        read: gives `size` bytes from byte `start` of the tensor on, as uint8 (size,) of the caller's own.
        head_dim: rows of a head if its rows are half-split in the file, 0 if they are in order.
    """

    def __init__(self, info: TensorInfo, read: Callable[[int, int], np.ndarray], head_dim: int = 0) -> None:
        self._info, self._read, self._head_dim = info, read, head_dim
        # A vector's rows are its elements; it is always stored as floats.
        columns = info.shape[1] if len(info.shape) == 2 else 1
        self._row_bytes = row_bytes(info.kind, columns)

    @property
    def name(self) -> str:
        """GGUF tensor name."""
        return self._info.name

    @property
    def kind(self) -> str:
        """How it is stored, a key of `BLOCKS`."""
        return self._info.kind

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns) or (n,)."""
        return self._info.shape

    def raw(self, start: int = 0, end: int | None = None) -> np.ndarray:
        """Stored bytes of rows [start, end): uint8 (rows, bytes per row); a vector whole: (1, bytes).

        Raises:
            IndexError: the tensor has no such rows.
        """
        rows = self.shape[0]
        if len(self.shape) == 1:
            return self._rows(0, rows).reshape(1, -1)
        end = rows if end is None else end
        if not 0 <= start <= end <= rows:
            raise IndexError(f"{self.name} has rows [0, {rows}), not [{start}, {end})")
        return self._rows(start, end)

    def to_float32(self, start: int = 0, end: int | None = None) -> np.ndarray:
        """Rows [start, end) as float32 (rows, columns); a vector whole: (n,). IndexError as `raw`."""
        values = dequantise(self.raw(start, end), self.kind)
        return values if len(self.shape) == 2 else values.reshape(-1)

    def _rows(self, start: int, end: int) -> np.ndarray:
        """Rows in the promised order: uint8 (end - start, bytes per row)."""
        if not self._head_dim:
            return self._as_stored(start, end)
        return read_permuted(self._as_stored, start, end, self._head_dim, self.shape[0])

    def _as_stored(self, start: int, end: int) -> np.ndarray:
        size = self._row_bytes
        return self._read(start * size, (end - start) * size).reshape(end - start, size)
