"""Products and reads by NumPy, for `speed`: with what the NumPy engine computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from exo_lab.engines.speed import Format


class NumpyKit:
    """See `Kit`. Products are in float32 only: that is what the engine computes in."""

    note = f"measured with NumPy {np.__version__}"

    def product(self, number: Format, n: int) -> Callable[[], object] | None:
        """See `Kit`."""
        if number != "fp32":
            return None
        left, right, out = (np.ones((n, n), dtype=np.float32) for _ in range(3))
        return lambda: np.matmul(left, right, out=out)

    def reader(self, size_bytes: int) -> Callable[[], object]:
        """See `Kit`."""
        return np.ones(max(1, size_bytes // 4), dtype=np.float32).sum

    def wait(self) -> None:
        """See `Kit`. Nothing is done later."""
