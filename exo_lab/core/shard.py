"""A contiguous range of layers, half-open."""

from __future__ import annotations

import msgspec


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """Layers [start, end) of a model of `n_layers`. The first shard embeds, the last one holds the head."""

    model: str
    start: int
    end: int
    n_layers: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= self.n_layers:
            raise ValueError(f"layers [{self.start}, {self.end}) are not a range within {self.n_layers} layers")

    @property
    def is_first(self) -> bool:
        """Does this shard turn tokens into hidden states?"""
        return self.start == 0

    @property
    def is_last(self) -> bool:
        """Does this shard turn hidden states into logits?"""
        return self.end == self.n_layers

    def __len__(self) -> int:
        return self.end - self.start
