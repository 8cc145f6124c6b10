"""Keys and values of one session in one shard: one allocation that grows by blocks."""

from __future__ import annotations

import torch

BLOCK_TOKENS = 256


class KvCache:
    """`data`: (layers, capacity, 2 * kv_heads * head_dim), keys then values; `length` positions are filled."""

    def __init__(self, layers: int, width: int, dtype: torch.dtype, device: torch.device) -> None:
        self.data = torch.empty(layers, 0, width, dtype=dtype, device=device)
        self.length = 0

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return self.data.nbytes

    def reserve(self, tokens: int) -> None:
        """Make room for `tokens` positions, rounded up to whole blocks. What is cached stays."""
        layers, capacity, width = self.data.shape
        if tokens <= capacity:
            return
        blocks = -(-tokens // BLOCK_TOKENS)
        grown = torch.empty(layers, blocks * BLOCK_TOKENS, width, dtype=self.data.dtype, device=self.data.device)
        grown[:, : self.length] = self.data[:, : self.length]
        self.data = grown
