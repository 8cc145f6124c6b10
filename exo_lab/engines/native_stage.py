"""Consecutive layers in one call of our own kernels (`kernels/stage.c`). Knows no sessions.

Whether a layer can run there depends on the layer alone, never on its neighbours: every cut computes the same bits.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, NamedTuple

import torch

from exo_lab.engines.native_matrix import NativeMatrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.core.model import ModelConfig
    from exo_lab.engines.layer import Layer

FIELDS = 13  # of a Layer in stage.c: four matrices of two fields, five vectors


_integer = ctypes.c_longlong


class Row(NamedTuple):
    """One position of a session: `cache` is bfloat16 (layers, 2, groups, T, head_dim)."""

    cache: torch.Tensor
    position: int


def can_run(layer: Layer) -> bool:
    """Are all its matrices packed for our kernels?"""
    matrices = (layer.qkv, layer.output, layer.gate_up, layer.down)
    return all(isinstance(matrix, NativeMatrix) for matrix in matrices)


def scores_size(position: int, n: int, window: int, threads: int) -> int:
    """Floats that `exo_attend` needs for n positions of which the last is at most `position`, see attend.c."""
    return 4 * threads * ((min(position, window) if window else position) + n + 15)


class NativeStage:
    """Layers that follow each other and can all run there.

    Args:
        library: of `native.library()`.
        config: of the model; head_dim, hidden and intermediate size are multiples of 16.
        layers: kept alive as long as this is, since their memory is read.
    """

    def __init__(self, library: ctypes.CDLL, config: ModelConfig, layers: list[Layer]) -> None:
        self._run, self._config, self.layers = library.exo_stage, config, layers
        self._table = torch.tensor([_fields(layer) for layer in layers], dtype=torch.int64)
        heads, groups, head_dim = config.n_heads, config.n_kv_heads, config.head_dim
        shape = (config.hidden_size, config.intermediate_size, heads, groups, head_dim)
        self._shape = torch.tensor(shape, dtype=torch.int64)
        widest = max(config.hidden_size, config.intermediate_size, heads * head_dim)
        most = max(2 * config.intermediate_size, (heads + 2 * groups) * head_dim, config.hidden_size)
        self._for_each = most + widest + widest // 2  # floats of scratch for a position; sides are even
        self._room = torch.empty(0)

    def run(self, hidden: torch.Tensor, rows: Sequence[Row], first: int, turns: torch.Tensor) -> None:
        """Run positions of one session or of several; each gets the bits that it would get alone.

        Args:
            hidden: float32 (n, hidden), contiguous, changed in place.
            rows: n of them, those of one session one after the other; their caches have room.
            first: these layers' first one in the caches.
            turns: complex64 (n, head_dim / 2), contiguous.
        """
        config, n = self._config, hidden.shape[0]
        window = config.sliding_window or 0
        threads = torch.get_num_threads()
        scores = scores_size(max(row.position for row in rows), n, window, threads)
        if n * self._for_each + scores > self._room.numel():
            self._room = torch.empty(n * self._for_each + 2 * scores)
        places = (_integer * (5 * n))()
        for number, (cache, position) in enumerate(rows):
            to_next, to_values, stride, _, _ = cache.stride()
            at = cache.data_ptr() + first * to_next * cache.itemsize
            places[5 * number : 5 * number + 5] = at, to_values, to_next, stride, position
        self._run(
            self._table.data_ptr(), len(self.layers), self._shape.data_ptr(), hidden.data_ptr(), turns.data_ptr(),
            ctypes.addressof(places), n, window, self._room.data_ptr(), config.rms_norm_eps, threads,
        )  # fmt: skip


def _fields(layer: Layer) -> list[int]:
    fields: list[int] = []
    for matrix in (layer.qkv, layer.output, layer.gate_up, layer.down):
        assert isinstance(matrix, NativeMatrix)
        fields += [matrix.packed.data_ptr(), matrix.bits]
    vectors = (layer.attn_norm, layer.ffn_norm, layer.bias, layer.q_norm, layer.k_norm)
    fields += [0 if vector is None else vector.data_ptr() for vector in vectors]
    assert len(fields) == FIELDS
    return fields
