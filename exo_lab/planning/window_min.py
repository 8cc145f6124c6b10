"""The least value within a window that ends before each position: what a dynamic program over cuts does most. Pure.

By sparse tables (Bender and Farach-Colton 2000): the minimum of any window is that of two overlapping ones whose width
is a power of two. Positions are the first axis, so that a row of many problems is contiguous.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def window_min(values: NDArray[np.float64], lo: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each end j the least `values[i]` with `lo[j] <= i < j`; infinite where there is none.

    Args:
        values: float64 (L + 1, n).
        lo: int64, 1 or more: (L + 1,) for all columns, or (L + 1, n) for each.

    Returns:
        float64 (L + 1, n).
    """
    import numpy as np

    size, columns = values.shape
    found = np.full((size, columns), np.inf)
    if size < 3:
        return found
    if int(lo[1:].max()) <= 1:
        found[2:] = np.minimum.accumulate(values[1:-1], axis=0)
        return found
    ends = np.arange(size, dtype=np.int64)
    width: NDArray[np.int64] = (ends if lo.ndim == 1 else ends[:, None]) - lo
    valid = width > 0
    # frexp takes the exponent out of a float: a logarithm that is exact for whole numbers.
    level = np.frexp(np.maximum(width, 1).astype(np.float64))[1].astype(np.int64) - 1
    tables = np.empty((int(level.max()) + 1, size, columns))
    tables[0] = values
    for power in range(1, len(tables)):
        half = 1 << (power - 1)
        tables[power] = tables[power - 1]
        np.minimum(tables[power - 1][:-half], tables[power - 1][half:], out=tables[power][:-half])
    begin = np.where(valid, lo, 0)
    end = np.where(valid, begin + width - (1 << level), 0)
    if lo.ndim == 1:
        found = np.minimum(tables[level, begin], tables[level, end])
    else:
        column = np.arange(columns, dtype=np.int64)
        found = np.minimum(tables[level, begin, column], tables[level, end, column])
    found[~valid] = np.inf
    return found
