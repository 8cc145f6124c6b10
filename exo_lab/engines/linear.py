"""Matrix products of a torch stage: one small interface over dense and quantised weights.

`product(x)` takes (n, columns) in any float dtype and returns (n, rows), float32 or bfloat16. `rows(ids)` looks up
rows, which is what an embedding is. How weights lie in memory is nobody else's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch.nn import functional

from exo_lab.engines import quant

if TYPE_CHECKING:
    from exo_lab.core.weights import Weight

FEW_ROWS = 16  # up to so many positions the four-bit operator beats unpacking (measured, docs/performance.md)
SCRATCH_FLOATS = 320 * 1024  # unpacked at a time, 1.25 MiB: stays in a core's second-level cache


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
        return functional.linear(x.to(self.weight.dtype), self.weight)

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        """See `Linear.rows`."""
        return self.weight[ids]


class Quantised:
    """One four-bit matrix, or the two of eight-bit weights (their products are added)."""

    def __init__(self, matrices: tuple[quant.Int4Matrix, ...]) -> None:
        self.matrices = matrices
        self.nbytes = sum(matrix.nbytes for matrix in matrices)

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """See `Linear.product`. bfloat16 products for few rows, float32 products of unpacked blocks for many."""
        if x.shape[0] > FEW_ROWS:
            return self._unpacked(x.float())
        x = x.to(torch.bfloat16)
        first, *rest = self.matrices
        out = first.times(x)
        for matrix in rest:
            out = out.float() + matrix.times(x)
        return out

    def _unpacked(self, x: torch.Tensor) -> torch.Tensor:
        matrix = self.matrices[0]
        blocks = matrix.rows // quant.PACK_ROWS
        step = max(1, min(blocks, SCRATCH_FLOATS // (matrix.columns * quant.PACK_ROWS)))
        scratch = torch.empty(step * matrix.columns * quant.PACK_ROWS)
        out = torch.empty(blocks, x.shape[0], quant.PACK_ROWS)  # (blocks, n, 64)
        for start in range(0, blocks, step):
            end = min(start + step, blocks)
            torch.matmul(x, matrix.unpack(start, end, scratch), out=out[start:end])
            for other in self.matrices[1:]:
                out[start:end] += torch.matmul(x, other.unpack(start, end, scratch))
        return out.transpose(0, 1).reshape(x.shape[0], -1)

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        """See `Linear.rows`."""
        total: torch.Tensor | None = None
        for matrix in self.matrices:
            fields = matrix.scales[:, ids].float().permute(1, 0, 2)[..., None]  # (n, groups, 2, 1)
            q = matrix.quanta(ids).float().view(len(ids), -1, quant.GROUP) - 8  # (n, groups, 32)
            part = q * fields[:, :, 0] + fields[:, :, 1]
            total = part if total is None else total + part
        if total is None:
            raise AssertionError("a quantised matrix has at least one part")
        return total.flatten(1)


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


def linear(weights: list[Weight], dtype: torch.dtype, device: torch.device, *, keep_quantised: bool) -> Linear:
    """Tensors stacked by rows (query, key and value, say) as one matrix product.

    Args:
        weights: (rows_i, columns) each.
        dtype: of dense weights.
        device: where they go; quantised ones stay on the CPU, the only place where the operator exists.
        keep_quantised: keep four- and eight-bit kinds as they are.
    """
    if keep_quantised and all(quant.can_hold(weight) for weight in weights):
        if len({weight.kind == "Q8_0" for weight in weights}) == 1:
            return Quantised(quant.int4_matrices(weights))
        return Stacked([Quantised(quant.int4_matrices([weight])) for weight in weights])
    if keep_quantised and any(quant.can_hold(weight) for weight in weights):
        return Stacked([linear([weight], dtype, device, keep_quantised=True) for weight in weights])
    rows = sum(weight.shape[0] for weight in weights)
    matrix = torch.empty(rows, weights[0].shape[-1], dtype=dtype, device=device)
    at = 0
    for weight in weights:
        for start in range(0, weight.shape[0], quant.CHUNK_ROWS):
            part = torch.from_numpy(weight.to_float32(start, min(start + quant.CHUNK_ROWS, weight.shape[0])))
            matrix[at : at + len(part)] = part.to(device)
            at += len(part)
    return Dense(matrix)
