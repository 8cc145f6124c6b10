"""Keys and values of one session in one shard: one allocation that grows by blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from exo_lab.core.model import ModelConfig

BLOCK_TOKENS = 256


class KvCache:
    """`data`: (layers, 2, kv heads, capacity, head_dim), keys and values; `length` positions are filled."""

    def __init__(self, layers: int, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> None:
        self.data = torch.empty(layers, 2, config.n_kv_heads, 0, config.head_dim, dtype=dtype, device=device)
        self.length = 0

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return self.data.nbytes

    def cut(self, start: int, end: int) -> torch.Tensor:
        """A copy of positions [start, end), shaped like `data`."""
        # clone() keeps the strides it is given unless told otherwise.
        return self.data[:, :, :, start:end].clone(memory_format=torch.contiguous_format)

    def put(self, position: int, data: torch.Tensor) -> None:
        """Write positions from `position` on; what lay behind them is forgotten. What is cached before them stays."""
        end = position + data.shape[3]
        self.reserve(end)
        self.data[:, :, :, position:end] = data
        self.length = end

    def reserve(self, tokens: int) -> None:
        """Make room for `tokens` positions, rounded up to whole blocks. What is cached stays."""
        if tokens <= self.data.shape[3]:
            return
        shape = list(self.data.shape)
        shape[3] = -(-tokens // BLOCK_TOKENS) * BLOCK_TOKENS
        grown = torch.empty(shape, dtype=self.data.dtype, device=self.data.device)
        grown[:, :, :, : self.length] = self.data[:, :, :, : self.length]
        self.data = grown
