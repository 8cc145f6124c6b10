"""Matrix products of a torch stage: one small interface over dense and quantised weights.

`product(x)` takes (n, columns) in the activations' dtype (float32 for float32 weights, else bfloat16) and returns
(n, rows) in float32 or bfloat16. `rows(ids)` looks up rows, which is what an embedding is. How weights lie in memory
is nobody else's business.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Protocol

import torch
from torch.nn import functional

from exo_lab.engines import native, quant

if TYPE_CHECKING:
    from exo_lab.core.weights import Weight
    from exo_lab.engines.int4 import Int4Matrix

FEW_ROWS = 64  # up to so many positions the four-bit operator beats unpacking (measured, docs/performance.md)
SCRATCH_FLOATS = 1 << 19  # weights unpacked at a time: 2 MiB in float32, so that they stay in a processor's caches


class Linear(Protocol):
    """A weight matrix."""

    nbytes: int

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """(n, columns) -> (n, rows)."""
        ...

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        """int64 (n,) -> (n, columns)."""
        ...


class Dense:
    """A float matrix, computed in its own dtype."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight, self.nbytes = weight, weight.nbytes

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """See `Linear.product`."""
        return functional.linear(x, self.weight)

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        """See `Linear.rows`."""
        return self.weight[ids]


class Quantised:
    """One four-bit matrix, or the two of eight-bit weights (their products are added)."""

    def __init__(self, matrices: tuple[Int4Matrix, ...]) -> None:
        self.matrices = matrices
        self.nbytes = sum(matrix.nbytes for matrix in matrices)
        self._single = matrices[0] if len(matrices) == 1 else None

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """See `Linear.product`. Products of unpacked blocks when there are many positions."""
        if x.shape[0] > FEW_ROWS:
            return self._unpacked(x)
        if self._single is not None:
            return self._single.times(x)
        high, low = self.matrices
        # Each product was rounded to bfloat16; the sum is not rounded again.
        return high.times(x).float().add_(low.times(x))

    def _unpacked(self, x: torch.Tensor) -> torch.Tensor:
        first, *others = self.matrices
        columns, block = first.columns, first.layout.rows
        blocks = first.rows // block
        step = max(1, min(blocks, SCRATCH_FLOATS // (columns * block)))
        scratch = [torch.empty(step * columns * block) for _ in self.matrices]
        dtype = torch.bfloat16 if fast_bfloat16() else torch.float32
        x = x.to(dtype)
        # Transposed weights of one step: (columns, rows).
        weights = torch.empty(columns, step * block, dtype=dtype)
        out = torch.empty(x.shape[0], first.rows, dtype=dtype)
        for start in range(0, blocks, step):
            end = min(start + step, blocks)
            unpacked = first.unpack(start, end, scratch[0])
            for other, room in zip(others, scratch[1:], strict=True):
                unpacked += other.unpack(start, end, room)
            part = weights[:, : (end - start) * block]
            part.unflatten(1, (-1, block)).copy_(unpacked.transpose(0, 1))
            out[:, start * block : end * block] = torch.mm(x, part)
        return out

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        """See `Linear.rows`."""
        first, *others = self.matrices
        total = first.lookup(ids)
        for other in others:
            total += other.lookup(ids)
        return total


class Stacked:
    """Matrices of different kinds that act as one: their products side by side."""

    def __init__(self, parts: list[Linear]) -> None:
        self.parts, self.nbytes = parts, sum(part.nbytes for part in parts)

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """See `Linear.product`."""
        return torch.cat([part.product(x).float() for part in self.parts], -1)

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        """Not an embedding."""
        raise NotImplementedError("rows of stacked matrices are never looked up")


@functools.cache
def fast_bfloat16() -> bool:
    """Are bfloat16 products faster than float32 ones here? Not without the instructions: they are emulated then."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def linear(weights: list[Weight], dtype: torch.dtype, device: torch.device, *, keep_quantised: bool) -> Linear:
    """Tensors stacked by rows (query, key and value, say) as one matrix product.

    Args:
        weights: (rows_i, columns) each.
        dtype: of dense weights.
        device: where they go; quantised ones stay on the CPU, the only place where the operator exists.
        keep_quantised: keep four- and eight-bit kinds as they are.
    """
    bits = {quant.bits(weight) for weight in weights} if keep_quantised else {0}
    if len(bits) > 1:
        return Stacked([linear([weight], dtype, device, keep_quantised=True) for weight in weights])
    if bits != {0}:
        kernels = native.library(torch.get_num_threads())
        return quant.native_matrix_of(weights, kernels) if kernels else Quantised(quant.int4_matrices(weights))
    rows = sum(weight.shape[0] for weight in weights)
    matrix = torch.empty(rows, weights[0].shape[-1], dtype=dtype, device=device)
    at = 0
    for weight in weights:
        for start, end in quant.chunks(weight):
            matrix[at : at + end - start] = torch.from_numpy(weight.to_float32(start, end)).to(device)
            at += end - start
    return Dense(matrix)
