"""A quantised matrix for our own kernels (`kernels/matrix.c`): four- or eight-bit weights, 16 rows side by side.

Weights are what the file says to the bit: scales stay float16, sums are made in float32 and not rounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import ctypes

ROWS = 16  # rows of a block
GROUP = 32  # weights that share a scale
_BLOCK_BYTES = {4: 320, 8: 544}  # 16 rows of a group


class NativeMatrix:
    """(rows, columns) weights. See `Linear`.

    Made empty and filled by rows, so that loading needs no second copy of a matrix.

    Args:
        library: of `native.library()`.
        bits: 4 or 8.
        rows: a multiple of 16.
        columns: a multiple of 32.
    """

    def __init__(self, library: ctypes.CDLL, bits: int, rows: int, columns: int) -> None:
        self.bits, self.row_count, self.columns, self._groups = bits, rows, columns, columns // GROUP
        self._library = library
        self.packed = torch.empty(rows // ROWS, self._groups, _BLOCK_BYTES[bits], dtype=torch.uint8)
        self.nbytes = self.packed.nbytes
        self._address = self.packed.data_ptr()
        self._times = getattr(library, f"exo_times{bits}")
        self._lookup = getattr(library, f"exo_rows{bits}")
        self._room = torch.empty(0)

    def put(self, start: int, q: torch.Tensor, scale: torch.Tensor, low: torch.Tensor) -> None:
        """Set rows [start, start + n), whole blocks: w = q * scale + low.

        Args:
            start: first row.
            q: uint8 in 0..15, or int8 for eight bits, (n, columns).
            scale: (n, columns / 32), stored as float16.
            low: likewise; zero, and not looked at, for eight bits.
        """
        q, scale = q.contiguous(), scale.to(torch.float16).contiguous()
        at = self.packed[start // ROWS].data_ptr()
        if self.bits == 8:
            self._library.exo_pack8(q.data_ptr(), scale.data_ptr(), at, q.shape[0], self._groups)
            return
        low = low.to(torch.float16).contiguous()
        self._library.exo_pack4(q.data_ptr(), scale.data_ptr(), low.data_ptr(), at, q.shape[0], self._groups)

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """See `Linear.product`. bfloat16 (n, columns) -> float32 (n, rows); each row is the same for every n."""
        x = x.to(torch.bfloat16).contiguous()
        count, columns = x.shape
        if columns != self.columns:  # the kernel would read what is not there
            raise ValueError(f"a matrix of {self.columns} columns cannot take {columns} values")
        if count * columns > self._room.numel():
            self._room = torch.empty(count * columns)
        out = torch.empty(count, self.row_count)
        self._times(
            self._address, x.data_ptr(), self._room.data_ptr(), out.data_ptr(), count, self.row_count, self._groups,
            torch.get_num_threads(),
        )  # fmt: skip
        return out

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        """See `Linear.rows`. float32; IndexError for a row that is not there."""
        ids = ids.to(torch.int64).contiguous()
        if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= self.row_count):
            raise IndexError(f"rows {ids.tolist()} of a matrix that has {self.row_count}")
        out = torch.empty(len(ids), self.columns)
        self._lookup(self._address, ids.data_ptr(), out.data_ptr(), len(ids), self._groups)
        return out
