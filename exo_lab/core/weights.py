"""How an engine asks for weights. `models/` implements it, `engines/` consume it; neither imports the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from exo_lab.core.model import ModelConfig

# Storage kinds that a source can hand out, by GGUF's names: (weights in a block, bytes of a block).
BLOCKS: dict[str, tuple[int, int]] = {
    "F32": (1, 4),
    "F16": (1, 2),
    "BF16": (1, 2),
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q8_0": (32, 34),
    "Q2_K": (256, 84),
    "Q3_K": (256, 110),
    "Q4_K": (256, 144),
    "Q5_K": (256, 176),
    "Q6_K": (256, 210),
}
STORAGE_KINDS: tuple[str, ...] = tuple(BLOCKS)


class Weight(Protocol):
    """One tensor as it is stored: read from disk when asked for, owned by the caller afterwards."""

    @property
    def name(self) -> str:
        """GGUF tensor name, see `ModelConfig`."""
        ...

    @property
    def kind(self) -> str:
        """One of `STORAGE_KINDS`."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Logical shape, (rows, columns) or (n,)."""
        ...

    def raw(self, start: int = 0, end: int | None = None) -> np.ndarray:
        """The stored bytes of rows [start, end): uint8, (rows, bytes per row); (1, bytes) for a vector.

        Rows of q and k are already in interleaved order (a permutation of rows moves whole quant blocks).
        """
        ...

    def to_float32(self, start: int = 0, end: int | None = None) -> np.ndarray:
        """Rows [start, end) dequantised: float32, (rows, columns) or (n,), C-contiguous."""
        ...


class WeightSource(Protocol):
    """A model's weights. Opening reads headers only; bytes are read per tensor, never the whole file."""

    @property
    def config(self) -> ModelConfig:
        """The model's shape, with `digest` and byte counts filled in."""
        ...

    def has(self, name: str) -> bool:
        """Is there a tensor of that name?"""
        ...

    def weight(self, name: str) -> Weight:
        """The tensor of that name; CorruptModel if it is missing or its shape contradicts the config."""
        ...

    def close(self) -> None:
        """Release the file. Idempotent."""
        ...
