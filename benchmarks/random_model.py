"""A random model of any shape, made tensor by tensor as it is read: what a machine does with a size, and no file."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from exo_lab.core.errors import CorruptModel
from exo_lab.models.layout import shapes

if TYPE_CHECKING:
    from exo_lab.core.model import ModelConfig

FEW_ROWS = 4096  # made anew for each read; a larger matrix repeats them


class RandomWeight:
    """See `core.weights.Weight`: bfloat16-like values, small enough that hidden states stay finite."""

    kind = "BF16"

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self.name, self.shape = name, shape

    def raw(self, start: int = 0, end: int | None = None) -> np.ndarray:
        """The upper halves of float32 values, as bytes."""
        bits = self.to_float32(start, end).view(np.uint32) >> 16
        rows = bits.astype(np.uint16).view(np.uint8)
        return rows.reshape(1, -1) if len(self.shape) == 1 else rows

    def to_float32(self, start: int = 0, end: int | None = None) -> np.ndarray:
        """Rows [start, end)."""
        if len(self.shape) == 1:
            return np.ones(self.shape, dtype=np.float32)
        rows, columns = self.shape
        end = rows if end is None else end
        random = np.random.default_rng(zlib.crc32(self.name.encode()))
        some = random.standard_normal((min(FEW_ROWS, rows), columns), dtype=np.float32) / np.float32(np.sqrt(columns))
        return some[np.arange(start, end) % len(some)]


class RandomSource:
    """See `core.weights.WeightSource`.

    Args:
        config: the shape; byte counts are filled in.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._shapes = shapes(config)
        layer = sum(2 * int(np.prod(shape)) for name, shape in self._shapes.items() if name.startswith("blk.0."))
        matrix = 2 * config.vocab_size * config.hidden_size
        self._config = msgspec.structs.replace(
            config, layer_bytes=(layer,) * config.n_layers, embedding_bytes=matrix, head_bytes=matrix, digest="random"
        )

    @property
    def config(self) -> ModelConfig:
        """With byte counts of bfloat16."""
        return self._config

    def has(self, name: str) -> bool:
        """Is there a tensor of that name?"""
        return name in self._shapes

    def weight(self, name: str) -> RandomWeight:
        """The tensor of that name."""
        if name not in self._shapes:
            raise CorruptModel(f"a model of this shape has no {name}")
        return RandomWeight(name, self._shapes[name])

    def close(self) -> None:
        """Nothing to free."""
